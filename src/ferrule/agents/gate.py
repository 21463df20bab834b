"""An agent that acts on verified facts alone: reason, retrieve, gate, call, verify, commit.

Source: "ToolGate: Contract-Grounded and Verified Tool Execution for LLMs" (paper 62).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from ferrule.agents.flow import cut_off, opening, prefixed
from ferrule.core.arrays import nearest
from ferrule.core.flows import Ask, Flow, Session, ask, use
from ferrule.core.records import Answer, Call, Message, Task, Tool, plain_text
from ferrule.tools.bm25 import BM25
from ferrule.tools.contracts import Contract, State, from_schema, gate, verify
from ferrule.tools.effects import repeatable, result_of
from ferrule.worlds.gated import Gated

__all__ = ["Phase", "Retrieve", "Step", "ToolGate", "call_phase", "rank", "read_step", "tool_text"]

CALL, CALL_END = "<start_call_tool>", "<end_call_tool>"
RESULT, RESULT_END = "<start_tool_result>", "<end_tool_result>"
SYSTEM = (
    f"Answer with the help of tools. To use one, write {CALL} and what it should do {CALL_END}; its result comes back "
    f"between {RESULT} and {RESULT_END}, and what is certain is listed as known facts. If no tool succeeds, ask for "
    "another or describe the need in another way, and do not give up early. When you know the answer, write it alone."
)
FAILED = "No tool could be used for that. Ask for another tool, other details, or take another approach."

Retrieve: TypeAlias = Callable[[str, Sequence[Tool], Mapping[str, Contract]], Sequence[Tool]]


@dataclass(frozen=True)
class Step:
    """A reply read: ``wanted`` describes the tool that is asked for; without it ``text`` is the answer."""

    text: str
    wanted: str | None = None


def read_step(text: str) -> Step:
    """Read a reply: what follows the first opening marker, up to an end marker, is the wanted tool."""
    reasoning, marker, rest = text.partition(CALL)
    if not marker:
        return Step(text.strip())
    return Step(reasoning.strip(), rest.partition(CALL_END)[0].strip())


def tool_text(tool: Tool, contract: Contract | None = None) -> str:
    """Return what retrieval reads of a tool: description, name, 5 parameters, 3 preconditions, 3 facts it writes."""
    contract = contract or Contract()
    parameters = list(tool.parameters.get("properties", {}))[:5]
    return " ".join((tool.description, tool.name, *parameters, *contract.pre[:3], *contract.outputs[:3]))


def rank(query: str, tools: Sequence[Tool], contracts: Mapping[str, Contract]) -> list[Tool]:
    """Return all tools, those first whose texts fit the query best by BM25; equal ones stay in order."""

    def words(text: str) -> list[str]:
        whole = re.findall(r"\w+", text.lower())
        return [part for word in whole for part in (word, *(word.split("_") if "_" in word else ()))]

    index = BM25([words(tool_text(tool, contracts.get(tool.name))) for tool in tools])
    return [tools[i] for i in np.argsort(-index.scores(words(query)), kind="stable")]


@dataclass(frozen=True)
class Phase:
    """The end of a call phase: the state after it, who was called and failed, and the result (None without)."""

    state: State
    called: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    result: Any = None
    committed: bool = False


def call_phase(
    state: State,
    tools: Sequence[Tool],
    contracts: Mapping[str, Contract],
    banned: frozenset[str] = frozenset(),
    *,
    missing: Literal["skip", "null"] = "skip",
) -> Flow[Phase]:
    """Try the tools in order until one runs and its result is believed; that result's updates are committed.

    Tools that are ``banned``, have no contract, or whose precondition fails are passed over and do not count as failed.
    Required arguments are taken from equally named facts; where there is none the tool is passed over (``skip``) or
    called with null.
    """
    called: list[str] = []
    failed: list[str] = []
    for tool in tools:
        contract = contracts.get(tool.name)
        if contract is None or tool.name in banned:
            continue
        required = tool.parameters.get("required", ())
        if missing == "skip" and not all(state.exists(name) for name in required):
            continue
        values = state.values()
        arguments = {name: values.get(name) for name in required}
        if not gate(state, contract, arguments).passed:
            continue
        called.append(tool.name)
        (observation,) = yield from use(Call(tool.name, arguments, id=f"call_{len(called)}"))
        if observation.status == "ok":
            result = result_of(observation, tool.output)
            verdict = verify(state, contract, result, arguments)
            if verdict.passed:
                return Phase(verdict.state, tuple(called), tuple(failed), result, True)
        failed.append(tool.name)
    return Phase(state, tuple(called), tuple(failed))


@dataclass(frozen=True)
class ToolGate:
    """Answer a task with tools that are gated and verified over a state of trusted facts.

    ``contracts`` are by tool name; None takes those of a ``Gated`` session, else makes them from the schemas. The first
    state is that of a ``Gated`` session, else the entities in ``task.meta["entities"]``. At most ``steps`` replies are
    asked for; a call phase tries the ``width`` best tools of ``retrieve``. Shown results are cut at ``cut`` characters.
    ``missing`` says what happens when no fact gives a required argument. ``ban="phase"`` lets a tool that failed be
    tried again in a later phase where its effects allow a repetition, ``"run"`` never. ``lenient`` starts from a state
    that checks no types. Answers None when the steps run out.
    """

    contracts: Mapping[str, Contract] | None = None
    retrieve: Retrieve = field(default=rank, repr=False)
    steps: int = 10
    width: int = 25
    cut: int = 500
    missing: Literal["skip", "null"] = "skip"
    ban: Literal["phase", "run"] = "phase"
    lenient: bool = False
    max_tokens: int = 256
    system: str = SYSTEM

    def __post_init__(self) -> None:
        """Refuse unknown choices and numbers below 1."""
        for name, known in (("missing", ("skip", "null")), ("ban", ("phase", "run"))):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"ToolGate.{name} is {getattr(self, name)!r}; {nearest(str(getattr(self, name)), known)}"
                )
        for name in ("steps", "width", "cut", "max_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"ToolGate.{name} is {getattr(self, name)}; the least is 1")

    def __call__(self, task: Task, session: Session) -> Flow[Answer]:
        """Play one episode."""
        contracts, state = self._start(task, session)
        messages = prefixed(opening(task, self.system), f"{self._known(state)}\n")
        banned: frozenset[str] = frozenset()
        for _ in range(self.steps):
            (reply,) = yield from ask(Ask(tuple(messages), stop=(CALL_END,), max_tokens=self.max_tokens))
            step = read_step(plain_text(reply.message))
            if step.wanted is None:
                return None if cut_off(reply) else step.text
            tools = self.retrieve(f"{step.wanted} {state.summary()}", session.tools, contracts)[: self.width]
            phase = yield from call_phase(state, tools, contracts, banned, missing=self.missing)
            state = phase.state
            again = {tool.name for tool in session.tools if self.ban == "phase" and repeatable(tool)}
            banned |= set(phase.failed) - again
            shown = self._shown(phase.result) if phase.committed else FAILED
            messages += [reply.message, Message("user", f"{shown}\n{self._known(state)}")]
        return None

    def _start(self, task: Task, session: Session) -> tuple[Mapping[str, Contract], State]:
        gated = session if isinstance(session, Gated) else None
        contracts = self.contracts if self.contracts is not None else (gated.contracts if gated else None)
        if contracts is None:
            contracts = {tool.name: from_schema(tool) for tool in session.tools}
        state = gated.state if gated else State.of(task.meta.get("entities", {}))
        return contracts, State(state.facts, state.domains, lenient=True) if self.lenient else state

    def _known(self, state: State) -> str:
        return f"Known facts:\n{state.summary() or '(none)'}"

    def _shown(self, result: Any) -> str:
        return f"{RESULT} {json.dumps(result, ensure_ascii=False, default=repr)[: self.cut]} {RESULT_END}"
