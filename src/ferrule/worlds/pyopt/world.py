"""The world ``pyopt``: make a slow Python function faster without changing what it does.

Source: "LLM Interactive Optimization of Open Source Python Libraries" (paper 35).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from ferrule.core.arrays import nearest
from ferrule.core.demonstration import Demonstration
from ferrule.core.flows import Ask, Session
from ferrule.core.records import Call, Task, Tool
from ferrule.sandbox.settings import Isolation
from ferrule.tools.budget import Budget
from ferrule.worlds.pyopt.bank import families, family_of, slow_function
from ferrule.worlds.pyopt.functions import SlowFunction
from ferrule.worlds.pyopt.progress import Progress
from ferrule.worlds.pyopt.scripted import expert_idea, proposer
from ferrule.worlds.pyopt.testing import Measuring, Sandboxed
from ferrule.worlds.pyopt.timing import accepts, median_interval, ratios
from ferrule.worlds.session import ToolSession
from ferrule.worlds.splits import check_split, different

__all__ = ["Audit", "Pyopt", "prompt_of"]

_CODE: Mapping[str, Any] = {
    "type": "object",
    "properties": {"code": {"type": "string", "description": "the whole program: the function, and helpers"}},
    "required": ["code"],
    "additionalProperties": False,
}
_TEXTS = {
    "run_tests": "Test whether a program does the same as the original, on random inputs and at edges.",
    "benchmark": "Test a program, and time it against the original and the best program so far.",
}
_PROMPT = """\
Make this Python function faster.

```python
{source}
```
{about}The new function must do the same on every input: equal results of the same types, the same exceptions, and
arguments left as they are. Keep its name and parameters, import nothing that it does not import, and keep nothing from
call to call. It is called with inputs of these classes (rng is a random.Random), and none of them may become slower:

{inputs}

