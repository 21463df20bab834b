"""The loop that takes a failed call back and writes it again."""

from __future__ import annotations

from functools import partial

import pytest
from tests.toys import Bench

from ferrule.agents.correct import SelfCorrect, corrected
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, Task, plain_text
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.tools.calculator import calculator
from ferrule.worlds.session import Toolbox


def calls(expression: str, text: str = "") -> Message:
    return Message("assistant", text, (Call("calculator", {"expression": expression}),))


def divides(request: Ask, sample: int) -> Message:
    """Divide by zero until the thought is begun again without its last word."""
    if any(m.role == "tool" for m in request.messages):
        return Message("assistant", plain_text(request.messages[-1]))
    if request.prefill == "I take":
        return calls("6/2", request.prefill + " two")
    return calls("6/0", (request.prefill or "I take") + " zero")


BOX = Toolbox((calculator,))
SUM = Task("sum", "6 by 2", "3", world="toolbox")


def test_a_failed_call_is_taken_back() -> None:
    (episode,) = drive(SelfCorrect(suffix=1), [SUM], BOX, Scripted(divides))
    kept, dropped = episode.trajectories
    assert (kept.answer, kept.finish) == ("3", "answer")
    assert [plain_text(t.reply) for t in kept.turns] == ["I take two", "3"]
    assert dropped.finish == "discarded"
    assert dropped.turns[0].observations[0].status == "error"
    assert kept.turns[1].parent == kept.turns[0].id


def test_code_alone_repeats_the_mistake_until_it_is_accepted() -> None:
    """With nothing taken off the thought the same code fails five times; the fifth failure is shown."""
    (episode,) = drive(SelfCorrect(suffix=0), [SUM], BOX, Scripted(divides))
    kept, *dropped = episode.trajectories
    assert len(dropped) == 4
    assert "zero" in str(kept.answer)
    assert len(kept.calls) == 1


def test_a_discarded_attempt_leaves_no_trace_in_the_world() -> None:
    def writes(request: Ask, sample: int) -> Message:
        if any(m.role == "tool" for m in request.messages):
            return Message("assistant", "yes")
        good = bool(request.prefill)
        line = Call("write", {"line": "second" if good else "first"})
        return Message("assistant", "a b", (line, Call("calculator", {"expression": "1/1" if good else "1/0"})))

    world = Bench(more=(calculator,))
    (episode,) = drive(SelfCorrect(suffix=1), world.tasks("train", 1), world, Scripted(writes))
    assert episode.trajectories[0].final == {"lines": ["second"]}
    assert all(session.closed for session in world.states)


def test_a_loop_that_runs_out_has_no_answer() -> None:
    loop = partial(SelfCorrect, suffix=1, most=0)
    (episode,) = drive(loop(rounds=2), [SUM], BOX, Scripted(lambda a, s: calls("1+1")))
    assert (episode.trajectories[0].answer, episode.trajectories[0].finish) == (None, "turns")
    assert len(episode.trajectories) == 1
    with pytest.raises(ValueError, match=r"SelfCorrect.rounds is 0; the least is 1"):
        loop(rounds=0)


def test_retries_of_a_stream() -> None:
    stream = [bool(x) for x in (1, 0, 1, 0, 0, 0, 0, 0, 1)]
    assert corrected(stream) == [(0, True), (1, True), (4, False), (0, True)]
    assert corrected([]) == []
