"""CoGEX: choosing among programs of unequal quality by labelled items, on drawn tables of right and wrong answers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from ferrule.agents.emulate import vote
from ferrule.agents.refine import settled
from ferrule.agents.text_search import OnItems
from ferrule.core.arrays import FloatArray, IntArray
from ferrule.papers.cogex import cotacs
from ferrule.studies.conditions import Rows, at_least
from ferrule.studies.study import Study

__all__ = ["STUDY", "arm", "outcomes"]

SHAPE, SPREAD, LABELS = (6.0, 6.0), 0.5, 4
"""Of the Beta distribution of qualities, of the difficulties of items (nats), and how many answers an item may have."""


def outcomes(rng: np.random.Generator, programs: int, items: int) -> tuple[IntArray, FloatArray]:
    """Return the answer of every program to every item (0 is right), and the chance of every program to be right."""
    quality_P = rng.beta(*SHAPE, size=programs)
    logit_PI = np.log(quality_P / (1 - quality_P))[:, None] + rng.normal(0.0, SPREAD, size=items)
    chance_PI = 1 / (1 + np.exp(-logit_PI))
    wrong_PI = rng.integers(1, LABELS, size=chance_PI.shape)
    return np.where(rng.random(chance_PI.shape) < chance_PI, 0, wrong_PI), chance_PI.mean(1)


def arm(*, seed: int, test: int, programs: int, train: int, rank: int, alpha: float = 0.5) -> dict[str, float]:
    """Choose among ``programs`` by labelled items to filter (``train``) and to rank by, and count on further ones.

    ``success`` is the chance of the chosen program to be right, over all items; ``best`` is the largest such chance and
    ``mean`` that of a program drawn at random. ``vote of 3`` is the share of ``test`` items that the best three get
    right together.
    """
    answer_PI, chance_P = outcomes(np.random.default_rng(seed), programs, train + rank + test)

    def run(text: str, places: Sequence[int]) -> list[float]:
        return [float(answer_PI[int(text), place] == 0) for place in places]

    def write(places: Sequence[int], attempt: int) -> list[str]:
        return [str(place) for place in places]

    on = OnItems(run, range(train + rank))
    found = settled(cotacs(on, write, train=train, candidates=programs, alpha=alpha, k=3))
    kept = [int(candidate.text) for candidate in found]
    votes = [vote(str(answer_PI[place, item]) for place in kept) for item in range(train + rank, answer_PI.shape[1])]
    return {
        "success": float(chance_P[kept[0]]),
        "vote of 3": votes.count("0") / test,
        "mean": float(chance_P.mean()),
        "best": float(chance_P.max()),
        "runs": float(on.runs),
    }


def _ahead_of(quantity: str, rows: Rows) -> float:
    return float(rows[MIDDLE]["success"]) - float(rows[MIDDLE][quantity])


MIDDLE = "10 programs, 50 and 50"
STUDY = Study(
    paper="cogex",
    statement="Choosing among ten programs by 100 labelled items comes near the best of them and beats a random one.",
    falsifier="The chosen program is more than 0.05 below the best, or less than 0.1 above the mean.",
    grade="C",
    trained="nothing: drawn answers of programs of unequal quality",
    arms={
        "300 programs, 300 and 700": partial(arm, programs=300, train=300, rank=700),
        "10 programs, 50 and 700": partial(arm, programs=10, train=50, rank=700),
        MIDDLE: partial(arm, programs=10, train=50, rank=50),
        "5 programs, 20 and 20": partial(arm, programs=5, train=20, rank=20),
    },
    asks=(
        at_least("chance of the chosen program minus the best", partial(_ahead_of, "best"), -0.05),
        at_least("chance of the chosen program minus the mean", partial(_ahead_of, "mean"), 0.1),
        at_least("chance of the chosen minus a vote of three", partial(_ahead_of, "vote of 3"), 0.0, decides=False),
    ),
    sizes={"small": {"test": 1000}, "tiny": {"test": 40}},
    seeds=tuple(range(100, 120)),
    setup={"qualities": f"Beta{SHAPE}", "spread of difficulties": SPREAD, "labels": LABELS},
)
