"""A session that offers some of its tools: to a helper that has a few, or to an agent that leaves them to helpers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ferrule.core.acting import Place, act
from ferrule.core.arrays import nearest
from ferrule.core.flows import Session
from ferrule.core.records import Call, Observation, Tool
from ferrule.tools.effects import branch

__all__ = ["Only"]


@dataclass(frozen=True)
class Only:
    """``session`` with the tools of these ``names`` alone (None: all), on the same state."""

    session: Session
    names: tuple[str, ...] | None = None

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools on offer now."""
        return tuple(tool for tool in self.session.tools if self.names is None or tool.name in self.names)

    def act(self, call: Call, place: Place | None = None) -> Observation:
        """Run one call; a tool that is not on offer here is unknown."""
        known = [tool.name for tool in self.tools]
        if self.names is not None and not call.problem and call.name not in known:
            hint = nearest(call.name, known) if known else "no tools are on offer"
            return Observation(f"unknown tool {call.name!r}; {hint}", "unknown_tool")
        return act(self.session, call, place)

    def act_at(self, call: Call, place: Place) -> Observation:
        """Run one call whose place in the episode is known."""
        return self.act(call, place)

    def fork(self, *, irreversible: bool = False) -> Only:
        """Return an independent branch with the same tools."""
        return Only(branch(self.session, irreversible), self.names)

    def final(self) -> Mapping[str, object]:
        """Return the final state of the wrapped session."""
        return self.session.final()

    def close(self) -> None:
        """Close the wrapped session."""
        self.session.close()
