"""Tools that appear in the middle of an episode.

Tools arrive with an observation (``ferrule.tools.catalogue.arriving``): its text tells the model of them, so that a
prompt which began without them stays as it was. Calls of later turns reach them; one before is of an unknown tool.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ferrule.core.acting import Place, act
from ferrule.core.arrays import nearest
from ferrule.core.flows import Session
from ferrule.core.records import Call, Observation, Task, Tool, Trajectory
from ferrule.tools.catalogue import Arrived
from ferrule.tools.effects import branch
from ferrule.tools.schema import as_openai
from ferrule.tools.sources import tool_source
from ferrule.worlds.session import ToolSession

__all__ = ["Growing", "arrivals"]

_AT_ONCE = -1
_LONGEST = 20_000
"""Longest observation of a tool that arrived, in characters: a list of tools is longer than most results."""


@dataclass(frozen=True)
class _Entry:
    """A tool that arrived, the session its calls run in, and the turn with which it did."""

    tool: Tool
    session: Session
    turn: int


class Growing:
    """``session`` in which observations may bring tools, and ``tools`` that are on offer beside its own from the start.

    Tools that arrive with a call of one turn answer calls of later turns (``Place.turn``); where no place is known, the
    next call. Each observation that brings tools has them on a state of their own, which is branched and closed with
    the session. One that arrives under the name of an earlier one takes its place. The name of a tool of ``session`` is
    refused, as an observation of an error, unless ``hidden``: then tools of ``session`` are on offer only when an
    observation has brought their names (terminal ones always are), and calls of them run in ``session``. ``also`` maps
    earlier names to those of tools that took their place: calls under them run, and are not offered, unless a tool of
    the name is there. Raises ``ValueError`` for ``tools`` under names of the session's.
    """

    def __init__(
        self, session: Session, tools: Sequence[Tool] = (), *, hidden: bool = False,
        also: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.session, self.hidden, self.also = session, hidden, dict(also or {})
        self._entries: dict[str, tuple[_Entry, ...]] = {}
        self._offered: tuple[Tool, ...] = ()
        self._inner: tuple[tuple[Tool, ...], dict[str, Tool], tuple[Tool, ...]] = ((), {}, ())
        self._lock = threading.Lock()
        problem = self._admit(tools, _AT_ONCE) if tools else ""
        if problem:
            raise ValueError(problem)

    @property
    def tools(self) -> tuple[Tool, ...]:
        """Tools on offer to the next turn; the same tuple as long as they stay the same."""
        with self._lock:
            offered = (*self._own()[1], *(entries[-1].tool for entries in self._entries.values()))
            if offered != self._offered:
                self._offered = offered
            return self._offered

    def _own(self) -> tuple[dict[str, Tool], tuple[Tool, ...]]:
        """Return the tools of the session by name, and those of them that are always on offer."""
        tools = self.session.tools
        if tools is not self._inner[0]:  # a session may have very many
            always = tuple(tool for tool in tools if tool.terminal or not self.hidden)
            self._inner = (tools, {tool.name: tool for tool in tools}, always)
        return self._inner[1:]

    def act(self, call: Call, place: Place | None = None) -> Observation:
        """Run one call, and put the tools on offer that its observation brings."""
        if call.name in self.also:
            with self._lock:
                known = call.name in self._entries or call.name in self._own()[0]
            call = call if known else replace(call, name=self.also[call.name])
        observation = self._run(call, place)
        if not isinstance(observation.data, Arrived):
            return observation
        arrived = observation.data
        turn = _AT_ONCE if place is None else place.turn
        with self._lock:
            problem = self._admit(arrived.tools, turn)
        if problem:
            return Observation(problem, "error")
        shown = [as_openai(tool)["function"] for tool in arrived.tools]
        return replace(observation, data={**arrived.known, "arrived": shown})

    def act_at(self, call: Call, place: Place) -> Observation:
        """Run one call whose place in the episode is known."""
        return self.act(call, place)

    def _run(self, call: Call, place: Place | None) -> Observation:
        with self._lock:
            entries = () if call.problem else self._entries.get(call.name, ())
            own = self._own()[0].get(call.name)
        ready = [entry for entry in entries if place is None or entry.turn < place.turn]
        if ready:
            return act(ready[-1].session, call, place)
        concealed = self.hidden and own is not None and not own.terminal
        if entries or (concealed and not call.problem):
            known = [tool.name for tool in self.tools if tool.name != call.name]
            hint = nearest(call.name, known) if known else "no tools are on offer"
            return Observation(f"unknown tool {call.name!r}; {hint}", "unknown_tool")
        return act(self.session, call, place)

    def _admit(self, tools: Sequence[Tool], turn: int) -> str:
        """Put tools on offer to later turns; return why not, or an empty text."""
        own = self._own()[0]
        tools = [own.get(tool.name, tool) for tool in tools] if self.hidden else tools
        held = {name: entries[-1].tool for name, entries in self._entries.items()}
        fresh = [tool for tool in tools if held.get(tool.name) != tool and (self.hidden or own.get(tool.name) != tool)]
        taken = [tool.name for tool in fresh if tool.name in own and own[tool.name] != tool]
        if taken:
            return f"a tool {taken[0]!r} is on offer already, and another one cannot take its name"
        brought = tuple(tool for tool in fresh if tool.name not in own)
        session = self.session
        if brought:
            source = tool_source(brought)
            session = ToolSession(Task("arrived", ""), source.build, source.start(), limit=_LONGEST)
        for tool in fresh:
            entry = _Entry(tool, self.session if tool.name in own else session, turn)
            self._entries[tool.name] = (*self._entries.get(tool.name, ()), entry)
        return ""

    def fork(self, *, irreversible: bool = False) -> Growing:
        """Return an independent branch in which the same tools have arrived, on branches of their states."""
        with self._lock:
            twin = Growing(branch(self.session, irreversible), hidden=self.hidden, also=self.also)
            inner: dict[int, Session] = {id(self.session): twin.session}
            for name, entries in self._entries.items():
                for entry in entries:
                    if id(entry.session) not in inner:
                        inner[id(entry.session)] = branch(entry.session, irreversible)
                twin._entries[name] = tuple(replace(entry, session=inner[id(entry.session)]) for entry in entries)
        return twin

    def final(self) -> Mapping[str, Any]:
        """Return the final state of the wrapped session."""
        return self.session.final()

    def release(self) -> None:
        """Close the states of the tools that arrived, and nothing else."""
        for entries in self._entries.values():
            for entry in entries:
                if entry.session is not self.session:
                    entry.session.close()

    def close(self) -> None:
        """Close the wrapped session and the states of the tools that arrived."""
        self.release()
        self.session.close()


def arrivals(trajectory: Trajectory) -> dict[str, int]:
    """Return from which turn on (its place in the trajectory) each tool could be called that arrived in the episode.

    Tools that were on offer from the start are not among them.
    """
    first: dict[str, int] = {}
    for place, turn in enumerate(trajectory.turns, 1):
        for observation in turn.observations:
            known = observation.data if isinstance(observation.data, Mapping) else {}
            for schema in known.get("arrived", ()):
                first.setdefault(schema["name"], place)
    return first
