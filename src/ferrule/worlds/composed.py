"""Composite tools in a session: one call makes several, and the record has them all.

Source: "Evolving Medical Imaging Agents via Experience-driven Self-skill Discovery" (28).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

from ferrule.core.acting import Place, act
from ferrule.core.flows import Session
from ferrule.core.records import Call, Effect, Observation, Tool
from ferrule.tools.effects import result_of
from ferrule.tools.forge_composite import Composite, RunLog, schema_of
from ferrule.tools.invoke import Malformed, arguments
from ferrule.tools.schema import json_differs
from ferrule.worlds.added import Added, OnSession

__all__ = ["composite_tool", "needless_steps", "replayed", "with_composites"]

_RANKS: dict[Effect, int] = {"read": 0, "write": 1, "irreversible": 2}


def composite_tool(composite: Composite, tools: Sequence[Tool]) -> Tool:
    """Return a composite as a tool to be added to sessions that offer ``tools`` (``ferrule.worlds.added.Added``).

    A call makes its steps in the session, so that budgets and rules see each of them; ``Observation.data`` holds the
    ``result`` of the last and the inner ``calls``. A step that does not run well ends it with that step's status.
    Raises ``ValueError`` for a step that is not on offer.
    """
    schema, known = schema_of(composite, tools), {tool.name: tool for tool in tools}
    inner = [known[step.tool] for step in composite.steps]
    described = Tool(
        composite.name,
        composite.description,
        schema,
        OnSession(lambda session, call, place: _played(composite, described, session, call, place)),
        cost=sum(tool.cost for tool in inner),
        effects=max((tool.effects for tool in inner), key=_RANKS.__getitem__),
        seconds=sum(tool.seconds for tool in inner),
        output=inner[-1].output,
    )
    return described


def _played(composite: Composite, described: Tool, session: Session, call: Call, place: Place | None) -> Observation:
    """Make the calls of a composite in a session."""
    try:
        given, repairs = arguments(described, call.arguments)
    except Malformed as problem:
        return Observation(str(problem), "malformed")
    made: list[dict[str, Any]] = []
    try:
        *_, last = composite.play(given, _stepping(session, made, place))
    except (LookupError, TypeError) as problem:
        text = f"what {made[-1]['name']} returned lacks what the next step needs: {problem}"
        return Observation(text, "error", data={"result": None, "calls": made}, repairs=repairs)
    failed = last.status != "ok"
    text = f"{made[-1]['name']}: {last.text}" if failed else last.text
    result = None if failed else made[-1]["result"]
    return Observation(text, last.status, data={"result": result, "calls": made}, repairs=repairs)


def _stepping(
    session: Session, made: list[dict[str, Any]], place: Place | None
) -> Callable[[Call], tuple[Observation, Any]]:
    outputs = {tool.name: tool.output for tool in session.tools}

    def step(call: Call) -> tuple[Observation, Any]:
        observation = act(session, call, place)
        result = result_of(observation, outputs.get(call.name)) if observation.status == "ok" else None
        entry = {"name": call.name, "arguments": dict(call.arguments), "status": observation.status}
        made.append({**entry, "text": observation.text, "result": result})
        return observation, result

    return step


def with_composites(session: Session, composites: Sequence[Composite]) -> Added:
    """Return a session with composites beside its tools."""
    return Added(session, tuple(composite_tool(composite, session.tools) for composite in composites))


def replayed(composite: Composite, runs: Sequence[RunLog], start: Callable[[RunLog], Session]) -> float:
    """Return the share of verified runs with the sequence in which the composite gives the same last result.

    ``start(run)`` opens the world as it stood before the run; the calls before the sequence are made first.
    """
    same = []
    for run, place in _places(composite, runs):
        calls = run.calls[place : place + len(composite.steps)]
        with closing(start(run)) as session:
            for call, _ in run.calls[:place]:
                act(session, call)
            outcome = with_composites(session, (composite,)).act(Call(composite.name, _given(composite, calls)))
        given = outcome.data["result"] if outcome.status == "ok" else None
        same.append(outcome.status == "ok" and not json_differs(given, result_of(calls[-1][1])))
    return sum(same) / len(same) if same else 0.0


def _places(composite: Composite, runs: Sequence[RunLog]) -> Iterator[tuple[RunLog, int]]:
    """Yield the verified runs that have the sequence of a composite, each with the first place where it stands."""
    names = tuple(step.tool for step in composite.steps)
    for run in runs:
        place = next((k for k in range(len(run.calls)) if run.names[k : k + len(names)] == names), None)
        if run.verified and place is not None:
            yield run, place


def _given(composite: Composite, calls: Sequence[tuple[Call, Observation]]) -> dict[str, Any]:
    """Return what a run gave for the parameters of a composite."""
    given: dict[str, Any] = {}
    for step, (call, _) in zip(composite.steps, calls, strict=True):
        for name, source in step.arguments.items():
            if source.parameter and name in call.arguments:
                given.setdefault(source.parameter, call.arguments[name])
    return given


def needless_steps(composite: Composite, runs: Sequence[RunLog], start: Callable[[RunLog], Session]) -> tuple[int, ...]:
    """Return the steps without which the composite gives the same last result in every run, so that they do nothing.

    A step that a later one takes something from is needed, and so is the last.
    """
    used = {source.step for step in composite.steps for source in step.arguments.values() if source.step is not None}
    free = [number for number in range(len(composite.steps) - 1) if number not in used]
    return tuple(number for number in free if _idle(composite, number, runs, start))


def _idle(composite: Composite, number: int, runs: Sequence[RunLog], start: Callable[[RunLog], Session]) -> bool:
    """Say whether the last result comes without one step as well, in all runs."""
    same = []
    for run, place in _places(composite, runs):
        end = place + len(composite.steps)
        with closing(start(run)) as session:
            outcomes = [act(session, call) for k, (call, _) in enumerate(run.calls[:end]) if k != place + number]
        wanted = result_of(run.calls[end - 1][1])
        same.append(outcomes[-1].status == "ok" and not json_differs(result_of(outcomes[-1]), wanted))
    return bool(same) and all(same)
