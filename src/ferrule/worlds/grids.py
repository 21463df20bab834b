"""Grids: from a few pairs of grids find what was done, and do it to another grid; answers have two attempts.

The format and the scoring are those of ARC. Puzzles are generated from a small language of programs
(``ferrule.worlds.grid_programs``), or read from a file. Programs that the model writes are run in the sandbox on the
pairs, and what they are told of is those pairs alone. Source: "ARC Prize 2025: Technical Report" (16).
"""

from __future__ import annotations

import json
import random
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from ferrule.core.demonstration import Demonstration
from ferrule.core.flows import Session
from ferrule.core.records import Call, Observation, Task, Tool
from ferrule.sandbox.settings import Isolation
from ferrule.tools.budget import Budget
from ferrule.tools.python import PythonSession
from ferrule.worlds.grid_programs import PRIVATE, STEPS, Program, draw_puzzle, source_of
from ferrule.worlds.puzzles import (
    Grid,
    Puzzle,
    compact,
    differences,
    grid_of,
    read_puzzles,
    similarity,
    submission,
    two_of,
)
from ferrule.worlds.session import ToolSession
from ferrule.worlds.splits import check_split, different

__all__ = ["PROPOSAL", "WORLD", "Grids", "puzzle_in", "puzzle_of_prompt", "task_of"]

_SHAPES: Mapping[int, tuple[int, tuple[int, int], int]] = {
    1: (1, (3, 4), 1), 2: (2, (3, 4), 1), 3: (3, (3, 4), 1), 4: (3, (4, 6), 1), 5: (3, (4, 6), 2),
}  # fmt: skip
"""By level: steps of the program, the least and the largest side, and test grids."""
_INTRODUCTION = (
    "Each pair shows a grid before and after the same change. Find the change and apply it to every test grid. Numbers "
    'are colours, 0 is the background. Answer with a list of {"attempt_1": grid, "attempt_2": grid}, one per test grid.'
)
PROPOSAL = "Write a Python function transform(grid) that takes and returns a list of rows. Reply with its code."
"""What an agent that refines programs is asked for."""
_REFINING = {"proposal": PROPOSAL, "check": "check_program", "submit": "submit_programs"}
_SUBMITTED = 5
"""The most programs that an answer is made of."""
_AFTER = """
import json as _json
_results = []
for _grid in _json.loads({inputs!r}):
    try:
        _results.append({{"grid": transform(_grid)}})
    except Exception as _error:
        _results.append({{"error": type(_error).__name__ + ": " + str(_error)[:200]}})
print("\\n" + _json.dumps(_results))
"""


def task_of(puzzle: Puzzle, world: str = "grids", **meta: Any) -> Task:
    """Return a puzzle as a task: everything but the answers is in the prompt, and in ``meta["puzzle"]`` as JSON data.

    The answer is the JSON text of the test outputs, compared by the verifier ``grids``; None where they are not known.
    ``meta`` also tells ``ferrule.agents.refiner.Refiner`` how programs are asked for, checked and handed in.
    """
    lines = [_INTRODUCTION]
    for place, (before, after) in enumerate(puzzle.train, start=1):
        lines += [f"Pair {place}", f"before: {compact(before)}", f"after: {compact(after)}"]
    lines += [f"Test {place}: {compact(grid)}" for place, grid in enumerate(puzzle.test, start=1)]
    shown = {"id": puzzle.id, "train": puzzle.train, "test": puzzle.test}
    known = compact(puzzle.answers) if puzzle.answers else None
    return Task(
        puzzle.id,
        "\n".join(lines),
        known,
        world,
        meta={"verifier": "grids", "puzzle": json.loads(compact(shown)), **_REFINING, **meta},
    )


def puzzle_in(task: Task) -> Puzzle:
    """Return the puzzle of a task, without its answers. Raises ``ValueError`` for a task of another world."""
    shown = task.meta.get("puzzle")
    if not isinstance(shown, Mapping):
        raise ValueError(f"task {task.id!r} has no puzzle in its meta; the world grids makes tasks with one")
    train = tuple((grid_of(before), grid_of(after)) for before, after in shown["train"])
    return Puzzle(str(shown["id"]), train, tuple(map(grid_of, shown["test"])))


def puzzle_of_prompt(text: str) -> Puzzle | None:
    """Return the puzzle that a prompt of ``task_of`` shows, which has no id; None for another text."""
    marked = re.findall(r"^(before|after|Test \d+): (\[.*\])$", text, re.MULTILINE)
    try:
        grids = [(mark, grid_of(json.loads(data))) for mark, data in marked]
    except ValueError:
        return None
    before, after = ([grid for mark, grid in grids if mark == name] for name in ("before", "after"))
    test = tuple(grid for mark, grid in grids if mark not in ("before", "after"))
    if not test or len(before) != len(after):
        return None
    return Puzzle("", tuple(zip(before, after, strict=True)), test)


