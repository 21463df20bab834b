"""Instances of Opaque Knapsack: how they are drawn, what their optimum is, and how they are recorded.

Source: "Agents Learn Their Runtime: Interpreter Persistence as Training-Time Semantics" (paper 26),
https://arxiv.org/abs/2603.01209. Every draw comes from the stream of the instance's own seed, the allowed classes
included, so an instance is made again from its record. The held-out split holds by construction: an instance whose
label, the CRC-32 of its items, is divisible by five belongs to ``test``.
"""

from __future__ import annotations

import math
import random
import string
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["LEVELS", "Instance", "Item", "Size", "generate", "inspect_budget", "instance_of", "optimum", "record"]

ATTEMPTS = 200
"""Draws per seed before a size is given up."""
STRIDE = 1_000_003
"""Distance between the seeds of two attempts."""


@dataclass(frozen=True)
class Item:
    """One item: its opaque id, integer weight and value, and class."""

    id: str
    weight: int
    value: int
    kind: str


@dataclass(frozen=True)
class Size:
    """How instances of one size are drawn: items, classes in all and allowed, and the limits of rejection.

    ``short`` makes the ids a, b, c, ... (at most 26 items), otherwise ``item_`` and 12 hexadecimal digits.
    """

    items: tuple[int, int]
    classes: int
    allowed: int
    short: bool = False
    weights: tuple[int, int] = (1, 20)
    values: tuple[int, int] = (1, 50)
    ratio: tuple[float, float] = (0.35, 0.60)
    least_allowed: int = 5
    least_optimal: int = 3
    dominance: float = 0.40


LEVELS: Mapping[int, Size] = {
    1: Size((6, 8), 3, 2, short=True),
    2: Size((8, 10), 3, 2, short=True),
    3: Size((12, 20), 4, 2),
    4: Size((25, 40), 5, 1),
    5: Size((80, 120), 5, 1),
}
"""Sizes by level: two small ones with short ids, one between, and the paper's Easy and Hard."""


def optimum(items: Sequence[Item], capacity: int) -> tuple[Item, ...]:
    """Return a set of items of the highest total value within ``capacity``, exactly, by dynamic programming.

    ``best[c] = max(best[c], best[c - w] + v)`` over items, O(items * capacity). Of equal sets the one found first.
    """
    best = [0] * (capacity + 1)
    chosen: list[tuple[Item, ...]] = [()] * (capacity + 1)
    for item in items:
        for room in range(capacity, item.weight - 1, -1):
            value = best[room - item.weight] + item.value
            if value > best[room]:
                best[room], chosen[room] = value, (*chosen[room - item.weight], item)
    return chosen[capacity]


def inspect_budget(
    capacity: int, items: int, optimal: int, *, valid: float, weights: tuple[int, int] = (1, 20),
    factor: float = 1.5, slack: float = 1.1, least: int = 5,
) -> int:  # fmt: skip
    """Return ``clamp(ceil(max(factor capacity / (w valid), slack optimal)), least, items)`` inspections.

    ``w`` is the middle of the weight range, ``valid`` the share of classes that are allowed, ``optimal`` the size of
    the optimal set.
    """
    need = max(capacity / (sum(weights) / 2) * factor / valid, slack * optimal)
    return min(max(math.ceil(need), least), items)


@dataclass(frozen=True)
class Instance:
    """One problem: its items, capacity and inspections, all classes and (private) those allowed, and the optimum."""

    items: tuple[Item, ...]
    capacity: int
    inspections: int
    classes: tuple[str, ...]
    allowed: frozenset[str] = field(repr=False)
    best: tuple[Item, ...] = field(repr=False)

    @property
    def label(self) -> str:
        """Eight hexadecimal digits that name the instance: CRC-32 of its items."""
        text = ";".join(f"{i.id},{i.weight},{i.value},{i.kind}" for i in self.items)
        return f"{zlib.crc32(text.encode()):08x}"

    @property
    def split(self) -> str:
        """The split that the instance belongs to."""
        return "test" if int(self.label, 16) % 5 == 0 else "train"

    def score(self, taken: Sequence[str]) -> float:
        """Return taken value / optimal value, 0 when the taken items weigh more than the capacity."""
        mine = [item for item in self.items if item.id in set(taken)]
        if sum(item.weight for item in mine) > self.capacity:
            return 0.0
        return sum(item.value for item in mine) / sum(item.value for item in self.best)

    def prompt(self) -> str:
        """What the agent is told; which classes are allowed is not."""
        return (
            f"Knapsack {self.label}. Capacity: {self.capacity}. Inspections: {self.inspections}. "
            f"Classes: {', '.join(self.classes)}; only some are allowed.\n"
            "Take items of the highest total value within the capacity, then finish."
        )


