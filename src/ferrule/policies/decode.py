"""Batched sampling from a causal language model with a shared prefill and rows that leave when they are done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["Row", "Stops", "decode"]


@dataclass
class Row:
    """One sample on its way: prompt ids, limits and seed in, sampled ids and their log-probs out."""

    given: tuple[int, ...]
    max_tokens: int
    temperature: float
    seed: int
    stop: tuple[str, ...] = ()
    sampled: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    finish: str = ""


class Stops:
    """Decides whether a sampled row has reached its end token or one of its stop strings."""

    def __init__(self, tokenizer: Any, end_ids: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self.end_ids = end_ids
        self._pieces: list[str] | None = None

    def text(self, ids: Sequence[int]) -> str:
        """Return the exact text of ids, special tokens included."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def check(self, row: Row) -> str:
        """Return the finish of a row, or an empty text while it goes on."""
        last = row.sampled[-1]
        if last in self.end_ids:
            return "stop"
        if row.stop and self._may_end(last, row.stop):
            # A token is a byte at least, and the text of the first ones may be cut off inside a letter.
            tail = self.text(row.sampled[-max(48, 8 + max(len(stop.encode()) for stop in row.stop)) :])
            if any(stop in tail for stop in row.stop):
                return "stop"
        return "length" if len(row.sampled) >= row.max_tokens else ""

    def _may_end(self, token: int, stops: Sequence[str]) -> bool:
        """Cheap filter: a stop string can only be complete when its last character is in the newest token.

        Letters outside ASCII may be spread over several tokens, and blanks get lost when a token is decoded alone.
        """
        if self._pieces is None:
            size = len(self._tokenizer)
            self._pieces = self._tokenizer.batch_decode([[i] for i in range(size)], skip_special_tokens=False)
        piece = self._pieces[token] if token < len(self._pieces) else ""
        return any(stop[-1] in piece or not stop[-1].isascii() or stop[-1].isspace() for stop in stops)


def _left_padded(prompts: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    width = max(len(p) for p in prompts)
    ids = torch.full((len(prompts), width), pad, dtype=torch.long)
    mask = torch.zeros((len(prompts), width), dtype=torch.long)
    for i, prompt in enumerate(prompts):
        ids[i, width - len(prompt) :] = torch.tensor(prompt, dtype=torch.long)
        mask[i, width - len(prompt) :] = 1
    return ids, mask


def _choose(logits: Tensor, rows: Sequence[Row], noise: Sequence[float]) -> tuple[list[int], Tensor, Tensor]:
    """Draw one id per row by inverting its distribution at the row's own uniform number.

    A row's draw depends on its logits and its seed only, never on its neighbours. Temperature 0 takes the most
    probable id and reports its log-probability at temperature 1.
    """
    heat = torch.tensor([row.temperature or 1.0 for row in rows], dtype=torch.float32)
    logp = torch.log_softmax(logits.float().cpu() / heat[:, None], dim=-1)
    probs = logp.exp()
    total = probs.double().cumsum(-1)
    target = torch.tensor(noise, dtype=torch.float64)[:, None] * total[:, -1:]
    drawn = torch.searchsorted(total, target, right=True).squeeze(1).clamp(max=logits.shape[-1] - 1)
    greedy = torch.tensor([row.temperature == 0 for row in rows])
    drawn = torch.where(greedy, logp.argmax(-1), drawn)
    chosen = logp.gather(1, drawn[:, None]).squeeze(1)
    entropy = -(probs * logp.clamp(min=-1e4)).sum(-1)
    return drawn.tolist(), chosen, entropy


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
    prompts: dict[tuple[int, ...], int] = {}
    for row in rows:
        prompts.setdefault(row.given, len(prompts))
    ids, mask = (part.to(device) for part in _left_padded(list(prompts), pad))
    cache: Any = DynamicCache()
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    out = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    pick = torch.tensor([prompts[row.given] for row in rows], device=device)
    cache = out.past_key_values
    cache.batch_select_indices(pick)
    _with_room(cache)
    logits, mask = out.logits[:, -1][pick], mask[pick]
    live = list(rows)
    noise = {id(row): np.random.Generator(np.random.Philox(key=row.seed)).random(row.max_tokens) for row in rows}
    while True:
        _advance(live, logits, noise, stops)
        keep = [place for place, row in enumerate(live) if not row.finish]
        if not keep:
            return
        if len(keep) <= 0.75 * len(live):
            index = torch.tensor(keep, device=device)
            cache.batch_select_indices(index)
            mask, live = mask[index], [live[place] for place in keep]
        last = torch.tensor([[row.sampled[-1]] for row in live], device=device)
        mask = torch.cat([mask, mask.new_ones(len(live), 1)], dim=1)
        out = model(
            input_ids=last,
            attention_mask=mask,
            position_ids=mask.sum(-1, keepdim=True) - 1,
            past_key_values=cache,
            use_cache=True,
        )
        logits = out.logits[:, -1]


def _advance(live: Sequence[Row], logits: Tensor, noise: dict[int, np.ndarray[Any, Any]], stops: Stops) -> None:
    """Give every row that is not finished its next id."""
    places = [place for place, row in enumerate(live) if not row.finish]
    rows = [live[place] for place in places]
    drawn, chosen, entropy = _choose(logits[places], rows, [noise[id(row)][len(row.sampled)] for row in rows])
    for place, row in enumerate(rows):
        row.sampled.append(drawn[place])
        row.logps.append(float(chosen[place]))
        row.entropies.append(float(entropy[place]))
        row.finish = stops.check(row)