@dataclass(frozen=True)
class Grids:
    """Puzzles on grids, with a tool that checks a program on the pairs and one that hands programs in.

    Levels are 1 to 3 steps on sides of 3 and 4; 4 and 5 have 3 steps on larger grids, 5 two test grids. Programs of the
    held-out split occur in no training task. ``private`` puzzles have a step that no other puzzle has, and are all held
    out. ``data`` is a file or folder of puzzles in the format of ARC, a fifth of which are held out; they have no
    level. ``calls`` caps the calls of an episode, ``seconds`` limits a program.
    """

    data: str = ""
    private: bool = False
    calls: int = 16
    seconds: float = 5.0
    isolation: Isolation = "auto"
    name: str = "grids"

    def __post_init__(self) -> None:
        """Refuse private puzzles of a file, which would do nothing."""
        if self.data and self.private:
            raise ValueError("Grids.private is about generated puzzles; with data it would do nothing")

    @cached_property
    def puzzles(self) -> tuple[Puzzle, ...]:
        """The puzzles of ``data``."""
        return tuple(read_puzzles(self.data)) if self.data else ()

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return at most ``count`` different tasks; the levels of generated ones take turns."""
        check_split(split, levels)
        if self.private and split == "train":
            raise ValueError("private puzzles are all held out; ask for the split 'test'")
        if self.data:
            chosen = [puzzle for puzzle in self.puzzles if _split_of(puzzle.id) == split]
            random.Random(f"{self.name}/{split}/{seed}").shuffle(chosen)
            return [task_of(puzzle, self.name, split=split) for puzzle in chosen[:count]]
        return different(partial(self._task, split, seed), count, levels)

    def _task(self, split: str, seed: int, level: int, place: int, drawn: str) -> Task:
        key = f"{self.name}/{'private/' if self.private else ''}{split}/{level}/{seed}/{drawn}"
        rng = random.Random(key)
        depth, sides, tests = _SHAPES[level]
        while True:
            program = self._program(rng, depth)
            if not self.private and _split_of(" ".join(program)) != split:
                continue
            puzzle = draw_puzzle(rng, key, program, sides=sides, tests=tests)
            if puzzle is not None:
                return task_of(puzzle, self.name, level=level, split=split, program=list(program))

    def _program(self, rng: random.Random, depth: int) -> Program:
        names = tuple(STEPS)
        program = [rng.choice(names) for _ in range(depth)]
        if self.private:
            program[rng.randrange(depth)] = rng.choice(tuple(PRIVATE))
        return tuple(program)

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session; a program's process starts with the first call."""
        puzzle = puzzle_in(task)
        python = PythonSession(seconds=self.seconds, isolation=self.isolation, persistent=False, limit=200_000)
        return ToolSession(task, partial(_tools, puzzle), python, budget=Budget(total=self.calls))

    def demonstrate(self, task: Task) -> Demonstration:
        """Return the check of the program that made a puzzle, and the answer; puzzles of a file have none."""
        if "program" not in task.meta:
            raise ValueError(f"task {task.id!r} is of a file of puzzles; how it was made is not known")
        code = source_of(tuple(task.meta["program"]))
        answer = submission([(grid_of(grid), None) for grid in json.loads(task.answer)])
        return Demonstration(((Call("check_program", {"code": code}),),), answer)


def _split_of(text: str) -> str:
    return "test" if zlib.crc32(text.encode()) % 5 == 0 else "train"


def _tools(puzzle: Puzzle, python: PythonSession) -> tuple[Tool, ...]:
    """Return the tools of one episode."""
    code = {"type": "string", "description": "Python source that defines transform(grid), from rows to rows"}
    listed = {"type": "array", "items": code, "minItems": 1, "maxItems": _SUBMITTED, "description": "best first"}
    check = Tool(
        "check_program", "Run a program on all pairs and compare what it returns with what it should.",
        {"type": "object", "properties": {"code": code}, "required": ["code"]},
        run=partial(_check, puzzle, python), effects="write", seconds=python.tool.seconds,
    )  # fmt: skip
    submit = Tool(
        "submit_programs", "Answer with what programs make of the test grids: the first result, and the first other.",
        {"type": "object", "properties": {"programs": listed}, "required": ["programs"]},
        run=partial(_submit, puzzle, python), terminal=True, effects="write",
        seconds=_SUBMITTED * python.tool.seconds,
    )  # fmt: skip
    return check, submit


def _outputs(python: PythonSession, code: str, inputs: Sequence[Grid]) -> tuple[list[Grid | None], list[str]]:
    """Return what a program makes of grids, and what went wrong with each ("" where nothing did)."""
    observation = python.run(code + "\n" + _AFTER.format(inputs=compact(inputs)))
    trouble = observation.text.strip().rpartition("\n")[2][:300] or observation.status
    try:
        results = json.loads(observation.data["stdout"].strip().rpartition("\n")[2])
        entries = [results[place] for place in range(len(inputs))]
    except (TypeError, KeyError, ValueError, IndexError):
        return [None] * len(inputs), [trouble] * len(inputs)
    grids: list[Grid | None] = []
    problems: list[str] = []
    for entry in entries:
        try:
            grids.append(grid_of(entry["grid"]))
            problems.append("")
        except (TypeError, KeyError, ValueError) as error:
            grids.append(None)
            problems.append(str(entry["error"]) if isinstance(entry, dict) and "error" in entry else str(error))
    return grids, problems


def _check(puzzle: Puzzle, python: PythonSession, code: str) -> Observation:
    grids, problems = _outputs(python, code, [before for before, _ in puzzle.train])
    alike = [similarity(grid, after) for grid, (_, after) in zip(grids, puzzle.train, strict=True)]
    exact, mean = alike.count(1.0), sum(alike) / len(alike)
    lines = [
        f"Pair {place}: {'right' if grid == after else problem or differences(grid, after)}"
        for place, (grid, problem, (_, after)) in enumerate(zip(grids, problems, puzzle.train, strict=True), start=1)
    ]
    data = {"exact": exact, "similarity": mean, "score": exact + mean, "solved": exact == len(grids)}
    return Observation("\n".join([f"{exact} of {len(grids)} pairs are right.", *lines]), data=data)


def _submit(puzzle: Puzzle, python: PythonSession, programs: list[str]) -> Observation:
    results = [_outputs(python, code, puzzle.test)[0] for code in programs[:_SUBMITTED]]
    return Observation(submission([two_of(grids) for grids in zip(*results, strict=True)]), terminal=True)


WORLD = Grids
