"""XSkill: tips, a workflow document, and both, learned by comparing rollouts of drawn tasks."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from statistics import fmean

from ferrule.agents.refine import settled
from ferrule.core.records import Task
from ferrule.memory.consolidate import Word
from ferrule.memory.entries import Change, Entry, Origin
from ferrule.memory.library import Library
from ferrule.memory.memory import Recalled
from ferrule.papers.xskill import learn, recalled_for
from ferrule.policies.scripted import Scripted
from ferrule.rollout.settle import settle
from ferrule.studies.conditions import Rows, at_least, less
from ferrule.studies.standins.situations import Situations, critique, follow, pooled, situations_of, writer
from ferrule.studies.study import Study

__all__ = ["STUDY", "arm"]

ROLLOUTS, HARM = 4, (8, -0.1)
"""Rollouts of a training task; after how many, and below which mean credit, an entry is retired."""
WEB = Origin("", writer="web")


def _as_they_are(task: Task, entries: Sequence[Entry]) -> Sequence[Entry]:
    return entries


def _woven(task: Task, document: str, entries: Sequence[Entry]) -> str:
    return "\n".join([document, *(entry.text for entry in entries)])


def _nothing(*rollouts: object) -> list[Change]:
    return []


def _apart(texts: Sequence[str]) -> str:
    return ""


def _recall(library: Library, task: Task, skill: str | None) -> Recalled:
    recalled = recalled_for(library, task, skill=skill, split=situations_of, reword=_as_they_are, adapt=_woven)
    return settled(recalled)


def _success(library: Library, tasks: Sequence[Task], shown: Sequence[Task], skill: str | None, seed: int) -> float:
    """Return the share of tasks that are solved with what is recalled for the tasks ``shown`` in their place."""
    rng = random.Random(f"test/{seed}")
    texts = [_recall(library, task, skill).text for task in shown]
    return fmean(follow(task, text, rng)[2] for task, text in zip(tasks, texts, strict=True))


def arm(
    *, seed: int, train: int, test: int, tips: bool = True, skill: str | None = "", word: Word = pooled,
    shuffled: bool = False, poison: int = 0, noticed: bool = False,
) -> dict[str, float]:  # fmt: skip
    """Learn from ``ROLLOUTS`` rollouts of each training task, and solve held-out ones with what was learned.

    ``poison`` wrong notes by the writer ``web``, each of the words of a training task, stand in the library before;
    ``noticed`` takes out all that came from that writer after a third of the training tasks. ``after`` numbers are the
    success after a third and two thirds of them.
    """
    world, library, rng = Situations(seed), Library(), random.Random(f"train/{seed}")
    learning, measuring = world.tasks("train", train), world.tasks("test", test)
    for task in learning[:poison]:
        library.add(f"If {situations_of(task)[0]}: use setting {(task.meta['settings'][0] + 1) % 3}", origins=[WEB])
    learned = learn(library, critique=critique if tips else _nothing, word=word, skill=skill)
    shown = [*measuring[1:], measuring[0]] if shuffled else measuring
    numbers: dict[str, float] = {}
    for number, task in enumerate(learning if tips or skill is not None else [], 1):
        recalled = _recall(library, task, skill)
        played = [follow(task, recalled.text, rng, recalled.ids) for _ in range(ROLLOUTS)]
        for rollout, (_, score, _) in enumerate(played):
            library.credit(f"{task.id}/{rollout}", score.value, recalled.ids)
        library.prune(worth=HARM[1], shown=HARM[0])
        flow = learned(task, [path for path, _, _ in played], [score for _, score, _ in played])
        problem = settle([flow], {"writer": Scripted(writer)}, seed=seed).problems[0]
        if problem:
            raise RuntimeError(problem)
        if noticed and number == train // 3:
            library.prune(writer=WEB.writer)
        if number in (train // 3, 2 * train // 3):
            numbers[f"after {number}"] = _success(library, measuring, shown, skill, seed)
    numbers["success"] = _success(library, measuring, shown, skill, seed)
    return {**numbers, "entries": float(len(library))}


def _over_single(rows: Rows) -> float:
    """How far both streams together are above the better of the two alone."""
    alone = max(float(rows[name]["success"]) for name in ("experiences", "skills"))
    return float(rows["both"]["success"]) - alone


STUDY = Study(
    paper="xskill",
    statement="Tips and a workflow document complement each other, and merging alike tips loses nothing.",
    falsifier="Both together solve at most 0.1 more than the better one alone, or merging loses more than 0.05.",
    grade="B",
    trained="nothing: a library of texts, written by a scripted critic from 4 rollouts of each of 60 tasks",
    arms={
        "none": partial(arm, tips=False, skill=None),
        "experiences": partial(arm, skill=None),
        "skills": partial(arm, tips=False),
        "both": arm,
        "both, not merged": partial(arm, word=_apart),
        "both, shuffled": partial(arm, shuffled=True),
        "both, poisoned": partial(arm, poison=20),
        "both, poisoned and pruned": partial(arm, poison=20, noticed=True),
    },
    asks=(
        at_least("success of both minus the better one alone", _over_single, 0.1),
        at_least("success of both minus that without merging", less("success", "both", "both, not merged"), -0.05),
        at_least("success of both minus that of shuffled recall", less("success", "both", "both, shuffled"), 0.1),
        at_least("poisoned minus both", less("success", "both, poisoned", "both"), -0.05, decides=False),
        at_least(
            "poisoned and pruned minus both", less("success", "both, poisoned and pruned", "both"), -0.05, decides=False
        ),
        at_least("entries saved by merging", less("entries", "both, not merged", "both"), 0.0, decides=False),
    ),
    sizes={"small": {"train": 60, "test": 200}, "tiny": {"train": 24, "test": 20}},
    setup={"rollouts per task": ROLLOUTS, "follows": 0.9, "wrong results": 0.1},
)
