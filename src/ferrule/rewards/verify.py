"""Comparing an answer with the expected one, by the name of a verifier.

A list or tuple of golds accepts any of its members. ``regex``, ``python`` and ``math-verify`` run in a helper process
with a time limit (``ferrule.rewards.comparing``). A wrong, missing or unreadable answer scores 0.0 and never raises; an
invalid gold (not a number, pattern or expression) is a mistake in the data set and raises ``ValueError``.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any

from ferrule.chat.answer import final_answer
from ferrule.core.arrays import nearest
from ferrule.rewards import mathematics
from ferrule.rewards.comparing import SECONDS, Comparison, limited
from ferrule.rewards.expression import compile_expression, evaluate
from ferrule.rewards.grids import two_attempts
from ferrule.rewards.wording import spelled

__all__ = ["VERIFIERS", "compare", "last_number", "mentions", "same_number", "verify", "word_f1"]

ANSWER_LIMIT = 20_000
"""Only this many characters from the end of an answer are looked at."""
TOLERANCE = 1e-6
"""Relative tolerance between numbers that are not both whole."""
NEAR = Fraction(1, 10)
"""Absolute tolerance of the verifier ``near``."""

_UNSIGNED = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,3})?|\.\d+"
_NUMBER = re.compile(
    rf"(?P<sign>(?<![\w.)\]])[-+])?(?:(?P<whole>\d{{1,15}}) (?=\d+\s?/\s?\d))?(?P<top>{_UNSIGNED})"
    r"(?:\s?/\s?(?P<bottom>\d{1,300}))?(?P<percent>\s?\\?%)?"
)
_FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*(-?\d+)\s*\}\s*\{\s*(\d+)\s*\}")


def _fold(text: str) -> str:
    return " ".join(text.split())


def last_number(text: str) -> tuple[Fraction, bool] | None:
    """Return the last number in ``text`` and whether a percent sign follows it, or None.

    Reads thousands separators, decimals, exponents, fractions (``3/4``, ``1 3/4``, ``\\frac{3}{4}``), the typographic
    minus and words (``3 million``, ``negative 5``). A percentage keeps its face value: ``50%`` gives ``(50, True)``.
    """
    text = spelled(text[-ANSWER_LIMIT:].replace("\u2212", "-").replace("{,}", ","))
    text = _FRACTION.sub(r"\1/\2", text)
    match = None
    for match in _NUMBER.finditer(text):  # noqa: B007 - the last one counts
        pass
    if match is None or len(match["top"]) > 400:
        return None
    value = Fraction(match["top"].replace(",", ""))
    if match["bottom"] is not None:
        if int(match["bottom"]) == 0:
            return None
        value /= int(match["bottom"])
    if match["whole"] is not None:
        value += int(match["whole"])
    return (-value if match["sign"] == "-" else value), match["percent"] is not None


def same_number(first: Fraction, second: Fraction, *, tolerance: float = TOLERANCE) -> bool:
    """Compare two numbers: whole numbers exactly, others within ``tolerance`` relative to the larger magnitude."""
    if first == second:
        return True
    if first.denominator == 1 and second.denominator == 1:
        return False
    return abs(first - second) <= Fraction(tolerance) * max(abs(first), abs(second))


def _exact(answer: str, gold: Any) -> float:
    return float(_fold(answer) == _fold(str(gold)))


def _numeric(answer: str, gold: Any) -> float:
    expected = last_number(str(gold))
    if expected is None:
        raise ValueError(f"verifier 'numeric' needs a number as gold, not {gold!r}")
    got = last_number(answer)
    if got is None:
        return 0.0
    (a, a_percent), (b, b_percent) = got, expected
    # A percent sign on one side only leaves open what is meant: 50% passes for 50 and for 0.5.
    readings = [a] if a_percent == b_percent else [a, a / 100 if a_percent else a * 100]
    return float(any(same_number(reading, b) for reading in readings))


def _near(answer: str, gold: Any) -> float:
    """Compare the last numbers within 0.1 absolute. Source: "AlphaOPT" (46), for optima."""
    expected, got = last_number(str(gold)), last_number(answer)
    if expected is None:
        raise ValueError(f"verifier 'near' needs a number as gold, not {gold!r}")
    return float(got is not None and abs(got[0] - expected[0]) <= NEAR)


@lru_cache(maxsize=4096)
def _pattern(gold: str) -> re.Pattern[str]:
    try:
        return re.compile(gold)
    except re.error as error:
        raise ValueError(f"verifier 'regex': {gold!r} is not a pattern: {error}") from None


def _regex(answer: str, gold: Any) -> float:
    return float(_pattern(str(gold)).fullmatch(answer.strip()) is not None)


@lru_cache(maxsize=4096)
def _expression(gold: str) -> Any:
    return compile_expression(gold)


def _python(answer: str, gold: Any) -> float:
    expression = _expression(str(gold))
    number = last_number(answer)
    x: float | int | None = None
    try:
        if number is not None:
            x = int(number[0]) if number[0].denominator == 1 else float(number[0])
        result = evaluate(expression, {"answer": answer, "x": x})
        return min(1.0, max(0.0, float(result))) if isinstance(result, (int, float)) else float(bool(result))
    except Exception:  # whatever the expression meets in this answer, the answer did not satisfy it
        return 0.0


def _math(answer: str, gold: Any) -> float:
    try:
        return float(mathematics.equal(answer, str(gold)))
    except ImportError:
        raise
    except Exception:  # the library's own exceptions vary; an answer it cannot read is not a right one
        return 0.0


def word_f1(answer: str, gold: Any) -> float:
    """Overlap of the *sets* of words, without case and punctuation: ``2 |a & b| / (|a| + |b|)``, 0 when none is shared.

    Nothing is shared with a gold of None. Source: MatchTIR (23).
    """
    ours, theirs = _words(answer), set() if gold is None else _words(str(gold))
    shared = len(ours & theirs)
    return 2.0 * shared / (len(ours) + len(theirs)) if shared else 0.0


def _words(text: str) -> set[str]:
    return set(re.sub(r"[\W_]+", " ", text.lower()).split())


def _short(text: str) -> list[str]:
    """Return the words of a short answer: lower case, no punctuation of ASCII, no articles."""
    bare = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


def _plain(answer: str, gold: Any) -> float:
    return float(_short(final_answer(answer)) == _short(str(gold)))


def _f1(answer: str, gold: Any) -> float:
    """Overlap of the words as often as they occur; yes and no are right or wrong, and share nothing with more words.

    Source: the official evaluation of HotpotQA, https://arxiv.org/abs/1809.09600, after that of SQuAD.
    """
    ours, theirs = _short(final_answer(answer)), _short(str(gold))
    if ours != theirs and any(" ".join(words) in ("yes", "no", "noanswer") for words in (ours, theirs)):
        return 0.0
    shared = sum((Counter(ours) & Counter(theirs)).values())
    return 2.0 * shared / (len(ours) + len(theirs)) if shared else 0.0


def mentions(answer: str, gold: Any) -> float:
    """1.0 when every line of ``gold`` occurs in the answer, without case and commas; a number not within another.

    Source: the ``outputs`` of tau-bench, https://arxiv.org/abs/2406.12045.
    """
    told = answer.lower().replace(",", "")
    lines = (" ".join(line.lower().replace(",", "").split()) for line in str(gold).splitlines())
    return float(all(re.search(rf"(?<!\d){re.escape(line)}(?!\.?\d)", told) for line in lines if line))


VERIFIERS: dict[str, Callable[[str, Any], float]] = {
    "exact": _exact,
    "numeric": _numeric,
    "near": _near,
    "math-verify": _math,
    "regex": _regex,
    "python": _python,
    "words": word_f1,
    "plain": _plain,
    "f1": _f1,
    "mentions": mentions,
    "grids": two_attempts,
}
"""The verifiers by name."""


_LIMITED = ("math-verify", "regex", "python")


def compare(name: str, answer: str | None, gold: Any, *, seconds: float = SECONDS) -> Comparison:
    """Compare ``answer`` with ``gold`` by the verifier of that name.

    The value is 1.0 when right and 0.0 when wrong; ``words`` and ``f1`` give partial credit, and so does a ``python``
    expression that yields a number (clipped to 0 to 1). A comparison that takes longer than ``seconds``, or fails by
    itself, is data as well: its status says so. Raises ``ValueError`` on an unknown verifier (naming the nearest) and
    on a gold the verifier cannot use.
    """
    if name not in VERIFIERS:
        raise ValueError(f"unknown verifier {name!r}; {nearest(name, list(VERIFIERS))}")
    if answer is None:
        return Comparison(0.0)
    if isinstance(gold, (list, tuple)):
        each = [compare(name, answer, member, seconds=seconds) for member in gold]
        return max(each, key=lambda one: (one.value, one.status != "ok"), default=Comparison(0.0))
    answer = str(answer)[-ANSWER_LIMIT:]
    if name in _LIMITED:
        return limited(name, answer, str(gold), seconds=seconds)
    return Comparison(VERIFIERS[name](answer, gold))


def verify(name: str, answer: str | None, gold: Any) -> float:
    """Return the value of :func:`compare`: 1.0 is right, 0.0 wrong or not finished in time."""
    return compare(name, answer, gold).value
