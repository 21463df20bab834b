"""Whether a text that should only help gives its task's answer away.

Source: "RLAD: Training LLMs to Discover Abstractions for Solving Reasoning Problems" (paper 49).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, TypeAlias

from ferrule.core.records import Task
from ferrule.rewards.verify import same_number
from ferrule.tools.calculator import calculate

__all__ = ["PROBES", "Probe", "computes_answer", "leaks", "states_answer"]

Probe: TypeAlias = Callable[[str, Task], bool]


def states_answer(text: str, task: Task) -> bool:
    """Say whether the answer stands in a text as a word or number of its own."""
    wanted = [re.escape(str(gold).strip()) for gold in _golds(task)]
    return any(gold and re.search(rf"(?<![\w.]){gold}(?!\w|\.\d)", text, re.IGNORECASE) for gold in wanted)


def _golds(task: Task) -> Sequence[Any]:
    return task.answer if isinstance(task.answer, list | tuple) else (task.answer,)


_EXPRESSION = re.compile(r"(?<![\w.])[.\d(](?:[\d\s.()+*/%-]{0,200}[\d)])?(?!\w|\.\d)")


def computes_answer(text: str, task: Task) -> bool:
    """Say whether a number or an arithmetic expression in a text has the answer as its value (``1/2`` is ``50%``).

    Only answers that are numbers as a whole can be computed.
    """
    golds = [value for value in (_value(str(gold)) for gold in _golds(task)) if value is not None]
    if not golds:
        return False
    plain = _FRACTION.sub(r"(\1)/(\2)", text)
    written = [*_EXPRESSION.findall(plain), *_NUMBER.findall(plain)]
    values = (_value(number) for number in written)
    return any(value is not None and same_number(value, gold) for value in values for gold in golds)


_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_NUMBER = re.compile(r"(?<![\w.])(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:e[+-]?\d+)?%?(?!\w)", re.IGNORECASE)


def _value(text: str) -> Fraction | None:
    """The value of a number or expression, None when a text is neither."""
    text = _FRACTION.sub(r"(\1)/(\2)", text.strip().strip("$")).replace(",", "").strip()
    share = text.endswith("%")
    try:
        value = Fraction(str(calculate(re.sub(r"(?<!\d)\.(?=\d)", "0.", text.removesuffix("%").strip()))))
    except (ValueError, OverflowError, ZeroDivisionError):
        return None
    return value / 100 if share else value


PROBES: tuple[Probe, ...] = (states_answer, computes_answer)
"""Checks of a text for its task's answer."""


def leaks(text: str, task: Task, *, probes: Sequence[Probe] = PROBES) -> bool:
    """Say whether any probe finds the task's answer in the text (never for a task without an answer)."""
    return task.answer is not None and any(probe(text, task) for probe in probes)
