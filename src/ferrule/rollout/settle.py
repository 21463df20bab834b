"""Flows outside of any episode: judges that are asked about episodes which were already played."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ferrule.core.flows import Flow, Session
from ferrule.core.records import Answer, Task
from ferrule.rollout.drive import Limits, Policies, drive
from ferrule.rollout.spent import Spent, added
from ferrule.worlds.session import Toolbox

__all__ = ["Settled", "settle"]

T = TypeVar("T")


@dataclass(frozen=True)
class Settled(Generic[T]):
    """What flows returned, in order, None for one that failed; ``problems`` says why, ``spent`` what each role took."""

    values: tuple[T | None, ...]
    problems: tuple[str, ...]
    spent: Mapping[str, Spent]


def settle(
    flows: Sequence[Flow[T]], policies: Policies, *, temperature: float | None = 0.0, seed: int = 0,
    limits: Limits | None = None,
) -> Settled[T]:  # fmt: skip
    """Carry flows out side by side, each once and without tools, and return what they return.

    Asks of all flows share batches. Flows that wait for nothing are settled as well.
    """
    values: list[T | None] = [None] * len(flows)

    def agent(task: Task, session: Session) -> Flow[Answer]:
        place = int(task.id)
        values[place] = yield from flows[place]
        return ""

    tasks = [Task(str(place), "") for place in range(len(flows))]
    settings: dict[str, Any] = {"temperature": temperature, "seed": seed, "limits": limits}
    episodes = drive(agent, tasks, Toolbox(()), policies, **settings) if tasks else []
    problems = tuple(episode.problem for episode in episodes)
    return Settled(tuple(values), problems, added(episode.spent for episode in episodes))
