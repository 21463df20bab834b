"""Exploring a tool in dialogues, with a short-term and a long-term memory."""

from __future__ import annotations

from typing import Any

import pytest
from tests.toys import Bench, layout

from ferrule.agents.imagine import Dialogue, imagine, remembered, solved_in
from ferrule.agents.probe import Probed, Trial
from ferrule.agents.refine import settled
from ferrule.core.flows import Ask, Flow
from ferrule.core.records import Call, Message, Tool, plain_text
from ferrule.evaluate.probed import probe_tools
from ferrule.policies.scripted import Scripted

ECHO = Tool(
    "echo", "Echoes.", {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
    run=lambda n: "x" * n,
)  # fmt: skip


class Speaker:
    """Imagines numbers in order, calls the tool with them, and answers with what came back."""

    def __init__(self) -> None:
        self.asks: list[Ask] = []
        self.count = 0

    def __call__(self, request: Ask, sample: int) -> str | Message:
        self.asks.append(request)
        last = plain_text(request.messages[-1])
        if "Reply with the request alone" in last:
            self.count += 1
            return f"say {self.count}"
        if "answer the request" in last:
            return Message("assistant", "", (Call("echo", {"n": self.count}),))
        if "Yes or No" in last:
            return "Yes" if self.count % 2 else "No."
        return f"it is {last}"


def explored(speaker: Speaker, turns: int = 4, **settings: Any) -> Probed:
    def play(tool: Tool, session: Any) -> Flow[Probed]:
        return (yield from imagine(tool, lambda: Dialogue(session, turns=turns, limit=3), **settings))

    (probed,), (episode,) = probe_tools(
        play, Bench((ECHO,)), Scripted(speaker, renderer=layout("hermes")), only=["echo"]
    )
    assert episode.problem == ""
    return probed


def test_memories_are_shown_where_they_belong() -> None:
    speaker = Speaker()
    probed = explored(speaker, episodes=2, slots=2)
    assert [trial.query for trial in probed.trials] == ["say 1", "say 2", "say 3", "say 4"]
    assert [trial.solved for trial in probed.trials] == [True, False, True, False]
    assert [trial.answer for trial in probed.trials] == ["it is x", "it is xx", "it is xxx", "it is xxx"]  # cut at 3
    imagining = [ask for ask in speaker.asks if "the request alone" in plain_text(ask.messages[-1])]
    assert [len(ask.messages) for ask in imagining] == [1, 9, 1, 9]  # a trial leaves 8 messages in its dialogue
    shown = plain_text(imagining[2].messages[-1])
    assert "Query: say 1 | Solved: Yes\nQuery: say 2 | Solved: No\n" in shown
    assert all("Solved: Yes" not in plain_text(message) for ask in imagining for message in ask.messages[:-1])


def test_a_call_in_place_of_a_request_leaves_no_call_without_a_result() -> None:
    asks: list[Ask] = []

    def reply(request: Ask, sample: int) -> Message:
        asks.append(request)
        return Message("assistant", "ask it", (Call("echo", {"n": 1}),))

    def play(tool: Tool, session: Any) -> Flow[Probed]:
        return (yield from imagine(tool, lambda: Dialogue(session, turns=1), episodes=1, slots=2))

    _, (episode,) = probe_tools(play, Bench((ECHO,)), Scripted(reply, renderer=layout("hermes")), only=["echo"])
    assert episode.problem == ""
    messages = asks[-1].messages
    called = [place for place, message in enumerate(messages) if message.calls]
    assert len(called) == 2  # one per trial
    assert all(messages[place + 1].role == "tool" for place in called)


def test_what_is_left_out_is_not_shown() -> None:
    speaker = Speaker()
    probed = explored(speaker, episodes=2, slots=2, memory=False, reflects=False)
    assert [trial.solved for trial in probed.trials] == [None] * 4
    assert all("Query:" not in plain_text(message) for ask in speaker.asks for message in ask.messages)
    with pytest.raises(ValueError, match="episodes is 0"):
        settled(imagine(ECHO, Dialogue, episodes=0))  # type: ignore[arg-type]


def test_calls_that_are_not_run_show_nothing() -> None:
    def play(tool: Tool, session: Any) -> Flow[Probed]:
        return (yield from imagine(tool, lambda: Dialogue(session, runs=False), episodes=1, slots=1))

    speaker = Speaker()
    (probed,), _ = probe_tools(play, Bench((ECHO,)), Scripted(speaker, renderer=layout("hermes")), only=["echo"])
    assert [observation.text for _, observation in probed.trials[0].calls] == [""]
    assert all("x" not in plain_text(m) for ask in speaker.asks for m in ask.messages if m.role == "tool")


def test_apart_a_request_stands_alone_while_it_is_acted_on() -> None:
    seen: list[list[str]] = []

    def alone(request: Ask, sample: int) -> str | Message:
        last = plain_text(request.messages[-1])
        if request.tools:
            seen.append([plain_text(message) for message in request.messages])
            return "done" if len(request.messages) > 1 else Message("assistant", "", (Call("echo", {"n": 2}),))
        return "Yes" if "Yes or No" in last else "say 2"

    def play(tool: Tool, session: Any) -> Flow[Probed]:
        return (yield from imagine(tool, lambda: Dialogue(session, apart=True), episodes=1, slots=1))

    (probed,), _ = probe_tools(play, Bench((ECHO,)), Scripted(alone, renderer=layout("hermes")), only=["echo"])
    assert seen == [["say 2"], ["say 2", "", "xx"]]
    assert [(trial.answer, trial.solved) for trial in probed.trials] == [("done", True)]


def test_a_trial_without_an_answer_in_time_has_none() -> None:
    (trial,) = explored(Speaker(), turns=1, episodes=1, slots=1).trials
    assert trial.answer is None
    assert [call.arguments for call, _ in trial.calls] == [{"n": 1}]


def test_the_long_term_memory_is_a_line_per_request() -> None:
    """Worked example 6 of STE."""
    trials = [Trial("t", "q1", solved=True), Trial("t", "q2", solved=False), Trial("t", "", problem="x")]
    assert remembered(trials) == "Query: q1 | Solved: Yes\nQuery: q2 | Solved: No"
    assert remembered([Trial("t", "one\n  two")]) == "Query: one two | Solved: No"


def test_yes_and_no_are_whole_words() -> None:
    assert [solved_in(text) for text in ("Yes.", "no", "None of it worked", "yes and no")] == [True, False, None, None]
