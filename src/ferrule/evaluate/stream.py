"""Tasks one batch after the other with a memory that keeps what was played: the learning curve of an agent.

Weights stay as they are. Within a batch all episodes recall from the same memory, so that the driver does not matter;
after it every episode is kept with its score, in the order of the tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, TypeAlias

from ferrule.agents.remembering import Put, Remembering, in_system
from ferrule.core.arrays import nearest
from ferrule.core.flows import Agent, Flow, Policy, World
from ferrule.core.records import Score, Task, Trajectory
from ferrule.evaluate.evaluate import Evaluation, evaluate
from ferrule.memory.memory import Memory, forgetful, frozen, shown_in, shuffled
from ferrule.rollout.settle import settle
from ferrule.rollout.spent import Spent, added

__all__ = ["CONTROLS", "Learn", "Point", "Streamed", "controlled", "stream"]

Learn: TypeAlias = Callable[[Task, Sequence[Trajectory], Sequence[Score]], Flow[Any]]
"""Learns from all episodes of a task at once, by asking models under roles of their own."""

CONTROLS: Mapping[str, Callable[[Memory, Sequence[Task], int], Memory]] = {
    "on": lambda memory, tasks, seed: memory,
    "off": lambda memory, tasks, seed: forgetful(),
    "frozen": lambda memory, tasks, seed: frozen(memory),
    "shuffled": lambda memory, tasks, seed: shuffled(memory, tasks, seed=seed),
}
"""What a memory is compared with: none, the same that keeps nothing more, and one that recalls for other tasks."""


def controlled(control: str, memory: Memory, tasks: Sequence[Task], *, seed: int = 0) -> Memory:
    """Return a memory as the name of a control changes it; raises ``ValueError`` naming what there is."""
    if control not in CONTROLS:
        raise ValueError(f"unknown control {control!r} of a memory; {nearest(control, list(CONTROLS))}")
    return CONTROLS[control](memory, tasks, seed)


@dataclass(frozen=True)
class Point:
    """One batch of a stream: how many tasks were played up to its end, its success, and what the memory was like.

    ``recalled`` is the share of its episodes that were shown an entry, ``counts`` what the memory says after it.
    """

    tasks: int
    success: float
    recalled: float
    counts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Streamed:
    """The evaluation of all tasks together, a point per batch, and what learning took by role (``spent``)."""

    evaluation: Evaluation
    points: tuple[Point, ...]
    spent: Mapping[str, Spent] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON data: that of the evaluation, with the ``curve`` and what learning took."""
        curve = [
            {"tasks": point.tasks, "success": point.success, "recalled": point.recalled, **point.counts}
            for point in self.points
        ]
        spent = {role: {"asks": took.asks, "tokens": took.tokens} for role, took in self.spent.items()}
        return {**self.evaluation.as_dict(), "curve": curve, "learning": spent}


def stream(
    agent: Agent,
    policy: Policy | Mapping[str, Policy],
    world: World,
    tasks: Sequence[Task],
    memory: Memory,
    *,
    batch: int = 8,
    learn: Learn | None = None,
    put: Put = in_system,
    seed: int = 0,
    **settings: Any,
) -> Streamed:
    """Play tasks in their order, ``batch`` at a time, with a memory that keeps each batch before the next one.

    ``learn`` is given the episodes of each task with their scores after they were kept. ``settings`` are those of
    ``evaluate``. Raises ``ValueError`` for a batch without tasks.
    """
    if batch < 1:
        raise ValueError(f"batch is {batch}; the least is 1")
    player = Remembering(agent, memory, put)
    parts: list[Evaluation] = []
    points: list[Point] = []
    spent: dict[str, Spent] = {}
    for start in range(0, max(len(tasks), 1), batch):
        part = evaluate(player, policy, world, tasks[start : start + batch], seed=seed, **settings)
        played = list(zip(part.episodes, (Score(row.score) for row in part.rows), strict=True))
        for episode, score in played:
            memory.keep(episode, [score])
        if learn is not None:
            spent = added([spent, _learned(learn, played, policy, seed)])
        parts.append(part)
        recalled = fmean(bool(shown_in(episode.trajectories[0])) for episode in part.episodes)
        counts = memory.counts() if memory.counts is not None else {}
        points.append(Point(min(start + batch, len(tasks)), part.success, recalled, dict(counts)))
    rows = tuple(row for part in parts for row in part.rows)
    episodes = tuple(episode for part in parts for episode in part.episodes)
    whole = Evaluation(parts[0].name, rows, parts[0].num_generations, seed, episodes)
    return Streamed(whole, tuple(points), spent)


def _learned(learn: Learn, played: Sequence[tuple[Any, Score]], policy: Any, seed: int) -> Mapping[str, Spent]:
    """Let ``learn`` see each task's episodes together, one task after the other; return what it took."""
    groups: dict[str, list[tuple[Any, Score]]] = {}
    for episode, score in played:
        groups.setdefault(episode.task.id, []).append((episode, score))
    spent: list[Mapping[str, Spent]] = []
    for group in groups.values():
        paths = [episode.of_role(episode.trajectories[0].role)[0] for episode, _ in group]
        settled = settle([learn(group[0][0].task, paths, [score for _, score in group])], policy, seed=seed)
        if settled.problems[0]:
            raise RuntimeError(f"learning from task {group[0][0].task.id!r} failed: {settled.problems[0]}")
        spent.append(settled.spent)
    return added(spent)
