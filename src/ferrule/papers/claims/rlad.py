"""RLAD: a proposer of procedures and its solver, two tables trained together, against the solver alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ferrule.core.arrays import FloatArray
from ferrule.core.recipe import vary
from ferrule.core.records import Score
from ferrule.credit.group import broadcast
from ferrule.credit.keep import spread
from ferrule.data.pairs import accepted
from ferrule.papers.rlad import hand_down, hand_up, proposer_recipe, recipe
from ferrule.studies.conditions import at_least, minus, of
from ferrule.studies.standins.procedures import HINTS, World, expected, make_task, make_world, propose, solve, tie
from ferrule.studies.study import Study
from ferrule.studies.table import Weights, learn_from, plain, play_group
from ferrule.studies.tuning import Tuning
from ferrule.train.sample import Group, kept_of

__all__ = ["STUDY", "arm", "untrained"]

RATES = (10.0, 3.0, 30.0)
ABSTRACTIONS, USES, PLAIN = 4, 6, 8
ALONE = ABSTRACTIONS * USES + PLAIN + ABSTRACTIONS // 2  # decisions of the proposer buy solutions of two instead


def _trained(
    world: World, *, seed: int, steps: int, tasks: int, rate: float, proposing: bool, unaided: bool, rejecting: bool
) -> tuple[FloatArray, FloatArray, int]:
    """Train both players and return the chances after a third and at the end, and the number of sampled decisions."""
    solver = recipe(plain(), unaided=unaided or not proposing, beta=0.05 if proposing else 0.0)
    if unaided or not proposing:  # rows that are paid have something to compare
        solver = vary(solver, keep=spread())
    proposer = proposer_recipe(plain())
    if rejecting:
        proposer = vary(proposer, credit=broadcast, keep=None)
    rng, weights, decisions = np.random.default_rng(seed), Weights(world.start, tie), 0
    early = weights.chance_SA
    for step in range(steps):
        play = partial(play_group, chance_SA=weights.chance_SA, rng=rng)
        above: list[Group] = []
        below: list[Group] = []
        for i in range(tasks):
            task = make_task(world, step * tasks + i, rng)
            below.append(play(solver, task, partial(solve, task), count=PLAIN if proposing else ALONE))
            if proposing:
                alone = float(np.mean([score.parts["outcome"] for score in below[-1].scores]))
                group = play(proposer, task, partial(propose, task), count=ABSTRACTIONS)
                handed = [hand_down(task, proposal) for proposal in group.trajectories]
                uses = [play(solver, child, partial(solve, child), count=USES) for child in handed if child is not None]
                scores = tuple(hand_up(task, group.trajectories, uses))
                above.append(replace(group, scores=_selected(scores, alone) if rejecting else scores))
                below += uses
        decisions += sum(path.sampled_count for group in (*above, *below) for path in group.trajectories)
        for player, groups in ((proposer, above), (solver, below)):
            learn_from(weights, player, kept_of(player, groups), learning_rate=rate, rng=rng, step=step)
        if step + 1 == max(1, steps // 3):
            early = weights.chance_SA
    return early, weights.chance_SA, decisions


def _selected(scores: Sequence[Score], alone: float) -> tuple[Score, ...]:
    """Score 1 what beats the success without an abstraction and drop the rest."""
    chosen = accepted([score.value for score in scores], alone)
    return tuple(replace(score, value=1.0, drop=i not in chosen) for i, score in enumerate(scores))


def _world(seed: int) -> World:
    return make_world(np.random.default_rng([seed, 1]))


def untrained(*, seed: int, **size: Any) -> Mapping[str, float]:
    """Measure both players as they start."""
    world = _world(seed)
    start = Weights(world.start, tie).chance_SA
    numbers = expected(world, start, start[:HINTS])
    return {**numbers, "success": numbers["without"]}


def arm(
    *, seed: int, steps: int, tasks: int, rate: float, proposing: bool = True, unaided: bool = False,
    rejecting: bool = True,
) -> Mapping[str, float]:  # fmt: skip
    """Train both players (the solver alone keeps the untrained proposer) and measure them after a third and at the end.

    ``unaided`` pays solutions without an abstraction too; the proposer learns by rejection fine-tuning, or by
    advantages where not ``rejecting``. Every arm samples the same number of decisions a step. ``success`` is the
    accuracy with an abstraction, for the solver alone that without.
    """
    world = _world(seed)
    kind = {"proposing": proposing, "unaided": unaided, "rejecting": rejecting}
    early, late, decisions = _trained(world, seed=seed, steps=steps, tasks=tasks, rate=rate, **kind)
    after_a_third = {f"early {name}": value for name, value in expected(world, early, early[:HINTS]).items()}
    numbers = expected(world, late, late[:HINTS])
    success = {"success": numbers["with" if proposing else "without"]}
    return {**numbers, **after_a_third, **success, "decisions": float(decisions)}


PAID = "rlad, paid without abstraction"
_LOST = minus(of("rlad", "with"), of("rlad", "swapped"))

STUDY = Study(
    paper="rlad",
    statement="A proposer paid by its solver's success lifts the solver and spreads a budget of tries better.",
    falsifier="A foreign abstraction does not hurt, or one abstraction with 16 solutions does as well as 4 with 4.",
    trained="two tables, of proposals by a hint that tells the procedure in 8 of 10 problems and of solutions by cue",
    grade="B",
    arms={
        "untrained": untrained,
        "solver alone": partial(arm, proposing=False),
        "rlad": arm,
        PAID: partial(arm, unaided=True),
        "rlad, proposer by advantages": partial(arm, rejecting=False),
    },
    asks=(
        at_least(
            "accuracy, with abstraction minus solver alone",
            minus(of("rlad", "with"), of("solver alone", "without")),
            0.05,
        ),
        at_least("solved within 16 tries, 4x4 minus 1x16", minus(of("rlad", "4x4"), of("rlad", "1x16")), 0.02),
        at_least("accuracy lost to a foreign abstraction", _LOST, 0.05),
        at_least(
            "the same, minus where solutions without one are paid",
            minus(_LOST, minus(of(PAID, "with"), of(PAID, "swapped"))),
            0.0,
        ),
    ),
    sizes={"small": {"steps": 150, "tasks": 6}, "tiny": {"steps": 4, "tasks": 4, "rate": RATES[0]}},
    tuning=Tuning("rate", RATES, {"steps": 75}, (0, 1)),
)
