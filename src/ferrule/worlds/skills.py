"""The world ``skills``: questions on whole numbers that need one of six skills, as single tasks or as a stream.

In a stream the skills recur with unequal frequency, so that whoever keeps a tool for a skill can use it again. Source:
"Evolving from Tool User to Creator via Training-Free Experience Reuse in Multimodal Reasoning" (paper 33); its skills
are images and formulas, these are functions of one or two whole numbers.
"""

from __future__ import annotations

import inspect
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ferrule.core.demonstration import Demonstration
from ferrule.core.flows import Session
from ferrule.core.records import Task
from ferrule.sandbox.settings import Isolation
from ferrule.worlds.solved import by_function, check_kinds, of_split, taking_turns, with_python
from ferrule.worlds.splits import check_split

__all__ = ["SKILLS", "WORLD", "Skill", "Skills", "zipf"]


def digit_sum(n: int) -> int:
    """Return the sum of the digits of a whole number."""
    return sum(int(digit) for digit in str(n))


def divisors(n: int) -> int:
    """Return how many whole numbers divide a whole number without a remainder."""
    return sum(n % d == 0 for d in range(1, n + 1))


def collatz(n: int) -> int:
    """Return how many steps lead to 1 when even numbers are halved and odd ones tripled and increased by 1."""
    steps = 0
    while n != 1:
        n, steps = n // 2 if n % 2 == 0 else 3 * n + 1, steps + 1
    return steps


def turned(n: int) -> int:
    """Return the whole number whose digits are those of a number from right to left."""
    return int(str(n)[::-1])


def common_divisor(n: int, m: int) -> int:
    """Return the largest whole number that divides two whole numbers."""
    while m:
        n, m = m, n % m
    return n


def primes_between(n: int, m: int) -> int:
    """Return how many primes are at least the first of two whole numbers and at most the second."""
    return sum(p > 1 and all(p % d for d in range(2, int(p**0.5) + 1)) for p in range(n, m + 1))


@dataclass(frozen=True)
class Skill:
    """A skill: the function that answers its questions, their wordings, and the largest number at each level."""

    solve: Callable[..., int]
    wordings: tuple[str, ...]
    most: tuple[int, int, int, int, int]

    @property
    def name(self) -> str:
        """The name of the function."""
        return self.solve.__name__

    @property
    def source(self) -> str:
        """The source of the function, which runs by itself."""
        return inspect.getsource(self.solve)

    @property
    def numbers(self) -> tuple[str, ...]:
        """The names of its parameters."""
        return tuple(inspect.signature(self.solve).parameters)


SKILLS: Mapping[str, Skill] = {
    skill.name: skill
    for skill in (
        Skill(
            digit_sum,
            ("What is the sum of the digits of {n}?", "Add up the digits of {n}."),
            (99, 999, 99_999, 10**8, 10**12),
        ),
        Skill(
            divisors,
            ("How many whole numbers divide {n} without a remainder?", "Count the divisors of {n}."),
            (12, 40, 200, 2000, 20_000),
        ),
        Skill(
            collatz,
            (
                "Halve an even number, triple an odd one and add 1. How many steps lead from {n} to 1?",
                "Start at {n}; halve if even, else take 3 times the number plus 1. After how many steps is it 1?",
            ),
            (8, 20, 60, 300, 5000),
        ),
        Skill(
            turned,
            ("Write the digits of {n} from right to left. Which number is it?", "Which number is {n} backwards?"),
            (99, 999, 9999, 10**7, 10**12),
        ),
        Skill(
            common_divisor,
            ("What is the greatest common divisor of {n} and {m}?", "The largest number that divides {n} and {m}?"),
            (20, 60, 400, 9000, 10**6),
        ),
        Skill(
            primes_between,
            ("How many primes lie from {n} to {m}, both included?", "Count the primes between {n} and {m} inclusive."),
            (15, 40, 120, 600, 3000),
        ),
    )
}  # fmt: skip
"""The skills by name."""


def zipf(count: int, size: int, *, exponent: float = 1.0, rng: random.Random) -> list[int]:
    """Return ``count`` places below ``size``, place k drawn in proportion to ``1 / (k + 1) ** exponent``."""
    return rng.choices(range(size), [1.0 / (place + 1) ** exponent for place in range(size)], k=count)


@dataclass(frozen=True)
class Skills:
    """Questions on whole numbers with the tool ``python``; skills take turns in ``tasks`` and recur in ``stream``.

    ``meta`` holds the ``skill`` of a question and its ``arguments``. Questions whose CRC-32 is divisible by five are of
    the split ``test``. Answers are compared as numbers. ``skills`` names the ones to draw from.
    """

    skills: tuple[str, ...] = tuple(SKILLS)
    calls: int = 6
    isolation: Isolation = "auto"
    name: str = "skills"

    def __post_init__(self) -> None:
        """Refuse unknown skills, and none at all."""
        check_kinds("Skills.skills", self.skills, SKILLS)

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return at most ``count`` different tasks; skills take turns, and so do levels."""
        return taking_turns(self.skills, self._task, split, count, seed, levels)

    def stream(
        self, count: int, *, split: str = "train", seed: int = 0, levels: Sequence[int] = (3, 4), exponent: float = 1.0
    ) -> list[Task]:
        """Return ``count`` tasks in the order in which they are to be played; ``skills`` is in order of frequency.

        Skill k comes in proportion to ``1 / (k + 1) ** exponent``. Tasks may repeat a question, never an id.
        """
        check_split(split, levels)
        rng = random.Random(f"{self.name}/stream/{split}/{seed}")
        places = zipf(count, len(self.skills), exponent=exponent, rng=rng)
        return [
            self._task(split, self.skills[which], rng.choice(levels), f"{seed}/stream{number}")
            for number, which in enumerate(places)
        ]

    def _task(self, split: str, which: str, level: int, key: str) -> Task:
        id, skill = f"{self.name}/{split}/{which}/{level}/{key}", SKILLS[which]
        rng, most = random.Random(id), skill.most[level - 1]

        def drawn() -> tuple[str, dict[str, int]]:
            numbers = sorted(rng.randint(max(2, math.isqrt(most)), most) for _ in skill.numbers)
            arguments = dict(zip(skill.numbers, numbers, strict=True))
            return rng.choice(skill.wordings).format(**arguments), arguments

        question, arguments = of_split(drawn, lambda pair: pair[0], split)
        meta: dict[str, Any] = {"verifier": "numeric", "level": level, "split": split}
        meta |= {"skill": which, "arguments": arguments}
        return Task(id, question, str(skill.solve(**arguments)), self.name, meta=meta)

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session; the interpreter starts with its first call."""
        return with_python(task, calls=self.calls, isolation=self.isolation)

    def demonstrate(self, task: Task) -> Demonstration:
        """Return one call that defines the function of the skill and calls it, and the answer."""
        skill = SKILLS[task.meta["skill"]]
        return by_function(task, skill.name, skill.source, task.meta["arguments"])


WORLD = Skills