Write the whole program in one ```python block."""


def prompt_of(function: SlowFunction) -> str:
    """Return what is asked about a function."""
    about = f"It returns {function.about}.\n" if function.about else ""
    inputs = "\n".join(f"- {kind}: {text}" for kind, text in function.inputs.items())
    return _PROMPT.format(source=function.source.strip(), about=about, inputs=inputs)


@dataclass(frozen=True)
class Audit:
    """What a program is on inputs of its own: why it is ``wrong`` (empty: it is not), and how many times as fast.

    ``speedup`` is the geometric mean over classes of inputs, with its 95 % ``interval`` over repeats.
    """

    wrong: str
    speedup: float = 1.0
    interval: tuple[float, float] = (1.0, 1.0)
    by_class: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Pyopt:
    """Slow functions to be made faster; a task is solved by a program that is ``target`` times as fast.

    The tools are ``run_tests`` and ``benchmark``, each of a whole program; the first accepts nothing, the second keeps
    the fastest program that was accepted. ``final()`` has it as ``program``, with its ``speedup``, and counts what
    was tried. Functions are those of the bank, of ``families`` alone where some are named; the test split has other
    names, not other ideas. ``functions`` are functions of one's own in their place: all of them are the tasks of either
    split. ``how`` says how programs are tested and timed, ``calls`` caps the calls of an episode.
    """

    families: tuple[str, ...] = ()
    functions: tuple[SlowFunction, ...] = ()
    target: float = 2.0
    calls: int = 32
    how: Measuring = field(default_factory=Measuring)
    isolation: Isolation = "auto"
    name: str = "pyopt"

    def __post_init__(self) -> None:
        """Refuse unknown families, families beside functions of one's own, and a target that is no gain."""
        known = [family.key for family in families()]
        for key in self.families:
            if key not in known:
                raise ValueError(f"Pyopt.families: unknown family {key!r}; {nearest(key, known)}")
        if self.families and self.functions:
            raise ValueError("Pyopt.families would do nothing beside functions of one's own")
        if not self.target > 1:
            raise ValueError(f"Pyopt.target is {self.target}; it must be above 1")

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return at most ``count`` different tasks whose levels take turns; functions of one's own have no level."""
        check_split(split, levels)
        if self.functions:
            return [self._of(f, f"{self.name}/{f.name}", split, 0) for f in self.functions[:count]]
        chosen = [f for f in families() if not self.families or f.key in self.families]
        present = [level for level in levels if any(family.level == level for family in chosen)]

        def draw(level: int, place: int, key: str) -> Task:
            rng = random.Random(f"{self.name}/{split}/{level}/{seed}/{key}")
            family = rng.choice([family for family in chosen if family.level == level])
            name = family.names[-1] if split == "test" else rng.choice(family.names[:-1])
            size = rng.choice(family.sizes)
            return self._of(slow_function(family, name, size), f"{self.name}/{split}/{name}/{size}", split, level)

        return different(draw, count, present) if present else []

    def _of(self, function: SlowFunction, key: str, split: str, level: int) -> Task:
        meta = {
            **{"level": level, "split": split, "function": function.name, "start": function.source},
            **{"inputs": dict(function.inputs), "edges": list(function.edges), "about": function.about},
            **{"state": {"solved": True}, "check": "benchmark"},
        }
        return Task(key, prompt_of(function), world=self.name, meta=meta)

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session; interpreters start with the first program."""
        function, how = function_of(task), self.how
        tester = Sandboxed(function, how=how, seed=f"{task.id}/{seed}", isolation=self.isolation)
        progress = Progress(function.source, tester, target=self.target)
        return ToolSession(task, _tools, progress, budget=Budget(total=self.calls), limit=8000, final=Progress.final)

    def audit(self, task: Task, program: str, *, cases: int = 200, seed: int = 0) -> Audit:
        """Test and time a program once more, on ``cases`` inputs of every class that no episode has."""
        function = function_of(task)
        how = replace(self.how, cases=cases)
        with closing(Sandboxed(function, how=how, seed=f"audit/{task.id}/{seed}", isolation=self.isolation)) as tester:
            if wrong := tester.refuse(program):
                return Audit(wrong)
            times = tester.times({"original": function.source, "program": program}, 0)
        if isinstance(times, str):
            return Audit(times)
        decision = accepts(times["original"], times["program"])
        interval = median_interval(ratios(times["original"], times["program"]))
        return Audit("", decision.gain, interval, decision.by_class)

    def proposer(self, seed: int = 0) -> Callable[[Ask, int], str]:
        """Return a script that proposes from the bank's pool of rewrites, for a ``Scripted`` policy."""
        return proposer(seed)

    def expert(self, task: Task, programs: Iterable[str]) -> str:
        """Name the idea that an expert would try next on a function of the bank, given the programs so far."""
        return expert_idea(str(task.meta["function"]), programs)

    def demonstrate(self, task: Task) -> Demonstration:
        """Return the call that times the rewrite an expert would choose, and it as the answer.

        Raises ``ValueError`` for functions of one's own.
        """
        name = str(task.meta["function"])
        right = next(rewrite for rewrite in family_of(name).rewrites if rewrite.get("shown"))
        program = str(right["source"]).replace("NAME", name)
        return Demonstration(((Call("benchmark", {"code": program}),),), program)


def function_of(task: Task) -> SlowFunction:
    """Return the function that a task of this world is about."""
    meta = task.meta
    return SlowFunction(meta["function"], meta["start"], dict(meta["inputs"]), tuple(meta["edges"]), meta["about"])


def _tools(progress: Progress) -> tuple[Tool, ...]:
    seconds = 120.0
    return (
        Tool("run_tests", _TEXTS["run_tests"], _CODE, progress.run_tests, seconds=seconds, effects="write"),
        Tool("benchmark", _TEXTS["benchmark"], _CODE, progress.benchmark, seconds=seconds, effects="write"),
    )
