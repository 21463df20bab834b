"""What worlds share whose tasks are drawn by kind and solved by one function each, run by the tool ``python``."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from ferrule.core.arrays import nearest
from ferrule.core.demonstration import Demonstration
from ferrule.core.flows import Session
from ferrule.core.records import Call, Task
from ferrule.sandbox.settings import Isolation
from ferrule.tools.budget import Budget
from ferrule.tools.python import PythonSession
from ferrule.worlds.session import ToolSession
from ferrule.worlds.splits import check_split, different

__all__ = ["by_function", "check_kinds", "of_split", "taking_turns", "with_python"]

T = TypeVar("T")


def check_kinds(where: str, given: Sequence[str], known: Collection[str]) -> None:
    """Refuse unknown names of kinds, and none at all."""
    for each in given:
        if each not in known:
            raise ValueError(f"{where}: unknown {each!r}; {nearest(each, list(known))}")
    if not given:
        raise ValueError(f"{where} is empty; name at least one")


def of_split(draw: Callable[[], T], text: Callable[[T], str], split: str) -> T:
    """Draw until a text belongs to a split: to ``test`` when its CRC-32 is divisible by five."""
    while True:
        drawn = draw()
        if (zlib.crc32(text(drawn).encode()) % 5 == 0) == (split == "test"):
            return drawn


def taking_turns(
    kinds: Sequence[str], make: Callable[[str, str, int, str], Task], split: str, count: int, seed: int,
    levels: Sequence[int],
) -> list[Task]:  # fmt: skip
    """Return at most ``count`` different tasks ``make(split, kind, level, key)``; kinds and levels take turns."""
    check_split(split, levels)

    def draw(level: int, place: int, key: str) -> Task:
        return make(split, kinds[place // len(levels) % len(kinds)], level, f"{seed}/{key}")

    return different(draw, count, levels)


def with_python(task: Task, *, calls: int, isolation: Isolation = "auto") -> Session:
    """Open a session with the tool ``python``; its interpreter starts with the first call."""
    python = PythonSession(isolation=isolation)
    return ToolSession(task, lambda state: (state.tool,), python, budget=Budget(total=calls))


def by_function(task: Task, name: str, source: str, arguments: Mapping[str, Any]) -> Demonstration:
    """Return one call that defines a function and prints what it gives, and the answer."""
    if task.tools == ():
        return Demonstration((), str(task.answer))
    given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    code = f"{source}\n\nprint({name}({given}))"
    return Demonstration(((Call("python", {"code": code}),),), str(task.answer))
