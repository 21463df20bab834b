"""The world ``optimisation``: word problems to be stated as programs for a solver."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ferrule.core.arrays import nearest
from ferrule.core.demonstration import Demonstration
from ferrule.core.flows import Session
from ferrule.core.records import Call, Observation, Task, Tool
from ferrule.sandbox.settings import Isolation
from ferrule.tools.budget import Budget
from ferrule.tools.python import PythonSession
from ferrule.worlds.optimisation.making import FAMILIES, Story
from ferrule.worlds.optimisation.program import SCHEMA, program_of, solve, spoken
from ferrule.worlds.session import ToolSession
from ferrule.worlds.solved import of_split
from ferrule.worlds.splits import check_split, different

__all__ = ["ENDS", "Optimisation", "Workbench", "opened"]

ENDS = "End with the line: Optimal value: <number>"
"""The last words of every prompt."""
_ABOUT = (
    "Solve a linear program, or one with whole variables. Says the optimal value and the variables, or why there is "
    "no optimum."
)
_SECONDS = 10.0
TOOLS = ("solve", "python")


@dataclass
class Workbench:
    """What an episode has done: the programs that its solver was given, with how they came out."""

    python: PythonSession | None = None
    solved: list[tuple[Mapping[str, Any], str, float | None]] = field(default_factory=list)

    def solve(self, **program: Any) -> Observation:
        """Solve one program."""
        solution = solve(program_of(program), seconds=_SECONDS)
        self.solved.append((program, solution.outcome, solution.value))
        return Observation(spoken(solution), data={"outcome": solution.outcome, "value": solution.value})

    def final(self) -> Mapping[str, Any]:
        """Return how the last program came out, its value, and how many were solved."""
        last: tuple[Any, str, float | None] = self.solved[-1] if self.solved else ({}, "", None)
        return {"outcome": last[1], "value": last[2], "programs": len(self.solved)}

    def fork(self) -> Workbench:
        """Return a copy with its own interpreter."""
        return Workbench(None if self.python is None else self.python.fork(), list(self.solved))

    def close(self) -> None:
        """Close the interpreter."""
        if self.python is not None:
            self.python.close()


def opened(task: Task, *, tools: Sequence[str] = TOOLS, calls: int = 8, isolation: Isolation = "auto") -> Session:
    """Open a session of a word problem, with a solver for linear programs and an interpreter that has SciPy."""
    wanted = set(tools if task.tools is None else task.tools) & set(tools)
    python = PythonSession(isolation=isolation) if "python" in wanted else None

    def build(bench: Workbench) -> tuple[Tool, ...]:
        solver = Tool("solve", _ABOUT, SCHEMA, bench.solve, seconds=_SECONDS + 5, effects="write")
        offered = {"solve": solver, **({"python": bench.python.tool} if bench.python is not None else {})}
        return tuple(offered[name] for name in tools if name in offered)

    return ToolSession(task, build, Workbench(python), budget=Budget(total=calls), final=Workbench.final)


@dataclass(frozen=True)
class Optimisation:
    """Generated word problems of eight families, from two products to plants that may be opened.

    An answer is right within 0.1 of the optimum (verifier ``near``). ``meta`` names the ``family`` and its ``pitfall``
    and holds the ``program``. ``families`` are the ones to draw from (empty: all), ``tools`` the ones on offer of
    ``solve`` and ``python``, ``calls`` caps the calls of an episode. A story belongs to ``test`` when the CRC-32 of its
    text is divisible by five. Source of the task: "AlphaOPT" (paper 46).
    """

    families: tuple[str, ...] = ()
    tools: tuple[str, ...] = TOOLS
    calls: int = 8
    isolation: Isolation = "auto"
    name: str = "optimisation"

    def __post_init__(self) -> None:
        """Refuse unknown families and tools."""
        for known, given, field_name in ((FAMILIES, self.families, "families"), (TOOLS, self.tools, "tools")):
            for each in given:
                if each not in known:
                    raise ValueError(f"Optimisation.{field_name}: unknown {each!r}; {nearest(each, list(known))}")

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return at most ``count`` different tasks whose levels take turns; levels without a family are left out."""
        check_split(split, levels)
        chosen = {name: FAMILIES[name] for name in self.families or FAMILIES}
        present = [level for level in levels if any(family.level == level for family in chosen.values())]

        def draw(level: int, place: int, key: str) -> Task:
            rng = random.Random(f"{self.name}/{split}/{level}/{seed}/{key}")
            name = rng.choice([name for name, family in chosen.items() if family.level == level])
            return self._task(
                split,
                name,
                of_split(partial(FAMILIES[name].tell, rng), lambda story: story.text, split),
                f"{seed}/{key}",
            )

        return different(draw, count, present) if present else []

    def _task(self, split: str, name: str, story: Story, key: str) -> Task:
        solution = solve(story.program)
        assert solution.value is not None, f"a story of {name!r} has no optimum: {story.text}"
        meta = {
            **{"verifier": "near", "level": FAMILIES[name].level, "split": split, "family": name},
            **{"pitfall": FAMILIES[name].pitfall, "program": story.program.as_dict()},
        }
        prompt = f"{story.text}\n\n{ENDS}"
        return Task(f"{self.name}/{split}/{name}/{key}", prompt, f"{solution.value:.10g}", self.name, meta=meta)

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session; the interpreter starts with its first call."""
        return opened(task, tools=self.tools, calls=self.calls, isolation=self.isolation)

    def demonstrate(self, task: Task) -> Demonstration:
        """Return the call that solves the program of the story, and its value as the answer."""
        offered = self.tools if task.tools is None else task.tools
        answer = f"Optimal value: {task.answer}"
        if "solve" in offered:
            return Demonstration(((Call("solve", dict(task.meta["program"])),),), answer)
        return Demonstration((), answer)
