"""Arithmetic questions, as expressions and in words; level 1 fits in the head, level 5 does not.

The held-out split holds by construction: an expression belongs to ``test`` when the CRC-32 of its text is
divisible by five, and to ``train`` otherwise, so no test expression is ever drawn for training.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from ferrule.core.arrays import nearest
from ferrule.core.demonstration import Demonstration
from ferrule.core.flows import Session
from ferrule.core.records import Call, Task, Tool
from ferrule.sandbox.settings import Isolation
from ferrule.tools.budget import Budget
from ferrule.tools.calculator import calculator
from ferrule.tools.python import PythonSession
from ferrule.worlds.session import ToolSession
from ferrule.worlds.splits import check_split, different

__all__ = ["WORLD", "Arithmetic"]

Form = Literal["expression", "words", "mixed"]

_ASK = ("What is {}?", "Compute {}.", "Work out {}.", "{} = ?")
_NAMES = ("Ana", "Ben", "Cara", "Dan", "Eva", "Finn", "Gia", "Hugo")
_THINGS = ("plums", "pens", "coins", "books", "shells", "beads")
_WORDS = {
    "+": ("{who} has {a} {things} and gets {b} more. How many {things} now?",),
    "-": ("{who} has {a} {things} and gives away {b}. How many {things} are left?",),
    "*-": ("{who} fills {a} boxes with {b} {things} each and sells {c}. How many {things} are left?",),
    "*+": ("{who} buys {a} bags of {b} {things} and finds {c} more. How many {things} now?",),
    "+*": ("Each day {who} makes {a} red and {b} blue {things}. How many {things} after {c} days?",),
}


def _number(rng: random.Random, digits: int) -> int:
    return rng.randint(10 ** (digits - 1) if digits > 1 else 1, 10**digits - 1)


def _draw(rng: random.Random, level: int, words: bool) -> tuple[str, str, dict[str, int]]:
    """Return (shape, expression, numbers) of one question of that level."""
    if level <= 2:
        a, b = _number(rng, level), _number(rng, level)
        sign = rng.choice("+-")
        if sign == "-" and a < b:
            a, b = b, a
        return sign, f"{a} {sign} {b}", {"a": a, "b": b}
    digits = {3: (2, 1, 2), 4: (3, 2, 3), 5: (5, 4, 5)}[level]
    a, b, c = (_number(rng, d) for d in digits)
    shape = rng.choice(("*-", "*+", "+*"))
    if shape == "+*":
        return shape, f"({a} + {c}) * {b}", {"a": a, "b": c, "c": b}
    if words and shape == "*-":
        c = min(c, a * b)
    return shape, f"{a} * {b} {shape[1]} {c}", {"a": a, "b": b, "c": c}


def _split_of(expression: str) -> str:
    return "test" if zlib.crc32(expression.encode()) % 5 == 0 else "train"


@dataclass(frozen=True)
class Arithmetic:
    """Seeded arithmetic tasks with the tools ``calculator`` and ``python``.

    ``form`` chooses bare expressions, word problems, or both in equal shares. ``calls`` caps the tool calls of an
    episode, ``tools`` chooses among the two tools, and ``isolation`` is handed to the python tool.
    """

    form: Form = "mixed"
    calls: int = 6
    tools: tuple[str, ...] = ("calculator", "python")
    isolation: Isolation = "auto"
    name: str = "arithmetic"

    def __post_init__(self) -> None:
        """Refuse unknown forms, tools and isolation, and isolation where no code is run."""
        if self.form not in ("expression", "words", "mixed"):
            raise ValueError(f"Arithmetic.form: {nearest(self.form, ['expression', 'words', 'mixed'])}")
        for tool in self.tools:
            if tool not in ("calculator", "python"):
                raise ValueError(f"Arithmetic.tools: {nearest(tool, ['calculator', 'python'])}")
        if self.isolation not in get_args(Isolation):
            raise ValueError(f"Arithmetic.isolation: {nearest(str(self.isolation), get_args(Isolation))}")
        if self.isolation != "auto" and "python" not in self.tools:
            raise ValueError("Arithmetic.isolation would do nothing without the python tool")

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return at most ``count`` different tasks whose levels take turns.

        The answer is an integer, compared as a number.
        """
        check_split(split, levels)
        return different(lambda level, place, key: self._task(split, level, f"{seed}/{key}"), count, levels)

    def _task(self, split: str, level: int, drawn: str) -> Task:
        key = f"{self.name}/{self.form}/{split}/{level}/{drawn}"
        rng = random.Random(key)
        words = self.form == "words" or (self.form == "mixed" and rng.random() < 0.5)
        while True:
            shape, expression, numbers = _draw(rng, level, words)
            if _split_of(expression) == split:
                break
        if words:
            who, things = rng.choice(_NAMES), rng.choice(_THINGS)
            prompt = rng.choice(_WORDS[shape]).format(who=who, things=things, **numbers)
        else:
            prompt = rng.choice(_ASK).format(expression)
        answer = str(eval(expression, {"__builtins__": {}}))  # the expression was made above from integers
        meta = {"verifier": "numeric", "level": level, "split": split, "expression": expression}
        return Task(id=key, prompt=prompt, answer=answer, world=self.name, meta=meta)

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session; the python interpreter starts at its first call, and only a task that offers it needs one."""
        offers_python = "python" in (self.tools if task.tools is None else task.tools)
        python = PythonSession(isolation=self.isolation) if offers_python else None

        def build(state: PythonSession | None) -> tuple[Tool, ...]:
            built = {"calculator": calculator, **({"python": state.tool} if state is not None else {})}
            return tuple(built[name] for name in self.tools if name in built)

        return ToolSession(task, build, python, budget=Budget(total=self.calls))

    def demonstrate(self, task: Task, *, tool: str = "") -> Demonstration:
        """Return one call that evaluates the expression, with ``tool`` or else the first on offer, and the answer."""
        offered = self.tools if task.tools is None else task.tools
        tool = tool or (offered[0] if offered else "")
        expression = task.meta["expression"]
        arguments = {"code": f"print({expression})"} if tool == "python" else {"expression": expression}
        return Demonstration(((Call(tool, arguments),),) if tool else (), str(task.answer))


WORLD = Arithmetic
