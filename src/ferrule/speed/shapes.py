"""Shapes of decoder-only language models: parameters, arithmetic and cache size, from a config alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferrule.core.arrays import nearest

__all__ = ["MODELS", "Shape", "from_config", "shape_of"]

_ALIASES = {
    "hidden_size": ("n_embd", "d_model"),
    "num_hidden_layers": ("n_layer", "num_layers"),
    "num_attention_heads": ("n_head", "num_heads"),
    "intermediate_size": ("n_inner", "ffn_dim"),
}
_UNGATED = ("gpt2", "gpt_neo", "gpt_neox", "gptj", "opt", "phi", "bloom", "falcon")
_HEAD_NORMS = ("qwen3", "gemma3_text", "olmo2", "olmo3", "hunyuan_v1_dense")
_WRITTEN_OUT = ("gelu_new", "gelu_fast")  # as sums and products, each of which keeps its factors
_NORMS = {"gemma2": 4, "gemma3_text": 4, "glm4": 4, "phi": 1, "gptj": 1, "cohere": 1, "cohere2": 1, "falcon": 1}
_TIED = ("gpt2", "gemma", "gemma2", "gemma3_text", "bloom", "opt")  # families that tie unless the config says not


@dataclass(frozen=True)
class Shape:
    """A dense decoder: sizes of its matrices, whether the head is the embedding (``tied``), and where that stands.

    ``gated`` feed-forward blocks have three matrices, others two. A block has ``norms`` of the hidden size, and with
    ``head_norms`` one for the queries and one for the keys of each head. ``activation`` is how many wide vectors the
    activation keeps for its gradient. ``source`` is the page of the config.
    """

    name: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool
    gated: bool = True
    source: str = ""
    norms: int = 2
    head_norms: bool = False
    activation: int = 1

    def linears(self) -> dict[str, tuple[int, int]]:
        """Return the matrices of one block by name, each (inputs, outputs)."""
        wide, narrow = self.heads * self.head_dim, self.kv_heads * self.head_dim
        linears = {
            "q": (self.hidden, wide),
            "k": (self.hidden, narrow),
            "v": (self.hidden, narrow),
            "o": (wide, self.hidden),
            "up": (self.hidden, self.intermediate),
            "down": (self.intermediate, self.hidden),
        }
        return {**linears, "gate": (self.hidden, self.intermediate)} if self.gated else linears

    @property
    def block(self) -> int:
        """Parameters of one block's matrices."""
        return sum(inputs * outputs for inputs, outputs in self.linears().values())

    @property
    def head(self) -> int:
        """Parameters of the output matrix."""
        return self.vocab * self.hidden

    @property
    def parameters(self) -> int:
        """All parameters: blocks, embedding, head (when it is not the embedding), and the gains of the norms."""
        norms = (self.norms * self.layers + 1) * self.hidden + 2 * self.layers * self.head_dim * self.head_norms
        return self.layers * self.block + self.head * (1 if self.tied else 2) + norms

    @property
    def read(self) -> int:
        """Parameters that a decode step reads: blocks and head, but of the embedding only a few rows."""
        return self.layers * self.block + self.head

    def cache_bytes(self, width: int = 2) -> int:
        """Bytes of keys and values of one token, ``2 layers kv_heads head_dim width``."""
        return 2 * self.layers * self.kv_heads * self.head_dim * width

    def block_flops(self, tokens: float, context: float) -> float:
        """Operations of all blocks forward: ``2 parameters`` per token, and ``4 heads head_dim context`` per layer.

        ``context`` is the mean number of keys that a token attends to.
        """
        attention = 4.0 * self.heads * self.head_dim * context
        return tokens * self.layers * (2.0 * self.block + attention)

    def head_flops(self, tokens: float) -> float:
        """Operations of the output matrix forward, ``2 vocab hidden`` per token."""
        return tokens * 2.0 * self.head


def from_config(config: Mapping[str, Any], name: str = "", source: str = "") -> Shape:
    """Return the shape a Hugging Face config describes; ``text_config`` is looked into.

    Raises ``ValueError`` for a config that lacks a size, and for mixtures of experts, which these counts do not fit.
    """
    config = {**config, **(config.get("text_config") or {})}
    experts = next((key for key in ("num_experts", "num_local_experts", "n_routed_experts") if config.get(key)), None)
    if experts:
        raise ValueError(f"{name or 'the config'} has {experts}: mixtures of experts are not covered, dense models are")
    kind = str(config.get("model_type", ""))

    def size(key: str) -> int:
        for known in (key, *_ALIASES.get(key, ())):
            if config.get(known) is not None:
                return int(config[known])
        raise ValueError(f"{name or 'the config'} lacks {key!r}; it holds {', '.join(sorted(config)) or 'nothing'}")

    hidden, heads = size("hidden_size"), size("num_attention_heads")
    wide = 4 * hidden if kind == "gpt2" and config.get("n_inner") is None else size("intermediate_size")
    tied = config.get("tie_word_embeddings")
    return Shape(
        name=name or kind,
        layers=size("num_hidden_layers"),
        hidden=hidden,
        intermediate=wide,
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=int(config.get("head_dim") or hidden // heads),
        vocab=size("vocab_size"),
        tied=kind in _TIED if tied is None else bool(tied),
        gated=kind not in _UNGATED,
        source=source,
        norms=_NORMS.get(kind, 2),
        head_norms=kind in _HEAD_NORMS,
        activation=4 if config.get("hidden_act", config.get("activation_function")) in _WRITTEN_OUT else 1,
    )


def _qwen3(size: str, layers: int, hidden: int, intermediate: int, heads: int, *, tied: bool) -> Shape:
    """Return a dense Qwen3: 8 key-value heads of 128 and a vocabulary of 151,936 in all sizes."""
    source = f"https://huggingface.co/Qwen/Qwen3-{size}/blob/main/config.json"
    sizes = (layers, hidden, intermediate, heads, 8, 128, 151_936)
    return Shape(f"qwen3-{size.lower()}", *sizes, tied, source=source, head_norms=True)


_ALL = (
    Shape("smollm2-135m", 30, 576, 1536, 9, 3, 64, 49_152, True,
          source="https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct/blob/main/config.json"),
    _qwen3("0.6B", 28, 1024, 3072, 16, tied=True),
    _qwen3("1.7B", 28, 2048, 6144, 16, tied=True),
    _qwen3("4B", 36, 2560, 9728, 32, tied=True),
    _qwen3("8B", 36, 4096, 12_288, 32, tied=False),
    _qwen3("14B", 40, 5120, 17_408, 40, tied=False),
    _qwen3("32B", 64, 5120, 25_600, 64, tied=False),
)  # fmt: skip
MODELS: dict[str, Shape] = {shape.name: shape for shape in _ALL}
"""Models known by name; a ``config.json`` does for all others."""


def shape_of(name: str) -> Shape:
    """Return the shape of a known name, a ``config.json`` or a folder that holds one; else ``ValueError``."""
    if name.lower() in MODELS:
        return MODELS[name.lower()]
    path = Path(name).expanduser()
    path = path / "config.json" if path.is_dir() else path
    if not path.is_file():
        raise ValueError(
            f"unknown model {name!r}: {nearest(name.lower(), list(MODELS))}; a config.json will do as well"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path} must hold one JSON object, the config of a model")
    return from_config(config, path.parent.name)
