"""Six integer skills as Python functions: a right source, a wrong one, and tests whose expected value may be wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["SKILLS", "Skill", "proposed", "zipf"]


@dataclass(frozen=True)
class Skill:
    """A function by its name: how many numbers it takes, what it returns, its body, and a body with a mistake."""

    name: str
    takes: int
    value: Callable[..., int]
    right: str
    wrong: str

    def source(self, right: bool) -> str:
        """Return the source of the function, right or with its mistake."""
        parameters = ", ".join(f"{name}: int" for name in "ab"[: self.takes])
        body = self.right if right else self.wrong
        return (
            f'import math\n\ndef {self.name}({parameters}) -> int:\n    """Compute {self.name}."""\n    return {body}\n'
        )

    def arguments(self, rng: np.random.Generator) -> tuple[int, ...]:
        """Draw numbers from 2 to 60."""
        return tuple(int(x) for x in rng.integers(2, 61, self.takes))


SKILLS = (
    Skill("divisor", 2, math.gcd, "math.gcd(a, b)", "min(a, b)"),
    Skill("multiple", 2, math.lcm, "math.lcm(a, b)", "a * b + 1"),
    Skill("digits", 1, lambda a: sum(map(int, str(a))), "sum(map(int, str(a)))", "len(str(a))"),
    Skill("backwards", 1, lambda a: int(str(a)[::-1]), "int(str(a)[::-1])", "int(str(a)[::-1]) + 1"),
    Skill("triangle", 1, lambda a: a * (a + 1) // 2, "a * (a + 1) // 2", "a * (a - 1) // 2"),
    Skill("square", 1, lambda a: a * a, "a * a", "a + a + 1"),
)


def proposed(skill: Skill, rng: np.random.Generator, *, right: float = 0.5, tested: float = 0.7) -> tuple[str, str]:
    """Draw a source, right with one probability, and a test whose expected value is right with another."""
    source, arguments = skill.source(bool(rng.random() < right)), skill.arguments(rng)
    expected = skill.value(*arguments) + (0 if rng.random() < tested else 1)
    return source, f"assert {skill.name}({', '.join(map(str, arguments))}) == {expected}"


def zipf(rng: np.random.Generator, count: int) -> list[Skill]:
    """Draw skills, the first most often: in proportion to 1, 1/2, 1/3, ..."""
    weight = 1.0 / np.arange(1, len(SKILLS) + 1)
    return [SKILLS[int(i)] for i in rng.choice(len(SKILLS), count, p=weight / weight.sum())]
