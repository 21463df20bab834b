"""Sampling by whole batches through a model's own cache, for models whose attention cannot read pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ferrule.policies.engine.rows import Row, Stops, advance

__all__ = ["decode"]


def _left_padded(prompts: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    width = max(len(p) for p in prompts)
    ids = torch.full((len(prompts), width), pad, dtype=torch.long)
    mask = torch.zeros((len(prompts), width), dtype=torch.long)
    for i, prompt in enumerate(prompts):
        ids[i, width - len(prompt) :] = torch.tensor(prompt, dtype=torch.long)
        mask[i, width - len(prompt) :] = 1
    return ids, mask


def _with_room(cache: Any, room: int = 64) -> None:
    """Let the plain layers of a cache keep spare room, so that a step writes one column instead of copying them all."""
    from transformers.cache_utils import DynamicLayer

    class Roomy(DynamicLayer):  # type: ignore[misc]
        """Keys and values as views into larger buffers, (B, H, length, D)."""

        def __init__(self, layer: Any) -> None:
            super().__init__()
            self.dtype, self.device, self.is_initialized = layer.dtype, layer.device, True
            self._take(layer.keys, layer.values)

        def _take(self, keys: Tensor, values: Tensor) -> None:
            length, shape = keys.shape[-2], (*keys.shape[:-2], keys.shape[-2] + room, keys.shape[-1])
            self._keys, self._values = keys.new_empty(shape), values.new_empty(shape)
            self._keys[..., :length, :], self._values[..., :length, :] = keys, values
            self._show(length)

        def _show(self, length: int) -> None:
            self.keys, self.values = self._keys[..., :length, :], self._values[..., :length, :]

        def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
            length, more = self.keys.shape[-2], key_states.shape[-2]
            if length + more > self._keys.shape[-2]:
                self._take(self.keys, self.values)
            self._keys[..., length : length + more, :] = key_states
            self._values[..., length : length + more, :] = value_states
            self._show(length + more)
            return self.keys, self.values

        def batch_select_indices(self, indices: Tensor) -> None:
            self._take(self.keys[indices], self.values[indices])

    cache.layers = [Roomy(layer) if type(layer) is DynamicLayer else layer for layer in cache.layers]


@torch.no_grad()
def decode(model: Any, rows: Sequence[Row], stops: Stops, pad: int) -> None:
    """Sample every row to its end, in place; equal prompts are computed once and their cache is shared.

    Finished rows leave the batch once they are a quarter of it, so the batch shrinks as it goes.
    """
    from transformers import DynamicCache

    device = next(model.parameters()).device
    wanted = any(row.wants_hidden for row in rows)
    prompts: dict[tuple[int, ...], int] = {}
    for row in rows:
        prompts.setdefault(row.given, len(prompts))
    ids, mask = (part.to(device) for part in _left_padded(list(prompts), pad))
    cache: Any = DynamicCache()
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    result = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
        output_hidden_states=wanted,
    )
    pick = torch.tensor([prompts[row.given] for row in rows], device=device)
    cache = result.past_key_values
    cache.batch_select_indices(pick)
    _with_room(cache)
    logits, mask = result.logits[:, -1][pick], mask[pick]
    hidden = result.hidden_states[-1][:, -1][pick] if wanted else None
    live = list(rows)
    while True:
        places = [place for place, row in enumerate(live) if not row.finish]
        chosen = [live[place] for place in places]
        advance(chosen, logits[places], stops, None if hidden is None else hidden[places])
        keep = [place for place, row in enumerate(live) if not row.finish]
        if not keep:
            return
        if len(keep) <= 0.75 * len(live):
            index = torch.tensor(keep, device=device)
            cache.batch_select_indices(index)
            mask, live = mask[index], [live[place] for place in keep]
        last = torch.tensor([[row.sampled[-1]] for row in live], device=device)
        mask = torch.cat([mask, mask.new_ones(len(live), 1)], dim=1)
        result = model(
            input_ids=last,
            attention_mask=mask,
            position_ids=mask.sum(-1, keepdim=True) - 1,
            past_key_values=cache,
            use_cache=True,
            output_hidden_states=wanted,
        )
        logits = result.logits[:, -1]
        hidden = result.hidden_states[-1][:, -1] if wanted else None
