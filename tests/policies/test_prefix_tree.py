"""Rows as one sequence: every distinct prefix stands once, and every token finds its own past."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ferrule.policies.packing.prefix_tree import by_length, cut, pack, sees

Rows = tuple[list[np.ndarray[Any, Any]], list[np.ndarray[Any, Any]]]


@st.composite
def rows(draw: Any) -> Rows:
    """Up to seven rows over three ids, so that prefixes meet often; any tokens may be the model's."""
    ids = draw(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=7), min_size=1, max_size=7))
    turn = [draw(st.lists(st.integers(-1, 1), min_size=len(row), max_size=len(row))) for row in ids]
    return [np.array(row) for row in ids], [np.array(row) for row in turn]


def prefixes(ids: Any, turn: Any, some: Any = None) -> set[tuple[int, ...]]:
    """Every context that some model token needs, by brute force."""
    out = set()
    for n in range(len(ids)) if some is None else some:
        wanted = [t for t in range(1, len(ids[n])) if turn[n][t] >= 0]
        out |= {tuple(ids[n][: t + 1].tolist()) for t in range(max(wanted, default=0))}
    return out


@given(rows())
def test_every_distinct_prefix_stands_once_and_every_token_sees_its_own_past(some: Rows) -> None:
    ids, turn = some
    tree = pack(ids, turn)
    until = torch.from_numpy(tree.until_T)
    size = len(tree.ids_T)
    place = torch.arange(size)
    seen = sees(until)(None, None, place[:, None], place[None, :]).numpy() if size else np.zeros((0, 0), bool)
    contexts = []
    for q in range(size):
        past = np.flatnonzero(seen[q])
        assert tree.position_T[past].tolist() == list(range(len(past)))
        contexts.append(tuple(tree.ids_T[past].tolist()))
    assert len(set(contexts)) == size
    assert set(contexts) == prefixes(ids, turn)
    found = set()
    for row, column, pair in zip(tree.row_C, tree.column_C, tree.pair_C, strict=True):
        assert contexts[tree.at_M[pair]] == tuple(ids[row][:column].tolist())
        assert tree.target_M[pair] == ids[row][column]
        found.add((int(row), int(column)))
    assert found == {(n, t) for n in range(len(ids)) for t in range(1, len(ids[n])) if turn[n][t] >= 0}
    assert len(found) == len(tree.row_C)
    assert len({*zip(tree.at_M.tolist(), tree.target_M.tolist(), strict=True)}) == len(tree.at_M)


@given(rows())
def test_runs_say_the_same_as_the_mask(some: Rows) -> None:
    """Laid out one after another, each run's stretches and itself are what its last token sees."""
    tree = pack(*some)
    assert [a for a, _, _ in tree.runs] + [len(tree.ids_T)] == [0] + [b for _, b, _ in tree.runs]
    for start, stop, ranges in tree.runs:
        past = [k for a, b in ranges for k in range(a, b)]
        for q in range(start, stop):
            assert [*past, *range(start, q + 1)] == [k for k in range(q + 1) if q < tree.until_T[k]]
        mask = tree.run_mask(stop - start, len(past), torch.zeros(1))
        assert mask.shape == (stop - start, len(past) + stop - start)
        for i in range(stop - start):
            assert torch.isfinite(mask[i]).tolist() == [True] * (len(past) + i + 1) + [False] * (stop - start - i - 1)


@given(rows(), st.integers(1, 5), st.integers(1, 30), st.booleans())
def test_packs_hold_every_row_once_within_the_limits(some: Rows, most: int, tokens: int, in_pairs: bool) -> None:
    ids, turn = some
    units = (
        [[*range(n, min(n + 2, len(ids)))] for n in range(0, len(ids), 2)]
        if in_pairs
        else [[n] for n in range(len(ids))]
    )
    for how in (cut, by_length):
        parts = list(how(ids, turn, units, rows=most, tokens=tokens))
        assert sorted(n for part in parts for n in part) == list(range(len(ids)))
        for part in parts:
            inside = [unit for unit in units if unit[0] in part]
            assert sorted(n for unit in inside for n in unit) == sorted(part)
            if len(inside) > 1:
                assert len(part) <= most
                padded = len(part) * max(len(ids[n]) for n in part)
                assert (len(prefixes(ids, turn, part)) if how is cut else padded) <= tokens


def test_rows_that_share_come_together_and_share_counts_once() -> None:
    """Two prompts of 4, two samples of 2 each, interleaved: 4 + 1 + 1 tokens are read of each (the last is foretold)."""
    ids = [np.array(row) for row in ([1, 2, 3, 4, 8, 9], [5, 6, 7, 8, 1, 2], [1, 2, 3, 4, 7, 7], [5, 6, 7, 8, 3, 3])]
    turn = [np.array([-1, -1, -1, -1, 0, 0])] * 4
    assert list(cut(ids, turn, [[0], [1], [2], [3]], rows=9, tokens=6)) == [[2, 0], [1, 3]]
    assert [len(part) for part in cut(ids, turn, [[0], [1], [2], [3]], rows=9, tokens=5)] == [1, 1, 1, 1]
    assert [len(part) for part in cut(ids, turn, [[0], [1], [2], [3]], rows=9, tokens=12)] == [4]
    assert len(pack(ids, turn).ids_T) == 12


def test_equal_rows_are_computed_once_and_counted_each() -> None:
    ids, turn = [np.array([3, 4, 5])] * 3, [np.array([-1, 0, 0])] * 3
    tree = pack(ids, turn)
    assert (tree.ids_T.tolist(), tree.at_M.tolist(), tree.target_M.tolist()) == ([3, 4], [0, 1], [4, 5])
    assert sorted(zip(tree.row_C.tolist(), tree.column_C.tolist(), strict=True)) == [
        (n, t) for n in range(3) for t in (1, 2)
    ]


@pytest.mark.parametrize("turn", [[-1, -1, -1], [0, -1, -1]])
def test_rows_with_nothing_to_foretell_are_not_read(turn: list[int]) -> None:
    """The first token of a row has no past: nobody foretells it."""
    tree = pack([np.array([3, 4, 5])], [np.array(turn)])
    assert len(tree.ids_T) == len(tree.at_M) == len(tree.runs) == 0


def test_the_block_mask_is_the_same_mask() -> None:
    from torch.nn.attention.flex_attention import create_mask

    rng = np.random.default_rng(0)
    ids = [rng.integers(0, 3, 12) for _ in range(40)]
    tree = pack(ids, [np.zeros(12, np.int64)] * 40)
    size, until = len(tree.ids_T), torch.from_numpy(tree.until_T)
    assert size > 128
    brute = [[k <= q < int(tree.until_T[k]) for k in range(size)] for q in range(size)]
    assert torch.equal(create_mask(sees(until), None, None, size, size, device="cpu")[0, 0], torch.tensor(brute))
    blocks = tree.block_mask(torch.device("cpu"))
    assert blocks.shape[-2:] == (size, size)
    expected = torch.tensor(brute)[:128, 128:256].any()
    assert bool(blocks.to_dense()[0, 0, 0, 1]) is bool(expected)
