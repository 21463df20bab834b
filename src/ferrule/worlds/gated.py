"""A session behind contracts: calls are gated, results verified, and only verified results become facts."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeAlias

from pydantic_core import to_jsonable_python

from ferrule.core.acting import Place, act
from ferrule.core.arrays import nearest
from ferrule.core.flows import Session
from ferrule.core.records import Call, Observation, Tool
from ferrule.tools.contracts import Contract, Level, Reason, State, Verdict, coverage, from_schema, gate, verify
from ferrule.tools.effects import branch, result_of
from ferrule.tools.invoke import Malformed, arguments
from ferrule.tools.tool import Typed

__all__ = ["Entry", "Gated", "Mode", "Outcome", "unaccounted"]

Mode: TypeAlias = Literal["off", "schema", "full", "audit"]
Outcome: TypeAlias = Literal["committed", "refused", "rejected", "failed"]
MODES: tuple[Mode, ...] = ("off", "schema", "full", "audit")


@dataclass(frozen=True)
class Entry:
    """One line of the trace: a call, its outcome, and the facts that it changed.

    ``refused`` calls never ran, ``failed`` ones ran and failed, ``rejected`` results were not accepted.
    """

    tool: str
    arguments: Mapping[str, Any]
    outcome: Outcome
    reason: Reason
    text: str = ""
    detail: str = ""
    updates: Mapping[str, Any] = field(default_factory=dict)


class Gated:
    """``session`` behind ``contracts`` (by tool name; None makes them from the tools' schemas) over a ``state``.

    Modes: ``off`` passes everything on; ``schema`` checks presence and types; ``full`` checks everything; ``audit``
    checks everything, records it, and refuses nothing. A call whose precondition fails does not run
    and is answered ``refused``; a result that is not accepted is answered ``error`` without any of its text. Both carry
    ``{"reason", "text", "stage"}`` as data. Facts change through verified results alone, in ``audit`` as well.
    The write of a tool whose result is rejected has happened all the same: contracts protect the facts, preconditions
    the world.

    ``fill`` puts equally named facts where a call leaves required arguments out. Tools without a contract pass through
    and commit nothing, or are refused with ``strict``; ``final()["gate"]["coverage"]`` names them. Calls are made
    one after another. Raises ``ValueError`` for an unknown mode.
    """

    def __init__(
        self,
        session: Session,
        contracts: Mapping[str, Contract] | None = None,
        state: State | None = None,
        *,
        mode: Mode = "full",
        fill: bool = False,
        strict: bool = False,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"mode is {mode!r}; {nearest(str(mode), MODES)}")
        if contracts is None:
            contracts = {tool.name: from_schema(tool) for tool in session.tools}
        self.session, self.contracts, self.mode = session, dict(contracts), mode
        self._first = session.tools
        self.state = state if state is not None else State()
        self.initial = tuple(self.state.facts)
        self.fill, self.strict = fill, strict
        self.trace: tuple[Entry, ...] = ()
        self._start = self.state.values()
        self._lock = threading.Lock()

    @property
    def tools(self) -> tuple[Tool, ...]:
        """Tools of the wrapped session."""
        return self.session.tools

    def act(self, call: Call, place: Place | None = None) -> Observation:
        """Gate, run, verify and commit one call."""
        tool = None if call.problem else next((tool for tool in self.session.tools if tool.name == call.name), None)
        if self.mode == "off" or tool is None:
            return act(self.session, call, place)
        with self._lock:
            return self._act(tool, self._filled(tool, call), place)

    def act_at(self, call: Call, place: Place) -> Observation:
        """Run one call whose place in the episode is known."""
        return self.act(call, place)

    def _filled(self, tool: Tool, call: Call) -> Call:
        if not self.fill or not isinstance(call.arguments, Mapping):
            return call
        missing = [name for name in tool.parameters.get("required", ()) if name not in call.arguments]
        values = self.state.values()
        known = {name: values[name] for name in missing if self.state.exists(name)}
        return replace(call, arguments={**call.arguments, **known}) if known else call

    def _act(self, tool: Tool, call: Call, place: Place | None) -> Observation:
        contract = self.contracts.get(tool.name)
        level: Level = "schema" if self.mode == "schema" else "full"
        try:
            given = {**_defaults(tool), **to_jsonable_python(arguments(tool, call.arguments)[0], fallback=repr)}
        except (Malformed, ValueError, RecursionError):
            return act(self.session, call, place)  # it says what is wrong with the arguments and runs nothing
        if contract is None:
            verdict = Verdict("no_contract" if self.strict else "ok", f"{tool.name} has no contract")
            contract = Contract()
        else:
            verdict = gate(self.state, contract, given, level=level)
        if not verdict.passed:
            self._note(tool, given, "refused", verdict)
            if self.mode != "audit":
                return _answer(f"{tool.name} was not run", verdict, "before", Observation("", "refused"))
        observation = act(self.session, call, place)
        if observation.status != "ok":
            if observation.executed:
                self._note(tool, given, "failed", Verdict("tool_failed", observation.status, observation.text))
            return observation
        before, verdict = verdict, verify(self.state, contract, result_of(observation, tool.output), given, level=level)
        if not verdict.passed:
            self._note(tool, given, "rejected", verdict)
            if self.mode != "audit":
                return _answer(f"the result of {tool.name} is not believed", verdict, "after", observation)
        elif before.passed:
            self.state = verdict.state
            self._note(tool, given, "committed", verdict)
        return observation

    def _note(self, tool: Tool, given: Any, outcome: Outcome, verdict: Verdict) -> None:
        updates = dict(verdict.updates) if outcome == "committed" else {}
        self.trace += (Entry(tool.name, given, outcome, verdict.reason, verdict.text, verdict.detail, updates),)

    def fork(self, *, irreversible: bool = False) -> Gated:
        """Return an independent branch with the same facts and the same trace so far."""
        with self._lock:
            inner = branch(self.session, irreversible)
            twin = Gated(inner, self.contracts, self.state, mode=self.mode, fill=self.fill, strict=self.strict)
            twin.trace, twin.initial, twin._start, twin._first = self.trace, self.initial, self._start, self._first
        return twin

    def final(self) -> Mapping[str, Any]:
        """Return the wrapped session's final state, and ``gate``: mode, facts, initial facts, trace and coverage.

        Coverage counts the tools on offer at the beginning and now, those withdrawn meanwhile included.
        """
        offered = {tool.name: tool for tool in (*self._first, *self.session.tools)}
        report = {
            "mode": self.mode,
            "facts": self.state.values(),
            "initial": dict(self._start),
            "trace": [asdict(entry) for entry in self.trace],
            "coverage": asdict(coverage(self.contracts, tuple(offered.values()))),
        }
        return {**self.session.final(), "gate": report}

    def close(self) -> None:
        """Close the wrapped session."""
        self.session.close()


def _defaults(tool: Tool) -> dict[str, Any]:
    """Return the defaults that a typed function takes for what a call leaves out; those of other tools are unknown."""
    entries = tool.parameters.get("properties", {}) if isinstance(tool.run, Typed) else {}
    return {name: entry["default"] for name, entry in entries.items() if "default" in entry}


def _answer(what: str, verdict: Verdict, stage: str, observation: Observation) -> Observation:
    """Answer instead of the tool; nothing that it returned is passed on."""
    text = f"{what} ({verdict.reason}): {verdict.text}"
    return Observation(
        text if stage == "before" else f"{text}; nothing was recorded",
        "refused" if stage == "before" else "error",
        data={"reason": verdict.reason, "text": verdict.text, "stage": stage},
        seconds=observation.seconds,
        repairs=observation.repairs,
    )


def unaccounted(gate: Mapping[str, Any]) -> list[str]:
    """Return the facts of ``final()["gate"]`` that are neither initial nor committed by a verified result.

    A fact is accounted for when its value is that of the last committed trace entry that updates it, or, without one,
    its initial value. A sound gate leaves none.
    """
    known = dict(gate["initial"])
    entries: Iterable[Mapping[str, Any]] = gate["trace"]
    for entry in entries:
        if entry["outcome"] == "committed" and entry["reason"] == "ok":
            known.update(entry["updates"])
    return [name for name, value in gate["facts"].items() if name not in known or known[name] != value]
