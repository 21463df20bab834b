"""A session that answers calls with observations that are known already, so that they stand in the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ferrule.core.acting import Place, act
from ferrule.core.flows import Session
from ferrule.core.records import Call, Observation, Tool
from ferrule.tools.effects import branch

__all__ = ["Told"]


class Told:
    """Answers each of the calls given, the very objects, with the observation beside it.

    Other calls go on to ``session``; without one they are refused. For agents that answer calls themselves:
    ``use(call, session=Told([(call, observation)]))``.
    """

    def __init__(self, pairs: Sequence[tuple[Call, Observation]], session: Session | None = None) -> None:
        self._pairs, self.session = tuple(pairs), session

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools of the session behind it."""
        return self.session.tools if self.session is not None else ()

    def act(self, call: Call, place: Place | None = None) -> Observation:
        """Return the observation that belongs to a call, or run it."""
        for known, observation in self._pairs:
            if known is call:
                return observation
        if self.session is None:
            return Observation(f"{call.name!r} has no answer here", "refused")
        return act(self.session, call, place)

    def act_at(self, call: Call, place: Place) -> Observation:
        """Run one call whose place in the episode is known."""
        return self.act(call, place)

    def fork(self, *, irreversible: bool = False) -> Told:
        """Return the same answers before a branch of the session."""
        return Told(self._pairs, None if self.session is None else branch(self.session, irreversible))

    def final(self) -> Mapping[str, Any]:
        """Return the final state of the session behind it."""
        return self.session.final() if self.session is not None else {}

    def close(self) -> None:
        """Close the session behind it."""
        if self.session is not None:
            self.session.close()
