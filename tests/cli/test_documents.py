"""``ferrule documents`` and ``--tool-docs``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.papers.test_draft import TOOLS, speak
from tests.toys import layout

from ferrule.cli import main
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, plain_text
from ferrule.data.labelled_calls import demonstrated_calls, read_calls
from ferrule.evaluate.probed import tools_world
from ferrule.policies.scripted import Scripted
from ferrule.tools.documents import about, edited, read_documents, write_documents
from ferrule.tools.overlay import Overlay
from ferrule.worlds.apis import Apis
from ferrule.worlds.session import Toolbox

HEARD: list[Ask] = []


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file of tools, and a script in place of every model."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sea.py").write_text(TOOLS)
    HEARD.clear()

    def script(request: Ask, sample: int) -> str | Message:
        HEARD.append(request)
        if request.role == "reflector":
            return json.dumps({"rules": {"ports": "in capitals"}})
        if request.role in ("prober", "analyst", "writer"):
            return speak(request, sample)
        told, asked = plain_text(request.messages[0]), plain_text(request.messages[-1])
        if request.messages[-1].role == "tool":
            return "so it is"
        return Message("assistant", "", (Call("tide", {"port": asked.upper() if "in capitals" in told else asked}),))

    def load(*_: Any, **__: Any) -> Scripted:
        return Scripted(script, renderer=layout("hermes"))

    for module in ("documents", "run", "eval"):
        monkeypatch.setattr(f"ferrule.cli.{module}_command.load_policy", load)
    return tmp_path


def invoked(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def test_documents_are_written_shown_and_used(own: Path) -> None:
    result = invoked("documents", "write", "--tools", "sea.py", "--rounds", "2", "--similar", "1.5", "--settled", "2")
    assert result.exit_code == 0
    assert "tide: 2 trials, 1 ran, ended: rounds" in result.output
    shown = invoked("documents", "show", "tool-docs.json", "--tool", "tide")
    assert "tide description\n  - (the tool's own words)\n  + Tells of the sea." in shown.output
    assert "swell" not in shown.output
    versions = json.loads(invoked("documents", "show", "tool-docs.json", "--json").output)["versions"]
    assert versions[0]["changed"] == 0
    since = invoked("documents", "show", "tool-docs.json", "--since", versions[-1]["id"][:8])
    assert "no text differs" in since.output
    HEARD.clear()
    assert invoked("run", "oslo", "--tools", "sea.py", "--tool-docs", "tool-docs.json").exit_code == 0
    assert HEARD[0].tools[0].description.startswith("Tells of the sea.")
    HEARD.clear()
    assert invoked("run", "oslo", "--tools", "sea.py").exit_code == 0
    assert HEARD[0].tools[0].description == "Tides."


def test_calls_improve_documents(own: Path) -> None:
    rows = [
        {"query": port, "call": {"name": "tide", "arguments": {"port": port.upper()}}} for port in ("a", "b", "c", "d")
    ]
    Path("calls.jsonl").write_text("\n".join(map(json.dumps, rows)))
    result = invoked("documents", "improve", "--tools", "sea.py", "--dataset", "calls.jsonl", "--rounds", "2")
    assert "right calls on held-out requests: 0.0% at first, 100.0% at best" in result.output
    assert "the pocket model is small" not in result.stderr
    assert read_documents("tool-docs.json")[1] == {"ports": "in capitals"}
    assert "rules for all tools:\nports: in capitals" in invoked("documents", "show", "tool-docs.json").output
    Path("tasks.jsonl").write_text('{"prompt": "oslo", "answer": "so it is"}')
    HEARD.clear()
    measured = invoked(
        "eval", "--dataset", "tasks.jsonl", "--tools", "sea.py", "--tool-docs", "tool-docs.json", "--json"
    )
    assert json.loads(measured.stdout)["success"] == 1.0
    assert plain_text(HEARD[0].messages[0]) == "ports: in capitals"
    assert json.loads(measured.stdout)["settings"]["tool_docs"] == "tool-docs.json"


def test_the_pocket_model_that_gets_foreign_tools_wrong_is_told_of(own: Path) -> None:
    rows = [{"query": port, "call": {"name": "tide", "arguments": {"port": "elsewhere"}}} for port in ("a", "b", "c")]
    Path("calls.jsonl").write_text("\n".join(map(json.dumps, rows)))
    given = ("documents", "improve", "--tools", "sea.py", "--dataset", "calls.jsonl", "--rounds", "1")
    assert "the pocket model is small" in invoked(*given).stderr
    assert "the pocket model is small" not in invoked(*given, "--model", "smollm2-135m").stderr


def test_what_would_do_nothing_is_refused(own: Path) -> None:
    write_documents("docs.json", edited(Overlay(), {("tied", "description"): "x"}))
    Path("tasks.jsonl").write_text('{"prompt": "oslo", "answer": "x"}')
    result = invoked("eval", "--dataset", "tasks.jsonl", "--tools", "sea.py", "--tool-docs", "docs.json")
    assert result.exit_code == 2
    assert "would do nothing in tasks: its tools are tide, swell; the file has words for tied" in result.output
    assert "did you mean 'tide'" in invoked("run", "x", "--tools", "sea.py", "--tool-docs", "docs.json").output
    write_documents("docs.json", edited(Overlay(), {("tide", about("harbour")): "x"}))
    assert "unknown parameter 'harbour'" in invoked("run", "x", "--tools", "sea.py", "--tool-docs", "docs.json").output
    assert (
        "has no texts of 'tied'; did you mean 'tide'"
        in invoked("documents", "show", "docs.json", "--tool", "tied").output
    )
    assert "give --tools or --world" in invoked("documents", "write").output


def test_a_model_that_writes_no_request_is_noticed(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mute = Scripted(lambda request, sample: "no", renderer=layout("hermes"))
    monkeypatch.setattr("ferrule.cli.documents_command.load_policy", lambda *_, **__: mute)
    result = invoked("documents", "write", "--tools", "sea.py", "--rounds", "1")
    assert "tide: 1 trials, 0 ran, ended: rounds" in result.stdout
    assert "tide: nothing was tried: The reply holds no request" in result.stderr


def test_tools_of_a_world_are_documented(own: Path) -> None:
    """The script tries them with a port, which no tool of that world takes; the description is written all the same."""
    result = invoked("documents", "write", "--world", "apis", "--rounds", "1", "--output", "apis.json")
    assert result.exit_code == 0
    overlay, _ = read_documents("apis.json")
    assert overlay.texts
    assert all(
        str(text.description).startswith("Tells of the sea. Known: malformed") for text in overlay.texts.values()
    )


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"query": "x"}, "a request .* and a call with a name are needed"),
        ({"query": "x", "call": {"name": "tied"}}, "unknown tool 'tied'; did you mean 'tide'"),
        ({"query": "x", "call": {"name": "tide", "arguments": {"prt": 1}}}, "tide has no argument 'prt'; did you mean 'port'"),
    ],
)  # fmt: skip
def test_rows_of_calls_that_do_not_fit_are_named(own: Path, row: dict[str, Any], problem: str) -> None:
    Path("calls.jsonl").write_text(json.dumps(row))
    with pytest.raises(ValueError, match=rf"calls\.jsonl.*: {problem}"):
        read_calls("calls.jsonl", tools_world("sea.py").tools)


def test_reference_solutions_are_labelled_calls(own: Path) -> None:
    world = Apis()
    tasks = world.tasks("train", 5, levels=(1,))
    tools, labelled = demonstrated_calls(world, tasks)
    assert [item.query for item in labelled] == [task.prompt for task in tasks]
    assert [item.gold for item in labelled] == [world.demonstrate(task).calls[0] for task in tasks]
    assert {item.gold.name for item in labelled} <= {tool.name for tool in tools}
    with pytest.raises(ValueError, match="toolbox has no reference solutions"):
        demonstrated_calls(Toolbox(()), [])
    result = invoked("documents", "improve", "--world", "apis", "--rounds", "1", "--train-tasks", "6")
    assert "0.0% at first, 0.0% at best" in result.output
    assert "the pocket model is small" not in result.stderr  # these tools it has learned
    assert (
        "give --tools with --dataset, or --world"
        in invoked("documents", "improve", "--world", "apis", "--tools", "sea.py").output
    )
