"""Refining the tasks of a world one after the other, and checking once more what was accepted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

from ferrule.core.flows import Agent, Policy, World
from ferrule.core.records import Answer, Task
from ferrule.rewards.outcome import outcome
from ferrule.rollout.drive import drive, seed_of
from ferrule.rollout.record import Episode

__all__ = ["Audits", "RefinedTask", "refine_tasks"]


@runtime_checkable
class Audits(Protocol):
    """The extra power of a world that checks an answer once more, on cases that no episode has: a dataclass."""

    def audit(self, task: Task, answer: str) -> Any:
        """Return what an answer is worth, with ``wrong`` saying why it is none, empty where it is."""
        ...


@dataclass(frozen=True)
class RefinedTask:
    """What became of one task: its answer, the number of proposals, the outcome (0 to 1), and the world's audit.

    ``audit`` is None where the world makes none, or there is no answer.
    """

    task: str
    answer: Answer
    proposals: int
    outcome: float
    final: Mapping[str, Any]
    audit: Mapping[str, Any] | None
    episode: Episode


def refine_tasks(
    agent: Agent, policy: Policy | Mapping[str, Policy], world: World, tasks: Sequence[Task], *, seed: int = 0,
    temperature: float | None = None, done: Callable[[RefinedTask], None] | None = None,
) -> list[RefinedTask]:  # fmt: skip
    """Play the agent on every task, one at a time as timing wants it, and audit the answers.

    ``done`` is called with each result. An episode that failed has no answer and says why (``Episode.problem``).
    """
    rows = []
    for task in tasks:
        (episode,) = drive(agent, [task], world, policy, seed=seed_of(seed, task.id), temperature=temperature)
        path = episode.trajectories[0]
        solver = {turn.id for one in episode.of_role("solver") for turn in one.turns}
        audited = isinstance(world, Audits) and path.answer is not None and not episode.problem
        row = RefinedTask(
            task=task.id,
            answer=path.answer,
            proposals=len(solver),
            outcome=outcome(task, [path])[0].value,
            final=dict(path.final),
            audit=asdict(world.audit(task, path.answer)) if audited else None,  # type: ignore[attr-defined]
            episode=episode,
        )
        rows.append(row)
        if done is not None:
            done(row)
    return rows
