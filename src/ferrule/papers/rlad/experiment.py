"""The claim, measured: what a trained proposer adds to a solver at an equal number of sampled decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ferrule.agents.react import ToolLoop
from ferrule.core.arrays import FloatArray
from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Score, Task
from ferrule.credit.group import broadcast, group_relative
from ferrule.credit.keep import spread
from ferrule.objectives.reduce import token_mean
from ferrule.objectives.surrogate import surrogate
from ferrule.papers.rlad import proposer_recipe, recipe
from ferrule.papers.rlad.pieces import accepted, hand_down, hand_up
from ferrule.papers.rlad.procedures import CUES, NONE, PICK, RUN, World, make_task, make_world, propose, solve, tie
from ferrule.rewards.outcome import outcome
from ferrule.studies.old import Condition, at_least, judged, over_seeds, scale_of
from ferrule.studies.paper import Claim
from ferrule.studies.table import Player, Weights
from ferrule.train.sample import Group, credit, scored

__all__ = ["ARMS", "SCALES", "conditions", "evaluate", "measure", "run_seed", "train"]

SCALES: Mapping[str, Mapping[str, Any]] = {"small": {"steps": 150, "tasks": 6}, "tiny": {"steps": 4, "tasks": 4}}
RATE = 10.0
ABSTRACTIONS, USES, PLAIN = 4, 6, 8
ALONE = ABSTRACTIONS * USES + PLAIN + ABSTRACTIONS // 2  # decisions of the proposer bought solutions of two instead
ARMS: Mapping[str, Mapping[str, Any]] = {
    "solver alone": {"proposing": False},
    "rlad": {},
    "rlad, paid without abstraction": {"unaided": True},
    "rlad, proposer by advantages": {"rejecting": False},
}
"""Arms of the claim; each samples the same number of decisions a step. The proposer learns by rejection fine-tuning."""


def train(
    world: World, *, steps: int, tasks: int, seed: int, proposing: bool = True, unaided: bool = False,
    rejecting: bool = True,
) -> tuple[FloatArray, FloatArray, float]:  # fmt: skip
    """Train both players for ``steps`` updates each.

    Return the chances after a third and at the end, and the number of sampled decisions.
    """
    base = Recipe(ToolLoop(), outcome, group_relative, surrogate, token_mean)
    solver = recipe(base, unaided=unaided or not proposing, beta=0.05 if proposing else 0.0)
    if unaided or not proposing:  # rows that are paid have something to compare
        solver = vary(solver, keep=spread())
    proposer = proposer_recipe(base)
    if rejecting:
        proposer = vary(proposer, credit=broadcast, keep=None)
    rng, weights, spent = np.random.default_rng(seed), Weights(world.start, tie), 0
    early = weights.chance_SA

    def group(task: Task, play: Any, by: Recipe, size: int) -> Group:
        nonlocal spent
        paths = tuple(play(task, Player(chance, rng)) for _ in range(size))
        spent += sum(path.sampled_count for path in paths)
        scores = scored(by, task, paths) if by is solver else ()
        return Group(task, (), paths, scores, tuple(range(size)))

    for step in range(steps):
        chance = weights.chance_SA
        above: list[Group] = []
        below: list[Group] = []
        for i in range(tasks):
            task = make_task(world, step * tasks + i, rng)
            below.append(group(task, solve, solver, PLAIN if proposing else ALONE))
            if proposing:
                first = group(task, propose, proposer, ABSTRACTIONS)
                handed = [hand_down(task, path) for path in first.trajectories]
                uses = [group(one, solve, solver, USES) for one in handed if one is not None]
                scores = tuple(hand_up(task, first.trajectories, uses))
                alone = float(np.mean([s.parts["outcome"] for s in below[-1].scores]))
                above.append(replace(first, scores=_selected(scores, alone) if rejecting else scores))
                below += uses
        for by, groups in ((proposer, above), (solver, below)):
            kept = [g for g in groups if by.keep is None or by.keep(g.trajectories, g.scores)]
            batch = credit(by, kept, weights, step=step)
            if len(batch.signals.reward_N):
                weights.learn(by, batch, learning_rate=RATE, rng=rng)
        if step + 1 == max(1, steps // 3):
            early = weights.chance_SA
    return early, weights.chance_SA, float(spent)


def _selected(scores: Sequence[Score], alone: float) -> tuple[Score, ...]:
    """Score 1 what beats the success without an abstraction and drop the rest."""
    chosen = accepted([score.value for score in scores], alone)
    return tuple(replace(score, value=1.0, drop=i not in chosen) for i, score in enumerate(scores))


def evaluate(world: World, chance: FloatArray, proposals: FloatArray) -> dict[str, float]:
    """Expected accuracies and chances to solve within 16 tries, over cues and right procedures.

    ``proposals`` are the abstractions' chances by cue. Right is who picks the right procedure and writes it out right.
    """
    pick = chance[PICK:RUN].reshape(CUES, NONE + 1, NONE)
    right = pick * chance[RUN:, 0]  # chance to solve, by cue, abstraction and right procedure
    aided, alone = right[:, :NONE], right[:, NONE]

    def mean(by: FloatArray) -> float:
        return float((world.posterior * by).sum(1).mean())

    def with_proposals(solved: FloatArray, named: FloatArray) -> FloatArray:
        return np.asarray(np.einsum("cz,czp->cp", named, solved))

    others = (proposals.sum(0) - proposals) / (CUES - 1)
    by_cue = (world.posterior * with_proposals(aided, proposals)).sum(1)
    by_cue_alone = (world.posterior * alone).sum(1)
    drawn = np.random.default_rng(0).random((2000, ABSTRACTIONS))
    named = [np.minimum(np.searchsorted(np.cumsum(row), drawn, side="right"), NONE - 1) for row in proposals]
    best = np.stack([aided[c][z].max(1).mean(0) for c, z in enumerate(named)])
    out = {
        "without": mean(alone),
        "with": float(by_cue.mean()),
        "best of 4": mean(best),
        "swapped": mean(with_proposals(aided, others)),
        "harder without": _pairs(by_cue_alone),
        "harder with": _pairs(by_cue),
        "16 without": mean(1 - (1 - alone) ** 16),
    }
    for many, tries in ((1, 16), (4, 4), (16, 1)):
        out[f"{many}x{tries}"] = mean(1 - with_proposals((1 - aided) ** tries, proposals) ** many)
    return out


def _pairs(by_cue: FloatArray) -> float:
    """Accuracy on problems of two procedures under different cues."""
    return float((by_cue.sum() ** 2 - (by_cue**2).sum()) / (CUES * (CUES - 1)))


def run_seed(seed: int, scale: str) -> dict[str, dict[str, float]]:
    """Measure every arm in one world; the solver alone is given the abstractions of the untrained proposer."""
    world = make_world(np.random.default_rng([seed, 1]))
    start = Weights(world.start, tie).chance_SA
    out = {"untrained": evaluate(world, start, start[:CUES])}
    for name, settings in ARMS.items():
        early, late, spent = train(world, seed=seed, **SCALES[scale], **settings)
        first = evaluate(world, early, early[:CUES])
        out[name] = {**evaluate(world, late, late[:CUES]), **{f"early {key}": v for key, v in first.items()}}
        out[name]["decisions"] = spent
    return out


def conditions(runs: Sequence[Mapping[str, Mapping[str, float]]]) -> list[Condition]:
    """Return what must hold, from one result of ``run_seed`` per seed.

    Accuracy with abstractions is at least 5 points above that of the solver trained alone; 4 abstractions with 4
    solutions each solve more than 1 with 16; a foreign abstraction costs at least 5 points, and more than where
    solutions without one are paid as well.
    """

    def lost(arm: str) -> list[float]:
        return [run[arm]["with"] - run[arm]["swapped"] for run in runs]

    paid = lost("rlad, paid without abstraction")
    return [
        at_least(
            "accuracy, with abstraction minus solver alone",
            [run["rlad"]["with"] - run["solver alone"]["without"] for run in runs],
            0.05,
        ),
        at_least("solved within 16 tries, 4x4 minus 1x16", [r["rlad"]["4x4"] - r["rlad"]["1x16"] for r in runs], 0.02),
        at_least("accuracy lost to a foreign abstraction", lost("rlad"), 0.05),
        at_least(
            "the same, minus where solutions without one are paid",
            [a - b for a, b in zip(lost("rlad"), paid, strict=True)],
            0.0,
        ),
    ]


def measure(scale: str, seeds: Sequence[int]) -> Claim:
    """Run all seeds and judge."""
    size = scale_of(SCALES, scale)
    runs = [run_seed(seed, scale) for seed in seeds]
    found = conditions(runs)
    arms = over_seeds({arm: [run[arm] for run in runs] for arm in runs[0]})
    notes = []
    shown = ("without", "with", "swapped", "harder without", "harder with", "1x16", "4x4", "16x1", "16 without")
    for arm, row in arms.items():
        notes.append(f"{arm}: " + ", ".join(f"{key} {np.mean(row[key]):.3f}" for key in shown))
        if "early with" in row:
            early = ", ".join(f"{key} {np.mean(row[f'early {key}']):.3f}" for key in shown)
            notes.append(f"{arm}, after a third of the updates: {early}")
    notes.append("The learning rate is the better of 3 and 10 for the solver alone on two development seeds.")
    return judged(
        found,
        paper="rlad",
        statement="A proposer paid by its solver's success lifts the solver and spreads a budget of tries better.",
        arms=arms,
        falsifier="A foreign abstraction does not hurt, or one abstraction with 16 solutions does as well as 4 with 4.",
        seeds=tuple(seeds),
        scale=scale,
        notes=notes,
        setup={**size, "learning_rate": RATE},
    )
