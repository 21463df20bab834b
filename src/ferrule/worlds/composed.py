"""A session with composite tools: one call makes several, and the record has them all.

Source: "Evolving Medical Imaging Agents via Experience-driven Self-skill Discovery" (28).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from ferrule.core.acting import Place, act
from ferrule.core.flows import Session
from ferrule.core.records import Call, Effect, Observation, Tool
from ferrule.tools.effects import branch, result_of
from ferrule.tools.forge_composite import Composite, RunLog, schema_of
from ferrule.tools.invoke import Malformed, arguments
from ferrule.tools.schema import json_differs

__all__ = ["WithComposites", "needless_steps", "replayed"]


class WithComposites:
    """A session that offers composites beside its tools.

    A call of a composite makes its steps in the wrapped session, so that budgets and rules see each of them;
    ``Observation.data`` holds the ``result`` of the last and the inner ``calls``. A step that does not run well ends
    it with that step's status. Raises ``ValueError`` for a composite with a step that is not on offer, and for one that
    has the name of a tool.
    """

    def __init__(self, session: Session, composites: Sequence[Composite]) -> None:
        self.session, self.composites = session, tuple(composites)
        names = [tool.name for tool in session.tools]
        for composite in self.composites:
            if composite.name in names:
                raise ValueError(f"a tool is called {composite.name!r} already; give the composite another name")
            names.append(composite.name)
        self._offered = tuple(self._tool(composite) for composite in self.composites)

    def _tool(self, composite: Composite) -> Tool:
        known = {tool.name: tool for tool in self.session.tools}
        schema = schema_of(composite, self.session.tools)
        inner = [known[step.tool] for step in composite.steps]
        ranks: dict[Effect, int] = {"read": 0, "write": 1, "irreversible": 2}
        effects = max((tool.effects for tool in inner), key=ranks.__getitem__)
        seconds, cost = sum(tool.seconds for tool in inner), sum(tool.cost for tool in inner)

        def run(**given: Any) -> Observation:
            return self.act(Call(composite.name, given))

        return Tool(
            composite.name, composite.description, schema, run, effects=effects, seconds=seconds, cost=cost,
            output=inner[-1].output,
        )  # fmt: skip

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools of the wrapped session and the composites."""
        return (*self.session.tools, *self._offered)

    def act(self, call: Call, place: Place | None = None) -> Observation:
        """Run one call: a composite step by step, anything else in the wrapped session."""
        at = next((k for k, one in enumerate(self.composites) if one.name == call.name), None)
        if at is None or call.problem:
            return act(self.session, call, place)
        try:
            given, repairs = arguments(self._offered[at], call.arguments)
        except Malformed as problem:
            return Observation(str(problem), "malformed")
        made: list[dict[str, Any]] = []
        try:
            *_, last = self.composites[at].play(given, self._stepping(made, place))
        except (LookupError, TypeError) as problem:
            text = f"after {made[-1]['name']} there is not what the next step needs: {problem}"
            last = Observation(text, "error")
        result = made[-1]["result"] if made and last.status == "ok" else None
        where = "" if last.status == "ok" else f"{made[-1]['name']}: " if made else ""
        return Observation(
            f"{where}{last.text}", last.status, data={"result": result, "calls": made}, repairs=repairs
        )  # fmt: skip

    def _stepping(self, made: list[dict[str, Any]], place: Place | None) -> Callable[[Call], tuple[Observation, Any]]:
        outputs = {tool.name: tool.output for tool in self.session.tools}

        def step(call: Call) -> tuple[Observation, Any]:
            observation = act(self.session, call, place)
            result = result_of(observation, outputs.get(call.name)) if observation.status == "ok" else None
            entry = {"name": call.name, "arguments": dict(call.arguments), "status": observation.status}
            made.append({**entry, "text": observation.text, "result": result})
            return observation, result

        return step

    def act_at(self, call: Call, place: Place) -> Observation:
        """Run one call whose place in the episode is known."""
        return self.act(call, place)

    def fork(self, *, irreversible: bool = False) -> WithComposites:
        """Return an independent branch with the same composites."""
        return WithComposites(branch(self.session, irreversible), self.composites)

    def final(self) -> Mapping[str, Any]:
        """Return the final state of the wrapped session."""
        return self.session.final()

    def close(self) -> None:
        """Close the wrapped session."""
        self.session.close()


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
            outcome = WithComposites(session, (composite,)).act(Call(composite.name, _given(composite, calls)))
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
