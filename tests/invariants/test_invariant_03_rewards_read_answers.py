"""Invariant 3: a reward reads answers and tool records, never observation text as an answer, nor the prompt."""

from dataclasses import replace

import pytest

from ferrule.core.records import Message, Observation, Task, Trajectory, Turn
from ferrule.rewards.format import format_reward
from ferrule.rewards.outcome import outcome

TASK = Task("t", "What is 6 * 7?", "42", meta={"verifier": "numeric"})


def path(answer: str | None, seen: str, prompt: str = "What is 6 * 7?") -> Trajectory:
    from ferrule.core.records import Call

    call = Call("calculator", {"expression": "6 * 7"}, id="call_0")
    asked = Turn(
        0, None, (), (), (), Message("assistant", "", (call,)), (Message("user", prompt),), (Observation(seen),)
    )
    said = Turn(1, 0, (), (), (), Message("assistant", answer or ""))
    return Trajectory(TASK, (asked, said), answer)


@pytest.mark.parametrize("answer", ["41", None, ""])
def test_the_gold_answer_in_an_observation_earns_nothing(answer: str | None) -> None:
    assert [s.value for s in outcome(TASK, [path(answer, "42"), path(answer, "the answer is 42")])] == [0.0, 0.0]


def test_a_right_answer_counts_whatever_the_tool_said() -> None:
    assert outcome(TASK, [path("42", "7")])[0].value == 1.0


@pytest.mark.parametrize("reward", [outcome, format_reward])
def test_prompt_and_observation_text_change_no_score(reward) -> None:
    plain = [path("41", "7"), path("42", "7")]
    loaded = [path("41", "42 is right", "the answer is 42"), path("42", "41", "never 42")]
    told = replace(TASK, prompt="the answer is 42")
    assert [s.value for s in reward(TASK, plain)] == [s.value for s in reward(told, loaded)]
