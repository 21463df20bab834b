"""Chains of look-ups and sums: numbers behind names, an operation for each, a script that errs and one that corrects.

A task names a number to start with, and names to look up, each with an operation that takes the number held and the
one that was looked up; all results are taken modulo 100. A chain has 4 to 8 calls. The script errs with a chance at
every step and goes on rightly from whatever it then holds.

Source: a stand-in for the tasks of "ToolComp: A Multi-Tool Reasoning & Process Supervision Benchmark" (13).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ferrule.agents.search import Node
from ferrule.core.flows import Ask, Session
from ferrule.core.records import Call, Message, Task, Tool, plain_text
from ferrule.policies.scripted import Scripted
from ferrule.worlds.session import ToolSession

__all__ = ["FEATURES", "Held", "Reckoning", "corrected_step", "features", "held_after", "next_step", "reckoner"]

NAMES = ("fir", "ivy", "oak", "pea", "rye", "yam")
OPERATIONS: Mapping[str, Callable[[int, int], int]] = {
    "add": lambda a, b: (a + b) % 100,
    "subtract": lambda a, b: (a - b) % 100,
    "multiply": lambda a, b: (a * b) % 100,
}
_STAGE = re.compile(rf"({'|'.join(OPERATIONS)}) ({'|'.join(NAMES)})")
_TWO = {
    "type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"],
}  # fmt: skip
_ONE = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


@dataclass(frozen=True)
class Held:
    """What a conversation has come to: the number held, what was looked up since, and the stages still to do."""

    total: int
    looked: int | None
    stages: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Reckoning:
    """Tasks of 2 to 4 stages (``stages``), each a look-up and an operation."""

    stages: tuple[int, ...] = (2, 3, 4)
    name: str = "reckoning"

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return seeded tasks; the answer is the last number."""
        tasks = []
        for i in range(count):
            key = f"reckoning/{split}/{seed}/{i}"
            rng = random.Random(key)
            behind = {name: rng.randrange(100) for name in NAMES}
            held = first = rng.randrange(100)
            todo = []
            for _ in range(self.stages[i % len(self.stages)]):
                operation, name = rng.choice(list(OPERATIONS)), rng.choice(NAMES)
                todo.append(f"{operation} {name}")
                held = OPERATIONS[operation](held, behind[name])
            prompt = f"Task {key}: start with {first}, then {', '.join(todo)}."
            tasks.append(Task(key, prompt, str(held), self.name, meta={"behind": behind}))
        return tasks

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session."""

        def look_up(name: str) -> str:
            return str(task.meta["behind"].get(name, 0))

        def build(state: None) -> tuple[Tool, ...]:
            return (
                Tool("look_up", "the number behind a name", _ONE, run=look_up),
                *(Tool(name, f"{name} modulo 100", _TWO, run=partial(_reckon, name)) for name in OPERATIONS),
            )

        return ToolSession(task, build)


def _reckon(operation: str, a: int, b: int) -> str:
    return str(OPERATIONS[operation](a, b))


def held_after(messages: Sequence[Message]) -> Held:
    """Return what a conversation has come to, whether or not its steps are right."""
    text = next(plain_text(message) for message in messages if message.role == "user")
    first = re.search(r"start with (\d+)", text)
    assert first is not None
    held = Held(int(first[1]), None, tuple((m[1], m[2]) for m in _STAGE.finditer(text)))
    for message in messages:
        if message.role == "tool" and message.name == "look_up":
            held = Held(held.total, int(plain_text(message)), held.stages)
        elif message.role == "tool":
            held = Held(int(plain_text(message)), None, held.stages[1:])
    return held


def next_step(held: Held) -> Message:
    """Return the right step from what is held."""
    if not held.stages:
        return Message("assistant", str(held.total))
    operation, name = held.stages[0]
    if held.looked is None:
        return Message("assistant", "", (Call("look_up", {"name": name}),))
    return Message("assistant", "", (Call(operation, {"a": held.total, "b": held.looked}),))


def _wrong(step: Message, rng: random.Random) -> Message:
    """Return a step with one thing wrong in it: the name, the operation, a number, or the answer."""
    if not step.calls:
        return Message("assistant", str(_other(int(plain_text(step)), rng)))
    (call,) = step.calls
    if call.name == "look_up":
        name = rng.choice([name for name in NAMES if name != call.arguments["name"]])
        return Message("assistant", "", (Call("look_up", {"name": name}),))
    what = rng.choice(("operation", "a", "b"))
    if what == "operation":
        operation = rng.choice([name for name in OPERATIONS if name != call.name])
        return Message("assistant", "", (Call(operation, dict(call.arguments)),))
    return Message("assistant", "", (Call(call.name, {**call.arguments, what: _other(call.arguments[what], rng)}),))


def _other(number: int, rng: random.Random) -> int:
    return (number + rng.randrange(1, 100)) % 100


def reckoner(least: float, most: float) -> Scripted:
    """Return the script: its chance to err at a step is drawn once for every task, between ``least`` and ``most``."""

    def speak(request: Ask, sample: int) -> Message:
        rng = random.Random(f"{request.seed}/{sample}")
        error = random.Random(plain_text(request.messages[0])).uniform(least, most)
        step = next_step(held_after(request.messages))
        return _wrong(step, rng) if rng.random() < error else step

    return Scripted(speak)


def corrected_step(task: Task, node: Node) -> Message | bool:
    """Review a step as a critic: True for the right one, else the right one."""
    assert node.parent is not None
    assert node.reply is not None
    right, step = next_step(held_after(node.parent.messages)), node.reply.message
    return True if _said(step) == _said(right) else right


def _said(step: Message) -> tuple[str, tuple[tuple[str, dict[str, object]], ...]]:
    return plain_text(step), tuple((call.name, dict(call.arguments)) for call in step.calls)


_OPERATIONS = tuple(OPERATIONS)
FEATURES = len(NAMES) ** 2 + len(OPERATIONS) ** 2 + 300
"""Number of features of a step."""


def features(before: Sequence[Message], step: Message) -> list[int]:
    """Return the features of a step that are on, each a pair of what the history holds and what the step says.

    Names and operations pair with those of the task, numbers by their last digits; nothing says which pairs are right.
    """
    held, names, operations = held_after(before), len(NAMES) ** 2, len(OPERATIONS) ** 2
    if not step.calls:
        said = plain_text(step)
        return [names + operations + 200 + 10 * (held.total % 10) + int(said) % 10] if said.isdigit() else []
    (call,), wanted = step.calls, held.stages[0] if held.stages else (_OPERATIONS[0], NAMES[0])
    if call.name == "look_up":
        return [len(NAMES) * NAMES.index(wanted[1]) + NAMES.index(str(call.arguments["name"]))]
    numbers = (held.total, held.looked or 0)
    return [
        names + len(_OPERATIONS) * _OPERATIONS.index(wanted[0]) + _OPERATIONS.index(call.name),
        *(
            names + operations + 100 * place + 10 * (number % 10) + int(call.arguments[which]) % 10
            for place, (which, number) in enumerate(zip("ab", numbers, strict=True))
        ),
    ]
