"""Stand-ins with exact numbers: episodes that are played agree with them."""

from __future__ import annotations

import numpy as np
import pytest

from ferrule.core.arrays import FloatArray
from ferrule.core.records import Task
from ferrule.studies.standins import call_parts, care, places
from ferrule.studies.table import Player

CHANCES: call_parts.Chances = {"free": (0.9, 0.6, 0.7), "needed": (0.1, 0.2, 0.9)}


def table(logits: FloatArray) -> FloatArray:
    chance_SA = np.exp(logits)
    return np.asarray(chance_SA / chance_SA.sum(1, keepdims=True))


def test_calls_with_care() -> None:
    chance_SA, rng = table(care.start()), np.random.default_rng(100)
    exact = care.expected(chance_SA)
    for task in care.tasks():
        episodes = [care.play(task, Player(chance_SA, rng)) for _ in range(3000)]
        assert np.mean([t.answer == "right" for t in episodes]) == pytest.approx(exact[f"accuracy {task.id}"], abs=0.03)
        assert np.mean([len(t.calls) for t in episodes]) == pytest.approx(exact[f"calls {task.id}"], abs=0.08)


def test_whether_and_how_to_call() -> None:
    """An even call is valid in 1/2 * 1/4 * 1/3 * 1/3 of cases."""
    chance_SA, rng = table(call_parts.start()), np.random.default_rng(100)
    exact = call_parts.expected(chance_SA, CHANCES)
    assert exact["valid calls"] == pytest.approx(1 / 72)
    for task in call_parts.tasks(CHANCES):
        episodes = [call_parts.play(task, Player(chance_SA, rng), chances=CHANCES) for _ in range(3000)]
        right = np.mean([t.answer == "right" for t in episodes])
        assert right == pytest.approx(exact[f"accuracy, {task.id}"], abs=0.03)
        assert np.mean([len(t.calls) for t in episodes]) == pytest.approx(exact[f"calls, {task.id}"], abs=0.03)


@pytest.mark.parametrize(
    ("decisions", "status"),
    [((0,), "malformed"), ((1, 2, 0, 0), "unknown_tool"), ((1, 0, 1, 0), "malformed"), ((1, 0, 2, 1), "error"),
     ((1, 0, 2, 0), "ok")],
)  # fmt: skip
def test_what_a_lookup_returns(decisions: tuple[int, ...], status: str) -> None:
    """Form, tool, parameters given and value; the policy always calls."""
    chance_SA = np.zeros((6, 4))
    chance_SA[:2, 1] = 1.0
    for state, decision in zip(
        (call_parts.FORM, call_parts.NAME, call_parts.GIVEN, call_parts.VALUE), decisions, strict=False
    ):
        chance_SA[state, decision] = 1.0
    episode = call_parts.play(Task("free", "?"), Player(chance_SA, np.random.default_rng(0)), chances=CHANCES)
    assert [observation.status for _, observation in episode.calls] == [status]


def test_places() -> None:
    """Without a call the place counts as the last one plus 1."""
    chance_SA, rng = table(places.start()), np.random.default_rng(100)
    exact = places.expected(chance_SA)
    episodes = [places.play(places.tasks(1)[0], Player(chance_SA, rng)) for _ in range(3000)]
    assert np.mean([bool(t.calls) for t in episodes]) == pytest.approx(exact["calls"], abs=0.03)
    assert np.mean([t.answer == "right" for t in episodes]) == pytest.approx(exact["accuracy"], abs=0.03)
    at = [next((k for k, turn in enumerate(t.turns) if turn.reply.calls), places.PLACES) for t in episodes]
    assert np.mean(at) == pytest.approx(exact["place"], abs=0.2)
