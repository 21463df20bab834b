"""Entries of a library, where they come from, how they fared, and the changes that a writer may propose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

__all__ = ["EXPERIENCE", "SKILL", "Change", "Entry", "Kind", "Label", "Origin", "State", "Tally", "learned_from"]

State: TypeAlias = Literal["live", "retired", "deleted"]
Kind: TypeAlias = Literal["add", "modify", "merge", "delete", "retire"]
Label: TypeAlias = tuple[str, ...]
"""A place in a taxonomy, from the outermost name to the innermost: ``("Formulation", "Variables", "Bounds")``."""

EXPERIENCE, SKILL = "experience", "skill"
"""Kinds of entries: a short one of which several are recalled, and a document."""


@dataclass(frozen=True)
class Origin:
    """Where an entry was learned: the task and sample of an episode, the turn where one is meant, and who wrote it."""

    task: str
    sample: int = 0
    turn: int | None = None
    writer: str = ""


@dataclass(frozen=True)
class Tally:
    """How an entry fared: in how many episodes it was ``shown`` and ``cited``, and its ``credit``.

    ``credit`` adds up, over episodes that showed the entry, the score minus what was to be expected without it.
    """

    shown: int = 0
    cited: int = 0
    credit: float = 0.0

    @property
    def worth(self) -> float:
        """Mean credit per episode; 0 where the entry was never shown."""
        return self.credit / self.shown if self.shown else 0.0


@dataclass(frozen=True)
class Entry:
    """One thing that was learned: a ``text``, and the condition ``when`` it applies.

    ``id`` never changes and is never used again; ``version`` counts changes of text, condition, labels and data.
    ``merged`` names the entries that this one replaced, whose origins it has taken over. A ``retired`` entry is not
    recalled and may come back; of a ``deleted`` one only the record is left.
    """

    id: str
    text: str
    when: str = ""
    kind: str = EXPERIENCE
    labels: tuple[Label, ...] = ()
    origins: tuple[Origin, ...] = ()
    merged: tuple[str, ...] = ()
    version: int = 1
    state: State = "live"
    tally: Tally = field(default_factory=Tally)
    data: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def number(self) -> int:
        """The number in the id, by which entries are ordered."""
        return int(self.id[1:])

    @property
    def key(self) -> str:
        """What is compared with a task: the condition and the text."""
        return f"{self.when} {self.text}".strip()

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that the entry was learned from, each once."""
        return tuple(dict.fromkeys(origin.task for origin in self.origins))


@dataclass(frozen=True)
class Change:
    """A change of a library that somebody proposes.

    ``ids`` are the entries it is about: none for ``add``, the one to change for ``modify``, those to replace for
    ``merge``. Fields that are None stay as they are; of a merge they are those of the first entry, but labels and
    origins, which are those of all.
    """

    kind: Kind
    ids: tuple[str, ...] = ()
    text: str | None = None
    when: str | None = None
    labels: tuple[Label, ...] | None = None
    origins: tuple[Origin, ...] = ()
    of_kind: str = EXPERIENCE
    data: Mapping[str, Any] | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        """Refuse a change that says too little or too much to be carried out; an entry named twice is named once."""
        object.__setattr__(self, "ids", tuple(dict.fromkeys(self.ids)))
        least, most = {"add": (0, 0), "modify": (1, 1), "merge": (1, None)}.get(self.kind, (1, None))
        if len(self.ids) < least or (most is not None and len(self.ids) > most):
            span = f"{least}" if most == least else f"at least {least}"
            raise ValueError(f"a change of the kind {self.kind!r} names {len(self.ids)} entries; it names {span}")
        if self.kind in ("add", "merge") and not (self.text or "").strip():
            raise ValueError(f"a change of the kind {self.kind!r} needs a text")


def learned_from(entry: Entry, task: str) -> bool:
    """Tell whether an entry, or one that was merged into it, was learned from an episode of a task."""
    return task in entry.tasks
