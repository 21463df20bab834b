"""Running one call in a session, whatever the session does, and telling it where in the episode the call stands."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ferrule.core.flows import Session
from ferrule.core.records import Call, Observation

__all__ = ["Place", "Placed", "act"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where in its episode a call stands: after how many asks (``turn``), and its number among the calls since then."""

    turn: int
    position: int


@runtime_checkable
class Placed(Protocol):
    """An extra power of a session: its calls say where they stand. Drivers call it in place of ``Session.act``."""

    def act_at(self, call: Call, place: Place) -> Observation:
        """Run one call; every failure is an observation."""
        ...


def act(session: Session, call: Call, place: Place | None = None) -> Observation:
    """Run one call in a session, by its ``act_at`` where it has one and the place is known. Never raises.

    A session around another passes its own calls on through this, so that the place reaches the innermost. What a
    session raises, and an answer other than an ``Observation``, becomes an observation of status ``error``.
    """
    began = time.perf_counter()
    try:
        observation: object = (
            session.act_at(call, place) if place is not None and isinstance(session, Placed) else session.act(call)
        )
    except (Exception, SystemExit) as error:
        return Observation(f"{type(error).__name__}: {error}", "error", seconds=time.perf_counter() - began)
    if isinstance(observation, Observation):
        return observation
    return Observation(f"the session answered with {type(observation).__name__}, not Observation", "error")
