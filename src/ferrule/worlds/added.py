"""A session with further tools beside its own, which need nothing of the world, or make calls of the session."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ferrule.core.acting import Place, act
from ferrule.core.flows import Session
from ferrule.core.records import Call, Observation, Tool
from ferrule.tools.effects import branch
from ferrule.tools.invoke import invoke

__all__ = ["Added", "OnSession"]


@dataclass(frozen=True)
class OnSession:
    """What an added tool runs that makes calls of the session it was added to: ``play(session, call, place)``.

    The place in the episode, where it is known, goes on to the calls it makes. Elsewhere such a tool is refused.
    """

    play: Callable[[Session, Call, Place | None], Observation]

    def __call__(self, **arguments: Any) -> Observation:
        """Refuse a call without a session."""
        return Observation("this tool makes calls of a session, and there is none", "refused")


@dataclass
class Added:
    """``session`` with the tools ``added`` beside its own; one takes the place of a tool of the session by its name.

    Branches share the added tools, which therefore keep no state of an episode.
    """

    session: Session
    added: tuple[Tool, ...]

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools on offer now."""
        names = [tool.name for tool in self.added]
        return (*(tool for tool in self.session.tools if tool.name not in names), *self.added)

    def act(self, call: Call, place: Place | None = None) -> Observation:
        """Run one call."""
        tool = next((tool for tool in self.added if tool.name == call.name), None)
        if tool is None:
            return act(self.session, call, place)
        if isinstance(tool.run, OnSession) and not call.problem:
            return tool.run.play(self.session, call, place)
        return invoke(tool, call)

    def act_at(self, call: Call, place: Place) -> Observation:
        """Run one call whose place in the episode is known."""
        return self.act(call, place)

    def fork(self, *, irreversible: bool = False) -> Added:
        """Return an independent branch with the same tools."""
        return Added(branch(self.session, irreversible), self.added)

    def final(self) -> Mapping[str, Any]:
        """Return the final state of the wrapped session."""
        return self.session.final()

    def close(self) -> None:
        """Close the wrapped session."""
        self.session.close()
