"""Rows that share prefixes as one sequence in which every shared stretch stands once and nothing is padded.

A token sees exactly the tokens before it on its own path, at the position it has there. The sequence is a depth-first
walk of the tree of prefixes, so one number a token says it all: ``until``, the end of what lies below it. Token ``k``
is on the path of token ``q`` when ``k <= q < until[k]``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

__all__ = ["Pack", "by_length", "cut", "pack", "sees"]

Ints = np.ndarray[Any, Any]
Ranges = tuple[tuple[int, int], ...]


@dataclass
class Pack:
    """Rows as one sequence of T tokens: ids, positions on the path and ``until``, all (T,).

    ``runs`` are the new tokens of each row that brings any: ``(start, stop, ranges)``, where ``ranges`` are the
    stretches of the sequence on the path before the run. ``at_M`` and ``target_M`` are the distinct predictions: the
    token at ``at`` foretells ``target``. Prediction ``pair_C`` is column ``column_C`` of row ``row_C``.
    """

    ids_T: Ints
    position_T: Ints
    until_T: Ints
    runs: list[tuple[int, int, Ranges]]
    at_M: Ints
    target_M: Ints
    row_C: Ints
    column_C: Ints
    pair_C: Ints
    calls: int = 0  # how many layers have attended on this pack
    _kept: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def run_mask(self, length: int, before: int, like: Tensor) -> Tensor:
        """Return the additive mask of a run, (length, before + length): all of the path, and its own past."""
        key = (length, before, like.dtype)
        if key not in self._kept:
            hidden = torch.ones(length, before + length, dtype=torch.bool, device=like.device).triu(before + 1)
            self._kept[key] = torch.zeros(hidden.shape, dtype=like.dtype, device=like.device).masked_fill_(
                hidden, -torch.inf
            )
        return cast(Tensor, self._kept[key])

    def block_mask(self, device: torch.device) -> Any:
        """Return the mask of the whole sequence for FlexAttention."""
        from torch.nn.attention.flex_attention import create_block_mask

        if "blocks" not in self._kept:
            until_T, size = torch.from_numpy(self.until_T).to(device), len(self.ids_T)
            self._kept["blocks"] = create_block_mask(sees(until_T), None, None, size, size, device=str(device))
        return self._kept["blocks"]


def sees(until_T: Tensor) -> Callable[[Any, Any, Tensor, Tensor], Tensor]:
    """Return whether a query sees a key, as FlexAttention asks: a function of batch, head, query and key."""
    return lambda b, h, q, k: (k <= q) & (q < until_T[k])


def _common(first: Ints, second: Ints) -> int:
    """Return how many ids two rows share from the start."""
    n = min(len(first), len(second))
    differ = first[:n] != second[:n]
    return int(differ.argmax()) if differ.any() else n


def _read(ids: Ints, turn: Ints) -> Ints:
    """Return the ids the model has to read: those before the last one that is foretold."""
    trained = np.flatnonzero(turn[1:] >= 0)
    return ids[: int(trained[-1]) + 1] if len(trained) else ids[:0]


def _key(ids: Ints) -> bytes:
    """Return a key that sorts rows with a common prefix next to each other."""
    return ids.astype(">i8").tobytes()


def cut(
    ids: Sequence[Ints],
    turn: Sequence[Ints],
    units: Sequence[Sequence[int]],
    *,
    rows: int,
    tokens: int,
    apart: int | None = None,
) -> Iterator[list[int]]:
    """Cut units of rows into packs of at most ``rows`` rows and ``tokens`` computed tokens (one unit at least).

    Units that share prefixes come next to each other, and what they share counts once. A unit that shares nothing with
    a pack joins it only up to ``apart`` tokens (None: ``tokens``): it would save nothing but take memory.
    """
    apart = tokens if apart is None else apart
    read = {i: _read(ids[i], turn[i]) for unit in units for i in unit}

    def grown(part: Sequence[int], unit: Sequence[int]) -> tuple[list[int], int]:
        whole, new = list(part), 0
        for i in unit:
            new += len(read[i]) - max((_common(read[i], read[j]) for j in whole), default=0)
            whole.append(i)
        return whole, new

    part: list[int] = []
    total = 0
    for unit in sorted(units, key=lambda unit: _key(read[unit[0]])):
        more, new = grown(part, unit)
        alone = new == sum(len(read[i]) for i in unit)
        if part and (len(more) > rows or total + new > (apart if alone else tokens)):
            yield part
            total = 0
            more, new = grown([], unit)
        part, total = more, total + new
    if part:
        yield part


def by_length(
    ids: Sequence[Ints], turn: Sequence[Ints], units: Sequence[Sequence[int]], *, rows: int, tokens: int
) -> Iterator[list[int]]:
    """Cut units of similar length into parts of at most ``rows`` rows and ``tokens`` padded tokens (or one unit)."""
    part: list[int] = []
    for unit in sorted(units, key=lambda unit: max(len(ids[i]) for i in unit)):
        count = len(part) + len(unit)
        if part and (count > rows or count * max(len(ids[i]) for i in unit) > tokens):
            yield part
            part = []
        part = [*part, *unit]
    if part:
        yield part


def pack(ids: Sequence[Ints], turn: Sequence[Ints]) -> Pack:
    """Lay rows out as one sequence; ``turn`` is -1 off the model's tokens, and ids after the last are left out."""
    read = [_read(i, t) for i, t in zip(ids, turn, strict=True)]
    none = np.zeros(0, np.int64)
    until = np.zeros(sum(len(r) for r in read), np.int64)
    before, path, size = none, none, 0  # of the row before: its ids, their places; tokens so far
    ranges: Ranges = ()
    runs: list[tuple[int, int, Ranges]] = []
    tokens, positions, cells = [none], [none], [(none, none, none, none)]
    for row in sorted(range(len(read)), key=lambda i: _key(read[i])):
        shared = _common(before, read[row])
        new = len(read[row]) - shared
        until[path[shared:]] = size
        path, ranges = path[:shared], _clip(ranges, shared)
        if new:
            runs.append((size, size + new, ranges))
            ranges = (*ranges, (size, size + new))
            tokens.append(read[row][shared:])
            positions.append(np.arange(shared, shared + new))
            path = np.concatenate([path, np.arange(size, size + new)])
            size += new
        before = read[row]
        column = np.flatnonzero(turn[row][1:] >= 0) + 1
        cells.append((np.full(len(column), row), column, path[column - 1], ids[row][column]))
    until[path] = size
    row_C, column_C, at_C, target_C = (np.concatenate(part) for part in zip(*cells, strict=True))
    pairs, pair_C = np.unique(np.stack([at_C, target_C]), axis=1, return_inverse=True)
    return Pack(
        ids_T=np.concatenate(tokens), position_T=np.concatenate(positions), until_T=until[:size], runs=runs,
        at_M=pairs[0], target_M=pairs[1], row_C=row_C, column_C=column_C, pair_C=pair_C.reshape(-1),
    )  # fmt: skip


def _clip(ranges: Ranges, length: int) -> Ranges:
    """Return the ranges of the first ``length`` tokens of a path."""
    clipped = []
    for start, stop in ranges:
        if length > 0:
            clipped.append((start, min(stop, start + length)))
            length -= stop - start
    return tuple(clipped)
