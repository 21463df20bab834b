"""UCT: a stream of problems from six integer skills, and tools that are created with mistakes and tested with some."""

from __future__ import annotations

from contextlib import ExitStack, closing
from functools import partial

import numpy as np

from ferrule.core.records import Call, Task, Tool
from ferrule.papers.uct import Limits, reuse_rate, unreliable
from ferrule.studies.conditions import at_least, less, minus, of
from ferrule.studies.standins.mistakes import proposed
from ferrule.studies.study import Study
from ferrule.tools.forge import Proposal
from ferrule.tools.forge_run import forged_source, runnable
from ferrule.tools.forge_shelf import Forged, Shelf, retired, used
from ferrule.tools.forge_trial import Trial, tested
from ferrule.tools.invoke import invoke
from ferrule.worlds.skills import Skills

__all__ = ["STUDY", "arm"]

ALONE = 0.45
"""How often a problem is solved without a tool."""
_TRIAL = Trial(asserts=1, repeats=2, variants=0)


def _created(skill: str, rng: np.random.Generator, rounds: int, wrong_tests: float) -> Forged | None:
    """Create a tool: the first proposal as it is (``rounds`` 0), or the first of ``rounds`` that passes its tests."""
    for _ in range(max(rounds, 1)):
        source, tests = proposed(skill, rng, tested=1.0 - wrong_tests)
        if not rounds or not tested(source, skill, tests, reads=True, trial=_TRIAL).findings:
            return Forged(skill, Proposal(source, tests, skill))
    return None


def _right(tool: Tool, task: Task) -> bool:
    """Call a tool with the numbers of a task and say whether its result is the answer."""
    seen = invoke(tool, Call(tool.name, task.meta["arguments"]))
    return seen.status == "ok" and str(seen.data) == task.answer


def _put(shelf: Shelf, entry: Forged, number: int) -> Shelf:
    """Put a tool on the shelf, as the next version of its name; no critic is asked here."""
    before = shelf.versions.get(entry.name, ())
    fresh = Forged(entry.name, entry.proposal, len(before) + 1, born=number)
    return Shelf({**shelf.versions, entry.name: (*before, fresh)})


def arm(
    *, seed: int, problems: int, create: bool = True, rounds: int = 3, drops: bool = False, wrong_tests: float = 0.3
) -> dict[str, float]:
    """Solve a stream of problems; return accuracy, also of the first and the last third, tools built, and reuse."""
    rng = np.random.default_rng(seed)
    shelf, right, calls, built = Shelf(), list[bool](), list[str](), 0
    running: dict[str, Tool] = {}  # each in a sandbox of its own
    with ExitStack() as places:
        for number, task in enumerate(Skills().stream(problems, seed=seed)):
            skill = task.meta["skill"]
            if create and skill not in running:
                entry = _created(skill, rng, rounds, wrong_tests)
                if entry is not None:
                    shelf, built = _put(shelf, entry, number), built + 1
                    place = places.enter_context(closing(forged_source(()).start()))
                    running[skill] = runnable(entry.proposal.source, skill, place=place)
            if skill not in running:
                right.append(bool(rng.random() < ALONE))
                continue
            right.append(_right(running[skill], task))
            calls.append(skill)
            shelf = used(shelf, skill, failed=not right[-1], now=number)
            if drops and unreliable(shelf.newest(skill), Limits(calls=5)):
                shelf = retired(shelf, skill, "unreliable")
                del running[skill]
    third = len(right) // 3
    return {
        "accuracy": float(np.mean(right)),
        "first third": float(np.mean(right[:third])),
        "last third": float(np.mean(right[-third:])),
        "built": float(built),
        "reuse": reuse_rate(calls),
    }


_tests = partial(arm, rounds=3)

STUDY = Study(
    paper="uct",
    statement="Tested creation beats no creation and untested creation, and a stream is solved better as it goes on.",
    falsifier="Tested creation is not 0.2 above both, or its last third is not above its first.",
    grade="C",
    trained="nothing: real tools in the sandbox, with drawn mistakes in code and tests",
    arms={
        "none": partial(arm, create=False),
        "untested": partial(arm, rounds=0),
        "tested": _tests,
        "tested, consolidated": partial(_tests, drops=True),
        # How many wrong expected values it takes until tests are worth nothing.
        "tested, half of the tests wrong": partial(_tests, wrong_tests=0.5),
        "tested, 0.7 of the tests wrong": partial(_tests, wrong_tests=0.7),
        "tested, 0.9 of the tests wrong": partial(_tests, wrong_tests=0.9),
    },
    asks=(
        at_least("accuracy, tested minus none", less("accuracy", "tested", "none"), 0.2),
        at_least("accuracy, tested minus untested", less("accuracy", "tested", "untested"), 0.2),
        at_least(
            "accuracy, last third minus first",
            minus(of("tested", "last third"), of("tested", "first third")), 0.0,
        ),
    ),
    sizes={"small": {"problems": 300}, "tiny": {"problems": 100}},
    seeds=tuple(range(16)),
    setup={"skills": 6, "right without a tool": ALONE, "right code": 0.5, "right tests": 0.7},
)  # fmt: skip
