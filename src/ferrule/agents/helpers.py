"""Agents as tools of another agent: a call hands a request to a helper, whose own turns lie in the record.

Source: "Tool Learning with Foundation Models" (paper 03): each tool an agent of its own, called in words.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ferrule.agents.flow import Requests, placed, relayed, together
from ferrule.core.arrays import nearest
from ferrule.core.flows import Agent, Ask, Flow, Leaves, Session, Use
from ferrule.core.records import Call, Observation, Task, Tool, Turn
from ferrule.tools.invoke import Malformed, arguments
from ferrule.worlds.added import Added
from ferrule.worlds.only import Only

__all__ = ["Helper", "WithHelpers", "child_turns"]

_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"request": {"type": "string", "description": "what the helper should do, in words"}},
    "required": ["request"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Helper:
    """An agent as a tool: the tool's ``name`` and ``description``, and the ``tools`` of the session that it may use.

    ``tools`` of None are all. A call's ``request`` is the helper's task; its answer is what the call returns.
    """

    name: str
    description: str
    agent: Agent
    tools: tuple[str, ...] | None = None


@dataclass(frozen=True)
class WithHelpers:
    """``agent`` with helpers among its tools; of the session's own tools it has those in ``tools`` (None: all).

    A helper is played by the policy of the role that bears its name, where it asks as ``solver``; what it takes stands
    under that role in ``Episode.spent``. Its turns are trajectories of that role: ``child_turns`` finds those of one
    call. Calls of one reply are played side by side, on the session of the episode. A helper without an answer is an
    observation of status ``error``. Raises ``ValueError`` for two helpers of one name.
    """

    agent: Agent
    helpers: tuple[Helper, ...]
    tools: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse no helpers, two of one name, and the name of the agent's own role."""
        names = [helper.name for helper in self.helpers]
        if not names:
            raise ValueError("WithHelpers.helpers is empty; give at least one")
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"WithHelpers.helpers has two named {name!r}; give one of them another name")
        if "solver" in names:
            raise ValueError("a helper cannot be named 'solver', which is the role of the agent that calls it")

    def __call__(self, task: Task, session: Session) -> Flow[Any]:
        """Play one episode."""
        for name in self.tools or ():
            if name not in (known := [tool.name for tool in session.tools]):
                raise ValueError(f"WithHelpers.tools names {name!r}; {nearest(name, known)}")
        results: dict[str, list[Observation]] = {}
        count = iter(range(1_000_000))
        added = tuple(
            Tool(helper.name, helper.description, _SCHEMA, partial(_result, results, helper.name), effects="write")
            for helper in self.helpers
        )
        offered = Added(Only(session, self.tools), added)

        def change(requests: Requests) -> Flow[Requests]:
            yield from self._play(task, session, requests, results, count, {tool.name: tool for tool in added})
            return tuple(placed(request, offered) for request in requests)

        return (yield from relayed(self.agent(task, offered), change))

    def _play(
        self, task: Task, session: Session, requests: Requests, results: dict[str, list[Observation]], count: Any,
        added: Mapping[str, Tool],
    ) -> Flow[None]:  # fmt: skip
        """Play the calls of helpers in requests, side by side."""
        known = {helper.name: helper for helper in self.helpers}
        flows: list[Flow[Observation]] = []
        keys: list[str] = []
        for call in (call for request in requests if isinstance(request, Use) for call in request.calls):
            request = _request(added[call.name], call) if call.name in known else None
            if request is not None:
                keys.append(_key(call.name, request))
                flows.append(_played(known[call.name], task, session, request, str(next(count))))
        if flows:
            for key, observation in zip(keys, (yield from together(*flows)), strict=True):
                results.setdefault(key, []).append(observation)


def _request(tool: Tool, call: Call) -> str | None:
    """Return the request of a call as its tool will read it, repaired where it has to be; None for no valid call."""
    try:
        return None if call.problem else str(arguments(tool, call.arguments)[0]["request"])
    except Malformed:
        return None


def _key(name: str, request: str) -> str:
    return json.dumps([name, request])


def _result(results: Mapping[str, list[Observation]], name: str, request: str) -> Observation:
    waiting = results.get(_key(name, request))
    return waiting.pop(0) if waiting else Observation(f"{name} was not asked", "error")


def _played(helper: Helper, task: Task, session: Session, request: str, number: str) -> Flow[Observation]:
    """Play one call of a helper and return what the call returns."""
    inside = Only(session, helper.tools)
    child = Task(f"{task.id}/{helper.name}", request, world=task.world, tools=helper.tools)

    def change(requests: Requests) -> Requests:
        return tuple(_signed(placed(each, inside), helper.name, number) for each in requests)

    answer = yield from relayed(helper.agent(child, inside), change)
    if isinstance(answer, Leaves):
        answer = next((leaf.answer for leaf in answer.leaves), None)
    data = {"helper": helper.name, "child": number}
    if answer is None:
        return Observation(f"{helper.name} has no answer", "error", data=data)
    return Observation(answer, data=data)


def _signed(request: Ask | Use, role: str, number: str) -> Ask | Use:
    """Return a request under the role of a helper, with the number of its call in the notes."""
    if isinstance(request, Use):
        return request
    inner = request.notes.get("child")
    notes = {**request.notes, "child": number if inner is None else f"{number}.{inner}"}
    return replace(request, role=role if request.role == "solver" else request.role, notes=notes)


def child_turns(turns: Iterable[Turn], observation: Observation, within: Turn | None = None) -> Sequence[Turn]:
    """Return the turns of the helper that gave an observation, those of helpers that it called included.

    ``within`` is the turn that made the call, where a helper itself made it. Raises ``ValueError`` for an observation
    that no helper gave.
    """
    data = observation.data
    if not isinstance(data, Mapping) or "child" not in data:
        raise ValueError("the observation is not that of a helper")
    above = within.notes.get("child") if within is not None else None
    number = data["child"] if above is None else f"{above}.{data['child']}"
    return [turn for turn in turns if f"{turn.notes.get('child', '')}.".startswith(f"{number}.")]
