"""The world ``reasoning``: problems of six classes, each solved by one short function."""

from __future__ import annotations

import inspect
import random
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ferrule.core.arrays import nearest
from ferrule.core.demonstration import Demonstration
from ferrule.core.flows import Session
from ferrule.core.records import Call, Task
from ferrule.sandbox.settings import Isolation
from ferrule.tools.budget import Budget
from ferrule.tools.python import PythonSession
from ferrule.worlds.reasoning import drawing, solvers
from ferrule.worlds.reasoning.drawing import Problem
from ferrule.worlds.session import ToolSession
from ferrule.worlds.splits import check_split, different

__all__ = ["CLASSES", "Problem", "ProblemClass", "Reasoning"]

_LETTER = "Answer with the letter of the option, such as (A)."


@dataclass(frozen=True)
class ProblemClass:
    """A class of problems: ``draw(rng, level)`` makes one, ``solve(**arguments)`` returns what is asked for."""

    draw: Callable[[random.Random, int], Problem]
    solve: Callable[..., Any]

    @property
    def source(self) -> str:
        """The source of ``solve``, which runs by itself."""
        return inspect.getsource(self.solve)


CLASSES: Mapping[str, ProblemClass] = {
    name: ProblemClass(getattr(drawing, name), getattr(solvers, name)) for name in solvers.__all__
}
"""The classes by name."""


@dataclass(frozen=True)
class Reasoning:
    """Problems of the six classes of LATM in equal shares, or of ``classes``, with the tool ``python``.

    ``meta`` holds the ``class`` of a problem and the ``arguments`` with which the solver of the class answers it. A
    problem belongs to ``test`` when the CRC-32 of its question is divisible by five; levels are sizes. Answers are
    compared exactly. Source: "Large Language Models as Tool Makers" (paper 43); questions are in words of our own.
    """

    classes: tuple[str, ...] = tuple(CLASSES)
    calls: int = 6
    isolation: Isolation = "auto"
    name: str = "reasoning"

    def __post_init__(self) -> None:
        """Refuse unknown classes, and none at all."""
        for each in self.classes:
            if each not in CLASSES:
                raise ValueError(f"Reasoning.classes: unknown {each!r}; {nearest(each, list(CLASSES))}")
        if not self.classes:
            raise ValueError("Reasoning.classes is empty; name at least one class")

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return at most ``count`` different tasks; classes take turns, and so do levels."""
        check_split(split, levels)

        def draw(level: int, place: int, key: str) -> Task:
            which = self.classes[place // len(levels) % len(self.classes)]
            return self._task(split, which, level, f"{seed}/{key}")

        return different(draw, count, levels)

    def _task(self, split: str, which: str, level: int, key: str) -> Task:
        rng = random.Random(f"{self.name}/{split}/{which}/{level}/{key}")
        problem = CLASSES[which].draw(rng, level)
        while (zlib.crc32(problem.question.encode()) % 5 == 0) != (split == "test"):
            problem = CLASSES[which].draw(rng, level)
        meta = {
            **{"verifier": "exact", "level": level, "split": split, "class": which},
            **{"arguments": dict(problem.arguments), "options": list(problem.options)},
        }
        prompt = f"{problem.question}\n{_LETTER}" if problem.options else problem.question
        return Task(f"{self.name}/{split}/{which}/{level}/{key}", prompt, problem.answer, self.name, meta=meta)

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session; the interpreter starts with its first call."""
        python = PythonSession(isolation=self.isolation)
        return ToolSession(task, lambda state: (state.tool,), python, budget=Budget(total=self.calls))

    def demonstrate(self, task: Task) -> Demonstration:
        """Return one call that defines the solver of the class and calls it, and the answer."""
        if task.tools == ():
            return Demonstration((), str(task.answer))
        name, arguments = task.meta["class"], task.meta["arguments"]
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        code = f"{CLASSES[name].source}\n\nprint({name}({given}))"
        return Demonstration(((Call("python", {"code": code}),),), str(task.answer))
