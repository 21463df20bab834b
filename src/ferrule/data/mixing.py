"""How traces are combined: a share of text-only ones beside those with tools, one per question, as many of each kind.

Sources: "Teaching Thinking Models to Reason with Tools: A Full-Pipeline Recipe for Tool-Integrated Reasoning" (paper
01) for ``mixed``, "THOR: Tool-Integrated Hierarchical Optimization via RL for Mathematical Reasoning" (paper 39) for
``one_per_question`` and ``evened``, "LLMs in the Imaginarium: Tool Learning through Simulated Trial and Error" (paper
19) for ``replayed``.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence
from statistics import median_high
from typing import TypeVar

import numpy as np

__all__ = ["evened", "mixed", "one_per_question", "replayed", "text_count"]

T = TypeVar("T")


def text_count(tools: int, *, rho: float = 0.25) -> int:
    """Number of text-only traces that make up a share ``rho`` beside ``tools`` tool traces: ``rho / (1 - rho) tools``.

    Raises ``ValueError`` unless ``rho`` is at least 0 and below 1.
    """
    if not 0 <= rho < 1:
        raise ValueError(f"rho is {rho}; the share of text-only traces must be at least 0 and below 1")
    return round(rho / (1 - rho) * tools)


def mixed(tool: Sequence[T], text: Sequence[T], *, rho: float = 0.25, seed: int = 0) -> list[T]:
    """Return all tool traces and a share ``rho`` of text-only ones, shuffled.

    Text traces repeat when there are too few; they must have been rendered without a tool's schema. Raises
    ``ValueError`` when some are needed and none given.
    """
    rng, count = np.random.default_rng(seed), text_count(len(tool), rho=rho)
    if count and not text:
        raise ValueError(f"{count} text-only traces are needed for rho = {rho}, and there are none")
    order = [int(i) for _ in range(-(-count // max(len(text), 1))) for i in rng.permutation(len(text))]
    joined = [*tool, *(text[i] for i in order[:count])]
    return [joined[int(i)] for i in rng.permutation(len(joined))]


def one_per_question(traces: Sequence[tuple[Hashable, T]], *, seed: int = 0) -> list[T]:
    """Return one trace for every question of ``(question, trace)``, drawn by ``seed``; questions keep their order."""
    grouped: dict[Hashable, list[T]] = {}
    for question, trace in traces:
        grouped.setdefault(question, []).append(trace)
    rng = random.Random(seed)
    return [rng.choice(same) for same in grouped.values()]


def evened(traces: Sequence[tuple[Hashable, T]], *, most: int | None = None, seed: int = 0) -> list[T]:
    """Return at most ``most`` traces of every kind of ``(kind, trace)``, drawn by ``seed``, in their order.

    A kind is, for example, a pair of difficulty and number of calls. None for ``most`` is the size of the median kind,
    the larger one of two. Raises ``ValueError`` for ``most`` below 1.
    """
    if most is not None and most < 1:
        raise ValueError(f"most is {most}; the least is 1, and None takes the size of the median kind")
    places: dict[Hashable, list[int]] = {}
    for place, (kind, _) in enumerate(traces):
        places.setdefault(kind, []).append(place)
    limit = most or median_high([len(same) for same in places.values()] or [1])
    rng = random.Random(seed)
    kept = [place for same in places.values() for place in rng.sample(same, min(limit, len(same)))]
    return [traces[place][1] for place in sorted(kept)]


def replayed(batches: Sequence[Sequence[T]], lap: int, *, share: float = 0.1, general: Sequence[T] = ()) -> list[T]:
    """Return what round ``lap`` of continual learning trains on: its batch, some of all earlier ones, and ``general``.

    Of an earlier batch i of N items ``round(share * N)`` are drawn, by the seed i: the same ones in every round. Raises
    ``ValueError`` for a round without a batch and for a share outside 0 to 1.
    """
    if not 0 <= lap < len(batches):
        raise ValueError(f"round {lap} has no batch; there are {len(batches)}, from 0 on")
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}; it must be from 0 to 1")
    earlier = [
        item
        for number, batch in enumerate(batches[:lap])
        for item in random.Random(number).sample(list(batch), round(share * len(batch)))
    ]
    return [*batches[lap], *earlier, *general]
