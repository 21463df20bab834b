"""DRAFT: documents that are written anew from trials."""

from __future__ import annotations

import json
import random
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.toys import layout

from ferrule.agents.stages import Iterative, Ranking, StageRecord, Stages, Subtask
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Observation, Task, Tool, plain_text
from ferrule.evaluate.probed import tools_world
from ferrule.papers.claims.draft import STUDY
from ferrule.papers.claims.draft_stop import STUDY as STOPS
from ferrule.papers.draft import change, function_name, in_parts, mastered, on_path, result_class
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.studies.standins.rulebooks import Explorer, draw_tool, rewriting, right_share, stated, try_tool
from ferrule.studies.standins.undocumented import hidden, peoples, scripted_writer, swapped
from ferrule.tools.overlay import apply
from ferrule.worlds.session import Toolbox

RAW = "Get the keywords that have been added to a movie."
FIRST = "Returns the keywords of a movie given movie_id ; each has id and name"
SECOND = "Returns the keywords of a movie given movie_id ; each has an id and a name"


def test_a_description_settles_when_a_rewrite_changes_little() -> None:
    """Worked examples 1 to 3, with the cosines that they give."""
    assert change(RAW, FIRST, alike=lambda a, b: 0.85) == pytest.approx(0.447833, abs=1e-6)
    assert change(FIRST, SECOND, alike=lambda a, b: 0.97) == pytest.approx(0.839905, abs=1e-6)
    assert change(FIRST, FIRST.upper()) == pytest.approx(1.0)


def test_names_of_functions() -> None:
    """Worked example 5, and the slip of the release, which keeps one sign more."""
    given = ["Get User Info", "2nd API!", "class", "weather (v2)", "ID", "a^b", "x ^"]
    plain = ["get_user_info", "get_2nd_api", "is_class", "weather_v2", "is_id", "a_b", "x"]
    assert [function_name(text) for text in given] == plain
    assert [function_name(text, reference=True) for text in given] == [*plain[:5], "a^b", "x_^"]


def test_paths_hold_every_relevant_pair() -> None:
    """Worked example 6."""
    calls = [("My Tool", "Get X")]
    assert on_path(calls, [("my tool", "get x")])
    assert not on_path(calls, [("my tool", "get x"), ("B", "y")])


def test_a_tool_that_failed_at_a_part_is_not_taken_again() -> None:
    """Both tools fit the part; the first one fails once, so that the second is taken, and its result is the answer."""

    def broken() -> str:
        raise ValueError("out of order")

    schema = {"type": "object", "properties": {}}
    tools = (Tool("first", "looks it up", schema, broken), Tool("second", "looks it up", schema, lambda: "42"))
    offered: list[tuple[str, ...]] = []

    def select(part: Subtask, record: StageRecord, tools: tuple[Tool, ...]) -> Ranking:
        offered.append(tuple(tool.name for tool in tools))
        return [(tool.name, 1.0) for tool in tools]

    def write(part: Subtask, record: StageRecord, tools: tuple[Tool, ...]) -> list[Call]:
        return [Call(tool.name) for tool in tools]

    stages = Stages(
        lambda record, tools: [] if record.calls and record.calls[-1].status == "ok" else [Subtask(1, "look it up")],
        select,
        write,
        lambda record: record.calls[-1].text,
    )
    task = Task("t", "What is it?", world="toolbox")
    (episode,) = drive(in_parts(stages), [task], Toolbox(tools), Scripted([], renderer=layout()))
    assert episode.trajectories[0].answer == "42"
    assert offered == [("first", "second"), ("second",)]
    kept = Iterative(stages, k=1, steps=8, retries=0)  # the ablation: the same tool is taken again
    (episode,) = drive(kept, [task], Toolbox(tools), Scripted([], renderer=layout()))
    assert episode.trajectories[0].answer != "42"


def test_classes_of_results() -> None:
    said = {
        "Unauthorized": "unauthorised", "You are not subscribed": "limited", "Too many requests": "limited",
        "502 Bad Gateway": "limited", "An Error: x": "error", "all good": "ok",
    }  # fmt: skip
    assert {text: result_class(Observation(text)) for text in said} == said
    assert result_class(Observation("slow", "timeout")) == "timeout"
    assert result_class(Observation("x", "malformed")) == "error"


TOOLS = '''
from ferrule.tools import tool

@tool
def tide(port: str) -> dict[str, int]:
    """Tides."""
    if not port.isupper():
        raise ValueError("port must be in capitals")
    return {"high": len(port)}

@tool
def swell(port: str) -> str:
    """Swell."""
    return "calm"
'''


def speak(request: Ask, sample: int) -> str:
    """Explores a small port first, then a large one; the writer repeats what the result was."""
    text = plain_text(request.messages[0])
    if "belong to one tool" in text:
        return json.dumps({"description": f"The sea, {text.count('- ')} functions."})
    if request.role == "prober":
        port = "OSLO" if "in capitals" in text else "oslo"
        return json.dumps({"query": f"How high is the water of {port}?", "arguments": {"port": port}})
    if request.role == "analyst":
        return '{"suggestions": "say what it needs"}'
    result = text.partition("Result (")[2].partition("\n")[0]
    return json.dumps({"description": f"Tells of the sea. Known: {result}", "explore": ""})


