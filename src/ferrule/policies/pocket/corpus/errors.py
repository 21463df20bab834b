"""Calls that fail, worded as the framework words failures, and how a reply goes on after them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ferrule.core.arrays import nearest
from ferrule.core.records import Tool
from ferrule.policies.pocket.corpus.draw import Draw, english
from ferrule.policies.pocket.corpus.kit import Exercise, Kit, Round
from ferrule.tools.invoke import Malformed, arguments

__all__ = ["refusal", "spoilt"]

_BUSY = (
    "{error}: busy, try again",
    "{tool} was stopped after {seconds} s",
    "TimeoutError: timed out",
    "ConnectionError: {word}, try again",
    "HTTP 503: try again later",
    "RuntimeError: temporarily unavailable",
)
_NOTHING = (
    "KeyError: {key!r}",
    "KeyError: 'no entry {key}'",
    "ValueError: no such entry {key}",
    "LookupError: nothing known of {key}",
    "{error}: not found",
    "null",
    "[]",
    "no result",
    "the call budget is spent",
)


def refusal(tool: Tool, given: Mapping[str, Any]) -> str:
    """Return the framework's own words for arguments that do not fit; empty when they fit or can be repaired."""
    try:
        arguments(tool, given)
    except Malformed as problem:
        return str(problem)
    return ""


def _wrong(draw: Draw, tool: Tool, given: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return wrong arguments for a tool and what it says to them."""
    names = list(given)
    name = draw.rng.choice(names)
    wrong = dict(given)
    kind = draw.one("renamed", "missing", "kind", "extra")
    if kind == "renamed":
        other = draw.word() if draw.chance(0.5) else draw.one("id", "name", "value", "query", "number", "key")
        wrong = {(other if key == name else key): value for key, value in given.items()}
    elif kind == "missing":
        del wrong[name]
    elif kind == "kind":
        wrong[name] = draw.word() if isinstance(given[name], int | float) else draw.rng.choice(([], {}, [1]))
    else:
        wrong[draw.word()] = draw.value()
    return wrong, refusal(tool, wrong)


def _replaced(exercise: Exercise, *rounds: Round, answer: str | None = None, stop: bool = False) -> Exercise:
    """Return the exercise with ``rounds`` put first; ``stop`` drops the ones it had."""
    rest = () if stop else exercise.rounds
    return Exercise("repair", exercise.ask, (*rounds, *rest), exercise.answer if answer is None else answer)


def spoilt(kit: Kit, exercise: Exercise) -> Exercise | None:
    """Return the exercise with a failed first call before it is done right, or None where that cannot be."""
    draw = kit.draw
    if not exercise.rounds or not exercise.rounds[0].learned or len(exercise.rounds[0].calls) != 1:
        return None
    ((tool, given),) = exercise.rounds[0].calls
    if not given:
        return None
    key = next(iter(given.values()))
    fill = {
        "error": draw.one("Error", "error", "Failed"),
        "tool": tool.name,
        "seconds": draw.one("1", "2", "5", "10", "0.5"),
        "word": draw.word(),
        "key": key,
    }
    kind = draw.rng.choices(("wrong", "unknown", "busy", "mean", "nothing", "broken"), (5, 2, 2, 2, 1.5, 1))[0]
    if kind == "wrong":
        wrong, text = _wrong(draw, tool, given)
        return _replaced(exercise, Round(((tool, wrong),), (text,), learned=False)) if text else None
    if kind == "unknown":
        return _unknown(kit, exercise, tool, given)
    if kind == "busy":
        failed = Round(((tool, given),), (draw.one(*_BUSY).format(**fill),))
        return _replaced(exercise, *([failed] * (2 if draw.chance(0.15) else 1)))
    if kind == "mean" and _named(tool, given) and str(key) in exercise.ask:
        return _meant(draw, exercise, tool, given, str(key))
    if kind == "nothing":
        failed = Round(((tool, given),), (draw.one(*_NOTHING).format(**fill),))
        return _replaced(exercise, failed, answer="Not found.", stop=True)
    if kind == "broken":
        text = draw.one(
            "malformed call: broken JSON", "malformed call: not a JSON object", "malformed call: no closing tag"
        )
        return _replaced(exercise, Round(((tool, dict(list(given.items())[:-1])),), (text,), learned=False))
    return None


def _unknown(kit: Kit, exercise: Exercise, tool: Tool, given: Mapping[str, Any]) -> Exercise:
    """A name that is not on offer is called first."""
    draw = kit.draw
    near = tool.name[:-1] if draw.chance(0.5) and len(tool.name) > 4 else f"{draw.one('get', 'do', 'the')}_{tool.name}"
    name = near if draw.chance(0.6) and near not in {t.name for t in kit.tools} else draw.word()
    stranger = Tool(name, tool.description, tool.parameters, tool.run)
    text = f"unknown tool {name!r}; {nearest(name, [t.name for t in kit.tools])}"
    return _replaced(exercise, Round(((stranger, given),), (text,), learned=False, plan=""))


def _named(tool: Tool, given: Mapping[str, Any]) -> bool:
    """Tell whether the first argument is a name, which may be misspelt, rather than a text, a choice or a number."""
    name, value = next(iter(given.items()))
    if not isinstance(value, str) or "enum" in tool.parameters["properties"][name]:
        return False
    return re.fullmatch(r"[A-Z][\w-]*( [A-Z]\w*)?|[a-z]\w*", value) is not None and value not in english()


def _meant(draw: Draw, exercise: Exercise, tool: Tool, given: Mapping[str, Any], key: str) -> Exercise:
    """The tool names another spelling, which the next call takes."""
    right = draw.name()
    text = draw.one(
        f"KeyError: no entry {key}; did you mean {right!r}?",
        f"ValueError: {key} is unknown, nearest is {right}",
        f"Error: no {key}; did you mean {right}?",
        f"LookupError: {key!r} not found (similar: {right!r})",
    )
    repeated = Round(((tool, {k: right if v == key else v for k, v in given.items()}),), exercise.rounds[0].results)
    first = Round(((tool, given),), (text,))
    return Exercise("repair", exercise.ask, (first, repeated, *exercise.rounds[1:]), exercise.answer)
