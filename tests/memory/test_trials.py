"""Trials of tools as a memory."""

from __future__ import annotations

import pytest

from ferrule.agents.probe import Trial
from ferrule.core.records import Call, Message, Observation, Task
from ferrule.memory.memory import Recalled
from ferrule.memory.trials import trial_memory, trial_text


def tried(query: str, status: str = "ok", answer: str | None = "so") -> Trial:
    call = Call("tide", {"port": query})
    return Trial("tide", query, ((call, Observation("high", status)),), answer)  # type: ignore[arg-type]


def test_a_trial_is_an_example() -> None:
    text = 'Request: Oslo\nCall: tide({"port": "Oslo"})\nResult: high\nAnswer: so'
    assert trial_text(tried("Oslo")) == text
    assert trial_text(tried("Oslo", "error", None)) == "Request: Oslo"


def test_the_nearest_trials_that_ran_are_recalled_before_the_first_turn() -> None:
    trials = [tried("water of Oslo"), tried("the moon"), tried("water of Rome now"), tried("water of Rome", "error")]
    memory = trial_memory(trials, count=2)
    task = Task("t", "the water of Rome")
    recalled = memory.recall(task, ())
    assert isinstance(recalled, Recalled)
    assert recalled.ids == ("trial-0", "trial-2")
    assert recalled.text == f"{trial_text(trials[0])}\n\n{trial_text(trials[2])}"
    assert memory.recall(task, (Message("user", "x"),)) == Recalled()
    assert trial_memory([]).recall(task, ()) == Recalled()
    with pytest.raises(ValueError, match="count is 0"):
        trial_memory(trials, count=0)
