"""Checks of traces for the cold start: code worth its block, paired dollars, no repetition, one trace per question."""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import TypeVar

__all__ = ["effective_lines", "one_per_question", "paired_dollars", "repeats", "substantial_code"]

T = TypeVar("T")

_PYTHON = re.compile(r"```[ \t]*(?:python|py)[ \t]*\r?\n(.*?)```", re.DOTALL | re.IGNORECASE)


def effective_lines(code: str) -> int:
    """Number of lines that are neither blank nor a comment alone."""
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in code.splitlines())


def substantial_code(text: str, *, share: float = 0.4, lines: int = 5) -> bool:
    """Say whether at most ``ceil(share * blocks)`` of a text's Python blocks have ``lines`` effective lines or fewer.

    A text without blocks has none that are too short.
    """
    blocks = [effective_lines(code) for code in _PYTHON.findall(text)]
    return sum(count <= lines for count in blocks) <= math.ceil(share * len(blocks) - 1e-9)


def paired_dollars(text: str) -> bool:
    r"""Say whether dollar signs outside code are paired; ``\$`` is a sign of its own."""
    bare = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return len(re.findall(r"(?<!\\)\$", bare)) % 2 == 0


def repeats(text: str, *, size: int = 20, most: int = 20) -> bool:
    """Say whether a run of ``size`` characters occurs more than ``most`` times (how long a run is, is a choice).

    Raises ``ValueError`` on a ``size`` below 1.
    """
    if size < 1:
        raise ValueError(f"size is {size}; the least is 1")
    counts = Counter(text[i : i + size] for i in range(len(text) - size + 1))
    return max(counts.values(), default=0) > most


def one_per_question(traces: Sequence[tuple[Hashable, T]], *, seed: int = 0) -> list[T]:
    """Return one trace for every question of ``(question, trace)``, drawn by ``seed``; questions keep their order."""
    grouped: dict[Hashable, list[T]] = {}
    for question, trace in traces:
        grouped.setdefault(question, []).append(trace)
    rng = random.Random(seed)
    return [rng.choice(own) for own in grouped.values()]
