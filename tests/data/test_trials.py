"""Trials as data: which are kept, other words for their requests, and what is learned."""

from __future__ import annotations

from typing import Any

import pytest
from tests.toys import Bench, layout

from ferrule.agents.probe import Trial
from ferrule.core.flows import Ask, Flow
from ferrule.core.records import Call, Message, Observation, Task, Tool, plain_text
from ferrule.data.trials import (
    judged_trial,
    paraphrase_count,
    paraphrases,
    read_aspects,
    shown_trials,
    trial_messages,
    trial_records,
    usable,
)
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive

TOOL = Tool("echo", "Echoes.", {"type": "object", "properties": {}}, run=dict)
GOOD, WRONG, BROKEN = (
    (Call("echo", {"n": 1}), Observation("one")),
    (Call("echo", {"n": 2}), Observation("no", "error")),
    (Call("echo", problem="cut"), Observation("malformed", "malformed")),
)
TRIAL = Trial("echo", "say one", (GOOD, WRONG, BROKEN), "it failed")


def asked(flow: Any, speak: Any) -> Any:
    """Play a flow in an episode and return what it returns."""
    results: list[Any] = []

    def agent(task: Task, session: Any) -> Flow[str]:
        results.append((yield from flow))
        return "done"

    world = Bench()
    (episode,) = drive(agent, world.tasks("train", 1), world, Scripted(speak, renderer=layout()))
    assert episode.problem == ""
    return results[0]


def test_a_trial_needs_an_answer_and_a_call_that_could_be_read() -> None:
    assert usable(TRIAL)
    assert not usable(Trial("echo", "say", (BROKEN,), "x"))
    assert not usable(Trial("echo", "say", (GOOD,)))


def test_of_the_calls_the_last_well_formed_one_is_learned() -> None:
    """A call that failed is well-formed, one that could not be read is not."""
    request, call, result, answer = trial_messages(TRIAL)
    assert (request, answer) == (Message("user", "say one"), Message("assistant", "it failed"))
    assert [(c.name, c.arguments, c.id) for c in call.calls] == [("echo", {"n": 2}, "call_0")]
    assert result == Message("tool", "no", name="echo", call_id="call_0")
    items = trial_records(TOOL, TRIAL, ["one, please"])
    assert [len(item.prompt) for item in items] == [1, 3, 1, 3]
    assert [plain_text(item.prompt[0]) for item in items] == ["say one"] * 2 + ["one, please"] * 2  # type: ignore[arg-type]
    assert items[1].completion == (answer,)
    with pytest.raises(ValueError, match="no call that ran, or no answer"):
        trial_messages(Trial("echo", "say"))


def test_how_many_paraphrases() -> None:
    """Worked example 4 of STE: 25 trials, 5 each; 14, 6 (the most); 60, 1."""
    assert [paraphrase_count(count) for count in (25, 14, 60, 1000)] == [5, 6, 1, 1]
    with pytest.raises(ValueError, match="trials is 0"):
        paraphrase_count(0)


def test_a_judge_says_yes_three_times() -> None:
    assert [read_aspects(text) for text in ("Yes\nYes.\n3. Yes, it is", "Yes\nNo.\nYes", "Yes\nYes", "fine")] == [
        True, False, None, None,
    ]  # fmt: skip
    heard: list[Ask] = []

    def speak(request: Ask, sample: int) -> str:
        heard.append(request)
        return "Yes\nno\nYes"

    assert asked(judged_trial(TOOL, TRIAL), speak) is False
    assert heard[0].role == "judge"
    assert "Answer: it failed" in plain_text(heard[0].messages[0])


def test_equal_paraphrases_are_left_out() -> None:
    words = ["one, please", "say one", "one, please", ""]
    assert asked(paraphrases("say one", 4), lambda request, sample: words[sample]) == ["one, please"]


def test_the_nearest_trials_are_shown_the_most_similar_last() -> None:
    trials = [Trial("echo", query, (GOOD,), "x") for query in ("say one", "count the sheep", "say one more")]
    task = shown_trials(Task("t", "say one more thing"), [*trials, Trial("echo", "say one more thing")], count=2)
    assert [plain_text(m) for m in task.messages if m.role == "user"] == ["say one", "say one more", task.prompt]
    told = Task("t", "say", messages=(Message("system", "be kind"), Message("user", "say")))
    assert [m.role for m in shown_trials(told, trials, count=1).messages] == [
        "system", "user", "assistant", "tool", "assistant", "user",
    ]  # fmt: skip
    assert shown_trials(task, []) == task
