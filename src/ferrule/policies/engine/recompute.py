"""Sampling without a cache, for models whose own cache cannot be padded or shared: hybrid and recurrent ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ferrule.policies.engine.rows import Row, Stops, advance
from ferrule.policies.forward import logits_at

__all__ = ["one_token"]


@torch.no_grad()
def one_token(model: Any, rows: Sequence[Row], stops: Stops, pad: int) -> None:
    """Draw one id for every row, in place, each computed again from its first token; equal rows are computed once.

    Right for every causal model, and slow: the work of a reply grows with the square of its length.
    """
    whole = [(*row.given, *row.sampled) for row in rows]
    place = {ids: at for at, ids in enumerate(dict.fromkeys(whole))}
    device, width = next(model.parameters()).device, max(map(len, place))
    ids = torch.tensor([[*one, *[pad] * (width - len(one))] for one in place], device=device)
    lengths = sorted({len(one) for one in place})
    columns = torch.tensor([length - 1 for length in lengths], device=device)
    logits, states = logits_at(model, ids, columns, hidden=any(row.wants_hidden for row in rows))
    pick = torch.tensor([place[one] for one in whole], device=device)
    last = torch.tensor([lengths.index(len(one)) for one in whole], device=device)
    advance(rows, logits[pick, last], stops, states[-1][pick, columns[last]] if states else None)
