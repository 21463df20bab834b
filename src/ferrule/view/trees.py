"""The tree of a search as a reader sees it: every step in one line, with how it ended, the taken path marked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Twig", "count", "lines", "twigs"]

_DEEPEST, _LONGEST = 60, 90
"""Levels that are shown, and characters of one step."""
_SHOWN = {"value": "value", "visits": "visits", "entropy": "entropy", "begun": "goes on after tokens:"}
"""Numbers of a search that are shown, and how they are called."""


@dataclass(frozen=True)
class Twig:
    """One step: what was written, how it ended, whether the answer's path goes through it, and the steps after it."""

    label: str
    state: str
    kept: bool
    children: tuple[Twig, ...] = ()


def twigs(row: Mapping[str, Any], say: Callable[[Any], str]) -> tuple[Twig, ...]:
    """Return the first steps of a recorded episode (a line of ``episodes.jsonl``) that has several paths, else nothing.

    ``say`` puts the reply of a turn into words.
    """
    paths = [_numbers(path) for path in _listed(row, "paths") if isinstance(path, Mapping)]
    listed = [turn for turn in _listed(row, "turns") if isinstance(turn, Mapping)]
    turns = {turn["id"]: turn for turn in listed if isinstance(turn.get("id"), int)}
    paths = [[number for number in path if number in turns] for path in paths]
    if len([path for path in paths if path]) < 2:
        return ()
    below: dict[int | None, dict[int, None]] = {}
    for path in paths:
        for above, number in zip([None, *path], path, strict=False):
            below.setdefault(above, {})[number] = None
    kept = set(paths[0])

    def grown(number: int, above: frozenset[int]) -> Twig:
        here, turn = above | {number}, turns[number]
        children = [child for child in sorted(below.get(number, ())) if child not in here]
        deeper = () if len(here) >= _DEEPEST else tuple(grown(child, here) for child in children)
        label = " ".join(say(turn.get("reply")).split())
        label = f"{label[:_LONGEST]} …" if len(label) > _LONGEST else label
        return Twig(label or "(nothing)", _state(turn), number in kept, deeper)

    return tuple(grown(number, frozenset()) for number in sorted(below.get(None, ())))


def _listed(data: Mapping[str, Any], key: str) -> Sequence[Any]:
    value = data.get(key)
    return value if isinstance(value, (list, tuple)) else ()


def _numbers(path: Mapping[str, Any]) -> list[int]:
    return [number for number in _listed(path, "turns") if isinstance(number, int)]


def _state(turn: Mapping[str, Any]) -> str:
    """Return how a step ended: failed results, what the search noted, and the numbers it has for it.

    A step that goes on from within another reply says after how many tokens.
    """
    notes = turn.get("notes")
    notes = notes if isinstance(notes, Mapping) else {}
    results = [one.get("status", "ok") for one in _listed(turn, "observations") if isinstance(one, Mapping)]
    parts = [str(status) for status in results if status != "ok"]
    if notes.get("state") not in (None, "open"):
        parts.append(str(notes["state"]))
    for name, words in _SHOWN.items():
        number = notes.get(name)
        if isinstance(number, (int, float)) and number:
            parts.append(f"{words} {number:.3g}")
    return ", ".join(parts)


def count(steps: Sequence[Twig]) -> int:
    """Return the number of steps."""
    return sum(1 + count(step.children) for step in steps)


def lines(steps: Sequence[Twig], depth: int = 0) -> list[str]:
    """Return the tree as text, a line per step: ``*`` marks the path to the answer."""
    shown = []
    for step in steps:
        state = f"  [{step.state}]" if step.state else ""
        shown.append(f"{'  ' * depth}{'*' if step.kept else '-'} {step.label}{state}")
        shown += lines(step.children, depth + 1)
    return shown
