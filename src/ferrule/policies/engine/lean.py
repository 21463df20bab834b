"""Forward passes of Llama-shaped models on a processor through compiled kernels, on the trainer's own weights."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from ferrule.policies.engine.kernels import PAGE, embed, layer, matmul, normalise
from ferrule.policies.engine.tiles import LANES

__all__ = ["Lean", "reason_against"]

# Compiled kernels run in threads of their own, which some hosts cannot start from two places at once.
_ONE_AT_A_TIME = threading.Lock()
_SHAPES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "Quick")


def _threads() -> int:
    """Start the kernels' threads and say how many there are; PyTorch shares their pool, and keeps its own setting."""
    was = torch.get_num_threads()
    most: int = numba.get_num_threads()
    torch.set_num_threads(was)
    return most


_MOST_THREADS = _threads()


def reason_against(model: Any) -> str:
    """Return why this model cannot run through the kernels, or an empty text when it can."""
    config, kind = model.config, type(model).__name__
    if kind not in _SHAPES:
        return f"{kind} is none of {', '.join(_SHAPES)}"
    if getattr(config, "hidden_act", "silu") != "silu" or getattr(config, "mlp_bias", False):
        return "its feed-forward part is not the plain gated one"
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        return "it attends through a sliding window"
    parameters = list(model.parameters())
    if any(p.dtype != torch.float32 or p.device.type != "cpu" or not p.is_contiguous() for p in parameters):
        return "its weights are not contiguous float32 in main memory"
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if head % 16:
        return f"its heads have {head} features, not a multiple of 16"
    return ""


class Lean:
    """Logits of tokens of many sequences over a paged cache; float32, weights read where the trainer keeps them."""

    kind = "kernels"
    page_size = PAGE

    def __init__(self, model: Any) -> None:
        reason = reason_against(model)
        if reason:
            raise ValueError(f"the kernels cannot run this model: {reason}")
        config = model.config
        self.model = model
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.hidden, self.inner, self.vocab = config.hidden_size, config.intermediate_size, config.vocab_size
        self.eps = np.float32(config.rms_norm_eps)
        self.keys: list[np.ndarray[Any, Any]] = []
        self.values: list[np.ndarray[Any, Any]] = []
        self._scratch: dict[int, Any] = {}
        self.bind()
        self.grow(1)

    @property
    def page_bytes(self) -> int:
        """Bytes of one page over all layers."""
        return int(2 * len(self.layers) * self.kv_heads * self.head_dim * PAGE * 4)

    def bind(self) -> None:
        """Look the weights up again; needed when parameters were replaced rather than changed in place."""
        body = self.model.model
        none = np.zeros(0, np.float32)

        def view(owner: Any, name: str) -> np.ndarray[Any, Any]:
            tensor = getattr(owner, name, None)
            return none if tensor is None else tensor.detach().numpy()

        self.layers = []
        for part in body.layers:
            a, m = part.self_attn, part.mlp
            linears = (a.q_proj, a.k_proj, a.v_proj, a.o_proj, m.gate_proj, m.up_proj, m.down_proj)
            norms = (part.input_layernorm, part.post_attention_layernorm)
            heads = (getattr(a, "q_norm", None), getattr(a, "k_norm", None))
            vectors = [view(module, "weight") for module in (*norms, *heads)]
            vectors += [view(module, "bias") for module in linears[:4]]
            self.layers.append((tuple(view(module, "weight") for module in linears), tuple(vectors)))
        self.norm = view(body.norm, "weight")
        self.table, self.head = view(body.embed_tokens, "weight"), view(self.model.lm_head, "weight")

    def grow(self, pages: int) -> None:
        """Have room for that many pages."""
        have = len(self.keys[0]) if self.keys else 0
        if pages <= have:
            return
        count = max(pages, 2 * have, 64)
        for kept, shape in ((self.keys, (self.head_dim, PAGE)), (self.values, (PAGE, self.head_dim))):
            for i in range(len(self.layers)):
                new = np.zeros((count, self.kv_heads, *shape), np.float32)
                if have:
                    new[:have] = kept[i]
                    kept[i] = new
                else:
                    kept.append(new)

    def copy(self, source: int, target: int) -> None:
        """Copy one page over another."""
        for store in (*self.keys, *self.values):
            store[target] = store[source]

    def _room(self, panels: int) -> Any:
        if panels not in self._scratch:
            wide = (self.hidden, self.heads * self.head_dim, self.kv_heads * self.head_dim)
            sizes = (wide[0], wide[0], wide[1], wide[2], wide[2], wide[1], self.inner, self.inner)
            x, *rest = (np.zeros((panels, size, LANES), np.float32) for size in sizes)
            self._scratch[panels] = x, tuple(rest)
        return self._scratch[panels]

    @torch.no_grad()
    def __call__(
        self,
        ids: Sequence[int],
        positions: Sequence[int],
        pages: Sequence[int],
        rows: Sequence[int],
        table: np.ndarray[Any, Any],
        last: Sequence[int],
    ) -> tuple[Tensor, Tensor]:
        """Return logits (M, V) and last hidden states (M, hidden) of the tokens at places ``last``.

        ``pages`` is where each token's key goes, ``rows`` its row in the page ``table`` (R, B).
        """
        numba.set_num_threads(min(torch.get_num_threads(), _MOST_THREADS))
        ids_N, pos_N, row_N = (np.asarray(a, np.int64) for a in (ids, positions, rows))
        where = (np.asarray(pages, np.int64), pos_N % PAGE, row_N, pos_N)
        cos, sin = self.model.model.rotary_emb(torch.zeros(1), torch.from_numpy(pos_N)[None])
        cos_N, sin_N = cos[0].numpy(), sin[0].numpy()
        tokens = len(ids_N)
        x, rest = self._room(-(-tokens // LANES))
        scratch = (*rest, np.empty((tokens, self.heads, self.head_dim), np.float32),
                   np.empty((tokens, self.kv_heads, self.head_dim), np.float32))  # fmt: skip
        embed(ids_N, self.table, x)
        scale = np.float32(self.model.model.layers[0].self_attn.scaling)
        for (weights, vectors), keys, values in zip(self.layers, self.keys, self.values, strict=True):
            with _ONE_AT_A_TIME:
                layer(x, weights, vectors, self.eps, cos_N, sin_N, where, table, scale, keys, values, scratch)
        return self._logits(x, np.asarray(last, np.int64))

    def _logits(self, x: np.ndarray[Any, Any], last_M: np.ndarray[Any, Any]) -> tuple[Tensor, Tensor]:
        if not len(last_M):
            return torch.zeros(0, self.vocab), torch.zeros(0, self.hidden)
        panels = -(-len(last_M) // LANES)
        chosen = np.zeros((panels * LANES, self.hidden), np.float32)
        chosen[: len(last_M)] = x[last_M // LANES, :, last_M % LANES]
        laid = np.ascontiguousarray(chosen.reshape(panels, LANES, self.hidden).transpose(0, 2, 1))
        normed, logits = np.empty_like(laid), np.empty((panels, self.vocab, LANES), np.float32)
        with _ONE_AT_A_TIME:
            normalise(laid, self.norm, self.eps, normed)
            matmul(normed, self.head, logits, False)
        hidden = torch.from_numpy(normed).transpose(1, 2).reshape(panels * LANES, self.hidden)
        return torch.from_numpy(logits).transpose(1, 2).reshape(panels * LANES, self.vocab)[: len(last_M)], hidden[
            : len(last_M)
        ]
