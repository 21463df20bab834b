"""Runs of tools with habits: after most tools the next one is always the same, after some a hidden fact decides it.

At such a step a noisy summary of the fact can be had: some words of the fact among words that say nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ferrule.memory.graph import Run, Summary

__all__ = ["FACTS", "Habits", "names", "nearest_run", "own_choice", "told"]

FACTS, FACT_WORDS, KEPT_WORDS, NOISE_WORDS = 3, 6, 3, 60


@dataclass(frozen=True)
class Habits:
    """What follows each tool: one tool, or for a branching one a tool by the fact of the run."""

    following: tuple[tuple[int, ...], ...]

    @classmethod
    def drawn(cls, rng: np.random.Generator, *, tools: int = 12, branching: float = 0.4) -> Habits:
        """Draw habits; about ``branching`` of the tools branch, and no tool follows itself."""
        rows = []
        for tool in range(tools):
            others = [other for other in range(tools) if other != tool]
            count = FACTS if rng.random() < branching else 1
            rows.append(tuple(int(x) for x in rng.choice(others, count, replace=False)))
        return cls(tuple(rows))

    def branches(self, tool: int) -> bool:
        """Say whether a fact decides what follows a tool."""
        return len(self.following[tool]) > 1

    def after(self, tool: int, fact: int) -> int:
        """Return what follows a tool in a run with this fact."""
        return self.following[tool][fact if self.branches(tool) else 0]

    def walk(self, rng: np.random.Generator, steps: int) -> tuple[int, list[int]]:
        """Draw a fact and a first tool, and return the fact and the tools of a run of ``steps`` steps."""
        fact, tools = int(rng.integers(FACTS)), [int(rng.integers(len(self.following)))]
        for _ in range(steps):
            tools.append(self.after(tools[-1], fact))
        return fact, tools


def told(fact: int, rng: np.random.Generator) -> str:
    """Return a summary of six words: three of the fact's, and three that say nothing."""
    own = rng.choice(FACT_WORDS, KEPT_WORDS, replace=False)
    noise = rng.choice(NOISE_WORDS, FACT_WORDS - KEPT_WORDS, replace=False)
    return " ".join([*(f"fact{fact}word{i}" for i in own), *(f"noise{i}" for i in noise)])


def names(habits: Habits, fact: int, tools: Sequence[int], rng: np.random.Generator) -> list[str | Summary]:
    """Return a run as it is kept: names of tools, and a summary after each that branches."""
    run: list[str | Summary] = []
    for place, tool in enumerate(tools):
        run.append(f"t{tool}")
        if habits.branches(tool) and place < len(tools) - 1:
            run.append(Summary(told(fact, rng)))
    return run


def nearest_run(runs: Sequence[Run], called: Sequence[str], state: str | None = None) -> str | None:
    """Return what followed the last tool called in the run that is nearest to this one, taken as a whole.

    Near are runs that called the same tools as this one so far; with a ``state`` those whose summaries, taken together,
    share words with it. Runs in which nothing followed the tool are left out.
    """
    best: tuple[float, str] | None = None
    known = set(called) if state is None else set(state.split())
    for run in runs:
        steps = [step for step in run if isinstance(step, str)]
        if called[-1] not in steps[:-1]:
            continue
        noted = {word for step in run if isinstance(step, Summary) for word in step.text.split()}
        held = set(steps) if state is None else noted
        alike = len(known & held) / len(known | held) if known | held else 0.0
        if best is None or alike > best[0]:
            best = alike, steps[steps.index(called[-1]) + 1]
    return best[1] if best else None


def own_choice(right: str, options: Mapping[str, object], accuracy: float, rng: np.random.Generator) -> str:
    """Return the right tool with probability ``accuracy``, else one of the other ``options`` at random."""
    wrong = [name for name in options if name != right]
    return right if rng.random() < accuracy or not wrong else str(rng.choice(wrong))
