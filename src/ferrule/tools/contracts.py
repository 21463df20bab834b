"""Contracts of tools over a typed symbolic state: what must hold before a call, and before its result is accepted.

A ``State`` holds trusted facts. A ``Contract`` says on which states and arguments a tool may run (``gate``), which
results are accepted, and which facts they change (``verify``). Nothing here does any input or output.

Source: ToolGate: Contract-Grounded and Verified Tool Execution for LLMs (paper 62).
"""

from __future__ import annotations

import copy
import inspect
import json
import keyword
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from ferrule.core.arrays import by_name, nearest
from ferrule.core.records import Tool
from ferrule.tools.contracts_text import RESERVED, Condition, read, read_leniently
from ferrule.tools.contracts_types import TYPES, Domains, fits, type_of, walk
from ferrule.tools.schema import problem, resolve

__all__ = [
    "Contract", "Coverage", "Fact", "Level", "Reason", "Rejected", "State", "Verdict", "coverage", "from_schema",
    "gate", "verify",
]  # fmt: skip

Level: TypeAlias = Literal["schema", "full"]
Reason: TypeAlias = Literal[
    "ok",
    "no_contract",
    "precondition_failed",
    "schema_failed",
    "missing_field",
    "wrong_type",
    "postcondition_failed",
    "constraint_failed",
    "semantic_failed",
    "custom_raised",
    "tool_failed",
]
Updates: TypeAlias = Mapping[str, str] | Callable[..., Mapping[str, Any]]
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Rejected(ValueError):
    """A change that the state rejects; ``reason`` is the code."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True)
class Fact:
    """A value with its type; null is for what is not known. ``optional`` facts may become null again.

    ``constraints`` are conditions (see ``contracts_text``) that every new value must meet, over the would-be state.
    """

    value: Any
    type: str = "string"
    optional: bool = False
    constraints: tuple[str, ...] = ()


@dataclass(frozen=True)
class State:
    """Trusted facts by name; never changed in place. ``domains`` maps the names of domain types to their checks.

    Raises ``ValueError`` for a fact whose type is unknown or does not fit its value, and for a constraint that cannot
    be read. ``lenient`` checks nothing.
    """

    facts: Mapping[str, Fact] = field(default_factory=dict)
    domains: Domains = field(default_factory=dict, repr=False, compare=False)
    lenient: bool = field(default=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Copy the facts and check them."""
        object.__setattr__(self, "facts", MappingProxyType(copy.deepcopy(dict(self.facts))))
        if self.lenient:
            return
        known = sorted({*TYPES, *self.domains})
        for name, fact in self.facts.items():
            if fact.type not in known:
                raise ValueError(f"fact {name!r} is of no known type {fact.type!r}; {nearest(fact.type, known)}")
            if fact.value is not None and not fits(fact.value, fact.type, self.domains):
                raise ValueError(f"fact {name!r} is a {type_of(fact.value)}, not the {fact.type} it is declared as")
            for text in fact.constraints:
                read(text, tuple(self.domains))

    @classmethod
    def of(cls, values: Mapping[str, Any], *, domains: Domains = _NOTHING) -> State:
        """Return the state of plain values (types are read off them) and ``Fact`` objects."""
        facts = {n: v if isinstance(v, Fact) else Fact(v, type_of(v)) for n, v in values.items()}
        return cls(facts, domains)

    def __deepcopy__(self, memo: dict[int, Any]) -> State:
        return self

    def exists(self, name: str) -> bool:
        """Return whether a fact is there and not null; 0 and the empty text exist."""
        return name in self.facts and self.facts[name].value is not None

    def values(self) -> dict[str, Any]:
        """Return a copy of all values by name."""
        return {name: copy.deepcopy(fact.value) for name, fact in self.facts.items()}

    def updated(self, values: Mapping[str, Any], types: Mapping[str, str] = _NOTHING) -> State:
        """Return the state with these values; this one stays as it is.

        A known fact keeps its type; a new one gets the type that ``types`` names, else that of its value (``string``
        in a lenient state). Raises ``Rejected``: ``wrong_type``, or ``constraint_failed`` naming the constraint.
        """
        facts = dict(self.facts)
        for name, value in values.items():
            new = Fact(None, types.get(name, "string" if self.lenient else type_of(value)), optional=True)
            old = facts.get(name, new)
            if not self.lenient and not (old.optional if value is None else fits(value, old.type, self.domains)):
                raise Rejected("wrong_type", f"{name} should be of type {old.type}")
            facts[name] = Fact(copy.deepcopy(value), old.type, old.optional and old is not new, old.constraints)
        after = State(facts, self.domains, lenient=True)
        if self.lenient:
            return after
        scope = {"facts": after.values(), "domains": self.domains}
        for name in values:
            for text in facts[name].constraints:
                if not read(text, tuple(self.domains)).holds(scope):
                    raise Rejected("constraint_failed", f"{text} does not hold")
        object.__setattr__(after, "lenient", False)
        return after

    def summary(self, width: int = 50) -> str:
        """Return a line ``name(type): value`` for every fact that exists, values cut at ``width`` characters."""
        lines = []
        for name, fact in self.facts.items():
            if fact.value is not None:
                shown = fact.value if isinstance(fact.value, str) else json.dumps(fact.value, default=repr)
                lines.append(f"{name}({fact.type}): {' '.join(shown[:width].splitlines())}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Contract:
    """What must hold before a call and of its result, and which facts the result changes.

    ``pre`` and ``post`` are conjunctions of conditions (see ``contracts_text``). ``updates`` maps facts to where their
    values lie: ``result``, ``result.path.to.key`` (dict keys and list indices) or ``args.key``; a path that leads
    nowhere or to null changes nothing. It may be a function of any of ``old``, ``result`` and ``arguments``
    that returns the changes. ``require`` is a further precondition, a function of any of ``state`` and ``arguments``,
    and ``ensure`` a further postcondition of any of ``old``, ``new``, ``result`` and ``arguments``; states are given as
    plain values by name, and an exception means no. ``output`` is a JSON schema of the result, ``types`` the types of
    new facts, ``domains`` the names of domain types that conditions use. Raises ``ValueError`` for a condition, rule
    or parameter that is unknown. ``reference`` reads conditions as the published code does: unknown ones
    hold, of a result only ``has_field`` is known, types are not checked, ``require`` takes the place of ``pre``, rules
    read the result alone, functions get ``Fact`` objects, and states should be lenient.
    """

    pre: tuple[str, ...] = ()
    post: tuple[str, ...] = ()
    updates: Updates = field(default_factory=dict)
    require: Callable[..., Any] | None = None
    ensure: Callable[..., Any] | None = None
    output: Mapping[str, Any] | None = None
    types: Mapping[str, str] = field(default_factory=dict)
    domains: tuple[str, ...] = ()
    reference: bool = False
    _pre: tuple[Condition, ...] = field(default=(), init=False, repr=False, compare=False)
    _post: tuple[Condition, ...] = field(default=(), init=False, repr=False, compare=False)
    _rules: tuple[tuple[str, tuple[str, ...]], ...] = field(default=(), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Read all texts, so that an invalid contract is refused when it is created."""
        for part in ("pre", "post"):
            if isinstance(getattr(self, part), str):
                raise ValueError(f"Contract.{part} is one text; write a tuple of conditions")
        for part, function, known in (
            ("require", self.require, ("state", "arguments")),
            ("ensure", self.ensure, ("old", "new", "result", "arguments")),
            ("updates", self.updates if callable(self.updates) else None, ("old", "result", "arguments")),
        ):
            for name in inspect.signature(function).parameters if function else ():
                if name not in known:
                    raise ValueError(f"Contract.{part} asks for {name!r}; {nearest(name, known)}")
        for part in ("pre", "post"):
            conditions = tuple(
                read_leniently(text, of_result=part == "post") if self.reference else read(text, self.domains)
                for text in getattr(self, part)
            )
            object.__setattr__(self, f"_{part}", conditions)
        for condition in self._pre:
            if condition.roots & {"result", "new", "old"}:
                raise ValueError(f"precondition {condition.text!r} reads what is not there before the call")
        rules = {} if callable(self.updates) else self.updates
        object.__setattr__(self, "_rules", tuple((name, self._rule(name, path)) for name, path in rules.items()))

    def _rule(self, name: str, path: str) -> tuple[str, ...]:
        steps = tuple(path.split("."))
        if self.reference:
            return steps if steps[0] == "result" and "" not in steps else ()
        if steps[0] not in ("result", "args") or "" in steps:
            raise ValueError(f"update rule {name!r}: {path!r} is not a path; write result, result.key.0 or args.key")
        return steps

    @property
    def trivial(self) -> bool:
        """True when the contract holds for every call and result, so that it protects nothing."""
        return not (self.pre or self.post or self.require or self.ensure or self.output)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the facts that the update rules write."""
        return tuple(name for name, _ in self._rules)

    def changes(self, result: Any, arguments: Mapping[str, Any] = _NOTHING, old: State | None = None) -> dict[str, Any]:
        """Return the new values that a result leads to, before anything is checked."""
        if callable(self.updates):
            values = (old or State()).values()
            return dict(by_name(self.updates, {"old": values, "result": result, "arguments": dict(arguments)}))
        changes = {}
        for name, steps in self._rules:
            try:
                value = walk({"result": result, "args": arguments}, steps) if steps else None
            except LookupError:
                continue
            if value is not None:
                changes[name] = value
        return changes

    def seen(self, state: State) -> dict[str, Any]:
        """Return the state as the custom functions see it."""
        return dict(state.facts) if self.reference else state.values()


@dataclass(frozen=True)
class Verdict:
    """Whether a call may run or a result is accepted; ``text`` says what failed without quoting the result.

    ``detail`` is for logs and may quote it. ``updates`` are the changes of an accepted result and ``state`` is the
    state after it.
    """

    reason: Reason
    text: str = ""
    detail: str = ""
    updates: Mapping[str, Any] = field(default_factory=dict)
    state: State = field(default_factory=State)

    @property
    def passed(self) -> bool:
        """True for the reason ``ok``."""
        return self.reason == "ok"


def gate(
    state: State, contract: Contract, arguments: Mapping[str, Any] = _NOTHING, *, level: Level = "full"
) -> Verdict:
    """Judge whether a call may run: all preconditions hold (``precondition_failed`` otherwise).

    The level ``schema`` looks at presence and types alone and skips comparisons and ``require``.
    """
    scope = {"facts": state.values(), "args": arguments, "domains": state.domains}
    replaced = contract.reference and contract.require is not None and level == "full"
    for condition in () if replaced else contract._pre:
        if not (level == "schema" and condition.semantic) and not condition.holds(scope):
            return Verdict("precondition_failed", f"{condition.text} does not hold", state=state)
    if contract.require is not None and level == "full":
        given = {"state": contract.seen(state), "arguments": copy.deepcopy(dict(arguments))}
        verdict = _custom(contract.require, given, state, "precondition_failed")
        if verdict:
            return verdict
    return Verdict("ok", state=state)


def verify(
    state: State,
    contract: Contract,
    result: Any,
    arguments: Mapping[str, Any] = _NOTHING,
    *,
    level: Level = "full",
) -> Verdict:
    """Judge a result: output schema, conditions on it, updates, their types and constraints, then conditions on both.

    A verdict that passed carries the updates and the new state; any other carries the old state and no updates. The
    level ``schema`` looks at presence and types alone and skips comparisons and ``ensure``.
    """
    try:
        result = copy.deepcopy(result)  # whoever holds the original can no longer change what was verified
    except Exception as error:
        return Verdict("schema_failed", "it is not plain data", f"{type(error).__name__}: {error}", state=state)
    misfit = problem(result, contract.output, contract.output) if contract.output is not None else ""
    if misfit:
        return Verdict("schema_failed", "it does not fit the tool's output schema", f"it {misfit}", state=state)
    before = state.values()
    scope = {"facts": before, "old": before, "args": arguments, "result": result, "domains": state.domains}
    checked = [c for c in contract._post if not (level == "schema" and c.semantic)]
    for condition in (c for c in checked if "new" not in c.roots):
        if not condition.holds(scope):
            return Verdict(condition.failure, f"{condition.text} does not hold", state=state)
    try:
        updates = contract.changes(result, arguments, state)
        after = state.updated(updates, contract.types)
    except Rejected as refusal:
        return Verdict(refusal.reason, str(refusal), state=state)
    except Exception as error:  # a custom update function may do anything with a strange result
        return Verdict("custom_raised", "its updates cannot be read", f"{type(error).__name__}: {error}", state=state)
    for condition in (c for c in checked if "new" in c.roots):
        if not condition.holds({**scope, "new": after.values()}):
            return Verdict(condition.failure, f"{condition.text} does not hold", state=state)
    if contract.ensure is not None and level == "full":
        given = {"old": contract.seen(state), "new": contract.seen(after), "arguments": dict(arguments)}
        verdict = _custom(contract.ensure, {**given, "result": copy.deepcopy(result)}, state, "semantic_failed")
        if verdict:
            return verdict
    return Verdict("ok", updates=copy.deepcopy(updates), state=after)


def _custom(function: Callable[..., Any], given: Mapping[str, Any], state: State, failure: Reason) -> Verdict | None:
    """Return why a custom check says no, or None; an exception is a no."""
    label = getattr(function, "__name__", type(function).__name__)
    try:
        if by_name(function, given):
            return None
    except Exception as error:
        return Verdict(
            "custom_raised", f"the check {label} could not be made", f"{type(error).__name__}: {error}", state=state
        )
    return Verdict(failure, f"the check {label} does not hold", state=state)


def from_schema(tool: Tool, *, reference: bool = False) -> Contract:
    """Return the contract that follows from a tool's schemas.

    Every required parameter must exist as a fact of its name; every property of ``Tool.output`` must be a key of the
    result and becomes a fact of its name (one with a dot in it becomes none, since rules read dots as steps); the
    result must fit the output schema (not with ``reference``). A tool without an output schema gets a contract that
    accepts every result and commits nothing.
    """
    root = tool.output or {}
    inner = resolve(root, root)
    properties = inner.get("properties", {}) if isinstance(inner, Mapping) else {}
    kinds = {name: resolve(entry, root) for name, entry in properties.items()}
    types = {n: TYPES[e["type"]] for n, e in kinds.items() if isinstance(e, Mapping) and e.get("type") in tuple(TYPES)}
    return Contract(
        pre=tuple(f"exists({name if reference else _spelled(name)})" for name in tool.parameters.get("required", ())),
        post=tuple(f"has_field({_quoted(name, reference)})" for name in properties),
        updates={name: f"result.{name}" for name in properties if reference or "." not in name},
        output=None if reference else tool.output,
        types={} if reference else types,
        reference=reference,
    )


def _spelled(name: str) -> str:
    """Return a fact's name as conditions write it: quoted where it would mean something else."""
    plain = name.isidentifier() and not keyword.iskeyword(name) and name not in RESERVED
    return name if plain else _quoted(name)


def _quoted(name: str, reference: bool = False) -> str:
    """Return a name in quotes: as a literal, or as the published code writes it, without escapes."""
    return f'"{name}"' if reference else json.dumps(name, ensure_ascii=False)


@dataclass(frozen=True)
class Coverage:
    """How far contracts reach: ``covered`` tools are checked, ``trivial`` ones have a contract that always holds.

    ``missing`` tools have none, ``unused`` contracts belong to no tool on offer.
    """

    covered: tuple[str, ...]
    trivial: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]

    @property
    def share(self) -> float:
        """Share of the tools that are checked; 1 without tools."""
        total = len(self.covered) + len(self.trivial) + len(self.missing)
        return len(self.covered) / total if total else 1.0


def coverage(contracts: Mapping[str, Contract], tools: Sequence[Tool]) -> Coverage:
    """Count the tools whose contract says something, says nothing, or is missing."""
    names = [tool.name for tool in tools]
    return Coverage(
        covered=tuple(n for n in names if n in contracts and not contracts[n].trivial),
        trivial=tuple(n for n in names if n in contracts and contracts[n].trivial),
        missing=tuple(n for n in names if n not in contracts),
        unused=tuple(n for n in contracts if n not in names),
    )