def test_documents_are_written_of_a_persons_tools(tmp_path: Path) -> None:
    """The error of the first trial enters the description, by which the second one calls rightly."""
    (tmp_path / "sea.py").write_text(TOOLS)
    world = tools_world(tmp_path / "sea.py")
    policy = Scripted(speak, renderer=layout())
    done = mastered(world, policy, rounds=2, similar=1.5, settled=2.0, groups={"sea": ("tide", "swell")})
    tide, _ = done.probed
    assert [trial.calls[0][1].status for trial in tide.trials] == ["error", "ok"]
    (worded, calm) = apply(world.tools, done.overlay)
    example = 'How high is the water of OSLO? -> {"port": "OSLO"}'
    assert worded.description == f'Tells of the sea. Known: ok): {{"high":4}}\nExamples:\n{example}'
    assert "calm" in calm.description
    assert len(done.overlay.history) == 3
    assert done.overviews == {"sea": "The sea, 2 functions."}
    settled = mastered(world, policy, rounds=5, only=["swell"])  # its second description is the first one again
    assert [(one.tool, len(one.trials), one.ended) for one in settled.probed] == [("swell", 2, "settled")]
    with pytest.raises(ValueError, match="unknown tool 'tode' in groups; did you mean 'tide'"):
        mastered(world, policy, groups={"sea": ["tode"]})


def test_a_reply_that_cannot_be_read_has_not_settled_a_description() -> None:
    """The text stays as it was, equal to itself; the rewrite of the second round is read and repeats its words."""
    words = "Says how calm the sea is"
    replies = iter(["I cannot.", json.dumps({"description": words}), json.dumps({"description": words})])
    tool = Tool("swell", words, {"type": "object", "properties": {}}, run=lambda: "calm")

    def reply(request: Ask, sample: int) -> str:
        if request.role == "writer":
            return next(replies)
        return json.dumps({"query": "How calm is it?", "arguments": {}, "suggestions": "none"})

    (probed,) = mastered(tools_world((tool,)), Scripted(reply, renderer=layout()), similar=1.5).probed
    assert (len(probed.trials), probed.ended) == (2, "settled")


# ------------------------------------------------------------------------------------------------------------ the claim


def test_a_stand_in_learns_what_an_error_says() -> None:
    rng = random.Random(3)
    tool, rules = draw_tool(rng)
    explorer, texts, trials = Explorer(rng), [], []  # type: ignore[var-annotated]
    from ferrule.tools.overlay import Overlay, ToolText

    texts.append(ToolText())
    learn = rewriting(tool, rng, damage=0.0)
    for _ in range(300):
        (worded,) = apply((tool,), Overlay({tool.name: texts[-1]}))
        trials.append(try_tool(worded, explorer(worded, trials, "")))
        texts.append(learn(worded, texts, trials))
    assert stated(str(texts[-1].description)) == rules
    assert right_share(tool.description, rules) < 1.0
    worn = rewriting(tool, random.Random(0), damage=1.0)(worded, texts, trials[-1:])
    assert right_share(str(worn.description), rules) == 0.0  # the last call ran, so nothing was learned beside


def test_trials_gain_and_damage_takes() -> None:
    """The ablations: without a rule for requests, and with damage, fewer rules are stated rightly."""
    rows = {name: arm(seed=1, tools=120) for name, arm in STUDY.arms.items()}
    right = {name: row["right"] for name, row in rows.items()}
    assert right["first documents"] == pytest.approx(0.43, abs=0.06)
    assert right["5 rounds"] > right["5 rounds, free requests"] > right["first documents"] + 0.1
    assert right["5 rounds"] > right["5 rounds, damage"]
    assert rows["5 rounds"]["asks"] > rows["5 rounds, free requests"]["asks"] == 15.0
    assert rows["one rewrite of 5 trials"]["asks"] < rows["5 rounds"]["asks"]


def test_a_stop_saves_rounds() -> None:
    rows = {name: arm(seed=1, tools=60) for name, arm in STOPS.arms.items()}
    assert rows["5 rounds"]["rounds"] == 5.0 > rows["first unchanged"]["rounds"] > rows["settled"]["rounds"] >= 1.0


def test_a_script_reads_what_a_tool_is_off_its_errors() -> None:
    """Of every tool of a task the document names the noun and the field that people name as well."""
    task = hidden(3).tasks("test", 1, seed=3, levels=(2,))[0]
    done = mastered(hidden(3), Scripted(scripted_writer), task=task, rounds=2, examples=False)
    known = peoples(task, 3)
    assert set(done.overlay.texts) == set(known.texts)
    for name, text in known.texts.items():
        words = {
            word for word in str(text.description).split() if word not in ("of", "a", "in", "city", "change", "id")
        }
        assert words <= set(str(done.overlay.texts[name].description).strip(".").split())
    order = list(done.overlay.texts)
    assert swapped(done.overlay).texts[order[0]] == done.overlay.texts[order[1]]
    with closing(hidden(3).start(task)) as session:
        assert {tool.description for tool in session.tools} == {"a tool"}
        assert {tool.name for tool in session.tools} == set(known.texts)


def test_the_release_is_not_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FERRULE_DATA", str(tmp_path))
    assert STUDY.arms["first documents"](seed=0, tools=2)["rounds"] == 0.0