def _ids(rng: random.Random, count: int, short: bool) -> list[str]:
    if short:
        return list(string.ascii_lowercase[:count])
    return [f"item_{rng.getrandbits(48):012x}" for _ in range(count)]


def _attempt(rng: random.Random, size: Size) -> Instance | None:
    """Draw once; None when the draw does not meet the limits."""
    count = rng.randint(*size.items)
    classes = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: size.classes])
    allowed = frozenset(rng.sample(classes, size.allowed))
    # The first draw is of an allowed class; it must not be known by its place, so ids are given out afterwards.
    kinds = [rng.choice(sorted(allowed)), *(rng.choice(classes) for _ in range(count - 1))]
    rng.shuffle(kinds)
    items = [
        Item(name, rng.randint(*size.weights), rng.randint(*size.values), kind)
        for name, kind in zip(_ids(rng, count, size.short), kinds, strict=True)
    ]
    usable = [item for item in items if item.kind in allowed]
    if len(usable) < size.least_allowed:
        return None
    weights = [item.weight for item in usable]
    capacity = max(round(rng.uniform(*size.ratio) * sum(weights)), min(weights))
    best = optimum(usable, capacity)
    if len(best) < size.least_optimal:
        return None
    if max(item.value for item in best) > size.dominance * sum(item.value for item in best):
        return None
    share = size.allowed / size.classes
    budget = inspect_budget(capacity, count, len(best), valid=share, weights=size.weights)
    return Instance(tuple(items), capacity, budget, classes, allowed, best)


def generate(seed: int, size: Size) -> Instance:
    """Draw an instance: attempt ``k`` uses the stream of ``seed + 1,000,003 k``, at most 200 attempts.

    Rejected are draws with too few allowed items, a small optimal set, or an item that makes up too much of the
    optimal value. Raises ``ValueError`` when no attempt meets the limits.
    """
    for attempt in range(ATTEMPTS):
        instance = _attempt(random.Random(seed + attempt * STRIDE), size)
        if instance is not None:
            return instance
    raise ValueError(f"no instance of {size} in {ATTEMPTS} attempts from seed {seed}; widen its limits")


def record(instance: Instance, *, task_id: str, family: str = "knapsack", seed: int = 0) -> dict[str, Any]:
    """Return the instance as JSON data with a public, a private and a reference part.

    ``public["allowed_classes"]`` lists all classes, as published; the allowed ones are in ``private`` only. The part
    ``difficulty`` is for analysis and holds what an agent is not told.
    """
    value = sum(item.value for item in instance.best)
    return {
        "task_id": task_id,
        "family": family,
        "seed": seed,
        "difficulty": {
            "n_items": len(instance.items),
            "capacity": instance.capacity,
            "budget_coverage": instance.inspections / len(instance.items),
            "p_valid": len(instance.allowed) / len(instance.classes),
            "optimal_set_size": len(instance.best),
            "max_item_dominance": max(item.value for item in instance.best) / value,
        },
        "public": {
            "item_ids": [item.id for item in instance.items],
            "capacity": instance.capacity,
            "allowed_classes": list(instance.classes),
            "inspect_budget": instance.inspections,
        },
        "private": {
            "items": {i.id: {"class": i.kind, "value": i.value, "weight": i.weight} for i in instance.items},
            "allowed": sorted(instance.allowed),
        },
        "reference": {
            "optimal_item_ids": [item.id for item in instance.best],
            "value": value,
            "weight": sum(item.weight for item in instance.best),
        },
    }


def instance_of(task_id: str, sizes: Mapping[int, Size] = LEVELS) -> Instance:
    """Make the instance of a task's id ``name/split/level/seed/index`` again; private, for verifiers and teachers."""
    _, split, level, _, _ = task_id.rsplit("/", 4)
    rng = random.Random(task_id)
    while True:
        instance = generate(rng.getrandbits(48), sizes[int(level)])
        if instance.split == split:
            return instance
