"""A library of what was learned: entries with stable ids that are added, changed, merged, retired, searched, credited.

Sources: the libraries of "XSkill: Continual Learning from Experience and Skills in Multimodal Agents" (40) and of
"AlphaOPT: Formulating Optimization Programs with Self-Improving LLM Experience Library" (46), whose operations these
are. ``ferrule.memory.checks`` decides what gets in, ``ferrule.memory.recall`` makes a memory of it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ferrule.core.arrays import nearest
from ferrule.memory.embed import HashedWords
from ferrule.memory.entries import EXPERIENCE, Change, Entry, Label, Origin, Tally, learned_from
from ferrule.memory.store import Store, Writing
from ferrule.memory.vectors import Vectors
from ferrule.tools.dense import Encode

__all__ = ["Library", "preview"]


class Library:
    """Entries in an SQLite file, or in memory without a ``path``; what other processes write is there at once.

    ``encode`` turns texts into ``vectors`` for ``search``. With ``limit`` the least worthy live entry is retired
    whenever one more would be live. Every method that writes is one transaction, whose effect is on the disk when it
    returns.
    """

    def __init__(
        self, path: str | Path = ":memory:", *, encode: Encode | None = None, limit: int | None = None
    ) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"Library.limit is {limit}; the least is 1, and None sets no limit")
        self.store, self.vectors, self.limit = Store(path), Vectors(encode or HashedWords()), limit
        self._seen, self._entries = -1, dict[str, Entry]()
        self._lock = threading.RLock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy into another process by the path; a library in memory stays where it is."""
        if self.store.path == ":memory:":
            raise ValueError("a library in memory belongs to the process that made it; give it a file")
        return _reopened, (self.store.path, self.vectors.encode, self.limit)

    # --------------------------------------------------------------------------------------------------------- reading

    def entries(self, *, kind: str | None = None, every: bool = False) -> list[Entry]:
        """Return the live entries (with ``every`` the retired and deleted ones as well), by number."""
        with self._lock:
            known = self._refreshed().values()
        return [e for e in known if (every or e.state == "live") and kind in (None, e.kind)]

    def __len__(self) -> int:
        """The number of live entries."""
        return len(self.entries())

    def __getitem__(self, id: str) -> Entry:
        """Return an entry by its id, whatever its state; raises ``KeyError`` naming the nearest one."""
        with self._lock:
            known = self._refreshed()
        if id not in known:
            raise KeyError(f"unknown entry {id!r}; {nearest(id, list(known))}")
        return known[id]

    def versions(self, id: str) -> list[Entry]:
        """Return all versions of an entry, the first one first, with the counts that they had then."""
        return self.store.versions(id)

    def search(
        self, query: str, k: int | None = None, *, least: float = 0.0, kind: str | None = EXPERIENCE,
        where: Callable[[Entry], bool] | None = None,
    ) -> list[tuple[Entry, float]]:  # fmt: skip
        """Return live entries with the cosine of their vectors to that of ``query``, the nearest first.

        At most ``k`` are returned, those below ``least`` are left out; of equals the older comes first. ``where`` says
        which are looked at.
        """
        entries = [entry for entry in self.entries(kind=kind) if where is None or where(entry)]
        if not entries:
            return []
        score_E = self.vectors.scores(query, [entry.key for entry in entries])
        order = np.argsort(-score_E, kind="stable")[:k]
        return [(entries[i], float(score_E[i])) for i in order if score_E[i] >= least]

    def taxonomy(self) -> dict[str, Any]:
        """Return the labels of all live entries as a tree of names; a place without further names is empty."""
        tree: dict[str, Any] = {}
        for label in (label for entry in self.entries() for label in entry.labels):
            here = tree
            for name in label:
                here = here.setdefault(name, {})
        return tree

    def _refreshed(self) -> dict[str, Entry]:
        """Take over what was written since, by whomever."""
        self._seen, anew, fresh = self.store.since(self._seen)
        if anew:
            self._entries = {}
        self._entries |= {entry.id: entry for entry in fresh}
        return self._entries

    # --------------------------------------------------------------------------------------------------------- writing

    def add(
        self, text: str, *, when: str = "", kind: str = EXPERIENCE, labels: Sequence[Label] = (),
        origins: Sequence[Origin] = (), data: Mapping[str, Any] | None = None, note: str = "",
    ) -> Entry:  # fmt: skip
        """Add an entry and return it. Raises ``ValueError`` for a blank text."""
        change = Change("add", (), text, when, tuple(labels), tuple(origins), kind, data)
        return self.apply(change, note=note)

    def modify(self, id: str, *, note: str = "", **changes: Any) -> Entry:
        """Change ``text``, ``when``, ``labels`` or ``data`` of an entry: a new version of the same id."""
        return self.apply(Change("modify", (id,), **changes), note=note)

    def merge(self, ids: Sequence[str], text: str, *, note: str = "", **changes: Any) -> Entry:
        """Put one entry in the place of several, which are deleted; it takes over their origins, labels and counts."""
        return self.apply(Change("merge", tuple(ids), text, **changes), note=note)

    def delete(self, *ids: str, note: str = "") -> None:
        """Delete entries: they are never shown again, and their record stays."""
        self._set(ids, "deleted", "delete", note)

    def retire(self, *ids: str, note: str = "") -> None:
        """Take entries out of use; ``restore`` brings them back."""
        self._set(ids, "retired", "retire", note)

    def restore(self, *ids: str, note: str = "") -> None:
        """Bring retired entries back."""
        self._set(ids, "live", "restore", note)

    def apply(self, change: Change, *, note: str = "") -> Entry:
        """Carry a change out and return the entry that it wrote, of a deletion the first one. Checks nothing.

        Raises ``KeyError`` for an unknown id and ``ValueError`` for an entry that was deleted.
        """
        if change.kind in ("delete", "retire"):
            (self.delete if change.kind == "delete" else self.retire)(*change.ids, note=note)
            return self[change.ids[0]]
        with self.store.writing() as writing:
            old = [self._found(writing, id) for id in change.ids]
            entry = preview(change, old, id="" if change.kind == "modify" else f"E{writing.number()}")
            for replaced in old if change.kind == "merge" else ():
                writing.put(replace(replaced, state="deleted"), version=False)
            writing.put(entry)
            out = [] if self.limit is None else self._beyond(writing, entry, self.limit)
            told = [note, f"retired {', '.join(out)}" if out else ""]
            writing.log(change.kind, (entry.id, *change.ids[change.kind == "modify" :]), "; ".join(filter(None, told)))
        return entry

    def _beyond(self, writing: Writing, newest: Entry, limit: int) -> list[str]:
        """Retire the least worthy entries of the newest one's kind beyond the limit, and return their ids."""
        live = [entry for entry in writing.live() if entry.kind == newest.kind and entry.id != newest.id]
        out = sorted(live, key=_worth)[: max(0, len(live) + 1 - limit)]
        for entry in out:
            writing.put(replace(entry, state="retired"), version=False)
        return [entry.id for entry in out]

    def _set(self, ids: Sequence[str], state: Any, kind: str, note: str) -> None:
        if not ids:
            return
        with self.store.writing() as writing:
            for id in ids:
                writing.put(replace(self._found(writing, id), state=state), version=False)
            writing.log(kind, tuple(ids), note)

    def _found(self, writing: Writing, id: str) -> Entry:
        entry = writing.get(id)
        if entry is None:
            raise KeyError(f"unknown entry {id!r}; {nearest(id, writing.ids())}")
        if entry.state == "deleted":
            raise ValueError(f"entry {id!r} was deleted and cannot be changed; add a new one")
        return entry

    def prune(
        self, *, limit: int | None = None, worth: float | None = None, shown: int = 1, task: str | None = None,
        writer: str | None = None, note: str = "pruned",
    ) -> list[str]:  # fmt: skip
        """Retire entries and return their ids, the least worthy first.

        These are: all that were shown in at least ``shown`` episodes and whose mean credit is below ``worth``; all that
        were learned from ``task`` or written by ``writer``, entries that such ones were merged into included; and the
        least worthy beyond ``limit``. Raises ``ValueError`` for numbers out of range.
        """
        for name, number, floor in (("limit", limit, 0), ("shown", shown, 1)):
            if number is not None and number < floor:
                raise ValueError(f"{name} is {number}; the least is {floor}")
        if worth is not None and math.isnan(worth):
            raise ValueError("worth is not a number")
        live = sorted(self.entries(), key=_worth)
        out = [e for e in live if worth is not None and e.tally.shown >= shown and e.tally.worth < worth]
        out += [e for e in live if task is not None and learned_from(e, task)]
        out += [e for e in live if writer is not None and any(origin.writer == writer for origin in e.origins)]
        if limit is not None:
            left = [entry for entry in live if entry not in out]
            out += left[: max(0, len(left) - limit)]
        return self._retired(list(dict.fromkeys(entry.id for entry in out)), note)

    def _retired(self, ids: Sequence[str], note: str) -> list[str]:
        """Retire those of the entries that are still live, whatever other processes did meanwhile; return their ids."""
        if not ids:
            return []
        with self.store.writing() as writing:
            live = [entry for id in ids if (entry := writing.get(id)) is not None and entry.state == "live"]
            for entry in live:
                writing.put(replace(entry, state="retired"), version=False)
            writing.log("retire", tuple(entry.id for entry in live), note)
        return [entry.id for entry in live]

    def credit(self, task: str, score: float, shown: Iterable[str], cited: Iterable[str] = ()) -> None:
        """Count an episode of a task: its score, and which entries it was shown and cites.

        Each shown entry is credited with the score minus the mean of earlier episodes of the task; without any, of all
        earlier episodes; and 0 for the first one of all.
        """
        named = set(cited)
        with self.store.writing() as writing:
            earlier = [(count, total) for count, total in (writing.results(task), writing.results()) if count]
            expected = earlier[0][1] / earlier[0][0] if earlier else score
            ids = tuple(dict.fromkeys(shown))
            for entry in filter(None, map(writing.get, ids)):
                tally = entry.tally
                credited = replace(
                    tally, shown=tally.shown + 1, cited=tally.cited + (entry.id in named),
                    credit=tally.credit + score - expected,
                )  # fmt: skip
                writing.put(replace(entry, tally=credited), version=False)
            writing.scored(task, score)
            writing.log("keep", ids, f"{task}: {score:g}")

    def state(self) -> Any:
        """Return everything as JSON data, for a checkpoint."""
        return self.store.state()

    def load(self, state: Any) -> None:
        """Put back what ``state`` returned; what was written since is gone."""
        self.store.load(state)

    def close(self) -> None:
        """Close the file."""
        self.store.close()


