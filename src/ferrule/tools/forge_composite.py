"""Composite tools: sequences of calls that recur in verified runs, with their data flow, as one call.

A sequence that succeeds again and again becomes a tool: what one step passed on to the next is a wire, what was the
same in all runs is a constant, and the rest are its parameters. Source: "Evolving Medical Imaging Agents via
Experience-driven Self-skill Discovery" (28); of its method no text was readable, so the mining is a reconstruction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ferrule.core.arrays import nearest
from ferrule.core.records import Call, Observation, Tool, Trajectory
from ferrule.tools.contracts import Contract
from ferrule.tools.effects import result_of
from ferrule.tools.schema import json_differs

__all__ = [
    "ArgumentSource",
    "Composite",
    "CompositeStep",
    "Frequent",
    "RunLog",
    "composed",
    "contract_of",
    "expanded",
    "frequent",
    "mined",
    "outdone",
    "run_log",
    "schema_of",
]  # fmt: skip

Path: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True)
class RunLog:
    """The calls of one run with their observations, and whether it was verified: right, and every call ran."""

    calls: tuple[tuple[Call, Observation], ...]
    verified: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the tools, in order."""
        return tuple(call.name for call, _ in self.calls)


def run_log(trajectory: Trajectory, right: bool) -> RunLog:
    """Return the log of a trajectory, calls inside composites and programs in the place of these (``expanded``)."""
    calls = tuple(pair for call in trajectory.calls for pair in expanded(*call))
    return RunLog(calls, right and all(observation.status == "ok" for _, observation in calls))


def expanded(call: Call, observation: Observation) -> tuple[tuple[Call, Observation], ...]:
    """Return the calls that a call made inside (``data["calls"]``), or itself where it made none."""
    data = observation.data if isinstance(observation.data, Mapping) else {}
    inner = data.get("calls")
    if not isinstance(inner, Sequence) or not inner or not all(isinstance(row, Mapping) for row in inner):
        return ((call, observation),)
    return tuple(
        (Call(row["name"], row["arguments"]), Observation(row["text"], row["status"], data=row.get("result")))
        for row in inner
    )


@dataclass(frozen=True)
class Frequent:
    """A sequence of tools: in how many verified runs it stands, and in what share of the runs that have it."""

    names: tuple[str, ...]
    support: int
    rate: float


def frequent(
    runs: Sequence[RunLog], *, shortest: int = 2, longest: int = 3, support: int = 2, rate: float = 0.6,
    most: int | None = None,
) -> list[Frequent]:  # fmt: skip
    """Return the contiguous sequences of tools that recur in verified runs, the most useful first.

    Kept are those in at least ``support`` verified runs, and at least the share ``rate`` of all runs that have them;
    repetitions of one tool are left out, and what stands within a longer one of the same support. They are ranked by
    ``support * (length - 1)``, then by rate, then by name, and ``most`` are returned.
    """
    verified: dict[tuple[str, ...], int] = {}
    everywhere: dict[tuple[str, ...], int] = {}
    for run in runs:
        for names in set(_windows(run.names, shortest, longest)):
            everywhere[names] = everywhere.get(names, 0) + 1
            verified[names] = verified.get(names, 0) + run.verified
    kept = [
        Frequent(names, count, count / everywhere[names])
        for names, count in verified.items()
        if count >= support and count / everywhere[names] >= rate
    ]
    free = [one for one in kept if not any(_within(one, other) for other in kept)]
    ranked = sorted(free, key=lambda one: (-one.support * (len(one.names) - 1), -one.rate, one.names))
    return ranked[:most]


def _windows(names: Sequence[str], shortest: int, longest: int) -> Iterator[tuple[str, ...]]:
    for size in range(shortest, longest + 1):
        for start in range(len(names) - size + 1):
            window = tuple(names[start : start + size])
            if len(set(window)) > 1:
                yield window


def _within(one: Frequent, other: Frequent) -> bool:
    size = len(one.names)
    inside = any(other.names[k : k + size] == one.names for k in range(len(other.names) - size + 1))
    return inside and len(other.names) > size and other.support == one.support


