"""Two evaluations of the same tasks, task by task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ferrule.evaluate.evaluate import Evaluation
from ferrule.evaluate.metrics import Estimate, paired_difference

__all__ = ["Comparison", "compare", "solvability"]


@dataclass(frozen=True)
class Comparison:
    """The mean difference of scores (after minus before) over the same tasks, and how many tasks moved which way."""

    before: str
    after: str
    difference: Estimate
    better: int
    worse: int
    same: int
    by_level: Mapping[str, Estimate] = field(default_factory=dict)

    @property
    def decided(self) -> bool:
        """True when the interval of the difference leaves zero out."""
        return self.difference.low > 0 or self.difference.high < 0

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "before": self.before,
            "after": self.after,
            **self.difference.as_dict("difference"),
            "decided": self.decided,
            "better": self.better,
            "worse": self.worse,
            "same": self.same,
            "by_level": {level: estimate.as_dict("difference") for level, estimate in self.by_level.items()},
        }

    def __str__(self) -> str:
        d = self.difference
        judged = "apart from zero" if self.decided else "zero is inside, so this may be chance"
        interval = f"[{100 * d.low:+.1f}, {100 * d.high:+.1f}] "
        if math.isnan(d.low):
            interval, judged = "", "no interval from so few: compare at least 2 tasks"
        return (
            f"{self.after} against {self.before}: {100 * d.value:+.1f} points {interval}on {d.count} "
            f"task{'s'[: d.count != 1]} ({self.better} better, {self.worse} worse, {self.same} equal); {judged}"
        )


def compare(before: Evaluation, after: Evaluation, *, seed: int = 0) -> Comparison:
    """Pair two evaluations by task id and return the difference of their task means with its 95 % interval.

    Raises ``ValueError`` when they are not of the same tasks: only equal tasks can be compared.
    """
    old, new = before.scores(), after.scores()
    if old.keys() != new.keys():
        only = [len(old.keys() - new.keys()), len(new.keys() - old.keys())]
        raise ValueError(
            f"{before.name!r} and {after.name!r} are not of the same tasks: "
            f"{only[0]} only in the first, {only[1]} only in the second"
        )
    levels = {row.task: row.level for row in before.rows}

    def difference(tasks: list[str]) -> Estimate:
        return paired_difference([old[t] for t in tasks], [new[t] for t in tasks], seed=seed)

    tasks = list(old)
    moves = [new[t] - old[t] for t in tasks]
    return Comparison(
        before=before.name,
        after=after.name,
        difference=difference(tasks),
        better=sum(move > 0 for move in moves),
        worse=sum(move < 0 for move in moves),
        same=sum(move == 0 for move in moves),
        by_level={
            str(level): difference([t for t in tasks if levels[t] == level])
            for level in sorted({value for value in levels.values() if value is not None})
        },
    )


def solvability(without: Sequence[bool], using: Sequence[bool]) -> dict[str, float]:
    """Return shares of problems by who solves them, without and with something (a tool, for example).

    ``expansion`` are solved with it alone, ``preservation`` either way, ``shrinkage`` without it alone, and
    ``unsolved`` never; all are 0 without problems. Raises ``ValueError`` for sequences of different
    lengths. Source: "Understanding Tool-Integrated Reasoning" (12).
    """
    if len(without) != len(using):
        raise ValueError(f"{len(without)} problems without and {len(using)} with; they must be the same ones")
    before, after = np.asarray(without, dtype=bool), np.asarray(using, dtype=bool)
    flows = {
        "expansion": after & ~before,
        "preservation": after & before,
        "shrinkage": before & ~after,
        "unsolved": ~after & ~before,
    }
    return {name: float(flow.mean()) if flow.size else 0.0 for name, flow in flows.items()}
