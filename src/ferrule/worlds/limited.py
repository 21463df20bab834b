"""A session that no longer offers a tool whose budget is spent.

A world's own budget refuses calls and goes on listing the tools. Here the list itself shrinks: what a spent tool costs
is no longer there to pay, and once nothing but the answer is left, no tool is on offer. Source: "Rethinking
Reinforcement Fine-Tuning in LVLM" (TA-MDP, 41): at most ``D`` calls, after which only answering is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from ferrule.core.acting import Place, act
from ferrule.core.flows import Session, World
from ferrule.core.records import Call, Observation, Task, Tool
from ferrule.tools.budget import Budget
from ferrule.tools.effects import branch
from ferrule.worlds.wrap import Wrapped

__all__ = ["Limited", "limited"]


class Limited:
    """``session`` with a ``budget`` in front: a tool is on offer while the budget allows another call of it.

    Terminal tools are always on offer. A call of a tool that is no longer on offer is refused, with the reason; calls
    that cannot be read or name no tool cost nothing, one with invalid arguments costs as much as any. An ``Ask``
    carries the tools on offer at its turn, so servers and agents that look tools up are given the shorter list; a
    prompt that begins with the list keeps it, since text that a model was fed never changes. A server that lays the
    whole prompt out anew and returns its ids (``Endpoint`` with ``token_ids``) changes it, and such an episode ends as
    drifted; learn from policies that are fed ids.
    """

    def __init__(self, session: Session, budget: Budget) -> None:
        self.session, self.budget = session, budget
        self._offered: tuple[Tool, ...] = ()

    @property
    def tools(self) -> tuple[Tool, ...]:
        """Tools on offer now; the same tuple as long as they stay the same."""
        offered = tuple(tool for tool in self.session.tools if not self.budget.refusal(tool))
        if offered != self._offered:
            self._offered = offered
        return self._offered

    def act(self, call: Call, place: Place | None = None) -> Observation:
        """Charge one call and run it inside."""
        tool = None if call.problem else next((tool for tool in self.session.tools if tool.name == call.name), None)
        reason = self.budget.charge(tool) if tool is not None else None
        return Observation(reason, "refused") if reason else act(self.session, call, place)

    def act_at(self, call: Call, place: Place) -> Observation:
        """Run one call whose place in the episode is known."""
        return self.act(call, place)

    def fork(self, *, irreversible: bool = False) -> Limited:
        """Return an independent branch that has spent as much."""
        return Limited(branch(self.session, irreversible), self.budget.copy())

    def final(self) -> Mapping[str, Any]:
        """Return the final state of the wrapped session."""
        return self.session.final()

    def close(self) -> None:
        """Close the wrapped session."""
        self.session.close()


def _limit(session: Session, task: Task, seed: int, *, budget: Budget) -> Session:
    return Limited(session, budget.copy())


def limited(world: World, calls: float | None = None, *, per_tool: Mapping[str, int] | None = None) -> Wrapped:
    """Return ``world`` with at most ``calls`` (in units of ``Tool.cost``) an episode, and ``per_tool`` by name.

    Tools whose budget is spent are no longer on offer; see ``Limited``. Names are those that ``world`` offers, its
    aliases where it has any; a name that a session does not offer limits nothing there. Raises ``ValueError`` without
    any limit and for one below 0.
    """
    if calls is None and not per_tool:
        raise ValueError("limited(world) would do nothing; give calls or per_tool")
    return Wrapped(world, partial(_limit, budget=Budget(calls, per_tool)))
