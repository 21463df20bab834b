"""A pocket model that only answers, read from its files: transformers, which takes seconds to import, is not needed."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from ferrule.chat.codec import codec
from ferrule.chat.renderer import ChatML
from ferrule.policies.local import Local
from ferrule.policies.pocket.net import EPSILON, Net, Shape

__all__ = ["fits", "quick"]

# What the weights of another model would change in the products of ``Net`` and the kernels.
_PLAIN = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "hidden_act": "silu",
    "mlp_bias": False,
    "rms_norm_eps": EPSILON,
    "tie_word_embeddings": False,
}
_FILES = ("config.json", "ferrule.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
_MORE = ("heads.json", "heads.safetensors", "tokens.json", "tokens.safetensors", "adapter_config.json")


def fits(folder: Path) -> bool:
    """Tell whether ``quick`` reads the model of a folder: one that a pocket model was saved to, without additions."""
    if any(not (folder / name).is_file() for name in _FILES) or any((folder / name).exists() for name in _MORE):
        return False
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    heads, width = config.get("num_attention_heads", 0), config.get("hidden_size", 0)
    alike = all(config.get(name) == value for name, value in _PLAIN.items())
    alike = alike and config.get("num_key_value_heads") == heads and config.get("head_dim") == width // heads
    return (
        alike
        and "chatml" in json.loads((folder / "ferrule.json").read_text(encoding="utf-8"))
        and config.get("rope_parameters", {}).get("rope_type") == "default"
        and config["head_dim"] % 16 == 0
        and importlib.util.find_spec("numba") is not None
    )


class _Words:
    """The tokenizer of a folder, with the few methods of transformers' tokenizers that answering takes."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        names = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        self.eos_token_id, self.pad_token_id = (
            self._tokenizer.token_to_id(names[name]) for name in ("eos_token", "pad_token")
        )

    def __call__(self, text: str, *, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids}

    def __len__(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool, **_: Any) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=skip_special_tokens))

    def batch_decode(self, rows: Sequence[Sequence[int]], *, skip_special_tokens: bool) -> list[str]:
        return [self.decode(ids, skip_special_tokens=skip_special_tokens) for ids in rows]


class _Rotary(torch.nn.Module):
    """Cosines and sines of positions, rounded as transformers rounds them."""

    def __init__(self, size: int, theta: float) -> None:
        super().__init__()
        self.frequency = 1.0 / (theta ** (torch.arange(0, size, 2, dtype=torch.int64).float() / size))

    def forward(self, x: Tensor, positions_BT: Tensor) -> tuple[Tensor, Tensor]:
        angle = positions_BT[:, :, None].float() * self.frequency
        both = torch.cat((angle, angle), dim=-1)
        return both.cos(), both.sin()


class Quick(Net):
    """A ``Net`` with the attributes of a ``LlamaForCausalLM`` that the engine reads; it has no training of its own."""

    def __init__(self, config: Any) -> None:
        sizes = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        theta, longest = config.rope_parameters["rope_theta"], config.max_position_embeddings
        shape = {name: getattr(config, name) for name in sizes}
        super().__init__(Shape(**shape, rope_theta=theta, max_position_embeddings=longest))
        self.config = config
        self.model.rotary_emb = _Rotary(config.head_dim, theta)
        for layer in self.model.layers:
            attention: Any = layer.self_attn
            attention.scaling = config.head_dim**-0.5

    def get_input_embeddings(self) -> Any:
        """Return the table of embeddings."""
        return self.model.embed_tokens

    def forward(self, ids: Tensor | None = None, *, input_ids: Tensor | None = None, **_: Any) -> Any:
        """Return logits as ``Net`` does, in the form of transformers."""
        given = input_ids if ids is None else ids
        assert given is not None
        return SimpleNamespace(logits=super().forward(given))


def quick(folder: Path, name: str, **settings: Any) -> Local:
    """Return a policy on the weights of a folder that ``fits``; its replies are those of ``local.load``.

    ``name`` is what records call it. It answers and scores nothing else: to train, to save or to take hidden states,
    load the model by ``load``.
    """
    from safetensors.torch import load_file

    config = SimpleNamespace(**json.loads((folder / "config.json").read_text(encoding="utf-8")))
    model = Quick(config)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    kept = json.loads((folder / "ferrule.json").read_text(encoding="utf-8"))
    renderer = ChatML(codec(kept["codec"], **kept["options"]), **kept["chatml"])
    return Local(model.eval(), _Words(folder), renderer, name=name, **settings)
