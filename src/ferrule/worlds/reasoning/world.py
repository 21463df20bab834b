"""The world ``reasoning``: problems of six classes, each solved by one short function."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ferrule.core.demonstration import Demonstration
from ferrule.core.flows import Session
from ferrule.core.records import Task
from ferrule.sandbox.settings import Isolation
from ferrule.worlds.reasoning import drawing, solvers
from ferrule.worlds.reasoning.drawing import Problem
from ferrule.worlds.solved import by_function, check_kinds, of_split, taking_turns, with_python

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
        check_kinds("Reasoning.classes", self.classes, CLASSES)

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return at most ``count`` different tasks; classes take turns, and so do levels."""
        return taking_turns(self.classes, self._task, split, count, seed, levels)

    def _task(self, split: str, which: str, level: int, key: str) -> Task:
        id = f"{self.name}/{split}/{which}/{level}/{key}"
        rng = random.Random(id)
        problem = of_split(lambda: CLASSES[which].draw(rng, level), lambda drawn: drawn.question, split)
        meta = {
            **{"verifier": "exact", "level": level, "split": split, "class": which},
            **{"arguments": dict(problem.arguments), "options": list(problem.options)},
        }
        prompt = f"{problem.question}\n{_LETTER}" if problem.options else problem.question
        return Task(id, prompt, problem.answer, self.name, meta=meta)

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session; the interpreter starts with its first call."""
        return with_python(task, calls=self.calls, isolation=self.isolation)

    def demonstrate(self, task: Task) -> Demonstration:
        """Return one call that defines the solver of the class and calls it, and the answer."""
        name = task.meta["class"]
        return by_function(task, name, CLASSES[name].source, task.meta["arguments"])
