"""What commands say to a person: JSON that reads well, how many tasks there were, and what became of the calls."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from ferrule.cli import main
from ferrule.cli.options import _json
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message
from ferrule.policies.scripted import Scripted

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
_TOOLS = """
from ferrule.tools import tool

@tool
def double(x: int) -> int:
    '''Double a number.'''
    return 2 * x
"""


@given(_VALUES)
def test_json_reads_back_and_keeps_plain_lists_on_one_line(value: Any) -> None:
    assert json.loads(_json(value)) == value
    assert _json({"ids": [1, 2, 3], "rows": [{"ids": [4, 5]}]}) == (
        '{\n "ids": [1, 2, 3],\n "rows": [\n  {\n   "ids": [4, 5]\n  }\n ]\n}'
    )


def caller(ask: Ask, sample: int) -> Message | str:
    """Call a tool that is not on offer, then the right one, then answer."""
    done = sum(message.role == "tool" for message in ask.messages)
    calls = (Call("triple", {"x": 1}, id="a"), Call("double", {"x": 1}, id="b"))
    return Message("assistant", "", (calls[done],)) if done < 2 else "2"


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command with the scripted model in place of the pocket one."""
    monkeypatch.chdir(tmp_path)
    Path("tools.py").write_text(_TOOLS)
    rows = [{"prompt": f"Double 1, please ({i}).", "answer": "2"} for i in range(21)]
    Path("tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr("ferrule.policies.named.answering", lambda *args, **kwargs: Scripted(caller))

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(main, list(arguments))
        assert result.exit_code == 0, result.output
        return result

    return run


def test_eval_says_how_many_rows_are_tasks_and_how_many_calls_were_unknown(said: Any) -> None:
    result = said("eval", "--tasks", "tasks.jsonl", "--tools", "tools.py")
    count = int(result.stdout.split("tasks: ")[1].split()[0])
    # A fifth of a file's rows is test; the hash of the prompts decides which.
    assert 1 <= count <= 10
    assert f"holds {count} test tasks among 21 rows; {21 - count} are for training; 100 were asked for" in result.stderr
    assert "2.00 calls tried per task, 1.00 run (50.0% of unknown tools)" in result.stdout
    assert "the pocket model is small" in result.stderr
    data = json.loads(said("eval", "--tasks", "tasks.jsonl", "--tools", "tools.py", "--json").stdout)
    assert (data["attempts"], data["calls"], data["unknown_tool"], data["malformed"]) == (2.0, 1.0, 0.5, 0.0)


def test_run_hints_only_where_calls_could_not_be_run(said: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "the pocket model is small" in said("run", "Double 1.", "--tools", "tools.py").stderr
    assert (
        "the pocket model is small"
        not in said("run", "Double 1.", "--tools", "tools.py", "--model", "http://127.0.0.1:1/v1").stderr
    )
    monkeypatch.setattr("ferrule.policies.named.answering", lambda *args, **kwargs: Scripted(lambda ask, sample: "2"))
    assert "the pocket model is small" not in said("run", "Double 1.", "--tools", "tools.py").stderr
    Path("strict.py").write_text(_TOOLS.replace("return", "assert x > 1; return"))
    failing = Message("assistant", "", (Call("double", {"x": 1}, id="a"),))
    for tools in (
        "strict.py",
        f"mcp:{sys.executable} -m ferrule serve mcp strict.py",
    ):  # every call fails, whoever says so
        told = Scripted(lambda ask, sample: failing if ask.messages[-1].role == "user" else "2")
        monkeypatch.setattr("ferrule.policies.named.answering", lambda *args, told=told, **kwargs: told)
        assert "the pocket model is small" in said("run", "Double 1.", "--tools", tools).stderr
    half = Scripted(lambda ask, sample: "2}}</tool_call>")
    monkeypatch.setattr("ferrule.policies.named.answering", lambda *args, **kwargs: half)
    assert "the pocket model is small" in said("run", "Double 1.", "--tools", "tools.py").stderr
    assert "no calls, ended by" in said("eval", "--tasks", "tasks.jsonl", "--tools", "tools.py").stdout
