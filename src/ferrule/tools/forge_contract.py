"""Contracts of forged tools: conditions that a maker declares, and those that the calls of its tests show.

Conditions speak of the arguments and the result alone (``args.x``, ``result``), so they hold in any state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ferrule.core.records import Tool
from ferrule.tools.contracts import Contract, State, gate, verify
from ferrule.tools.forge_trial import Made

__all__ = ["breaches", "inferred"]


def inferred(
    tool: Tool, calls: Sequence[Made], *, pre: Sequence[str] = (), post: Sequence[str] = (), least: int = 4
) -> Contract:
    """Return the contract of a tool: what is declared, its output schema, and what ``calls`` show.

    A condition on results is inferred when it holds for all calls, of which at least ``least`` have different results;
    one on arguments when it holds for all calls that gave a result and for none that raised. Of the inferred ones
    those with equality come first, and what follows from them is left out. Raises ``ValueError`` for a declared
    condition that cannot be read.
    """
    good = [call for call in calls if not call.raised]
    bad = [call for call in calls if call.raised]
    found_pre = [text for text in _before(good) if bad and _holds(Contract(pre=(text,)), good, bad)]
    found_post: list[str] = []
    if len({repr(call.result) for call in good}) >= least:
        for subject, texts in _after(good):
            kept = next((text for text in texts if _holds(Contract(post=(text,)), good)), "")
            if kept and subject:
                found_post.append(kept)
    return Contract(
        pre=tuple(dict.fromkeys([*pre, *found_pre[:1]])),
        post=tuple(dict.fromkeys([*post, *found_post])),
        output=tool.output,
    )


def breaches(contract: Contract, calls: Sequence[Made]) -> list[str]:
    """Return what of a contract calls break: one that gave a result and must not run, or a result not accepted."""
    told = []
    for call in calls:
        if call.raised:
            continue
        verdict = gate(State(), contract, call.arguments)
        if verdict.passed:
            verdict = verify(State(), contract, call.result, call.arguments)
        if not verdict.passed:
            told.append(f"{_shown(call)}: {verdict.text or verdict.reason}")
    return told


def _shown(call: Made) -> str:
    given = ", ".join(f"{name}={value!r}" for name, value in call.arguments.items())
    return f"({given}) gives {call.result!r}"[:200]


def _holds(contract: Contract, good: Sequence[Made], bad: Sequence[Made] = ()) -> bool:
    if any(gate(State(), contract, call.arguments).passed for call in bad):
        return False
    return not breaches(contract, good)


def _sized(value: Any) -> bool:
    return isinstance(value, str | list | dict)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _before(good: Sequence[Made]) -> Iterator[str]:
    """Yield candidates for conditions on arguments."""
    names = list(good[0].arguments) if good else []
    for name in names:
        values = [call.arguments[name] for call in good if name in call.arguments]
        if len(values) < len(good):
            continue
        if all(map(_number, values)):
            yield from (f"args.{name} > 0", f"args.{name} >= 0", f"args.{name} != 0")
        elif all(map(_sized, values)):
            yield f"len(args.{name}) > 0"


def _after(good: Sequence[Made]) -> Iterator[tuple[str, list[str]]]:
    """Yield candidates for conditions on results by what they speak of, the strictest first."""
    results = [call.result for call in good]
    names = [name for name in good[0].arguments if all(name in call.arguments for call in good)]
    sized = [name for name in names if all(_sized(call.arguments[name]) for call in good)]
    numbers = [name for name in names if all(_number(call.arguments[name]) for call in good)]
    if all(map(_number, results)):
        yield "sign", ["result > 0", "result >= 0"]
        for name in sized:
            yield name, [f"result == len(args.{name})", f"result <= len(args.{name})"]
        for name in numbers:
            yield name, [f"result <= args.{name}", f"result >= args.{name}"]
    elif all(map(_sized, results)):
        for name in sized:
            yield name, [f"len(result) == len(args.{name})", f"len(result) <= len(args.{name})"]
