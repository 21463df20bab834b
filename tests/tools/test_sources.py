"""Tools by name: import paths, MCP servers, and several sources side by side."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from ferrule.core.flows import Ask, Session
from ferrule.core.records import Call, Message, Task
from ferrule.policies.scripted import Scripted
from ferrule.rollout.prompt import run
from ferrule.tools import tool
from ferrule.tools.calculator import calculator
from ferrule.tools.invoke import invoke
from ferrule.tools.overlay import Overlay, ParameterText, ToolText, apply
from ferrule.tools.sources import Tools, tool_source
from ferrule.worlds.session import Toolbox, ToolSession
from ferrule.worlds.user import UserWorld

SHOP = '''
from ferrule.policies.scripted import Scripted
from ferrule.rollout.prompt import run
from ferrule.tools import tool

def double(x: int) -> int:
    """Double a number."""
    return 2 * x

@tool
def half(x: int) -> float:
    """Halve a number."""
    return x / 2

both = [half, tool(double)]
number = 3

class Till:
    """A till."""
    def __init__(self):
        self.sum = 0

    def pay(self, amount: int) -> int:
        """Pay an amount.

        Args:
            amount: how much
        """
        self.sum += amount
        return self.sum

    def _open(self):
        return None
'''

SERVER = '''
import asyncio
from ferrule.core.records import Task
from ferrule.serve.host import InProcess
from ferrule.serve.mcp import run_stdio
from ferrule.policies.scripted import Scripted
from ferrule.rollout.prompt import run
from ferrule.tools import tool
from ferrule.worlds.session import ToolSession

def build(notes):
    @tool(effects=EFFECTS)
    def note(text: str) -> int:
        """Keep a note and say how many there are."""
        notes.append(text)
        return len(notes)
    return (note,)

host = InProcess(lambda episode: ToolSession(Task(episode, ""), build, []))
asyncio.run(run_stdio(host, name="notes"))
'''


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "a_shop.py").write_text(SHOP)
    monkeypatch.delitem(sys.modules, "a_shop", raising=False)
    return "a_shop"


def sessions(tools: Tools, count: int = 2) -> list[ToolSession]:
    source = tool_source(tools)
    return [ToolSession(Task("t", "p"), source.build, source.start()) for _ in range(count)]


def says(session: Session, name: str, **arguments: object) -> str:
    return session.act(Call(name, arguments)).text


def names(session: Session) -> list[str]:
    return [each.name for each in session.tools]


@pytest.mark.parametrize(
    ("held", "offered"), [("double", ["double"]), ("half", ["half"]), ("both", ["half", "double"])]
)
def test_functions_tools_and_lists_by_import_path(shop: str, held: str, offered: list[str]) -> None:
    (session,) = sessions(f"{shop}:{held}", 1)
    assert names(session) == offered
    assert says(session, offered[-1], x=4) in ("8", "2.0")


def test_the_methods_of_a_class_are_tools_on_an_object_per_episode(shop: str) -> None:
    first, second = sessions(f"{shop}:Till")
    assert names(first) == ["pay"]
    assert first.tools[0].parameters["properties"]["amount"]["description"] == "how much"
    assert first.tools[0].effects == "write"
    assert (says(first, "pay", amount=2), says(first, "pay", amount=3), says(second, "pay", amount=4)) == (
        "2",
        "5",
        "4",
    )
    branch = first.fork()
    assert (says(branch, "pay", amount=1), says(first, "pay", amount=10)) == ("6", "15")


@pytest.mark.parametrize(
    ("tools", "kind", "said"),
    [
        ("a_shop:triple", ValueError, "double"),
        ("a_shop:number", ValueError, "a function, a tool, a list of tools or a class"),
        ("no_such_module:x", ValueError, "no_such_module"),
        ("nothing", FileNotFoundError, "mcp:COMMAND"),
        ("nothing.py", FileNotFoundError, "nothing.py"),
        ("mcp:", ValueError, "write mcp:COMMAND or mcp:URL"),
        ("mcp:/no/such/program", ConnectionError, "/no/such/program"),
        (("a_shop:half", "a_shop:both"), ValueError, "two tools named 'half'"),
    ],
)
def test_what_is_no_source_of_tools_says_why(
    shop: str, tools: str | Sequence[str], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        tool_source(tools)


def test_several_sources_keep_their_order_and_their_states(shop: str, tmp_path: Path) -> None:
    path = tmp_path / "count.py"
    path.write_text(
        "from ferrule.tools import tool\nn = []\n@tool\ndef count() -> int:\n    n.append(1)\n    return len(n)\n"
    )
    first, second = sessions((f"{shop}:Till", calculator, path))
    assert names(first) == ["calculator", "pay", "count"]
    assert (says(first, "count"), says(first, "count"), says(second, "count")) == ("1", "2", "1")
    branch = first.fork()
    assert (says(branch, "count"), says(first, "pay", amount=1), says(branch, "pay", amount=5)) == ("3", "1", "5")
    for session in (first, second, branch):
        session.close()


def test_tools_as_they_are_need_no_state() -> None:
    assert names(sessions((calculator,))[0]) == ["calculator"]
    assert tool_source(()).build(None) == ()


@pytest.mark.parametrize("effects", ["write", "read"])
def test_a_server_per_episode_unless_it_only_reads(tmp_path: Path, effects: str) -> None:
    path = tmp_path / "server.py"
    path.write_text(SERVER.replace("EFFECTS", repr(effects)))
    source = tool_source(f"mcp:{sys.executable} {path}")
    first, second = (ToolSession(Task("t", "p"), source.build, source.start()) for _ in range(2))
    assert (first.tools[0].name, first.tools[0].effects) == ("note", effects)
    said = (says(first, "note", text="a"), says(first, "note", text="b"), says(second, "note", text="c"))
    assert said == (("1", "2", "1") if effects == "write" else ("1", "2", "3"))
    assert ("all episodes share" in source.note) is (effects == "read")
    branch = first.fork()
    first.close()
    assert says(branch, "note", text="d") == ("3" if effects == "write" else "4")  # it keeps the server open
    branch.close()
    second.close()


log: list[str] = []
prices = {"pen": 1}


@tool(state=list, effects="write")
def add(state: list[str], item: str) -> str:
    """Put an item into the cart.

    Args:
        item: what to put there
    """
    state.append(item)
    return f"{len(state)} items"


@tool(state=list)
async def cart(state: list[str]) -> str:
    """What is in the cart."""
    return ", ".join(state)


def _kept(item: str) -> int:
    log.append(item)
    return len(log)


@tool(effects="write")
def jot(item: str) -> int:
    """Write it down."""
    return _kept(item)


@tool
def jotted() -> int:
    """How much is written down."""
    return len(log)


locks = {"one": threading.Lock()}


@tool(effects="write")
def guard() -> bool:
    """Whether it is locked."""
    return locks["one"].locked()


@tool
def price(item: str) -> int:
    """Look a price up."""
    return prices[item]


def test_a_declared_state_is_the_episodes_own_and_hidden_from_the_model() -> None:
    assert add.parameters == {
        "type": "object",
        "properties": {"item": {"type": "string", "description": "what to put there"}},
        "required": ["item"],
    }
    world = UserWorld("w", {}, (add, cart))
    first, second = (world.start(Task("t", "q", world="w")) for _ in range(2))
    put = Call("add", {"item": "pen"})
    assert [first.act(put).text, first.act(put).text, second.act(put).text] == ["1 items", "2 items", "1 items"]
    branch = first.fork()
    assert branch.act(Call("add", {"item": "cup"})).text == "3 items"
    assert [session.act(Call("cart")).text for session in (first, branch)] == ["pen, pen", "pen, pen, cup"]
    assert first.act(Call("add", {"item": "x", "state": []})).status == "malformed"
    assert Toolbox((add,)).start(Task("t", "q")).act(put).text == "1 items"
    assert invoke(add, put).text == "1 items", "without an episode every call begins anew"
    renamed = apply((add,), Overlay({"add": ToolText(name="put", parameters={"item": ParameterText(name="thing")})}))
    session = UserWorld("w", {}, renamed).start(Task("t", "q", world="w"))
    assert [session.act(Call("put", {"thing": "pen"})).text for _ in range(2)] == ["1 items", "2 items"]


def test_files_keep_declared_states_too(tmp_path: Path) -> None:
    (tmp_path / "cart.py").write_text(
        "from ferrule.tools import tool\n\n"
        "class Cart:\n    def __init__(self):\n        self.items = []\n    def close(self):\n"
        "        open('closed.txt', 'a').write('x')\n\n"
        "@tool(state=Cart)\ndef add(state: Cart, item: str) -> int:\n    'Add.'\n"
        "    state.items.append(item)\n    return len(state.items)\n"
    )
    source = tool_source(tmp_path / "cart.py")
    sessions = [ToolSession(Task("t", "q"), source.build, source.start()) for _ in range(2)]
    put = Call("add", {"item": "pen"})
    assert [sessions[0].act(put).text, sessions[0].act(put).text, sessions[1].act(put).text] == ["1", "2", "1"]
    branch = sessions[0].fork()
    assert [branch.act(put).text, sessions[0].act(put).text] == ["3", "3"]


def test_variables_of_a_module_are_the_episodes_own() -> None:
    """The tool that writes, the one that reads and the function between them run on one copy; the module's stays."""
    world = UserWorld("w", {}, (jot, jotted))
    first, second = (world.start(Task("t", "q", world="w")) for _ in range(2))
    jotting = Call("jot", {"item": "pen"})
    assert [first.act(jotting).text, first.act(jotting).text, second.act(jotting).text] == ["1", "2", "1"]
    branch = first.fork()
    assert [branch.act(jotting).text, first.act(Call("jotted")).text, second.act(Call("jotted")).text] == [
        "3",
        "2",
        "1",
    ]
    assert log == []
    assert invoke(jot, jotting).text == "1"
    assert log == ["pen"]
    log.clear()


def test_one_prompt_leaves_the_module_as_its_tools_left_it() -> None:
    def script(request: Ask, sample: int) -> Message:
        calls = (Call("jot", {"item": "cup"}),) if len(request.messages) == 1 else ()
        return Message("assistant", "" if calls else "done", calls)

    run("Note a cup.", Scripted(script), tools=(jot,))
    assert log == ["cup"]
    log.clear()


def test_what_episodes_share_is_said() -> None:
    assert tool_source((jot, jotted, price)).note == ""
    assert tool_source((guard,)).note == (
        "guard uses locks of its module, which has no copy, so that all episodes share it: declare @tool(state=...)"
    )
    assert tool_source((guard,), apart=False).note == ""


def test_states_that_cannot_be_are_refused() -> None:
    def bare(item: str) -> str:
        """No state."""
        return item

    def kept(state: list[str]) -> str:
        """A state."""
        return ""

    with pytest.raises(TypeError, match="needs a parameter 'state'"):
        tool(bare, state=list)
    with pytest.raises(ValueError, match="a process of its own cannot change the state"):
        tool(kept, state=list, isolated=True)
