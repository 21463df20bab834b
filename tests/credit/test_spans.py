"""Labelled spans as masks over tokens."""

from __future__ import annotations

import numpy as np
import pytest
from tests.contracts.checks import signals_of

from ferrule.core.arrays import pack
from ferrule.core.records import Message, Score, Span, Task, Trajectory, Turn
from ferrule.credit.spans import check_labels, inside, outside, within
from ferrule.train.sample import masked

TASK = Task("t", "?")


def turn(number: int, given: int, spans: tuple[Span, ...], sampled: int = 4) -> Turn:
    ids = tuple(range(sampled))
    parent = number - 1 if number else None
    return Turn(number, parent, (9,) * given, ids, (-0.5,) * sampled, Message("assistant", "x"), spans=spans)


ROW = Trajectory(
    TASK,
    (
        turn(0, 2, (Span("think", 0, 2), Span("call", 3, 4))),
        turn(1, 1, (Span("think", 0, 3), Span("answer", 2, 4))),
        turn(2, 0, (), 1),
    ),
)
SIGNALS = pack([ROW, Trajectory(TASK, ())], [Score(0.0)] * 2, [0, 0])


def places(mask: np.ndarray) -> list[int]:
    assert mask.dtype == bool
    assert mask.shape == SIGNALS.turn_NT.shape
    assert not mask[1].any()
    return np.flatnonzero(mask[0]).tolist()


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (("call",), [5]),
        (("think",), [2, 3, 7, 8]),  # token 9 belongs to the later of two spans that overlap
        (("answer",), [9, 10]),
        (("call", "answer"), [5, 9, 10]),
        (("fold",), []),
        ((), []),
    ],
)
def test_tokens_within_spans(labels: tuple[str, ...], expected: list[int]) -> None:
    """Two given tokens, four sampled ones; one given, four sampled; one sampled."""
    assert places(within(SIGNALS, *labels)) == expected
    assert places(inside(*labels)(SIGNALS)) == expected
    assert places(outside(*labels)(SIGNALS)) == [c for c in [2, 3, 4, 5, 7, 8, 9, 10, 11] if c not in expected]


def test_masks_leave_tokens_out_of_the_loss() -> None:
    kept = masked(SIGNALS, outside("think"))
    assert (kept.turn_NT[0] >= 0).sum() == 5
    assert kept.turn_NT[0, 11] == 2
    assert np.array_equal(kept.ids_NT, SIGNALS.ids_NT)


def test_a_batch_without_spans() -> None:
    plain = pack([Trajectory(TASK, (turn(0, 1, ()),))], [Score(0.0)], [0])
    assert plain.labels == ()
    assert not within(plain, "call").any()
    assert outside("call")(plain).sum() == 4


def test_masked_tokens_are_no_longer_within_a_span() -> None:
    """Spans say where a label is; what carries loss is asked of the turn index."""
    signals = signals_of([0, 1], [0, 0])
    kept = masked(signals, outside("call"))
    assert within(signals, "call").any()
    assert not within(kept, "call").any()


def test_labels_are_several_texts() -> None:
    check_labels(("call", "fold"))
    with pytest.raises(ValueError, match=r"spans is the text 'call'; give several labels, such as \('call',\)"):
        check_labels("call")
    with pytest.raises(ValueError, match="give labels of spans"):
        check_labels(())
