"""The loop that takes a failed call back and writes it again."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from tests.toys import Bench, layout

from ferrule.agents.correct import SelfCorrect, corrected
from ferrule.agents.repair import thought_size
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, Task, plain_text
from ferrule.policies.local import load
from ferrule.policies.models import folder_of
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.tools.calculator import calculator
from ferrule.worlds.arithmetic import Arithmetic
from ferrule.worlds.session import Toolbox
from ferrule.worlds.shown import shown


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


# ------------------------------------------------------------------------------------------------- exact beginnings


def failing(world: Any) -> Any:
    """The world with calls that all fail."""
    return shown(world, lambda observation: replace(observation, status="error", text="ZeroDivisionError"))


def test_what_is_left_of_a_thought_are_the_ids_that_were_sampled() -> None:
    """Three tokens off the thought of the pocket model: what stays has its ids and log-probs, and greedily the rest."""
    policy, world = load(folder_of("pocket")), failing(Arithmetic(tools=("python",)))
    tasks = world.tasks("test", 2, levels=(2, 5))
    agent = SelfCorrect(rounds=1, most=2, suffix=3, max_tokens=64)
    for episode in drive(agent, tasks, world, policy, temperature=0.0):
        assert not episode.problem
        assert not episode.drifted
        turns = {turn.id: turn for path in episode.trajectories for turn in path.turns}
        first, *again = (turns[number] for number in range(3))
        size = thought_size(first)
        assert size is not None
        assert size > 3
        kept = first.sampled[: size - 3]
        for attempt in again:
            assert attempt.given == (*first.given, *kept)
            assert (*kept, *attempt.sampled) == first.sampled
            assert attempt.logps == pytest.approx(first.logps[len(kept) :], abs=1e-4)
            assert attempt.reply.calls[0].arguments == first.reply.calls[0].arguments
            ids_NT = np.array([[*attempt.given, *attempt.sampled]])
            turn_NT = np.where(np.arange(ids_NT.shape[1]) < len(first.given), -1, 0)[None]
            scores = policy.scores(ids_NT, turn_NT)[0, len(first.given) :]
            assert scores[: len(kept)].tolist() == pytest.approx(first.logps[: len(kept)], abs=1e-4)


def test_a_letter_of_two_ids_may_be_cut_in_two() -> None:
    """Three bytes off "nehme ä a" leave six and the first byte of the letter, which no text could say."""
    renderer = layout()
    begun: list[tuple[int, ...]] = []

    def speak(request: Ask, sample: int) -> str:
        if any(m.role == "tool" for m in request.messages):
            return "done"
        begun.append(request.begun)
        return renderer.codec.write(calls("6/2", " b") if request.begun else calls("6/0", "nehme ä a"))

    (episode,) = drive(SelfCorrect(suffix=3), [SUM], BOX, Scripted(speak, renderer=renderer))
    assert begun == [(), tuple("nehme ä".encode()[:7])]
    assert not episode.problem
    kept, dropped = episode.trajectories
    assert (kept.answer, [o.text for _, o in kept.calls]) == ("done", ["3"])
    assert kept.turns[0].given == (*dropped.turns[0].given, *begun[1])


def test_a_thought_is_taken_back_further_with_every_attempt() -> None:
    """Of "one two" 4 ids off leave "one", and of that nothing; then it is written anew."""
    renderer = layout()
    begun: list[str] = []

    def speak(request: Ask, sample: int) -> str:
        begun.append(bytes(request.begun).decode())
        return renderer.codec.write(calls("6/0", "" if request.begun else "one two"))

    (episode,) = drive(SelfCorrect(rounds=1, suffix=4), [SUM], BOX, Scripted(speak, renderer=renderer))
    assert begun[:5] == ["", "one", "", "one", ""]
    assert not episode.problem


def test_retries_of_a_stream() -> None:
    stream = [bool(x) for x in (1, 0, 1, 0, 0, 0, 0, 0, 1)]
    assert corrected(stream) == [(0, True), (1, True), (4, False), (0, True)]
    assert corrected([]) == []
