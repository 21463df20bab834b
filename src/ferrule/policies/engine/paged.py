"""Forward passes of any model with exchangeable attention over a paged cache, on any device and in any dtype."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ferrule.policies.engine.attention import exchanged

__all__ = ["Paged", "reason_against"]

_NAME = "ferrule_paged"
_STEP: ContextVar[_Step] = ContextVar("ferrule_paged_step")


def reason_against(model: Any) -> str:
    """Return why this model's attention cannot read pages, or an empty text when it can."""
    config = model.config
    if not getattr(model, "_supports_attention_backend", False):
        return f"{type(model).__name__} does not let its attention be exchanged"
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        return "it attends through a sliding window"
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        return f"it has layers of other kinds: {', '.join(sorted(kinds - {'full_attention'}))}"
    for name in ("attn_logit_softcapping", "attention_chunk_size"):
        if getattr(config, name, None):
            return f"its attention uses {name}"
    return ""


class _Step:
    """Where the tokens of one forward pass go and what they may see."""

    def __init__(self, owner: Paged, positions: Tensor, pages: Tensor, rows: Sequence[int], table: Tensor) -> None:
        self.owner, self.positions, self.pages, self.table = owner, positions, pages, table
        self.slots = positions % owner.page_size
        starts = [i for i in range(len(rows)) if i == 0 or rows[i] != rows[i - 1]]
        ends = [*starts[1:], len(rows)]
        stretches = list(zip(starts, ends, [rows[i] for i in starts], strict=True))
        self.longer = [(a, b, row) for a, b, row in stretches if b - a > 1]
        device = positions.device
        self.single = torch.tensor([a for a, b, _ in stretches if b - a == 1], dtype=torch.long, device=device)
        self.rows = torch.tensor([row for a, b, row in stretches if b - a == 1], dtype=torch.long, device=device)
        reach = torch.arange(table.shape[1] * owner.page_size, device=device)
        self.visible = reach[None] <= positions[:, None]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """Store keys and values (H, N, D) and return attention (N, H, D)."""
        keys, values = self.owner.store(layer, key, value)
        keys[self.pages, self.slots] = key.transpose(0, 1).to(keys.dtype)
        values[self.pages, self.slots] = value.transpose(0, 1).to(values.dtype)
        attended = query.new_empty(query.shape[1], query.shape[0], value.shape[-1])
        q = query.transpose(0, 1)
        if len(self.single):
            at = self.single
            k, v = (store[self.table[self.rows]].flatten(1, 2).transpose(1, 2) for store in (keys, values))
            one = _attention(q[at, :, None], k, v, self.visible[at, None, None], scale)
            attended[at] = one[:, :, 0].to(attended.dtype)  # autocast gives bf16 for rotated queries in fp32
        for begin, end, row in self.longer:
            reach = int(self.table.shape[1]) * self.owner.page_size
            k, v = (store[self.table[row]].flatten(0, 1).transpose(0, 1)[None, :, :reach] for store in (keys, values))
            mask = self.visible[None, None, begin:end]
            attended[begin:end] = _attention(query[None, :, begin:end], k, v, mask, scale)[0].transpose(0, 1)
        return attended


def _attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float | None) -> Tensor:
    k, v = k.to(q.dtype), v.to(q.dtype)
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=q.shape[1] != k.shape[1])


def _forward(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, scaling: Any = None, **_: Any
) -> tuple[Tensor, None]:
    """Attention as models call it: (1, H, N, D) in, (1, N, H, D) out."""
    return _STEP.get().attend(module.layer_idx, query[0], key[0], value[0], scaling)[None], None


class Paged:
    """Logits of tokens of many sequences over a paged cache, through the model's own layers."""

    kind = "paged"
    page_size = 16

    def __init__(self, model: Any) -> None:
        reason = reason_against(model)
        if reason:
            raise ValueError(f"the paged engine cannot run this model: {reason}")
        self.model = model
        self.device = next(model.parameters()).device
        config = model.config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._bytes = 2 * config.num_hidden_layers * heads * size * 4 * self.page_size
        self._room = 1
        self.stores: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def page_bytes(self) -> int:
        """Bytes of one page over all layers, at most."""
        return int(self._bytes)

    def bind(self) -> None:
        """The layers read their weights themselves; nothing is kept."""

    def grow(self, pages: int) -> None:
        """Have room for that many pages."""
        if pages <= self._room:
            return
        self._room = max(pages, 2 * self._room, 64)
        for layer, pair in self.stores.items():
            grown = tuple(store.new_zeros((self._room, *store.shape[1:])) for store in pair)
            for new, store in zip(grown, pair, strict=True):
                new[: len(store)] = store
            self.stores[layer] = (grown[0], grown[1])

    def store(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pages of a layer, (pages, page_size, heads, D) each, made at first use."""
        if layer not in self.stores:
            shape = (self._room, self.page_size, key.shape[0])
            self.stores[layer] = (key.new_zeros((*shape, key.shape[2])), value.new_zeros((*shape, value.shape[2])))
        return self.stores[layer]

    def copy(self, source: int, target: int) -> None:
        """Copy one page over another."""
        for pair in self.stores.values():
            for store in pair:
                store[target] = store[source]

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
        """Return logits (M, V) and last hidden states (M, hidden) of the tokens at places ``last``."""

        def tensor(values: Any) -> Tensor:
            return torch.as_tensor(values, dtype=torch.long, device=self.device)

        at = tensor(positions)
        with _attending(self.model, _Step(self, at, tensor(pages), rows, tensor(table))):
            result = self.model(
                input_ids=tensor(ids)[None],
                position_ids=at[None],
                use_cache=False,
                logits_to_keep=tensor(last or [0]),
                output_hidden_states=True,
            )
        return result.logits[0, : len(last)], result.hidden_states[-1][0, tensor(last)]


@contextmanager
def _attending(model: Any, step: _Step) -> Iterator[None]:
    """Let the model's attention read pages for the time of a call."""
    token = _STEP.set(step)
    try:
        with exchanged(model.config, _NAME, _forward):
            yield
    finally:
        _STEP.reset(token)
