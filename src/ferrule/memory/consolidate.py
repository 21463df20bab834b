"""Keeping a library small: what is new is merged with what is like it, and what is alike is merged until all fits.

Source: "XSkill: Continual Learning from Experience and Skills in Multimodal Agents" (40), with ids that stay. Who words
a merged text is a function or a flow; ``worded`` asks a model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from ferrule.agents.flow import cut_off, returned
from ferrule.core.flows import Ask, Flow, ask
from ferrule.core.records import Message, plain_text
from ferrule.memory.checks import Admitted, Check, admit, no_orders
from ferrule.memory.entries import EXPERIENCE, Change, Entry
from ferrule.memory.library import Library, preview
from ferrule.memory.replies import list_in

__all__ = ["Word", "alike_pairs", "insert", "reduce", "tidied", "tidying", "worded"]

Word: TypeAlias = Callable[[Sequence[str]], "Flow[str] | str"]
"""Words several texts as one; empty where it cannot."""


def worded(*, role: str = "writer", words: int = 64, max_tokens: int = 256) -> Word:
    """Return what asks a model under ``role`` for one text of at most so many words."""

    def word(texts: Sequence[str]) -> Flow[str]:
        listed = "\n".join(f"- {text}" for text in texts)
        asked = f"Write one note of at most {words} words that says all that these say:\n{listed}\nReply with the note."
        (reply,) = yield from ask(Ask((Message("user", asked),), role=role, max_tokens=max_tokens))
        return "" if cut_off(reply) else plain_text(reply.message).strip()

    return word


def insert(
    library: Library, change: Change, word: Word, *, threshold: float = 0.70, most: int = 10, check: Check = no_orders
) -> Flow[Admitted]:
    """Add an entry, in one text with those that are like it, which it then replaces.

    Alike are at most ``most`` live entries of its kind with a cosine of at least ``threshold``. Where the texts cannot
    be worded as one, or that does not pass ``check``, the new text is added alone.
    """
    new = preview(change, ())
    similar = [entry for entry, _ in library.search(new.key, most, least=threshold, kind=new.kind)]
    if similar:
        text = yield from returned(word([new.text, *(entry.text for entry in similar)]))
        if text.strip():
            ids = tuple(entry.id for entry in similar)
            merge = Change("merge", ids, text.strip(), origins=change.origins, of_kind=new.kind)
            (merged,) = yield from admit(library, [merge], check)
            if not merged.problem:
                return merged
    (added,) = yield from admit(library, [change], check)
    return added


def alike_pairs(library: Library, *, threshold: float, kind: str = EXPERIENCE) -> list[tuple[Entry, Entry, float]]:
    """Return the pairs of live entries whose cosine is at least ``threshold``, the most alike first."""
    entries = library.entries(kind=kind)
    if len(entries) < 2:
        return []
    rows = library.vectors([entry.key for entry in entries])
    score_EE = rows @ rows.T
    first, second = np.triu_indices(len(entries), 1)
    scores = score_EE[first, second]
    order = [i for i in np.argsort(-scores, kind="stable") if scores[i] >= threshold]
    return [(entries[first[i]], entries[second[i]], float(scores[i])) for i in order]


def reduce(
    library: Library, word: Word, *, limit: int = 120, threshold: float = 0.70, rounds: int = 3,
    check: Check = no_orders, kind: str = EXPERIENCE,
) -> Flow[list[Admitted]]:  # fmt: skip
    """Merge pairs of entries that are alike while there are more than ``limit``; return what became of each merge.

    A round takes pairs from the most alike down, each entry once, and at most as many as there are entries too many.
    It ends after ``rounds``, and when a round merged nothing. A merge that ``check`` refuses leaves both as they are.
    """
    results: list[Admitted] = []
    for _ in range(rounds):
        excess = len(library.entries(kind=kind)) - limit
        if excess <= 0:
            break
        taken: set[str] = set()
        merged = 0
        for one, other, _ in alike_pairs(library, threshold=threshold, kind=kind):
            if merged >= excess or {one.id, other.id} & taken:
                continue
            taken |= {one.id, other.id}
            text = yield from returned(word([one.text, other.text]))
            if text.strip():
                change = Change("merge", (one.id, other.id), text.strip())
                results += yield from admit(library, [change], check)
                merged += not results[-1].problem
        if not merged:
            break
    return results


def tidying(text: str, known: Sequence[str]) -> list[Change]:
    """Read ``merge`` and ``delete`` operations out of a reply; a merge names at least two ids that are ``known``."""
    changes = []
    for row in list_in(text):
        ids = row.get("ids", ()) if isinstance(row, Mapping) else ()
        valid = tuple(id for id in dict.fromkeys(map(str, ids if isinstance(ids, list) else [ids])) if id in known)
        if valid and row.get("option") == "delete":
            changes.append(Change("delete", valid))
        elif len(valid) > 1 and row.get("option") == "merge" and str(row.get("experience", "")).strip():
            changes.append(Change("merge", valid, str(row["experience"])))
    return changes


def tidied(
    library: Library, *, role: str = "writer", least: int = 10, goal: tuple[int, int] = (80, 100),
    check: Check = no_orders, max_tokens: int = 4096,
) -> Flow[list[Admitted]]:  # fmt: skip
    """Let a model go through the library once and propose merges and deletions; below ``least`` entries nothing is."""
    entries = library.entries(kind=EXPERIENCE)
    if len(entries) < least:
        return []
    asked = (
        f"Tidy these experiences up to {goal[0]} to {goal[1]}. Reply with a JSON list of "
        '{"option": "merge", "ids": [...], "experience": "..."} and {"option": "delete", "ids": [...]}.\n'
    )
    told = "\n".join(f"[{entry.id}] {entry.text}" for entry in entries)
    (reply,) = yield from ask(Ask((Message("user", asked + told),), role=role, max_tokens=max_tokens))
    changes = [] if cut_off(reply) else tidying(plain_text(reply.message), [entry.id for entry in entries])
    return (yield from admit(library, changes, check))
