"""Model families from the chat template to the last id: scripted replies in their own form, and all four commands.

The models are tiny and have random weights; the templates are those that the families ship.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.families import FAMILIES, folder_of

import ferrule as fe
from ferrule.agents.react import ToolLoop
from ferrule.cli import main
from ferrule.core.flows import Ask
from ferrule.core.records import Reply
from ferrule.policies.local import Local, load
from ferrule.policies.replies import reply_of, rows_of
from ferrule.rollout.drive import drive

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900), pytest.mark.usefixtures("one_thread")]

FOUND = 'Found: "é" <b>\n{"n": [1]} end.'
_TOOLS = '''
from ferrule import tool


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
def find(query: str) -> str:
    """Find a text."""
    return {FOUND!r}
'''


class Reciting:
    """Says given texts in turn, as ids that go through the prompts, stops and readers of a local model."""

    def __init__(self, local: Local, texts: Sequence[str]) -> None:
        self.local, self.texts, self.name = local, list(texts), local.name

    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        return [[self._said(ask)] for ask in asks]

    def _said(self, ask: Ask) -> Reply:
        (row,) = rows_of(self.local, ask)  # type: ignore[arg-type]
        for i in self.local.encode(self.texts.pop(0)):
            row.sampled.append(i)
            row.logps.append(-1.0)
            row.finish = self.local.stops.check(row)
            if row.finish:
                break
        row.finish = row.finish or "stop"
        return reply_of(self.local, ask, row)  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Name and folder of each family in turn."""
    return request.param, folder_of(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("tools.py").write_text(_TOOLS.replace("{FOUND!r}", repr(FOUND)))
    Path("tasks.jsonl").write_text(
        "".join(json.dumps({"prompt": f"What is {i} + 7?", "answer": i + 7}) + "\n" for i in range(6))
    )
    return tmp_path


def test_replies_in_the_form_of_the_family_are_read_and_ids_only_grow(family: tuple[str, Path], here: Path) -> None:
    """A call, thinking and a call, an answer: both tools run, and their results stand once in what the model reads."""
    name, folder = family
    known, policy = FAMILIES[name], load(folder)
    ended = [text if text.endswith(known.ends) else text + known.ends[0] for text in known.replies]
    world = fe.world("tasks.jsonl", tools="tools.py")
    (task,) = world.tasks("train", 1)
    (episode,) = drive(ToolLoop(system="Be brief."), [task], world, Reciting(policy, ended))
    (path,) = episode.trajectories
    assert [(call.name, dict(call.arguments), seen.text) for call, seen in path.calls] == [
        ("add", {"a": 5, "b": 7}, "12"),
        ("find", {"query": 'a "b"'}, FOUND),
    ]
    assert not any(call.repairs for call, _ in path.calls)
    assert (path.finish, path.answer) == ("answer", "It is 12.")
    assert [turn.parent for turn in path.turns] == [None, *(turn.id for turn in path.turns[:-1])]
    ids = [i for turn in path.turns for i in (*turn.given, *turn.sampled)]
    text = policy.stops.text(ids)
    assert text.count(known.result) == 1
    shown = FOUND if FOUND in text else json.dumps(FOUND, ensure_ascii=False)[1:-1]
    places = [
        text.find(part)
        for part in ("Be brief.", task.prompt, known.replies[0], known.result, known.replies[1], shown, ended[2])
    ]
    assert places == sorted(places)
    assert min(places) >= 0
    assert text.count(shown) == 1
    sampled = [policy.stops.text(turn.sampled) for turn in path.turns]
    assert all(text in pair for text, pair in zip(sampled, zip(known.replies, ended, strict=True), strict=True))


def test_what_is_learned_from_messages_is_what_a_rollout_lays_out(family: tuple[str, Path], here: Path) -> None:
    """The ids of a conversation as a row are those of the episode in which the model writes the same."""
    from ferrule.data.formats import conversation, trajectory_row

    _, folder = family
    policy, world = load(folder), fe.world("tasks.jsonl", tools="tools.py")
    (task,) = world.tasks("train", 1)
    calls = (fe.Call("add", {"a": 5, "b": 7}), fe.Call("find", {"query": "x"}))
    writer = policy.renderer.codec
    written = [writer.write(fe.Message("assistant", "", (call,))) for call in calls] + [
        writer.write(fe.Message("assistant", "12"))
    ]
    ended = [text if text.endswith(tuple(writer.stop) or ("\0",)) else text + policy.renderer.end for text in written]
    (episode,) = drive(ToolLoop(), [task], world, Reciting(policy, ended))
    (path,) = episode.trajectories
    assert len(path.calls) == 2
    messages = [fe.Message("user", task.prompt)]
    for call, seen in path.calls:
        messages += [
            fe.Message("assistant", "", (call,)),
            fe.Message("tool", seen.text, name=call.name, call_id=call.id),
        ]
    messages.append(fe.Message("assistant", "12"))
    session = world.start(task)
    row = conversation(messages, session.tools, policy.renderer, policy.encode)
    assert policy.stops.text(row.ids) == policy.stops.text(trajectory_row(path).ids)
    assert row.turn == trajectory_row(path).turn


def ran(*arguments: str) -> dict[str, Any]:
    done = CliRunner().invoke(main, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


def test_all_four_commands_run(family: tuple[str, Path], here: Path) -> None:
    """Fine-tuning, preferences, reinforcement and measuring with messages, tools and tasks of a user."""
    _, folder = family
    schema = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}
    tools = [{"type": "function", "function": {"name": "add", "description": "Add.", "parameters": schema}}]

    def talk(i: int) -> list[dict[str, Any]]:
        call = {"id": "call_1", "function": {"name": "add", "arguments": json.dumps({"a": i, "b": 7})}}
        return [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": f"What is {i} + 7?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": str(i + 7)},
            {"role": "assistant", "content": f"{i + 7}"},
        ]

    def pair(i: int) -> dict[str, Any]:
        *prompt, last = talk(i)
        return {"prompt": prompt, "chosen": [last], "rejected": [{**last, "content": "No."}], "tools": tools}

    Path("talks.jsonl").write_text("".join(json.dumps({"messages": talk(i), "tools": tools}) + "\n" for i in range(4)))
    Path("pairs.jsonl").write_text("".join(json.dumps(pair(i)) + "\n" for i in range(4)))
    learning = ("--max-steps", "2", "--per-device-train-batch-size", "2", "--eval-rows", "0", "--learning-rate", "1e-3")
    sft = ran("sft", "--model", str(folder), "--dataset", "talks.jsonl", *learning)
    tuned = "runs/sft/model"
    prefer = ran("prefer", "--model", tuned, "--dataset", "pairs.jsonl", "--method", "dpo", *learning)
    own = ("--tools", "tools.py", "--tasks", "tasks.jsonl")
    train = ran("train", "--model", tuned, *own, "--max-steps", "1", "--num-generations", "2", "--max-completion-length",
                "8", "--eval-tasks", "1", "--per-device-train-batch-size", "2", "--gradient-accumulation-steps", "1")  # fmt: skip
    assert [told["summary"]["steps"] for told in (sft, prefer, train)] == [2, 2, 1]
    measured = ran("eval", "--model", tuned, *own, "--eval-tasks", "2", "--max-completion-length", "8")
    assert measured