@dataclass(frozen=True)
class ArgumentSource:
    """Where an argument comes from: a ``parameter``, the field ``path`` of the result of ``step``, or a constant."""

    parameter: str = ""
    step: int | None = None
    path: Path = ()
    constant: Any = None


@dataclass(frozen=True)
class CompositeStep:
    """One call of a composite: the tool, and a source for each of its arguments."""

    tool: str
    arguments: Mapping[str, ArgumentSource] = field(default_factory=dict)


@dataclass(frozen=True)
class Composite:
    """Ordered calls as one tool; ``mined_from`` says in how many verified runs it was found, ``rate`` how reliably."""

    name: str
    steps: tuple[CompositeStep, ...]
    description: str = ""
    mined_from: int = 0
    rate: float = 1.0
    version: int = 1

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of its parameters, in the order of the steps that take them."""
        sources = [source for step in self.steps for source in step.arguments.values()]
        return tuple(dict.fromkeys(source.parameter for source in sources if source.parameter))

    def play(self, given: Mapping[str, Any], act: Callable[[Call], tuple[Observation, Any]]) -> Iterator[Observation]:
        """Make the calls in order and yield their observations, up to the first that did not run well.

        ``act`` runs one call and returns its observation and its result as data. Raises ``LookupError`` where a result
        lacks a field that a later step needs.
        """
        results: list[Any] = []
        for step in self.steps:
            arguments = {name: _value(source, given, results) for name, source in step.arguments.items()}
            observation, result = act(Call(step.tool, {k: v for k, v in arguments.items() if v is not _LEFT_OUT}))
            results.append(result)
            yield observation
            if observation.status != "ok":
                return


_LEFT_OUT = object()


def _value(source: ArgumentSource, given: Mapping[str, Any], results: Sequence[Any]) -> Any:
    if source.parameter:
        return given.get(source.parameter, _LEFT_OUT)
    if source.step is None:
        return source.constant
    value = results[source.step]
    for part in source.path:
        value = value[part]
    return value


def composed(names: Sequence[str], runs: Sequence[RunLog], *, name: str = "", rate: float = 1.0) -> Composite:
    """Return the composite of a sequence, with the data flow that all verified runs with it show.

    An argument that equalled a field of an earlier step's result in all of them is a wire, one that was the same in all
    a constant, and any other a parameter. Parameters that always had the same value are one. Raises ``ValueError``
    where no verified run has the sequence, or where the runs give a step different arguments.
    """
    windows = [window for run in runs if run.verified and (window := _window(run, names))]
    if not windows:
        raise ValueError(f"no verified run has the sequence {', '.join(names)}")
    steps, taken = [], dict[str, list[Any]]()
    for number, tool in enumerate(names):
        keys = [tuple(sorted(window[number][0].arguments)) for window in windows]
        if len(set(keys)) > 1:
            raise ValueError(f"the runs give step {number + 1} ({tool}) different arguments: {sorted(set(keys))}")
        sources = {key: _source(key, number, windows, taken, tool) for key in windows[0][number][0].arguments}
        steps.append(CompositeStep(tool, sources))
    about = f"{', then '.join(names)}, in one call."
    return Composite(name or "_".join(names), tuple(steps), about, len(windows), rate)


def _window(run: RunLog, names: Sequence[str]) -> tuple[tuple[Call, Observation], ...]:
    """Return the first place where a run has a sequence."""
    for start in range(len(run.calls) - len(names) + 1):
        if run.names[start : start + len(names)] == tuple(names):
            return run.calls[start : start + len(names)]
    return ()


def _source(
    key: str, number: int, windows: Sequence[Sequence[tuple[Call, Observation]]], taken: dict[str, list[Any]], tool: str
) -> ArgumentSource:
    values = [window[number][0].arguments[key] for window in windows]
    for step in range(number - 1, -1, -1):
        results = [result_of(window[step][1]) for window in windows]
        for path in _paths(results[0]):
            if all(_same(_at(result, path), value) for result, value in zip(results, values, strict=True)):
                return ArgumentSource(step=step, path=path)
    if len(values) > 1 and all(_same(value, values[0]) for value in values):
        return ArgumentSource(constant=values[0])
    known = next((name for name, others in taken.items() if name == key and _all_same(others, values)), "")
    fresh = key if key not in taken else f"{key}_of_{tool}"
    taken.setdefault(known or fresh, values)
    return ArgumentSource(parameter=known or fresh)


def _all_same(first: Sequence[Any], second: Sequence[Any]) -> bool:
    return all(_same(a, b) for a, b in zip(first, second, strict=True))


def _same(first: Any, second: Any) -> bool:
    return first is not _LEFT_OUT and second is not _LEFT_OUT and not json_differs(first, second)


def _paths(value: Any, depth: int = 0) -> Iterator[Path]:
    """Yield where the parts of a result lie, the result itself first, down to three levels."""
    yield ()
    if depth == 3:
        return
    if isinstance(value, Mapping):
        inner: list[tuple[str | int, Any]] = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value[:4]))
    else:
        return
    for key, part in inner:
        for path in _paths(part, depth + 1):
            yield (key, *path)


def _at(value: Any, path: Path) -> Any:
    for part in path:
        try:
            value = value[part]
        except (LookupError, TypeError):
            return _LEFT_OUT
    return value


def mined(
    runs: Sequence[RunLog], *, shortest: int = 2, longest: int = 3, support: int = 2, rate: float = 0.6,
    most: int | None = 6,
) -> list[Composite]:  # fmt: skip
    """Return the composites of the sequences that recur in verified runs (``frequent``, ``composed``).

    A sequence whose steps were given different arguments from run to run is left out.
    """
    composites = []
    for one in frequent(runs, shortest=shortest, longest=longest, support=support, rate=rate):
        try:
            composites.append(composed(one.names, runs, rate=one.rate))
        except ValueError:
            continue
    return composites[:most]


def outdone(composite: Composite, uses: Mapping[str, tuple[int, int]], *, calls: int = 5) -> bool:
    """Return whether a composite does worse than the best of its own steps, so that it should be retired.

    ``uses`` has the calls of each tool and how many of them ran well. It takes ``calls`` calls of the composite to say.
    """
    made, well = uses.get(composite.name, (0, 0))
    steps = [uses.get(step.tool, (0, 0)) for step in composite.steps]
    rates = [good / count for count, good in steps if count]
    return made >= calls and bool(rates) and well / made < max(rates)


def schema_of(composite: Composite, tools: Sequence[Tool]) -> dict[str, Any]:
    """Return the JSON schema of a composite's parameters, each as the step that takes it first describes it.

    Raises ``ValueError`` for a step whose tool is not on offer.
    """
    known = {tool.name: tool for tool in tools}
    properties: dict[str, Any] = {}
    required: list[str] = []
    for step in composite.steps:
        if step.tool not in known:
            raise ValueError(f"{composite.name!r} has the step {step.tool!r}; {nearest(step.tool, list(known))}")
        schema = known[step.tool].parameters
        for name, source in step.arguments.items():
            if source.parameter and source.parameter not in properties:
                properties[source.parameter] = schema.get("properties", {}).get(name, {})
                required += [source.parameter] if name in schema.get("required", ()) else []
    return {"type": "object", "properties": properties, "required": required}


def contract_of(composite: Composite, contracts: Mapping[str, Contract]) -> Contract:
    """Return the contract of a composite: what must hold before its first step, and of the result of its last.

    Conditions on arguments of the first step speak of the composite's only where it passes them on under their names.
    """
    first, last = composite.steps[0], composite.steps[-1]
    before, after = contracts.get(first.tool, Contract()), contracts.get(last.tool, Contract())
    passed = all(source.parameter == name for name, source in first.arguments.items())
    post = tuple(text for text in after.post if "args." not in text)
    return Contract(pre=before.pre if passed else (), post=post, output=after.output)
