"""Sampling without a cache, for models whose own cache cannot be padded or shared: hybrid and recurrent ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ferrule.policies.engine.rows import Row, Stops, advance
from ferrule.policies.forward import logits_at

__all__ = ["Recompute"]


class Recompute:
    """Rows that all move on by one token at a step, each computed again from its first token.

    Right for every causal model, and slow: the work of a reply grows with the square of its length.
    """

    def __init__(self, model: Any, stops: Stops, pad: int, *, rows: int = 128) -> None:
        self.model, self.stops, self.pad, self.rows = model, stops, pad, rows
        self._waiting: list[Row] = []

    @property
    def busy(self) -> int:
        """Rows that are not finished."""
        return len(self._waiting)

    def submit(self, rows: Sequence[Row]) -> None:
        """Queue rows."""
        self._waiting += rows

    @torch.no_grad()
    def step(self) -> list[Row]:
        """Draw one id for each of the rows that came first; equal rows are computed once."""
        batch = self._waiting[: self.rows]
        whole = [(*row.given, *row.sampled) for row in batch]
        place = {ids: at for at, ids in enumerate(dict.fromkeys(whole))}
        device, width = next(self.model.parameters()).device, max(map(len, place))
        ids = torch.tensor([[*one, *[self.pad] * (width - len(one))] for one in place], device=device)
        lengths = sorted({len(one) for one in place})
        columns = torch.tensor([length - 1 for length in lengths], device=device)
        logits, states = logits_at(self.model, ids, columns, hidden=any(row.wants_hidden for row in batch))
        pick = torch.tensor([place[one] for one in whole], device=device)
        last = torch.tensor([lengths.index(len(one)) for one in whole], device=device)
        hidden = states[-1][pick, columns[last]] if states else None
        advance(batch, logits[pick, last], self.stops, hidden)
        self._waiting = [row for row in self._waiting if not row.finish]
        return [row for row in batch if row.finish]

    def cancel(self, rows: Sequence[Row]) -> None:
        """Let go of rows."""
        self._waiting = [row for row in self._waiting if row not in rows]

    def forget(self) -> None:
        """Nothing is kept between steps."""
