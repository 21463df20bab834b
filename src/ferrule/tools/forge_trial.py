"""Trying a proposed tool in the sandbox: every run begins in a fresh process, and what it says is checked here."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from ferrule.sandbox.interpreter import Interpreter
from ferrule.sandbox.settings import Isolation, Settings
from ferrule.tools import forge_inside
from ferrule.tools.forge_rules import Finding
from ferrule.tools.forge_variants import always, stubs, variants

__all__ = ["Made", "Trial", "Tried", "called", "noticed", "tested"]

_SOURCE = inspect.getsource(forge_inside)


@dataclass(frozen=True)
class Trial:
    """How proposals are tried.

    A call may take ``seconds`` of processor time, a run of all tests ``limit`` seconds. Tests run ``repeats`` times,
    once with sets in the other order. They must make ``asserts`` assertions that are carried out, and notice the share
    ``least`` of at most ``variants`` small changes of the source.
    """

    seconds: float = 0.5
    limit: float = 10.0
    repeats: int = 3
    asserts: int = 3
    variants: int = 12
    least: float = 0.5
    memory_mb: int = 512
    isolation: Isolation = "auto"

    def __post_init__(self) -> None:
        """Refuse a trial that proves nothing."""
        for name, bound in (("repeats", 2), ("asserts", 1), ("variants", 0)):
            if getattr(self, name) < bound:
                raise ValueError(f"Trial.{name} is {getattr(self, name)}; the least is {bound}")
        if not 0.0 <= self.least <= 1.0:
            raise ValueError(f"Trial.least is {self.least}; it lies between 0 and 1")

    @property
    def settings(self) -> Settings:
        """What the sandbox is given."""
        return Settings(
            isolation=self.isolation, seconds=self.limit, memory_mb=self.memory_mb, output_limit=1_000_000,
            artifact_limit=0, packages=False,
        )  # fmt: skip


@dataclass(frozen=True)
class Made:
    """A call of a tool and its outcome: the result, or the name of the exception in ``raised``."""

    arguments: Mapping[str, Any]
    result: Any = None
    raised: str = ""


@dataclass(frozen=True)
class Tried:
    """What the tests of a proposal showed: the calls that can be written as JSON, and how many assertions ran."""

    findings: tuple[Finding, ...] = ()
    calls: tuple[Made, ...] = ()
    asserts: int = 0
    longest: float = field(default=0.0, compare=False)


def tested(source: str, name: str, tests: str, *, reads: bool, trial: Trial) -> Tried:
    """Run the tests of a proposal ``trial.repeats`` times and say what is wrong: the first thing that is."""
    request = {"do": "tests", "source": source, "name": name, "text": tests}
    runs: list[Mapping[str, Any]] = []
    for number in range(trial.repeats):
        outcome = _run({**request, "seed": number, "backwards": number == trial.repeats - 1}, reads, trial)
        if isinstance(outcome, Finding):
            return Tried((outcome,))
        if outcome["longest"] > trial.seconds:
            text = f"a call takes {outcome['longest']:.2f} s; the most is {trial.seconds:g} s"
            return Tried((Finding("slow", text),))
        if outcome["problem"] and not runs:
            return Tried((Finding("tests", f"a test fails: {outcome['problem']}"),))
        runs.append(outcome)
    first = runs[0]
    told = [[call["told"] for call in run["calls"]] for run in runs]
    for number, run in enumerate(runs):
        order = ", with sets in another order" if number == len(runs) - 1 else ""
        if run["problem"]:
            return Tried((Finding("flaky", f"run {number + 1} of the tests fails{order}: {run['problem']}"),))
        if told[number] != told[0]:
            place = next((k for k, (a, b) in enumerate(zip(told[0], told[number], strict=False)) if a != b), 0)
            text = f"run {number + 1} of the tests gives other results{order}: {told[0][place]}, {told[number][place]}"
            return Tried((Finding("flaky", text[:400]),))
    calls = tuple(
        Made(call["arguments"], call["result"], call["raised"].removeprefix("raises "))
        for call in first["calls"]
        if call["plain"] and (call["whole"] or call["raised"])
    )
    tried = Tried((), calls, first["asserts"], max(run["longest"] for run in runs))
    return _judged(tried, first, name, reads, trial.asserts)


def _judged(tried: Tried, run: Mapping[str, Any], name: str, reads: bool, least: int) -> Tried:
    findings = []
    if run["changed"]:
        findings.append(Finding("effects", f"{name} changes what it is given: {run['changed'][0]}"))
    if reads and run["state"]:
        text = f"{name} keeps something from call to call in {', '.join(run['state'])}, though it is declared to read"
        findings.append(Finding("effects", text))
    if not run["calls"] or tried.asserts < least:
        text = f"the tests make {len(run['calls'])} calls and {tried.asserts} assertions; the least is {least}"
        findings.append(Finding("assertions", text))
    elif odd := next((call for call in run["calls"] if not (call["whole"] or call["raised"])), None):
        findings.append(Finding("signature", f"{name} {odd['told']}, which is no plain JSON data"[:300]))
    elif not tried.calls:
        findings.append(Finding("signature", f"no call of {name} in the tests has arguments that are JSON"))
    return Tried(tuple(findings), tried.calls, tried.asserts, tried.longest)


def called(
    source: str, name: str, calls: Sequence[Mapping[str, Any]], *, reads: bool, trial: Trial
) -> tuple[Made, ...] | Finding:
    """Make calls by name in a fresh process, in order, and return their outcomes, or what went wrong."""
    outcome = _run({"do": "replay", "source": source, "name": name, "calls": list(calls)}, reads, trial)
    if isinstance(outcome, Finding):
        return outcome
    if len(outcome) != len(calls):
        return Finding("source", "the calls could not all be made")
    slow = max((call["longest"] for call in outcome), default=0.0)
    if slow > trial.seconds:
        return Finding("slow", f"a call takes {slow:.2f} s; the most is {trial.seconds:g} s")
    if changed := [text for call in outcome for text in call["changed"]]:
        return Finding("effects", f"{name} changes what it is given: {changed[0]}")
    return tuple(map(_made, calls, outcome))


def _made(given: Mapping[str, Any], call: Mapping[str, Any]) -> Made:
    if call["raised"]:
        return Made(given, raised=call["raised"].removeprefix("raises "))
    return Made(given, call["result"] if call["whole"] else _NoData(call["told"]))


class _NoData(str):
    """Says what a result is that has no form in JSON; equal to nothing that has one."""


def noticed(
    source: str, name: str, tests: str, *, reads: bool, trial: Trial, calls: Sequence[Made] = ()
) -> tuple[int, int, Finding | None]:
    """Return how many variants of a source its tests notice, of how many, and what is wrong with the tests if anything.

    Tests that say nothing about results do not notice a function that does nothing, or one that always gives the result
    of the first of their ``calls`` (which is tried for tools that read, where the calls have different arguments).
    """
    results = [call.result for call in calls if not call.raised]
    constant = results[:1] if reads and len({repr(call.arguments) for call in calls}) > 1 else []
    empty, varied = stubs(source, name), variants(source, name, trial.variants)
    tried = [*empty, *varied, *(always(source, name, result) for result in constant)]
    seen = _seen(tried, name, tests, reads, trial)
    told = seen[len(empty) : len(empty) + len(varied)]
    text = ""
    if not all(seen[: len(empty)]):
        text = "the tests pass as well where the function does nothing: assert what it returns"
    elif sum(told) < trial.least * len(varied):
        missing = _differing(source, next(text for text, one in zip(varied, told, strict=True) if not one))
        text = f"the tests notice {sum(told)} of {len(varied)} small changes; one that they miss: {missing}"
    elif constant and not seen[-1]:
        text = f"the tests pass as well where the function always gives {constant[0]!r}"[:300]
    return sum(told), len(varied), Finding("assertions", text) if text else None


def _seen(sources: Sequence[str], name: str, tests: str, reads: bool, trial: Trial) -> list[bool]:
    """Say of each source whether the tests fail on it; where one ends the process, all are tried one by one."""
    request = {"do": "variants", "name": name, "text": tests}
    outcome = _run({**request, "sources": list(sources)}, reads, trial)
    if not isinstance(outcome, Finding):
        return [bool(one) for one in outcome]
    if len(sources) == 1:
        return [True]
    return [_seen([source], name, tests, reads, trial)[0] for source in sources]


def _differing(source: str, variant: str) -> str:
    before = ast.unparse(ast.parse(source)).splitlines()
    pairs = zip(before, variant.splitlines(), strict=False)
    return next((f"{new.strip()} (in place of {old.strip()})" for old, new in pairs if old != new), "")


def _run(request: Mapping[str, Any], reads: bool, trial: Trial) -> Any:
    """Return what the code in the sandbox says, or why it says nothing."""
    with closing(Interpreter(trial.settings, persistent=False)) as interpreter:
        observation = interpreter.run(
            f"{_SOURCE}\n\nmain({ {**request, 'writes': not reads, 'seconds': trial.seconds}!r})"
        )
    data = observation.data or {}
    if observation.status == "timeout":
        return Finding("slow", f"the tests do not end within {trial.limit:g} s")
    if observation.status == "ok":
        try:
            return json.loads(ast.literal_eval(str(data.get("value"))))
        except (ValueError, SyntaxError, TypeError):
            return Finding("escape", "it ends the process, or puts another answer in the place of its own")
    stopped = str(data.get("stderr") or "").rpartition(forge_inside.MARK)[2].strip().splitlines()
    if stopped and forge_inside.MARK in str(data.get("stderr")):
        kind, _, text = stopped[0].partition(": ")
        return Finding("effects" if kind == "effects" else "escape", text or stopped[0])
    if data.get("kind"):
        return Finding("source", f"it cannot be loaded: {str(data.get('exception')).strip().splitlines()[-1]}")
    return Finding("escape", f"it ends the process: {str(data.get('exception') or observation.text).strip()[-200:]}")
