"""Play an agent on tasks and measure it: one row per episode, summaries with intervals, plain JSON data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean
from typing import Any

from ferrule.core.flows import Agent, Policy, Reward, World
from ferrule.core.records import Score, Task
from ferrule.core.tally import tally, turns_of
from ferrule.evaluate.metrics import Estimate, pass_at_k, productivity, ratio, task_mean
from ferrule.rewards.outcome import outcome
from ferrule.rollout.drive import Limits, drive
from ferrule.rollout.record import Episode
from ferrule.rollout.spent import Spent, added

__all__ = ["WITH", "WITHOUT", "Evaluation", "Row", "arms", "evaluate", "measure"]

WITH = "with tools"
"""Name of the arm that may call tools."""
WITHOUT = "without tools"
"""Name of the arm that answers by itself."""


@dataclass(frozen=True)
class Row:
    """The result of one episode.

    ``attempts``, ``calls``, ``malformed``, ``unknown_tool`` and ``failed`` are those of ``ferrule.core.tally``.
    ``tokens`` counts what the model wrote, None where the policy has no ids. ``spent`` is what each role took, ``also``
    what further verifiers say of the answer.
    """

    task: str
    sample: int
    score: float
    answer: str | None
    finish: str
    level: int | None = None
    world: str | None = None
    turns: int = 0
    attempts: int = 0
    calls: int = 0
    malformed: int = 0
    unknown_tool: int = 0
    failed: int = 0
    tokens: int | None = None
    problem: str = ""
    spent: Mapping[str, Spent] = field(default_factory=dict, compare=False)
    also: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """The rows of an evaluation and what they add up to; ``episodes`` holds the full records."""

    name: str
    rows: tuple[Row, ...]
    num_generations: int = 1
    seed: int = 0
    episodes: tuple[Episode, ...] = field(default=(), compare=False, repr=False)

    @property
    def success(self) -> float:
        """Mean score over tasks; nan without rows."""
        return self.estimate.value

    @property
    def estimate(self) -> Estimate:
        """Mean score over tasks with its 95 % interval."""
        return self._estimate(self.rows)

    @property
    def values(self) -> tuple[float, ...]:
        """Score of every row, in the order of ``rows`` and ``episodes``."""
        return tuple(row.score for row in self.rows)

    def _estimate(self, rows: Sequence[Row], also: str = "") -> Estimate:
        return task_mean(list(_by_task(rows, also).values()), seed=self.seed)

    def also(self) -> dict[str, Estimate]:
        """Return the mean over tasks of every further verifier that all rows have (``meta["also_by"]``)."""
        names = [
            name for name in (self.rows[0].also if self.rows else ()) if all(name in row.also for row in self.rows)
        ]
        return {name: self._estimate(self.rows, name) for name in names}

    def scores(self) -> dict[str, float]:
        """Return the mean score of every task by its id."""
        return {task: fmean(values) for task, values in _by_task(self.rows).items()}

    def split(self, by: str) -> dict[str, Estimate]:
        """Return the success per value of the row field ``by`` (``level`` or ``world``), in sorted order."""
        values = {getattr(row, by) for row in self.rows} - {None}
        return {str(v): self._estimate([row for row in self.rows if getattr(row, by) == v]) for v in sorted(values)}

    def pass_at(self, k: int) -> float:
        """Return pass@k over tasks; a sample passes with a score of 1. Raises ``ValueError`` when ``k > samples``."""
        groups = _by_task(self.rows).values()
        return fmean(pass_at_k(len(values), sum(v >= 1.0 for v in values), k) for values in groups)

    def as_dict(self, rows: bool = False) -> dict[str, Any]:
        """Return plain JSON data: success and interval, the same per level and world, and the other measures.

        ``attempts``, ``calls`` and ``turns`` are per episode, ``tokens`` per episode where known, ``malformed``,
        ``unknown_tool`` and ``failed`` shares of attempted calls, ``productivity`` right answers per call, ``by_role``
        asks, tokens and seconds of each role per episode, ``also`` the values of further verifiers where there are
        any. ``rows`` adds every row.
        """
        n = len(self.rows)
        attempts, calls = (sum(getattr(row, key) for row in self.rows) for key in ("attempts", "calls"))
        known = [row.tokens for row in self.rows if row.tokens is not None]
        data: dict[str, Any] = {
            **self.estimate.as_dict("success"),
            "num_generations": self.num_generations,
            "attempts": ratio(attempts, n),
            "calls": ratio(calls, n),
            **{
                status: ratio(sum(getattr(row, status) for row in self.rows), attempts)
                for status in ("malformed", "unknown_tool", "failed")
            },
            "productivity": productivity(sum(row.score for row in self.rows), calls),
            "turns": ratio(sum(row.turns for row in self.rows), n),
            "tokens": fmean(known) if known else None,
            "answered": ratio(sum(row.answer is not None for row in self.rows), n),
            "finish": dict(sorted(Counter(row.finish for row in self.rows).items())),
            "problems": sum(bool(row.problem) for row in self.rows),
            "by_level": {key: value.as_dict("success") for key, value in self.split("level").items()},
            "by_role": {role: _per_episode(took, n) for role, took in added(row.spent for row in self.rows).items()},
            "by_world": {key: value.as_dict("success") for key, value in self.split("world").items()},
        }
        if also := self.also():
            data["also"] = {name: value.as_dict("value") for name, value in also.items()}
        if self.num_generations > 1:
            data["pass_at"] = {str(k): self.pass_at(k) for k in (1, 2, 4, 8, 16, 32) if k <= self.num_generations}
        if rows:
            data["rows"] = [asdict(row) for row in self.rows]
        return data


def _per_episode(took: Spent, episodes: int) -> dict[str, float]:
    return {name: getattr(took, name) / episodes for name in ("asks", "tokens", "seconds")}


def _by_task(rows: Sequence[Row], also: str = "") -> dict[str, list[float]]:
    groups: dict[str, list[float]] = {}
    for row in rows:
        groups.setdefault(row.task, []).append(row.also[also] if also else row.score)
    return groups


def _row(episode: Episode, score: Score) -> Row:
    turns, first = turns_of(episode.trajectories), episode.trajectories[0]
    counts = tally(observation for turn in turns for observation in turn.observations)
    sampled = sum(len(turn.sampled) for turn in turns)
    level = episode.task.meta.get("level")
    return Row(
        task=episode.task.id,
        sample=episode.sample,
        score=score.value,
        answer=first.answer,
        finish=first.finish,
        level=level if isinstance(level, int) else None,
        world=episode.task.world,
        turns=len(turns),
        attempts=counts.attempts,
        calls=counts.calls,
        malformed=counts.malformed,
        unknown_tool=counts.unknown_tool,
        failed=counts.failed,
        tokens=sampled or None,
        problem=episode.problem,
        spent=episode.spent,
        also=score.info.get("also", {}),
    )


def measure(episodes: Sequence[Episode], *, reward: Reward = outcome, name: str = "", seed: int = 0) -> Evaluation:
    """Score episodes that were already played; the samples of a task are scored as one group.

    Raises ``ValueError`` when tasks have different numbers of samples.
    """
    groups: dict[str, list[Episode]] = {}
    for episode in episodes:
        groups.setdefault(episode.task.id, []).append(episode)
    sizes = sorted({len(group) for group in groups.values()})
    if len(sizes) > 1:
        raise ValueError(f"tasks have {sizes[0]} to {sizes[-1]} samples; an evaluation needs the same number for each")
    rows: list[Row] = []
    for group in groups.values():
        paths = [episode.of_role(episode.trajectories[0].role)[0] for episode in group]
        scores = reward(group[0].task, paths)
        rows += [_row(episode, score) for episode, score in zip(group, scores, strict=True)]
    played = tuple(episode for group in groups.values() for episode in group)
    return Evaluation(name, tuple(rows), sizes[0] if sizes else 0, seed, played)


def evaluate(
    agent: Agent,
    policy: Policy | Mapping[str, Policy],
    world: World,
    tasks: Sequence[Task],
    *,
    num_generations: int = 1,
    seed: int = 0,
    temperature: float | None = None,
    reward: Reward = outcome,
    limits: Limits | None = None,
    done: Callable[[int, int], None] | None = None,
    name: str = "",
) -> Evaluation:
    """Play ``num_generations`` episodes of every task and return the evaluation.

    ``temperature`` None leaves it to the policy, 0 is greedy. ``done(finished, total)`` reports progress. Raises
    ``ValueError`` for an empty list, and for tasks that share an id (pairs are made by it).
    """
    if not tasks:
        raise ValueError("an evaluation needs at least one task; the list of tasks is empty")
    twice = [task for task, count in Counter(task.id for task in tasks).items() if count > 1]
    if twice:
        raise ValueError(f"{len(twice)} task ids appear more than once, for example {twice[0]!r}")
    episodes = drive(
        agent,
        tasks,
        world,
        policy,
        num_generations=num_generations,
        seed=seed,
        temperature=temperature,
        limits=limits,
        done=done,
    )
    return measure(episodes, reward=reward, name=name or world.name, seed=seed)


def arms(
    agent: Agent, policy: Policy | Mapping[str, Policy], world: World, tasks: Sequence[Task], **settings: Any
) -> dict[str, Evaluation]:
    """Evaluate the same tasks with and without tools, under the same seeds and verifier.

    Returns ``{"with tools": ..., "without tools": ...}``; ``settings`` are those of ``evaluate``. Compare the two with
    ``ferrule.evaluate.compare.compare``.
    """
    bare = [replace(task, tools=()) for task in tasks]
    name = settings.pop("name", "") or world.name
    return {
        WITH: evaluate(agent, policy, world, tasks, name=f"{name}, {WITH}", **settings),
        WITHOUT: evaluate(agent, policy, world, bare, name=f"{name}, {WITHOUT}", **settings),
    }
