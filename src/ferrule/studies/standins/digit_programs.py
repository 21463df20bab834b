"""Programs of three steps over digits: a world whose tasks name the steps, and records that play them.

Two steps are plain Python in every program, three are leaves that nothing defines. A composition of three steps belongs
to the split ``test`` when the CRC-32 of its text is divisible by four, so that its parts are known and it is not.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from ferrule.chat.program import ProgramRecord, PseudoProgram, program_prompt
from ferrule.core.flows import Session
from ferrule.core.records import Message, Task
from ferrule.studies.learner import Conversation
from ferrule.worlds.session import Toolbox

__all__ = [
    "DEFINITIONS", "LEAVES", "DigitPrograms", "direct", "leaf_record", "program_of", "program_records", "record_of",
    "worked",
]  # fmt: skip

_STEPS: Mapping[str, Callable[[str], str]] = {
    "flip": lambda x: x[::-1],
    "grow": lambda x: "".join(str((int(digit) + 1) % 10) for digit in x),
    "echo": lambda x: x + x[-1:],
    "cut": lambda x: x[1:],
    "turn": lambda x: x[1:] + x[:1],
}
_SOURCE = {"cut": "{0}[1:]", "turn": "{0}[1:] + {0}[:1]"}
"""Steps that programs define; the others are leaves."""
LEAVES = tuple(name for name in _STEPS if name not in _SOURCE)
DEFINITIONS = """\
def flip(x):
    return x[::-1]
def grow(x):
    return "".join(str((int(digit) + 1) % 10) for digit in x)
def echo(x):
    return x + x[-1:]
"""
"""What the leaves do, as Python source."""
_NAMES = ("a", "b", "answer")


def _compositions(split: str) -> list[tuple[str, ...]]:
    every = product(_STEPS, repeat=3)
    return [steps for steps in every if (zlib.crc32("-".join(steps).encode()) % 4 == 0) == (split == "test")]


def program_of(steps: Sequence[str]) -> PseudoProgram:
    """Return the program that takes three steps."""
    lines, before = ["def solve(x):"], "x"
    for step, name in zip(steps, ("a", "b", "c"), strict=True):
        value = _SOURCE[step].format(before) if step in _SOURCE else f"{step}({before})"
        lines.append(f"    {name} = {value}")
        before = name
    return PseudoProgram("\n".join([*lines, "    return {'a': a, 'b': b, 'answer': c}"]))


@dataclass(frozen=True)
class DigitPrograms:
    """Tasks of digits that three steps change; ``composition`` names the steps of all tasks (None: they are drawn)."""

    composition: tuple[str, ...] | None = None
    name: str = "digit programs"

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return tasks of the compositions of a split, the same for the same seed."""
        rng = random.Random(f"{split}/{seed}/{self.composition}")
        drawn: dict[str, Task] = {}
        kinds = [self.composition] if self.composition else _compositions(split)
        while len(drawn) < min(count, 1000 * len(kinds)):  # three digits are given
            steps = self.composition or rng.choice(kinds)
            given = "".join(rng.choices("0123456789", k=3))
            task = self._task(steps, given)
            drawn.setdefault(task.id, task)
        return list(drawn.values())

    def _task(self, steps: tuple[str, ...], given: str) -> Task:
        said, answer = ", then ".join(steps), given
        for step in steps:
            answer = _STEPS[step](answer)
        meta: dict[str, Any] = {"instruction": f"{said}.", "input": given, "steps": steps}
        return Task(f"{said} {given}", program_prompt(meta["instruction"], given), answer, self.name, meta=meta)

    def compositions(self, count: int, seed: int) -> list[DigitPrograms]:
        """Return worlds of single compositions of the split ``test``."""
        return [DigitPrograms(steps) for steps in random.Random(seed).sample(_compositions("test"), count)]

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session without tools."""
        return Toolbox(()).start(task, seed)


def record_of(task: Task) -> ProgramRecord:
    """Return the record of a task: its program, called with its input, and the values of all steps."""
    steps, given = task.meta["steps"], str(task.meta["input"])
    values, value = {}, given
    for step, name in zip(steps, _NAMES, strict=True):
        values[name] = value = _STEPS[step](value)
    program = program_of(steps)
    return ProgramRecord(task.meta["instruction"], given, program.text, f"solve({given!r})", repr(values))


def leaf_record(rng: random.Random) -> ProgramRecord:
    """Return a record of a single leaf, in the words in which the mixed execution asks for one."""
    step, given = rng.choice(LEAVES), "".join(rng.choices("0123456789", k=rng.randint(1, 4)))
    call, value = f"{step}({given!r})", _STEPS[step](given)
    text = f"def solve():\n    return {{'answer': {call}}}"
    return ProgramRecord(f"Return what {step} gives.", call, text, "solve()", repr({"answer": value}))


def program_records(count: int, *, seed: int, leaves: float = 0.25) -> list[ProgramRecord]:
    """Return records of training compositions, and a share of records of single leaves among them."""
    rng = random.Random(f"records/{seed}")
    alone = round(count * leaves)
    records = [record_of(task) for task in DigitPrograms().tasks("train", count - alone, seed=seed)]
    records += [leaf_record(rng) for _ in range(alone)]
    rng.shuffle(records)
    return records


def worked(record: ProgramRecord) -> Conversation:
    """Return what is said where a program is written and played."""
    return _said(record, record.completion)


def direct(record: ProgramRecord) -> Conversation:
    """Return what is said where the answer follows at once, without a program."""
    answer = record.output.rpartition("'answer': ")[2]
    return _said(record, f"### Output\n{{'answer': {answer}")


def _said(record: ProgramRecord, reply: str) -> Conversation:
    return (Message("user", record.prompt), Message("assistant", reply)), ()
