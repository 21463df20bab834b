"""One count of calls: every status in one place, and the same numbers in metrics, evaluation, signals and rewards."""

from __future__ import annotations

import pytest

from ferrule.core.arrays import pack
from ferrule.core.records import Call, Message, Observation, Score, Task, Trajectory, Turn
from ferrule.core.tally import Tally, tally, turns_of
from ferrule.evaluate.evaluate import measure
from ferrule.rewards.efficiency import call_cost
from ferrule.rewards.format import well_formed_share
from ferrule.rollout.record import Episode
from ferrule.train.sample import Batch, Group, stats

TASK = Task("t", "p", "1", "w")
ENDS = (
    Observation("7"),
    Observation("broke", "error"),
    Observation("late", "timeout"),
    Observation("no", "refused"),
    Observation("who?", "unknown_tool"),
    Observation("what?", "malformed"),
    Observation("1", terminal=True),
)


def turn(id: int, parent: int | None, *observations: Observation) -> Turn:
    reply = Message("assistant", "", tuple(Call("tool", id=str(i)) for i in range(len(observations))))
    return Turn(id, parent, (1,), (2,), (0.0,), reply, observations=observations)


def test_only_what_ran_and_went_on_is_a_call() -> None:
    # ok, error and timeout ran; of seven attempts, those that ended in anything but ok are five.
    assert tally(ENDS) == Tally(attempts=7, calls=3, malformed=1, unknown_tool=1, refused=1, failed=5)
    assert tally(ENDS).well_formed == pytest.approx(5 / 7)
    assert tally(()) == Tally()
    assert Tally().well_formed == 1.0


def test_all_who_count_say_the_same() -> None:
    path = Trajectory(TASK, (turn(0, None, *ENDS),), "1")
    episode = Episode(TASK, 0, 0, (path,))
    row = measure([episode]).rows[0]
    score = Score(1.0)
    signals = pack([path], [score], [0])
    metrics = stats(Batch(signals, signals.logp_NT, (Group(TASK, (episode,), (path,), (score,), (0,)),)))
    assert row.calls == signals.calls_N[0] == call_cost(path) == metrics["calls/mean"] == 3
    assert row.attempts == metrics["attempts"] == 7
    assert row.malformed == signals.malformed_N[0] == 1
    assert metrics["malformed/share"] == metrics["unknown_tool/share"] == pytest.approx(1 / 7)
    assert well_formed_share(path) == pytest.approx(5 / 7)


def test_turns_that_paths_share_count_once() -> None:
    """A trunk with one call and two branches with one call each: three calls in one episode."""
    trunk, left, right = turn(0, None, ENDS[0]), turn(1, 0, ENDS[0]), turn(2, 0, ENDS[1])
    paths = tuple(Trajectory(TASK, (trunk, leaf), "1") for leaf in (left, right))
    assert turns_of(paths) == [trunk, left, right]
    episode = Episode(TASK, 0, 0, paths)
    scores = (Score(1.0), Score(0.0))
    signals = pack(paths, scores, [0, 0], episodes=[0, 0])
    group = Group(TASK, (episode,), paths, scores, (0, 0))
    metrics = stats(Batch(signals, signals.logp_NT, (group,)))
    assert metrics["calls/mean"] == 3
    assert measure([episode]).rows[0].calls == 3
    assert metrics["groups/mixed"] == 1.0
    assert metrics["groups/zero_spread"] == 0.0
