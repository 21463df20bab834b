"""Files of tools that share a state: every episode begins anew, and a branch has a state of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

import ferrule as fe
from ferrule.rewards.verify import verify
from ferrule.tools.files import load_tools
from ferrule.worlds.user import UserWorld, from_file

GEAR = Path(__file__).parents[2] / "examples" / "gear_desk"


@pytest.fixture(scope="module")
def gear() -> UserWorld:
    return from_file(GEAR / "tasks.jsonl", tools=GEAR / "tools.py")


def test_the_tools_are_what_the_example_promises(gear: UserWorld) -> None:
    tools = {tool.name: tool for tool in gear.tools}
    assert list(tools) == ["count", "lend", "loans"]
    assert tools["count"].parameters["properties"]["kind"]["enum"] == ["tent", "stove", "rope", "kayak"]
    assert (tools["count"].parameters["required"], tools["lend"].parameters["required"]) == (["kind"], ["code"])


def test_every_episode_has_a_state_of_its_own_and_so_has_a_branch(gear: UserWorld) -> None:
    (task, other) = gear.tasks("train", 2)
    first, second = gear.start(task), gear.start(other)

    def act(session: fe.Session, name: str, **arguments: object) -> tuple[str, str]:
        seen = session.act(fe.Call(name, arguments))
        return seen.status, seen.text

    assert act(first, "lend", code="t5", days=2) == ("ok", "28")
    assert act(first, "lend", code="t5")[0] == "error"
    assert "is lent already" in act(first, "lend", code="t5")[1]
    assert "codes look like t1" in act(first, "lend", code="T1")[1]
    branch = first.fork()
    assert act(branch, "lend", code="k1") == ("ok", "21")
    assert [act(s, "loans")[1] for s in (first, second, branch)] == ["1", "0", "2"]
    assert act(second, "count", kind="rope", size="large") == ("ok", "2")


def test_the_demonstrated_calls_of_every_task_give_its_answer(gear: UserWorld) -> None:
    tasks = [task for split in ("train", "test") for task in gear.tasks(split, 1000)]
    assert len(tasks) == len((GEAR / "tasks.jsonl").read_text().splitlines()) >= 100
    for task in tasks:
        session = gear.start(task)
        results = [session.act(call) for (call,) in gear.demonstrate(task).rounds]
        assert all(seen.status == "ok" for seen in results), task.prompt
        assert verify("numeric", results[-1].text, str(task.answer)) == 1.0, task.prompt


def test_a_file_with_tools_of_a_state_needs_a_start(tmp_path: Path) -> None:
    path = tmp_path / "tools.py"
    path.write_text("from ferrule.tools import tool\ndef tools(state):\n    return (tool(len, name='size'),)\n")
    with pytest.raises(ValueError, match=r"defines tools\(state\) but no start\(\)"):
        load_tools(path)
