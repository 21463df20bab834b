"""HDPO: a table of how many calls to make, on questions that need them and on others."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from ferrule.papers.hdpo import coupled_reward, decoupled, two_channels
from ferrule.rewards.outcome import outcome
from ferrule.studies.conditions import at_least, less, over
from ferrule.studies.standins.calls import Chances, bell, expected, play, questions
from ferrule.studies.study import Study
from ferrule.studies.table import plain, train_table

__all__ = ["METHODS", "REGIMES", "STUDY", "arm"]

REGIMES: Mapping[str, Chances] = {
    "mixed": {"easy": (0.6,) * 7, "hard": (0.2, 0.4, 0.6, 0.6, 0.6, 0.6, 0.6)},
    "solved": {"easy": (0.95,) * 7, "hard": (0.2, 0.4, 0.95, 0.95, 0.95, 0.95, 0.95)},
}
"""Chance of a right answer after 0 to 6 rounds of calls: mixed groups, and groups that are mostly all right."""
METHODS: Mapping[str, Mapping[str, Any]] = {
    "accuracy": {"reward": outcome},
    "coupled_weak": {"reward": partial(coupled_reward, alpha=0.01)},
    "coupled_strong": {"reward": partial(coupled_reward, alpha=0.3)},
    "hdpo": {"reward": two_channels, "credit": partial(decoupled, efficiency=0.15)},
    "hdpo_half": {"reward": two_channels, "credit": partial(decoupled, efficiency=0.5)},
}
"""What each arm changes in the recipe: reward and credit."""


def arm(*, seed: int, steps: int, method: str, regime: str) -> dict[str, float]:
    """Train one arm and return the expected calls and accuracy per kind of question.

    The start is broad (a deviation of 2 calls): with 1, zero calls are hardly ever tried, and every arm that saves
    calls settles at 2.
    """
    chances = REGIMES[regime]
    table = train_table(
        plain(**METHODS[method]),
        partial(play, chances=chances),
        questions(chances),
        bell(chances, near=4, spread=2.0),
        steps=steps,
        learning_rate=0.5 * len(chances),
        seed=seed,
    )
    return expected(table.chance_SA, chances)


STUDY = Study(
    paper="hdpo",
    statement="Frugality in a loss of its own, among right answers, cuts needless calls where one sum does not.",
    falsifier="The weak sum is as fast as HDPO in mixed groups.",
    trained="a table of 2 rows (numbers of calls by kind of question)",
    arms={f"{name}, {regime}": partial(arm, method=name, regime=regime) for regime in REGIMES for name in METHODS},
    asks=(
        at_least(
            "relative fall in easy calls, HDPO with weight 0.5",
            over("calls_easy", "hdpo_half, mixed", "accuracy, mixed", factor=-1.0, plus=1.0),
            0.5,
        ),
        at_least(
            "hard accuracy, HDPO minus accuracy only",
            less("accuracy_hard", "hdpo_half, mixed", "accuracy, mixed"),
            -0.01,
        ),
        at_least(
            "hard accuracy, accuracy only minus strong sum",
            less("accuracy_hard", "accuracy, mixed", "coupled_strong, mixed"),
            0.02,
        ),
        at_least(
            "a quarter less the relative fall in easy calls of the weak sum",
            over("calls_easy", "coupled_weak, mixed", "accuracy, mixed", plus=-0.75),
            0.0,
        ),
    ),
    sizes={"small": {"steps": 400}, "tiny": {"steps": 20}},
    setup={"samples": 8, "chances": REGIMES},
)
