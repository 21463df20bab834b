"""Answers graded in three ways: correct, correct but badly formatted, or wrong; by rule, or as a judge says.

Source: "ToolComp: A Multi-Tool Reasoning & Process Supervision Benchmark" (13).
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from ferrule.core.flows import Ask, Flow, Reward, ask
from ferrule.core.records import Message, Score, Task, Trajectory, plain_text
from ferrule.rewards.matching import assign
from ferrule.rewards.tooleval import read_label

__all__ = ["Gold", "Graded", "gold_of", "graded", "judged_answer", "same_values", "three_way", "written_values"]

Graded: TypeAlias = Literal["correct", "misformatted", "wrong"]
"""``misformatted`` is right, and not in the form that was asked for."""
_FENCED = re.compile(r"```(?:json)?\s*(\{.*?\})\s*```", re.DOTALL | re.IGNORECASE)
_OBJECT = re.compile(r"\{[^{}]*\}")
_NUMBER = re.compile(r"[-+\u2212]?\s*(?:(?:\d{1,3}(?:[,\s]\d{3})+|\d+)(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?")
_ROUNDING = 1.0 + 1e-9


@dataclass(frozen=True)
class Gold:
    """The expected values; ``ordered`` says that a list must follow their order."""

    values: tuple[str, ...]
    ordered: bool = True


def gold_of(text: str) -> Gold:
    """Read an expected answer: ``[a, b]`` in any order, ``{a, b}`` in this order, anything else one value.

    Values are separated by semicolons where there are any, else by commas outside numbers (``1,234``), and may be
    written as in JSON where one holds a separator itself or is a list.
    """
    text = text.strip()
    for opening, closing, ordered in (("[", "]", False), ("{", "}", True)):
        if text.startswith(opening) and text.endswith(closing):
            return Gold(_listed(text[1:-1]), ordered)
    return Gold((text,))


def _listed(inner: str) -> tuple[str, ...]:
    if any(mark in inner for mark in '"[{'):
        with contextlib.suppress(ValueError, RecursionError):
            return tuple(_shown(value) for value in json.loads(f"[{inner}]"))
    parts = inner.split(";") if ";" in inner else re.split(r",(?!\d{3}(?!\d))", inner)
    return tuple(part.strip().strip("\"'") for part in parts if part.strip())


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def written_values(answer: str, *, keys: Sequence[str] = ("answer", "final_answer")) -> tuple[tuple[str, ...], bool]:
    """Return the values of an answer, and whether it has the form that was asked for.

    The form is a JSON object, alone or fenced, with a value or a list under one of ``keys``; the last one counts. An
    object in the midst of a text has the values and not the form. Of other texts the last line counts, read as by
    ``gold_of``, and where it has no brackets by its separators.
    """
    formed = _stated([answer, *_FENCED.findall(answer)], keys)
    if formed is not None:
        return formed, True
    last = next((line.strip() for line in reversed(answer.splitlines()) if line.strip()), "")
    loose = _stated(_OBJECT.findall(answer), keys)
    return _line_values(last) if loose is None else loose, False


def _stated(texts: Sequence[str], keys: Sequence[str]) -> tuple[str, ...] | None:
    """Return the values in the last of some texts that is a JSON object with one of the keys; None without one."""
    for text in reversed(texts):
        said: Any = None
        with contextlib.suppress(ValueError, RecursionError):
            said = json.loads(text)
        under = [said[key] for key in keys if said.get(key) is not None] if isinstance(said, dict) else []
        if under:
            return tuple(map(_shown, under[0] if isinstance(under[0], list) else under[:1]))
    return None


def _line_values(line: str) -> tuple[str, ...]:
    return gold_of(line).values if line[:1] + line[-1:] in ("[]", "{}") else _listed(line.rstrip("."))


def _number(text: str) -> float | None:
    bare = re.sub(r"\s*[$\u20ac\u00a3]\s*", "", text).strip().removesuffix("%").rstrip()
    if _NUMBER.fullmatch(bare) is None:
        return None
    number = float(re.sub(r"[,\s]", "", bare).replace("\u2212", "-"))
    return number if math.isfinite(number) else None


def _same(given: str, wanted: str, tolerance: float) -> bool:
    first, second = _number(given), _number(wanted)
    if first is not None and second is not None:
        return abs(first - second) <= tolerance * abs(second) * _ROUNDING
    return _folded(given) == _folded(wanted)


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def same_values(given: Sequence[str], gold: Gold, *, tolerance: float = 0.1) -> bool:
    """Tell whether values are the expected ones: each once, in their order where the gold has one.

    Numbers are equal within ``tolerance`` of the expected one; other values without regard to case and spaces. Raises
    ``ValueError`` for a ``tolerance`` outside 0 up to but not including 1.
    """
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance is {tolerance}; it must lie in 0 up to but not including 1")
    if len(given) != len(gold.values):
        return False
    if gold.ordered:
        return all(_same(one, wanted, tolerance) for one, wanted in zip(given, gold.values, strict=True))
    same_PG = np.array([[float(_same(one, wanted, tolerance)) for wanted in gold.values] for one in given])
    return len(assign(same_PG, "exact")) == len(given)


def graded(answer: str | None, gold: Gold, *, tolerance: float = 0.1) -> Graded:
    """Grade an answer by rule; one that holds the expected values in another form is ``misformatted``."""
    if answer is None:
        return "wrong"
    values, formed = written_values(answer)
    if same_values(values, gold, tolerance=tolerance):
        return "correct" if formed else "misformatted"
    if formed and len(values) == 1 and same_values(_line_values(values[0]), gold, tolerance=tolerance):
        return "misformatted"  # a list that was written as one text
    if len(gold.values) == 1 and _same(answer.strip(), gold.values[0], tolerance):
        return "misformatted"  # a single value that holds commas itself
    return "wrong"


def three_way(*, tolerance: float = 0.1) -> Reward:
    """Return the reward that is 1 for an answer that is correct, badly formatted or not, by ``graded``.

    ``task.answer`` is a text as ``gold_of`` reads it, or a list in any order. The part ``formatted`` says whether the
    form was right as well, and ``Score.info`` holds the grade. Raises ``ValueError`` for a task without an answer.
    """
    same_values((), Gold(()), tolerance=tolerance)

    def reward(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
        if task.answer is None:
            raise ValueError(f"task {task.id!r} has no answer to grade by")
        listed = isinstance(task.answer, list | tuple)
        gold = Gold(tuple(map(_shown, task.answer)), ordered=False) if listed else gold_of(str(task.answer))
        grades = [graded(trajectory.answer, gold, tolerance=tolerance) for trajectory in trajectories]
        return [
            Score(
                float(grade != "wrong"),
                parts={"outcome": float(grade != "wrong"), "formatted": float(grade == "correct")},
                info={"grade": grade},
            )
            for grade in grades
        ]

    return reward


def judged_answer(
    query: str, answer: str | None, gold: str, *, tolerance: float = 0.1, role: str = "judge", max_tokens: int = 256
) -> Flow[Graded | None]:
    """Let a judge grade an answer; None where its reply failed or cannot be read, which passes nothing.

    The judge is told the brackets of ``gold_of`` and the ``tolerance`` of numbers. No answer is wrong without asking.
    """
    if answer is None:
        return "wrong"
    asked = (
        f"Question:\n{query}\n\nExpected answer:\n{gold}\n\nGiven answer:\n{answer}\n\nIs the given answer right? "
        "Square brackets hold a list in any order, braces one in this order. Numbers count as equal within "
        f"{tolerance:.0%}. Reply with one word: correct; misformatted, if it is right and only its form is not that "
        "which was asked for; or wrong."
    )
    (reply,) = yield from ask(Ask((Message("user", asked),), role=role, max_tokens=max_tokens))
    if reply.finish not in ("stop", "answer"):
        return None
    label = read_label(plain_text(reply.message), get_args(Graded))
    return next((grade for grade in get_args(Graded) if grade == label), None)
