"""Taxonomies: names within names that entries are filed under, found by, and that grow with what is learned.

Source: "AlphaOPT: Formulating Optimization Programs with Self-Improving LLM Experience Library" (46), whose three
levels are stage, group and name; a name has a definition and a condition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from ferrule.memory.entries import Entry, Label

__all__ = ["Taxonomy", "filed", "grown", "labels_in"]

Taxonomy: TypeAlias = Mapping[str, Mapping[str, Mapping[str, Mapping[str, str]]]]
"""``{stage: {group: {name: {"definition": ..., "condition": ...}}}}``; the last mapping may be empty."""


def labels_in(picked: Mapping[str, Any]) -> tuple[Label, ...]:
    """Return the labels of ``{stage: {group: names}}``: a list, a mapping or a single name; anything else is none."""
    inside = ((stage, groups) for stage, groups in picked.items() if isinstance(groups, Mapping))
    rows = [(stage, group, names) for stage, groups in inside for group, names in groups.items()]
    several = [(stage, group, [names] if isinstance(names, str) else names) for stage, group, names in rows]
    return tuple(
        (stage, group, str(name))
        for stage, group, names in several
        if isinstance(names, Sequence | Mapping)
        for name in names
    )


def filed(entries: Sequence[Entry], picked: Mapping[str, Any]) -> list[Entry]:
    """Return the entries that share a label with ``{stage: {group: names}}``, in their order; without any, none."""
    wanted = set(labels_in(picked))
    return [entry for entry in entries if wanted & set(entry.labels)]


def grown(taxonomy: Taxonomy, labels: Mapping[str, Any]) -> dict[str, Any]:
    """Return a taxonomy with the labels of an entry added, ``{stage: {group: {name: definition or None}}}``.

    Names are matched without regard to case, and what is there stays as it is; stages that are unknown are left out.
    """
    tree = {stage: {group: dict(names) for group, names in groups.items()} for stage, groups in taxonomy.items()}
    for stage, groups in labels.items():
        here = tree.get(_known(stage, tree))
        for group, names in groups.items() if here is not None else ():
            assert here is not None
            inside = here.setdefault(_known(group, here), {})
            for name, definition in names.items():
                inside.setdefault(_known(name, inside), definition or {})
    return tree


def _known(name: str, among: Mapping[str, Any]) -> str:
    return next((known for known in among if known.lower() == name.lower()), name)
