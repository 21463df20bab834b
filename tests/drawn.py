"""Calls drawn at random: a tool with parameters of every JSON type, and arguments for it."""

from __future__ import annotations

import random
from typing import Any

from ferrule.core.records import Tool

WORDS = [
    "Rome",
    "a b",
    "it's",
    '"x"',
    "é",
    "7",
    "2 < 3",
    "line\nbreak",
    "{}",
    "[1]",
    "true",
    "x: y, z",
    "\\n",
    "comma,",
]
TYPES: dict[str, Any] = {
    "word": {"type": "string"}, "count": {"type": "integer"}, "share": {"type": "number"}, "deep": {"type": "boolean"},
    "tags": {"type": "array", "items": {"type": "string"}},
    "at": {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "string"}}},
}  # fmt: skip
TOOL = Tool("find", "Find.", {"type": "object", "properties": TYPES}, print)


def drawn(rng: random.Random) -> dict[str, Any]:
    """Return arguments, some of them or none."""
    values = {
        "word": rng.choice(WORDS), "count": rng.randint(-9, 10**6), "share": rng.choice([0.5, -2.25, 10.125]),
        "deep": rng.random() < 0.5, "tags": rng.choices(WORDS, k=rng.randint(0, 3)),
        "at": {"x": rng.randint(0, 9), "y": rng.choice(WORDS)},
    }  # fmt: skip
    kept = rng.sample(sorted(values), rng.randint(0, len(values)))
    return {key: values[key] for key in kept}
