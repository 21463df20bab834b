"""Probing tools: ideas that differ, trials in branches, texts that are learned, and tools that need one another."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.toys import Bench, layout

from ferrule.agents.documenter import Documenter, example_of, overview, read_idea, results_schema, told_trial, unchanged
from ferrule.agents.probe import Diverse, Idea, Probed, Trial, by_call, documents, invented, probe, probe_in_rounds
from ferrule.agents.refine import settled
from ferrule.core.flows import Ask, Flow
from ferrule.core.records import Call, Observation, Task, Tool, plain_text
from ferrule.evaluate.probed import probe_tools, tools_world
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.tools.overlay import Overlay, ToolText, apply
from ferrule.tools.results import induced

TOOL = Tool("t", "does it", {"type": "object", "properties": {}}, run=dict)


def offers(*queries: str) -> tuple[Callable[..., Idea], list[str]]:
    """Return an inventor that offers queries in their order, and the complaints that it hears."""
    heard: list[str] = []

    def invent(tool: Tool, trials: Sequence[Trial], complaint: str) -> Idea:
        heard.append(complaint)
        query = queries[len(heard) - 1]
        return Idea(query, {}) if query else Idea(problem="unreadable")

    return invent, heard


def measured(**numbers: float) -> Callable[[str, str], float]:
    return lambda query, earlier: numbers[query]


def test_requests_must_differ_from_all_earlier_ones() -> None:
    """Worked example 4 of DRAFT: 0.91 is too much, 0.8999 is not; after three tries the last one is kept."""
    table = {("new", "a"): 0.91, ("new", "b"): 0.3}
    assert Diverse(lambda query, other: table[query, other]).like("new", ["b", "a"]) == "a"
    assert Diverse(measured(new=0.8999)).like("new", ["a", "b"]) is None
    earlier = [Trial("t", "first")]
    diverse = Diverse(measured(a=0.95, b=0.92, c=0.91))
    invent, heard = offers("a", "b", "c")
    idea, similar = settled(invented(TOOL, earlier, invent, diverse))
    assert (idea.query, similar) == ("c", True)
    assert heard[0] == ""
    assert ["'a'" in heard[1], "'b'" in heard[2], "'first'" in heard[2]] == [True] * 3
    invent, heard = offers("a", "b", "c")
    assert settled(invented(TOOL, earlier, invent, Diverse(measured(a=0.95, b=0.5))))[0].query == "b"
    invent, heard = offers("a")
    assert settled(invented(TOOL, earlier, invent, Diverse(measured(a=0.95), tries=1))) == (Idea("a", {}), True)
    with pytest.raises(ValueError, match=r"Diverse\.tries is 0"):
        Diverse(tries=0)


def test_an_unreadable_idea_is_asked_for_again() -> None:
    invent, heard = offers("", "b")
    assert settled(invented(TOOL, [], invent))[0] == Idea("b", {})
    assert heard == ["", "unreadable"]
    invent, _ = offers("", "", "")
    assert settled(invented(TOOL, [], invent)) == (Idea(problem="unreadable"), False)


def test_rounds_try_judge_and_learn_until_the_text_settles() -> None:
    seen: list[str] = []

    def attempt(tool: Tool, idea: Idea) -> Trial:
        seen.append(tool.description)
        return Trial(tool.name, idea.query, answer=idea.query)

    def learn(tool: Tool, texts: Sequence[ToolText], trials: Sequence[Trial]) -> ToolText:
        return ToolText(description=f"text {min(len(trials), 2)}")

    invent, _ = offers("a", "", "", "", "b", "c", "d")
    rule = unchanged(TOOL, lambda before, after: float(before == after), limit=0.75)
    probed = settled(
        probe(TOOL, invent, attempt, judge=lambda tool, trial: trial.query == "a", learn=learn, ended=rule, rounds=9)
    )
    assert seen == ["does it", "text 1", "text 2"]
    assert [trial.query for trial in probed.trials] == ["a", "", "b", "c"]
    assert [trial.solved for trial in probed.trials] == [True, None, False, False]
    assert probed.trials[1].problem == "unreadable"
    assert [text.description for text in probed.texts] == [None, "text 1", "text 2", "text 2"]
    assert probed.ended == "settled"
    with pytest.raises(ValueError, match="rounds is 0"):
        settled(probe(TOOL, invent, attempt, rounds=0))


def test_tools_that_need_one_another_are_probed_in_rounds() -> None:
    """Worked example 5 of Chain of Tools: t1 needs t2, t2 needs t3, t4 needs t1 and t2."""
    needs = {"t1": {"t2"}, "t2": {"t3"}, "t3": set[str](), "t4": {"t1", "t2"}, "t5": set[str]()}
    order: list[tuple[str, bool]] = []

    def one(tool: Tool, worked: Sequence[Probed]) -> Flow[Probed]:
        good = needs[tool.name] <= {probed.tool for probed in worked}
        order.append((tool.name, good))
        return Probed(tool.name, (), (), "yes" if good else "no")
        yield

    def played(rounds: int) -> list[str]:
        order.clear()
        tools = [Tool(name, "", {}, run=dict) for name in needs]
        worked = settled(probe_in_rounds(tools, one, lambda probed: probed.ended == "yes", rounds=rounds))
        return [probed.tool for probed in worked]

    assert played(3) == ["t3", "t5", "t2", "t1", "t4"]
    assert order[5:] == [("t1", False), ("t2", True), ("t4", False), ("t1", True), ("t4", True)]
    assert played(1) == ["t3", "t5", "t2"]


def test_what_was_learned_has_a_version_per_round() -> None:
    one = Probed("a", (), (ToolText(), ToolText(description="1"), ToolText(description="2")), "")
    other = Probed("b", (), (ToolText(), ToolText(description="x"), ToolText(description="x")), "")
    overlay = documents([one, other, Probed("c", (), (ToolText(),), "failed")])
    assert [dict(version.texts) for version in overlay.history[1:]] == [
        {"a": one.texts[1], "b": other.texts[1]}, {"a": one.texts[2], "b": other.texts[1]},
    ]  # fmt: skip
    assert documents([]).texts == {}


COUNTER = '''
from ferrule.tools import tool

count = 0

@tool(effects="write")
def bump(by: int) -> str:
    """Count on."""
    global count
    if by < 0:
        raise ValueError("by must be 0 or more")
    count += by
    return f"count is {count}" + "!" * 50

@tool(effects="irreversible")
def launch() -> str:
    """Launch."""
    return "launched"
'''


def test_trials_act_in_branches_and_what_cannot_be_undone_is_refused(tmp_path: Path) -> None:
    """Every call begins at 0; results are cut to 12 characters."""
    (tmp_path / "counter.py").write_text(COUNTER)

    def play(tool: Tool, session: Any) -> Flow[Probed]:
        ideas = [Idea("five", {"by": 5}), Idea("two", {"by": 2}), Idea("less", {"by": -1}), Idea("none")]
        if tool.name == "launch":
            ideas = [Idea("go", {})] * 4

        def invent(tool: Tool, trials: Sequence[Trial], complaint: str) -> Idea:
            return ideas[len(trials)]

        return (yield from probe(tool, invent, by_call(session, limit=12), rounds=4))

    policy = Scripted([], renderer=layout())
    (bump, launch), episodes = probe_tools(play, tools_world(tmp_path / "counter.py"), policy)
    assert [calls[0][1].text for trial in bump.trials if (calls := trial.calls)] == [
        "count is 5!!", "count is 2!!", "ValueError: ",
    ]  # fmt: skip
    assert "no arguments" in bump.trials[3].problem
    assert {trial.calls[0][1].status for trial in launch.trials} == {"refused"}
    assert [episode.problem for episode in episodes] == ["", ""]
    (alone,), _ = probe_tools(play, tools_world(tmp_path / "counter.py"), policy, only=["launch"])
    assert alone == launch
    with pytest.raises(ValueError, match="unknown tool 'lunch'; did you mean 'launch'"):
        probe_tools(play, tools_world(tmp_path / "counter.py"), policy, only=["lunch"])


def test_a_tool_whose_episode_fails_says_why() -> None:
    def play(tool: Tool, session: Any) -> Flow[Probed]:
        raise ValueError("the prober is ill")
        yield

    (probed,), _ = probe_tools(play, Bench(), Scripted([], renderer=layout()), only=["write"])
    assert "the prober is ill" in probed.ended
    assert probed.trials == ()


# ------------------------------------------------------------------------------------------------------- documents

ECHO = Tool(
    "echo", "Echoes.", {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
    run=lambda n: {"echo": n},
)  # fmt: skip


def writer(request: Ask, sample: int) -> str:
    """Thinks of numbers, and writes down which were tried."""
    text = plain_text(request.messages[0])
    if request.role == "prober":
        number = text.count("\n- ")
        return f'Sure: {{"query": "say {"abc"[number]}", "arguments": "{{\\"n\\": {number}}}"}}'
    if request.role == "analyst":
        return json.dumps({"suggestions": ["say what comes back"]})
    assert "say what comes back" in text
    tried = text.partition("Arguments: ")[2].partition("\n")[0]
    return json.dumps({"description": f"Echoes, tried {tried}", "explore": f"not {tried}"})


def test_a_documenter_writes_from_what_came_back() -> None:
    asked: list[tuple[str, str]] = []

    def heard(request: Ask, sample: int) -> str:
        asked.append((request.role, plain_text(request.messages[0])))
        return writer(request, sample)

    def play(tool: Tool, session: Any) -> Flow[Probed]:
        writes = Documenter()
        return (yield from probe(tool, writes.invent, by_call(session), learn=writes.learn, rounds=3))

    (probed,), (episode,) = probe_tools(play, Bench((ECHO,)), Scripted(heard, renderer=layout()), only=["echo"])
    assert [trial.calls[0][1].text for trial in probed.trials] == ['{"echo":0}', '{"echo":1}', '{"echo":2}']
    assert probed.texts[3] == ToolText(description='Echoes, tried {"n": 2}', examples=('say c -> {"n": 2}',))
    assert [role for role, _ in asked] == ["prober", "analyst", "writer"] * 3
    texts = [text for _, text in asked]
    assert "- say a" in texts[3]
    assert 'To be tried next: not {"n": 0}' in texts[3]
    assert 'Result (ok): {"echo":1}' in texts[4]
    assert 'Earlier descriptions:\n- Echoes, tried {"n": 0}' in texts[4]
    assert "Earlier descriptions" not in texts[1]
    assert set(episode.spent) >= {"prober", "analyst", "writer"}


def test_replies_that_cannot_be_read_change_nothing() -> None:
    def play(tool: Tool, session: Any) -> Flow[Probed]:
        writes = Documenter()

        def invent(tool: Tool, trials: Sequence[Trial], complaint: str) -> Idea:
            return Idea("one", {"n": 1})

        return (yield from probe(tool, invent, by_call(session), learn=writes.learn, rounds=1))

    silent = Scripted(lambda request, sample: "no", renderer=layout())
    (probed,), _ = probe_tools(play, Bench((ECHO,)), silent, only=["echo"])
    assert probed.texts[1] == ToolText(examples=('one -> {"n": 1}',))


def test_what_comes_back_is_documented() -> None:
    def play(tool: Tool, session: Any) -> Flow[Probed]:
        writes = Documenter(returns=True, examples=False)
        return (yield from probe(tool, writes.invent, by_call(session), learn=writes.learn, rounds=2))

    (probed,), _ = probe_tools(play, Bench((ECHO,)), Scripted(writer, renderer=layout()), only=["echo"])
    assert probed.texts[-1].output == induced({"echo": 0}, {"echo": 1})
    (worded,) = apply((ECHO,), Overlay({"echo": probed.texts[-1]}))
    assert worded.description.endswith("Returns:\n- result: dict\n\t- echo: int")
    bad = Trial("t", "x", ((Call("t"), Observation("no", "error")),))
    assert results_schema([bad]) is None
    assert results_schema([Trial("t", "x", ((Call("t"), Observation("", data={1, 2})),))]) is None


def test_ideas_are_read_from_json() -> None:
    assert read_idea('```json\n{"query": " a ", "arguments": {"x": 1}}\n```') == Idea("a", {"x": 1})
    assert read_idea('{"query": "a"}') == Idea("a")
    assert "no text under the key query" in read_idea('{"arguments": {}}').problem
    assert "no JSON object" in read_idea("a request").problem
    assert "cannot be tried" in read_idea('{"query": "a", "arguments": [1]}').problem


def test_trials_are_told_and_the_last_that_ran_is_an_example() -> None:
    good, bad = Observation("yes"), Observation("no", "error")
    trials = [Trial("t", "a", ((Call("t", {"x": 1}), good),)), Trial("t", "b", ((Call("t", {"x": 2}), bad),))]
    assert told_trial(trials[1]) == 'Request: b\nArguments: {"x": 2}\nResult (error): no'
    assert example_of(trials) == ('a -> {"x": 1}',)
    assert example_of(trials[1:]) == ()


def test_functions_that_belong_together_get_a_description() -> None:
    said: list[str] = []

    def speak(request: Ask, sample: int) -> str:
        said.append(plain_text(request.messages[0]))
        return '{"description": "Two."}'

    def agent(task: Task, session: Any) -> Flow[str]:
        return (yield from overview("desk", {"open": "opens", "shut": "shuts"}))

    world = Bench()
    (episode,) = drive(agent, world.tasks("train", 1), world, Scripted(speak, renderer=layout()))
    assert episode.trajectories[0].answer == "Two."
    assert "- open: opens\n- shut: shuts" in said[0]
