"""The session that plain worlds share: tools over a state, budgets, text limits, and branching."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ferrule.core.arrays import nearest
from ferrule.core.flows import Session
from ferrule.core.records import Call, Observation, Task, Tool
from ferrule.tools.budget import Budget
from ferrule.tools.invoke import invoke
from ferrule.tools.sources import tool_source

__all__ = ["SAY", "ToolSession", "Toolbox", "offered"]

SAY = "say to the user"
"""Name of the call by which an agent hands the model's words to a user who is a part of the world.

A task whose ``meta["dialogue"]`` is true has such a user; ``content`` holds the words. The observation is what the user
says next; a terminal one ends the dialogue. The name is not among the session's tools: no model is offered it.
"""

Build = Callable[[Any], tuple[Tool, ...]]


def offered(tools: tuple[Tool, ...], task: Task) -> tuple[Tool, ...]:
    """Return the tools that ``task.tools`` allows (None allows all); an unknown name is refused."""
    if task.tools is None:
        return tools
    known = {tool.name: tool for tool in tools}
    for name in task.tools:
        if name not in known:
            raise ValueError(f"task {task.id!r} offers the tool {name!r}; {nearest(name, list(known))}")
    return tuple(known[name] for name in task.tools)


class ToolSession:
    """One episode over a mutable ``state``; ``build(state)`` returns the tools bound to it.

    ``state`` is branched by its own ``fork()`` when it has one and by ``copy.deepcopy`` otherwise, and closed by its
    own ``close()``. ``budget`` is charged before a call runs; ``limit`` is the longest observation in characters.
    ``final(state)`` is what verifiers may read; ``hears(state, words)`` answers for a user in the world (``SAY``); the
    tools are built anew after it, so that a turn may bring further ones. A branch refuses irreversible tools unless it
    was forked with permission. Calls from several threads are safe when the state is.
    """

    def __init__(
        self,
        task: Task,
        build: Build,
        state: Any = None,
        *,
        budget: Budget | None = None,
        limit: int = 2000,
        final: Callable[[Any], Mapping[str, Any]] | None = None,
        hears: Callable[[Any, str], Observation] | None = None,
        irreversible: bool = True,
    ) -> None:
        self.task = task
        self._build = build
        self._state = state
        self._budget = budget
        self._limit = limit
        self._final = final
        self._hears = hears
        self._irreversible = irreversible
        self._tools = offered(build(state), task)
        self._lock = threading.Lock()

    @property
    def tools(self) -> tuple[Tool, ...]:
        """Tools on offer."""
        return self._tools

    def act(self, call: Call) -> Observation:
        """Run one call: malformed, unknown, refused and failed calls come back as observations."""
        if self._hears is not None and call.name == SAY and not call.problem:
            heard = self._hears(self._state, str(call.arguments.get("content", "")))
            self._tools = offered(self._build(self._state), self.task)
            return heard
        tool = next((tool for tool in self._tools if tool.name == call.name), None)
        if tool is None and not call.problem:
            known = [tool.name for tool in self._tools]
            hint = nearest(call.name, known) if known else "no tools are on offer"
            return Observation(f"unknown tool {call.name!r}; {hint}", "unknown_tool")
        if call.problem or tool is None:
            return Observation(f"malformed call: {call.problem}", "malformed")
        if tool.effects == "irreversible" and not self._irreversible:
            text = f"{call.name!r} cannot be undone, so a branch of the episode must not call it"
            return Observation(text, "refused", data={"reason": "irreversible_in_branch"})
        with self._lock:
            reason = self._budget.charge(tool) if self._budget else None
        if reason:
            return Observation(reason, "refused")
        return invoke(tool, call, limit=self._limit)

    def fork(self, *, irreversible: bool = False) -> Session:
        """Return an independent session in the same state, budget included; ``irreversible`` permits such tools."""
        state = self._state.fork() if hasattr(self._state, "fork") else copy.deepcopy(self._state)
        with self._lock:
            budget = self._budget.copy() if self._budget else None
        return ToolSession(
            self.task,
            self._build,
            state,
            budget=budget,
            limit=self._limit,
            final=self._final,
            hears=self._hears,
            irreversible=irreversible,
        )

    def final(self) -> Mapping[str, Any]:
        """Return what the world says about its state."""
        return self._final(self._state) if self._final else {}

    def close(self) -> None:
        """Close the state, when it can be closed."""
        if hasattr(self._state, "close"):
            self._state.close()


@dataclass(frozen=True)
class Toolbox:
    """A world without tasks of its own: given tools for any prompt."""

    tools: tuple[Tool, ...]
    calls: int = 16
    name: str = "toolbox"

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return no tasks; make your own ``Task``."""
        return []

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session with the tools."""
        source = tool_source(self.tools)
        return ToolSession(task, source.build, source.start(), budget=Budget(total=self.calls))