def _reopened(path: str, encode: Encode, limit: int | None) -> Library:
    return Library(path, encode=encode, limit=limit)


def _worth(entry: Entry) -> tuple[float, int, int]:
    """Order entries from the least worthy: by mean credit, then how often they were shown, then age."""
    return entry.tally.worth, entry.tally.shown, entry.number


def preview(change: Change, old: Sequence[Entry], *, id: str = "E0") -> Entry:
    """Return the entry that a change of ``old`` would write; one that is modified keeps its id."""
    given = {name: value for name in ("text", "when", "data") if (value := getattr(change, name)) is not None}
    labels = change.labels
    if change.kind == "modify":
        before = old[0]
        kept = {**given, "labels": before.labels if labels is None else labels}
        origins = tuple(dict.fromkeys((*before.origins, *change.origins)))
        return replace(before, **kept, origins=origins, version=before.version + 1)
    if change.kind == "add":
        return Entry(id, **given, kind=change.of_kind, labels=labels or (), origins=change.origins)
    origins = tuple(dict.fromkeys(o for o in (*(o for e in old for o in e.origins), *change.origins)))
    every = tuple(dict.fromkeys(label for entry in old for label in entry.labels)) if labels is None else labels
    return replace(
        old[0], id=id, **given, labels=every, origins=origins, version=1, merged=tuple(entry.id for entry in old),
        tally=_added(entry.tally for entry in old),
    )  # fmt: skip


def _added(tallies: Iterable[Tally]) -> Tally:
    rows = list(tallies)
    return Tally(*(sum(getattr(row, name) for row in rows) for name in ("shown", "cited", "credit")))
