"""Files of tools are run anew for every episode: nothing that a call changes reaches another episode."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ferrule as fe
from ferrule.agents.react import ToolLoop
from ferrule.core.flows import Ask, Session
from ferrule.core.records import Call, Message, Reply, Task
from ferrule.rollout.drive import drive
from ferrule.tools.files import load_file
from ferrule.worlds.session import ToolSession
from ferrule.worlds.user import from_file

CART = '''
import asyncio
from collections import Counter
from dataclasses import dataclass, field
from ferrule.tools import tool

@dataclass
class Shelf:
    items: list[str] = field(default_factory=list)

cart, shelf, counts, total = [], Shelf(), Counter(), 0
both = [cart, shelf]

@tool(effects="write")
def add(item: str) -> str:
    """Put an item into the cart."""
    global total
    total += 1
    cart.append(item)
    shelf.items.append(item)
    counts[item] += 1
    return show.run()

@tool
def show() -> str:
    """Show everything."""
    assert both[0] is cart and both[1] is shelf and isinstance(shelf, Shelf)
    return f"{total} {cart} {shelf.items} {dict(counts)}"
'''


def opened(path: Path) -> Session:
    source = load_file(path)
    return ToolSession(Task("t", "p"), source.build, source.start())


def act(session: Session, name: str, **arguments: object) -> str:
    seen = session.act(Call(name, arguments))
    assert seen.status == "ok", seen.text
    return seen.text


def shown(items: list[str]) -> str:
    """What ``show`` says after these were added."""
    return f"{len(items)} {items} {items} { {item: items.count(item) for item in dict.fromkeys(items)} }"


class _Adding:
    """A model that adds one item and answers with what it saw."""

    name = "adding"

    def generate(self, asks: list[Ask]) -> list[list[Reply]]:
        call = Message("assistant", "", (Call("add", {"item": "a"}, id="c"),))
        return [
            [Reply(call if len(ask.messages) == 1 else Message("assistant", ask.messages[-1].content))] for ask in asks
        ]


def test_the_samples_of_a_task_do_not_see_each_other(tmp_path: Path) -> None:
    (tmp_path / "cart.py").write_text(CART)
    (tmp_path / "tasks.jsonl").write_text('{"prompt": "Add a.", "answer": "1"}\n{"prompt": "Add b.", "answer": "1"}\n')
    world = from_file(tmp_path / "tasks.jsonl", tools=tmp_path / "cart.py")
    episodes = drive(ToolLoop(), world.tasks("test", 1), world, _Adding(), num_generations=4)
    assert [episode.trajectories[0].answer for episode in episodes] == [shown(["a"])] * 4


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abc"), st.booleans()), max_size=12))
def test_episodes_and_branches_never_mix(tmp_path: Path, steps: list[tuple[int, str, bool]]) -> None:
    path = tmp_path / "cart.py"
    path.write_text(CART)
    source = load_file(path)
    sessions = [ToolSession(Task("t", "p"), source.build, source.start()) for _ in range(2)]
    wanted: list[list[str]] = [[], []]
    for number, item, branch in steps:
        at = number % len(sessions)
        if branch:
            sessions.append(sessions[at].fork())  # type: ignore[arg-type]
            wanted.append(list(wanted[at]))
        act(sessions[at], "add", item=item)
        wanted[at].append(item)
    assert [act(session, "show") for session in sessions] == [shown(items) for items in wanted]
    for session in sessions:
        session.close()


def test_what_a_file_imports_is_shared_and_what_it_opens_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "shared_by_all.py").write_text("seen = []\n")
    (tmp_path / "tools.py").write_text('''
import asyncio
from shared_by_all import seen
from ferrule.tools import tool

class Client:
    async def aclose(self):
        await asyncio.sleep(0)
        seen.append("closed")

client = Client()

@tool
def note(text: str) -> int:
    """Note."""
    seen.append(text)
    return len(seen)
''')
    source = load_file(tmp_path / "tools.py")
    first, second = (ToolSession(Task("t", "p"), source.build, source.start()) for _ in range(2))
    assert [act(first, "note", text="a"), act(second, "note", text="b"), act(first.fork(), "note", text="c")] == [
        "1",
        "2",
        "3",
    ]
    modules = [name for name in sys.modules if name.startswith("_ferrule_tools_")]
    first.close()
    assert sys.modules["shared_by_all"].seen == ["a", "b", "c", "closed"]
    assert len([name for name in sys.modules if name.startswith("_ferrule_tools_")]) == len(modules) - 1
    first.close()  # a second time does nothing
    assert sys.modules["shared_by_all"].seen[-2:] == ["c", "closed"]
    second.close()


def test_a_variable_without_a_copy_refuses_the_branch_by_name(tmp_path: Path) -> None:
    path = tmp_path / "tools.py"
    path.write_text(CART + "\nimport sqlite3\ndatabase = sqlite3.connect(':memory:')\n")
    session = opened(path)
    act(session, "add", item="a")
    with pytest.raises(
        RuntimeError, match=r"its variable 'database' has no copy .*define start\(\) and tools\(state\)"
    ):
        session.fork()
    session.close()


def test_a_file_that_runs_long_says_that_every_episode_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tools.py"
    path.write_text(CART)
    assert load_file(path).note == ""
    monkeypatch.setattr("ferrule.tools.files._SLOW", 0.0)
    assert "anew for every episode" in load_file(path).note


def test_the_face_offers_the_tools_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text(CART)
    assert [tool.name for tool in fe.load_tools(tmp_path / "tools.py")] == ["add", "show"]
