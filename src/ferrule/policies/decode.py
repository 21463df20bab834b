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
            tail = self.text(row.sampled[-48:])
            if any(stop in tail for stop in row.stop):
                return "stop"
        return "length" if len(row.sampled) >= row.max_tokens else ""

    def _may_end(self, token: int, stops: Sequence[str]) -> bool:
        """Cheap filter: a stop string can only be complete when its last character is in the newest token."""
        if self._pieces is None:
            size = len(self._tokenizer)
            self._pieces = self._tokenizer.batch_decode([[i] for i in range(size)], skip_special_tokens=False)
        piece = self._pieces[token] if token < len(self._pieces) else ""
        return any(stop[-1] in piece for stop in stops)


def _left_padded(prompts: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    width = max(len(p) for p in prompts)
    ids = torch.full((len(prompts), width), pad, dtype=torch.long)
    mask = torch.zeros((len(prompts), width), dtype=torch.long)
    for i, prompt in enumerate(prompts):
        ids[i, width - len(prompt) :] = torch.tensor(prompt, dtype=torch.long)
        mask[i, width - len(prompt) :] = 1
    return ids, mask


def _choose(logits: Tensor, rows: Sequence[Row], noise: np.ndarray, step: int) -> tuple[list[int], Tensor, Tensor]:
    """Draw one id per row by inverting its distribution at the row's own uniform number.

    A row's draw depends on its logits and its seed only, never on its neighbours. Temperature 0 takes the most
    probable id and reports its log-probability at temperature 1.
    """
    heat = torch.tensor([row.temperature or 1.0 for row in rows], dtype=torch.float32)
    logp = torch.log_softmax(logits.float().cpu() / heat[:, None], dim=-1)
    probs = logp.exp()
    total = probs.double().cumsum(-1)
    target = torch.tensor([[noise[i][step]] for i in range(len(rows))], dtype=torch.float64) * total[:, -1:]
    drawn = torch.searchsorted(total, target, right=True).squeeze(1).clamp(max=logits.shape[-1] - 1)
    greedy = torch.tensor([row.temperature == 0 for row in rows])
    drawn = torch.where(greedy, logp.argmax(-1), drawn)
    chosen = logp.gather(1, drawn[:, None]).squeeze(1)
    entropy = -(probs * logp.clamp(min=-1e4)).sum(-1)
    return drawn.tolist(), chosen, entropy


@torch.no_grad()
def decode(model: Any, rows: Sequence[Row], stops: Stops, pad: int) -> None:
    """Sample every row to its end, in place; equal prompts are computed once and their cache is shared.

    Rows leave the batch as soon as they are done, so the batch shrinks as it goes.
    """
    from transformers import DynamicCache

    device = next(model.parameters()).device
    prompts: dict[tuple[int, ...], int] = {}
    for row in rows:
        prompts.setdefault(row.given, len(prompts))
    ids, mask = _left_padded(list(prompts), pad)
    ids, mask = ids.to(device), mask.to(device)
    cache = DynamicCache()
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
    logits, mask = out.logits[:, -1][pick], mask[pick]
    live = list(range(len(rows)))
    noise = [np.random.Generator(np.random.Philox(key=row.seed)).random(row.max_tokens) for row in rows]
    step = 0
    while live:
        drawn, chosen, entropy = _choose(logits, [rows[i] for i in live], [noise[i] for i in live], step)  # type: ignore[arg-type]
        keep = []
        for place, i in enumerate(live):
            row = rows[i]
            row.sampled.append(drawn[place])
            row.logps.append(float(chosen[place]))
            row.entropies.append(float(entropy[place]))
            row.finish = stops.check(row)
            if not row.finish:
                keep.append(place)
        step += 1
        if not keep:
            return
        if len(keep) < len(live):
            index = torch.tensor(keep, device=device)
            cache.batch_select_indices(index)
            mask = mask[index]
            live = [live[place] for place in keep]
        last = torch.tensor([[rows[i].sampled[-1]] for i in live], device=device)
        mask = torch.cat([mask, mask.new_ones(len(live), 1)], dim=1)
        out = model(
            input_ids=last,
            attention_mask=mask,
            position_ids=mask.sum(-1, keepdim=True) - 1,
            past_key_values=cache,
            use_cache=True,
        )
        logits = out.logits[:, -1]
