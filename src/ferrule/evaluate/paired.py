"""The same tasks with and without tools, solution by solution: who is right, who reasons better, and what is missing.

Source: "From Proof to Program: Characterizing Tool-Induced Reasoning Hallucinations in Large Language Models" (11).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, TypeAlias

from ferrule.agents.flow import returned
from ferrule.core.flows import Agent, Flow, Policy, World
from ferrule.core.records import Answer, Task, Trajectory
from ferrule.evaluate.compare import compare, solvability
from ferrule.evaluate.evaluate import WITH, WITHOUT, Evaluation, Row, arms
from ferrule.evaluate.metrics import efficiency, necessity
from ferrule.evaluate.wins import by_calls, wins
from ferrule.rewards.derivation import Covers, Share, judged_coverage, missing, own_steps, right_steps
from ferrule.rewards.pairwise import better_of, compared
from ferrule.rewards.steps import ScoresSteps, judged_steps
from ferrule.rollout.drive import Policies
from ferrule.rollout.settle import settle
from ferrule.rollout.spent import Spent

__all__ = ["Better", "Contrast", "Judges", "Paired", "Side", "by_role", "contrasted", "paired"]

Better: TypeAlias = Callable[[Task, str, str], "Flow[float | None] | float | None"]
"""How far the reasoning of the first of two solutions is better: 1, 0, 0.5 for a tie, None without a result."""
Kind: TypeAlias = Callable[[Task, Sequence[str], int], "Flow[str | None] | str | None"]
"""The kind of error in a step of a solution, by its place; None where nobody knows."""


@dataclass(frozen=True)
class Judges:
    """Who is asked about solutions, which are given by their steps; what is None is not measured.

    ``better`` compares the two solutions of a task, ``covers`` says which reference steps one has, ``right`` scores its
    steps (right from ``threshold`` on), and ``kind`` names the error of a step that is not right. Each is a plain
    function or a flow that asks a model. ``comments`` takes the comments of code for steps as well.
    """

    better: Better | None = None
    covers: Covers | None = None
    right: ScoresSteps | None = None
    kind: Kind | None = None
    threshold: float = 0.5
    comments: bool = False


def _judged_better(role: str) -> Better:
    def better(task: Task, first: str, second: str) -> Flow[float | None]:
        question = better_of(f"Problem:\n{task.prompt}\n\nTwo solutions. Judge how they reason, not their answers.")
        (value,) = yield from compared([(first, second)], question, role=role)
        return value

    return better


def by_role(role: str = "judge") -> Judges:
    """Return the judges that are one model: pairs in both orders, reference steps and steps one by one."""
    return Judges(_judged_better(role), judged_coverage(role=role), judged_steps(role=role))


@dataclass(frozen=True)
class Side:
    """One solution: its score and calls, its own ``steps``, and what judges say of them.

    ``covered`` has an entry per reference step, ``right`` one per own step, ``errors`` one per step that is not right.
    """

    score: float
    calls: int
    answer: Answer
    steps: tuple[str, ...]
    covered: tuple[bool | None, ...] = ()
    right: tuple[float | None, ...] = ()
    errors: tuple[str | None, ...] = ()

    @property
    def words(self) -> int:
        """Number of words of the derivation."""
        return sum(len(step.split()) for step in self.steps)


@dataclass(frozen=True)
class Contrast:
    """One task solved without and with tools; ``better`` says how far the reasoning without them is better."""

    task: Task
    sample: int
    without: Side
    using: Side
    better: float | None = None


@dataclass(frozen=True)
class Paired:
    """What the same tasks are like with and without tools."""

    evaluations: Mapping[str, Evaluation]
    contrasts: tuple[Contrast, ...]
    judges: Judges = field(default_factory=Judges)
    spent: Mapping[str, Spent] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def as_dict(self, edges: Sequence[int] = (1, 5, 10)) -> dict[str, Any]:
        """Return plain JSON data; what no judge was asked about is left out, and ``spent`` is what judges took.

        ``sides`` holds for each condition ``success``, ``words`` of the derivation, ``missing`` reference steps, its
        ``right_steps``, counts of ``errors``, ``efficiency`` and ``necessity``; ``difference`` is that of the scores,
        with minus without. ``wins`` (``ferrule.evaluate.wins``) has the solutions without tools first, and counts the
        comparisons without a result as ``unknown``. ``by_calls`` has the same tasks by the number of calls (buckets
        that begin at ``edges``), all and apart by whether they are solved without tools: more calls go with harder
        tasks, so a slope over all of them says little.
        """
        before, after = self.evaluations[WITHOUT], self.evaluations[WITH]
        sides = {WITHOUT: [pair.without for pair in self.contrasts], WITH: [pair.using for pair in self.contrasts]}
        needed = necessity([[(side.score >= 1.0, side.calls) for side in rows] for rows in sides.values()])
        data: dict[str, Any] = {
            "sides": {
                name: {
                    **self.evaluations[name].estimate.as_dict("success"),
                    **_numbers(rows, self.judges.threshold),
                    "necessity": need,
                }
                for (name, rows), need in zip(sides.items(), needed, strict=True)
            },
            "difference": compare(before, after).as_dict(),
            "solvability": solvability(*([side.score >= 1.0 for side in rows] for rows in sides.values())),
            "by_calls": {name: self._by_calls(rows, edges) for name, rows in self._strata().items()},
            "problems": sum(map(bool, self.problems)),
            "spent": {role: {"asks": took.asks, "tokens": took.tokens} for role, took in self.spent.items()},
        }
        if self.judges.better is not None:
            data["wins"] = wins(
                [pair.better for pair in self.contrasts],
                lengths=[(pair.without.words, pair.using.words) for pair in self.contrasts],
                tasks=[pair.task.id for pair in self.contrasts],
            )
        return data

    def _strata(self) -> dict[str, list[Contrast]]:
        solved = [pair for pair in self.contrasts if pair.without.score >= 1.0]
        return {
            "all": list(self.contrasts),
            f"solved {WITHOUT}": solved,
            f"not solved {WITHOUT}": [pair for pair in self.contrasts if pair.without.score < 1.0],
        }

    def _by_calls(self, pairs: Sequence[Contrast], edges: Sequence[int]) -> dict[str, dict[str, float | None]]:
        rows: dict[str, list[float | None]] = {}
        for name, sides in (("without", [p.without for p in pairs]), ("with", [p.using for p in pairs])):
            rows[f"success {name}"] = [side.score for side in sides]
            rows[f"missing {name}"] = [_known(missing([side.covered])) for side in sides]
            rows[f"right {name}"] = [
                _known(right_steps([side.right], threshold=self.judges.threshold)) for side in sides
            ]
        rows["without better"] = [pair.better for pair in pairs]
        calls = [pair.using.calls for pair in pairs]
        means = {name: by_calls(calls, values, edges) for name, values in rows.items()}
        counts = by_calls(calls, [1.0] * len(pairs), edges, reduce=sum)
        asked = [name for name, values in rows.items() if any(value is not None for value in values)]
        return {
            bucket: {"count": count or 0.0, **{name: means[name][bucket] for name in asked}}
            for bucket, count in counts.items()
        }


def _known(of: Share) -> float | None:
    return None if math.isnan(of.mean) else of.mean


def _numbers(sides: Sequence[Side], threshold: float) -> dict[str, Any]:
    numbers: dict[str, Any] = {
        "words": fmean(side.words for side in sides) if sides else None,
        "efficiency": efficiency([side.score for side in sides], [side.calls for side in sides]),
    }
    if any(side.covered for side in sides):
        numbers["missing"] = missing([side.covered for side in sides]).as_dict()
    if any(side.right for side in sides):
        numbers["right_steps"] = right_steps([side.right for side in sides], threshold=threshold).as_dict()
    errors = Counter(str(error) for side in sides for error in side.errors)
    return {**numbers, **({"errors": dict(sorted(errors.items()))} if errors else {})}


def _solver(evaluation: Evaluation) -> dict[tuple[str, int], tuple[Row, Trajectory]]:
    return {
        (row.task, row.sample): (row, episode.trajectories[0])
        for row, episode in zip(evaluation.rows, evaluation.episodes, strict=True)
    }


def contrasted(
    without: Evaluation,
    using: Evaluation,
    *,
    judges: Judges | None = None,
    judge: Policies | None = None,
    seed: int = 0,
) -> Paired:
    """Pair two evaluations of the same tasks and samples, and let judges say what they think of every solution.

    ``judge`` is the policy that judges ask (or policies by their roles); plain functions need none. A judge who fails
    leaves what it was asked about unknown. Raises ``ValueError`` for evaluations of different tasks or samples, and
    without the episodes.
    """
    judges, before, after = judges or Judges(), _solver(without), _solver(using)
    if before.keys() != after.keys():
        raise ValueError(f"{without.name!r} and {using.name!r} are not of the same tasks and samples")
    tasks = {episode.task.id: episode.task for episode in using.episodes}
    flows = [_contrast(tasks[key[0]], key[1], before[key], after[key], judges) for key in before]
    told = settle(flows, judge if judge is not None else {}, seed=seed)
    plain = [_plain(tasks[key[0]], key[1], before[key], after[key], judges) for key in before]
    contrasts = tuple(judged or bare for judged, bare in zip(told.values, plain, strict=True))
    return Paired({WITH: using, WITHOUT: without}, contrasts, judges, told.spent, told.problems)


def paired(
    agent: Agent, policy: Policy | Mapping[str, Policy], world: World, tasks: Sequence[Task], *,
    judges: Judges | None = None, judge: Policies | None = None, **settings: Any,
) -> Paired:  # fmt: skip
    """Play the same tasks with and without tools, under the same seeds and verifier, and contrast the solutions.

    ``judges`` and ``judge`` are those of ``contrasted``, ``settings`` those of ``ferrule.evaluate.evaluate.evaluate``.
    """
    played = arms(agent, policy, world, tasks, **settings)
    return contrasted(played[WITHOUT], played[WITH], judges=judges, judge=judge, seed=settings.get("seed", 0))


Solved: TypeAlias = tuple[Row, Trajectory]


def _plain(task: Task, sample: int, before: Solved, after: Solved, judges: Judges) -> Contrast:
    without, using = (
        Side(row.score, row.calls, path.answer, own_steps(path, comments=judges.comments))
        for row, path in (before, after)
    )
    return Contrast(task, sample, without, using)


def _contrast(task: Task, sample: int, before: Solved, after: Solved, judges: Judges) -> Flow[Contrast]:
    pair = _plain(task, sample, before, after, judges)
    without = yield from _judged(task, pair.without, judges)
    using = yield from _judged(task, pair.using, judges)
    better = None
    if judges.better is not None:
        better = yield from returned(judges.better(task, "\n".join(without.steps), "\n".join(using.steps)))
    return Contrast(task, sample, without, using, better)


def _judged(task: Task, side: Side, judges: Judges) -> Flow[Side]:
    covered = (yield from returned(judges.covers(task, side.steps))) if judges.covers is not None else ()
    right = (yield from returned(judges.right(task, side.steps))) if judges.right is not None else ()
    errors = []
    for place, score in enumerate(right if judges.kind is not None else ()):
        if judges.kind is not None and score is not None and score < judges.threshold:
            errors.append((yield from returned(judges.kind(task, side.steps, place))))
    return replace(side, covered=tuple(covered), right=tuple(right), errors=tuple(errors))
