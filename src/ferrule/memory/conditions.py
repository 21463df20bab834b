"""How an entry fared on tasks, and conditions that are rewritten so that it is retrieved for the right ones.

Source: "AlphaOPT: Formulating Optimization Programs with Self-Improving LLM Experience Library" (46).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, TypeAlias

from ferrule.memory.entries import Entry
from ferrule.memory.library import Library

__all__ = ["FARED", "Fared", "best_condition", "condition_score", "conditioned", "fared_of", "note_fared"]

Fared: TypeAlias = Literal["positive", "negative", "unretrieved", "irrelevant", "invalid"]
"""Of a task: the entry helped, misled, was missing, had nothing to say, or was right and not used."""
FARED: tuple[Fared, ...] = ("positive", "negative", "unretrieved", "irrelevant", "invalid")


def fared_of(entry: Entry, how: Fared) -> tuple[str, ...]:
    """Return the tasks on which an entry fared in one of the ways of ``FARED``."""
    return tuple(entry.data.get("fared", {}).get(how, ()))


def note_fared(library: Library, id: str, tasks: Mapping[str, Fared]) -> Entry:
    """Note how an entry fared on tasks; what was noted of a task before is replaced. It is a new version."""
    entry = library[id]
    noted: dict[str, list[str]] = {how: [t for t in fared_of(entry, how) if t not in tasks] for how in FARED}
    for task, how in tasks.items():
        noted[how].append(task)
    data: dict[str, Any] = {**entry.data, "fared": {how: ids for how, ids in noted.items() if ids}}
    return library.modify(id, data=data)


def condition_score(entry: Entry, retrieved: Callable[[str], bool]) -> float:
    """Return how well a condition retrieves an entry on the tasks whose labels are known.

    ``(positives retrieved + unretrieved ones retrieved + negatives not retrieved) / (all of the three)``;
    0 where there are none.
    """
    wanted = [*fared_of(entry, "positive"), *fared_of(entry, "unretrieved")]
    unwanted = fared_of(entry, "negative")
    total = len(wanted) + len(unwanted)
    return (sum(map(retrieved, wanted)) + sum(not retrieved(task) for task in unwanted)) / total if total else 0.0


def best_condition(
    entry: Entry, variants: Sequence[str], retrieves: Callable[[Entry, str], bool]
) -> tuple[str, float] | None:
    """Return the variant of a condition with the largest ``condition_score``, the first of equals, and the score.

    ``retrieves(entry, task)`` tells whether the entry with that condition is retrieved for a task. Only one
    strictly above ``positives / all`` counts, what the present condition is worth, which retrieves positives and
    negatives and misses the rest; None where there is none.
    """
    known = {how: len(fared_of(entry, how)) for how in FARED}
    total = known["positive"] + known["negative"] + known["unretrieved"]
    best: tuple[str, float] | None = None
    for when in variants:
        score = condition_score(entry, partial(retrieves, replace(entry, when=when)))
        if score > (known["positive"] / total if total else 0.0) and (best is None or score > best[1]):
            best = (when, score)
    return best


def conditioned(when: str, *, applies: Sequence[str] = (), not_applies: Sequence[str] = ()) -> str:
    """Return a condition with one paragraph on what it does not apply to and one on what it applies to as well."""
    parts = [when]
    if not_applies:
        parts.append(f"Does not apply: {'; '.join(dict.fromkeys(not_applies))}.")
    if applies:
        parts.append(f"Applies: {'; '.join(dict.fromkeys(applies))}.")
    return "\n".join(filter(None, parts))
