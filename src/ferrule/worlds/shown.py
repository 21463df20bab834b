"""Sessions whose observations are worded anew before the model reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from ferrule.core.acting import Place, act
from ferrule.core.flows import Session, World
from ferrule.core.records import Call, Observation, Task, Tool
from ferrule.tools.effects import branch
from ferrule.worlds.wrap import Wrapped

__all__ = ["Show", "Shown", "shown"]

Show: TypeAlias = Callable[[Observation], Observation]
"""Returns the observation that takes the place of another in the record and before the model."""


class Shown:
    """``session`` whose every observation goes through ``show``; what it raises becomes an observation of an error."""

    def __init__(self, session: Session, show: Show) -> None:
        self.session, self.show = session, show

    @property
    def tools(self) -> tuple[Tool, ...]:
        """Tools of the wrapped session."""
        return self.session.tools

    def act(self, call: Call, place: Place | None = None) -> Observation:
        """Run one call and return what ``show`` makes of its observation."""
        return self.show(act(self.session, call, place))

    def act_at(self, call: Call, place: Place) -> Observation:
        """Run one call whose place in the episode is known."""
        return self.act(call, place)

    def fork(self, *, irreversible: bool = False) -> Shown:
        """Return an independent branch that shows the same."""
        return Shown(branch(self.session, irreversible), self.show)

    def final(self) -> Mapping[str, Any]:
        """Return the final state of the wrapped session."""
        return self.session.final()

    def close(self) -> None:
        """Close the wrapped session."""
        self.session.close()


def shown(world: World, show: Show) -> Wrapped:
    """Return ``world`` whose observations go through ``show``."""

    def wrap(session: Session, task: Task, seed: int) -> Session:
        return Shown(session, show)

    return Wrapped(world, wrap)
