"""Which of two candidates is better, as a judge says: shown in both orders, read, and counted into an order of many.

A judge is a flow that asks under a role of its own, so an agent that searches or a program that evaluates yields from
it. Sources: "ToolComp: A Multi-Tool Reasoning & Process Supervision Benchmark" (13) for both orders and the reading of
choices, "ToolLLM: Facilitating Large Language Models to Master 16000+ Real-world APIs" (45) for the order of many.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Literal, TypeAlias

from ferrule.core.flows import Ask, Flow
from ferrule.core.records import Message, Reply, plain_text

__all__ = ["Choice", "Question", "agreed", "better_of", "compared", "read_choice", "win_counts"]

Choice: TypeAlias = Literal["1", "2", "tie", "unknown", "failed"]
"""Which of the two that were shown is better; ``unknown`` cannot be read, and ``failed`` was cut off or never came."""
Question: TypeAlias = Callable[[str, str], Sequence[Message]]
"""Words the question which of two texts is better, for a judge to answer as ``read_choice`` reads it."""

_FENCED = re.compile(r"```(?:json)?\s*(\{[^`]*\})\s*```", re.DOTALL)
_BRACES = re.compile(r"\{[^}]*\}", re.DOTALL)
_MIRRORED: dict[Choice, Choice] = {"1": "2", "2": "1"}


def read_choice(text: str, key: str = "better") -> Choice:
    """Read a judge's choice: JSON with ``"1"``, ``"2"`` or ``"tie"`` under ``key``, else ``unknown``.

    A fenced block is read before the first pair of braces; 1 and 2 may be numbers, and letters of either case. Text
    that is no JSON may say ``key: value`` or ``key = value``, the key without quotes.
    """
    fenced, braces = _FENCED.search(text), _BRACES.search(text)
    body = fenced[1] if fenced else braces[0] if braces else ""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        stated = re.search(rf"(?<![\w\"']){re.escape(key)}\s*[:=]\s*[\"']?(\w+)", text)
        return _choice(stated[1] if stated else None)
    return _choice(said.get(key) if isinstance(said, dict) else None)


def _choice(value: object) -> Choice:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return "unknown"
    known: dict[str, Choice] = {"1": "1", "2": "2", "tie": "tie"}
    return known.get(str(value).strip().lower(), "unknown")


def agreed(shown: Choice, swapped: Choice, *, unknown: float | None = None) -> float | None:
    """Return 1 where the first candidate was chosen in both orders, 0 where the second was, and 0.5 otherwise.

    ``shown`` is the choice with the first candidate in front and ``swapped`` that with the second in front. A judge who
    chooses a place whatever stands in it, and a tie, give 0.5. There is no result (None) where one of the replies
    failed, and ``unknown`` where one cannot be read (0.5 in the published code of ToolComp, 13).
    """
    if "failed" in (shown, swapped):
        return None
    if "unknown" in (shown, swapped):
        return unknown
    return {("1", "2"): 1.0, ("2", "1"): 0.0}.get((shown, swapped), 0.5)


def better_of(text: str = "") -> Question:
    """Return the plain question of ``compared`` about two candidates; ``text`` says what they are for."""

    def question(first: str, second: str) -> Sequence[Message]:
        head = f"{text}\n\n" if text else ""
        asked = 'Which is better? Reply {"better": "1"}, {"better": "2"} or {"better": "tie"}.'
        return (Message("user", f"{head}Candidate 1:\n{first}\n\nCandidate 2:\n{second}\n\n{asked}"),)

    return question


def compared(
    pairs: Sequence[tuple[str, str]], question: Question, *, role: str = "judge", key: str = "better",
    max_tokens: int = 64, unknown: float | None = None, reference: bool = False,
) -> Flow[list[float | None]]:  # fmt: skip
    """Ask a judge about pairs of texts, all in one batch, and return for each how far the first is better: 0 to 1.

    Every pair is shown in both orders, which ``agreed`` reads: there is no result where a reply failed or was cut off,
    and ``unknown`` where one cannot be read. ``reference`` shows each pair once, as ToolEval does, where the order can
    decide.
    """
    orders = [(first, second) for first, second in pairs]
    if not reference:
        orders += [(second, first) for first, second in pairs]
    if not orders:
        return []
    asks = tuple(Ask(tuple(question(*order)), role=role, max_tokens=max_tokens) for order in orders)
    answers: Sequence[Sequence[Reply]] = yield asks
    shown = [_read(replies[0], key) for replies in answers]
    swapped = [_MIRRORED.get(choice, choice) for choice in shown] if reference else shown[len(pairs) :]
    return [agreed(*both, unknown=unknown) for both in zip(shown[: len(pairs)], swapped, strict=True)]


def _read(reply: Reply, key: str) -> Choice:
    return read_choice(plain_text(reply.message), key) if reply.finish in ("stop", "answer") else "failed"


def win_counts(
    texts: Sequence[str], question: Question, *, role: str = "judge", key: str = "better"
) -> Flow[list[float]]:
    """Let a judge compare every two texts and return the comparisons that each wins, a tie counting one half.

    A comparison without a result counts for neither.
    """
    places = list(combinations(range(len(texts)), 2))
    shares = yield from compared([(texts[i], texts[j]) for i, j in places], question, role=role, key=key)
    counts = [0.0] * len(texts)
    for (i, j), share in zip(places, shares, strict=True):
        if share is not None:
            counts[i] += share
            counts[j] += 1.0 - share
    return counts
