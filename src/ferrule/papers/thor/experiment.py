"""The claim, measured: what repairs add to episodes, and what going back into the thought adds to code alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ferrule.agents.react import ToolLoop
from ferrule.core.arrays import FloatArray
from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Task, Trajectory
from ferrule.credit.group import group_relative
from ferrule.objectives.reduce import token_mean
from ferrule.objectives.surrogate import surrogate
from ferrule.papers.thor import pass_rate, recipe, step_recipe
from ferrule.papers.thor.agent import SelfCorrect
from ferrule.papers.thor.chains import LENGTH, again, imitated, make_tasks, play, speaker
from ferrule.rewards.outcome import outcome
from ferrule.rollout.drive import drive
from ferrule.studies.old import Condition, at_least, judged, over_seeds, scale_of
from ferrule.studies.paper import Claim
from ferrule.studies.table import Player, Weights
from ferrule.tools.calculator import calculator
from ferrule.train.sample import Group, credit, scored
from ferrule.worlds.session import Toolbox

__all__ = ["ARMS", "SCALES", "conditions", "measure", "run_seed"]

SCALES: Mapping[str, Mapping[str, int]] = {
    "small": {"steps": 120, "tasks": 8, "episodes": 2000, "chains": 200},
    "tiny": {"steps": 4, "tasks": 4, "episodes": 100, "chains": 12},
}
RATE = 5.0
ARMS: Mapping[str, Mapping[str, Any]] = {
    "episode": {"alpha": 0.0, "repairing": False},
    "episode + step": {"alpha": 0.0, "repairing": True},
    "episode + step + likelihood": {"alpha": 0.01, "repairing": True},
    "episode, nothing dropped": {"alpha": 0.0, "repairing": False, "dropping": False},
}
"""Arms: which terms the loss has; the last trains on failed episodes as well and is outside the verdict."""


def train(
    start: FloatArray, *, steps: int, tasks: int, seed: int, alpha: float, repairing: bool, dropping: bool = True
) -> tuple[FloatArray, dict[str, float]]:
    """Train a table for ``steps`` updates; return its chances and what was sampled."""
    base = Recipe(ToolLoop(), outcome, group_relative, surrogate, token_mean)
    own = recipe(base, alpha=alpha, least_tokens=-1)
    if not dropping:
        own = vary(own, reward=outcome)
    below = step_recipe(own)
    rng, weights = np.random.default_rng(seed), Weights(start)
    spent = {"decisions": 0.0, "groups": 0.0, "repairs": 0.0}
    for _ in range(steps):
        chance = weights.chance_SA

        def group(task: Task, one: Callable[[Player], Trajectory], by: Recipe, chance: FloatArray = chance) -> Group:
            paths = tuple(one(Player(chance, rng)) for _ in range(by.samples))
            spent["decisions"] += sum(path.sampled_count for path in paths)
            return Group(task, (), paths, scored(by, task, paths), tuple(range(by.samples)))

        drawn = [group(task, partial(play, task), own) for task in make_tasks(tasks, rng)]
        kept = [g for g in drawn if own.keep is None or own.keep(g.trajectories, g.scores)]
        repairs: list[Group] = []
        if repairing:
            failed = [t for g in drawn for t, s in zip(g.trajectories, g.scores, strict=True) if s.drop]
            for i in sorted(rng.permutation(len(failed))[: len(drawn)]):
                made = group(failed[i].task, partial(again, failed[i]), below)
                repairs += [made] if below.keep is None or below.keep(made.trajectories, made.scores) else []
        spent["groups"] += len(kept)
        spent["repairs"] += len(repairs)
        batch = credit(own, [*kept, *repairs], weights)
        if len(batch.signals.reward_N):
            weights.learn(own, batch, learning_rate=RATE, rng=rng)
    return weights.chance_SA, spent


def evaluate(chance: FloatArray, episodes: int, seed: int) -> dict[str, float]:
    """Play new chains: accuracy, share of calls that passed, and the correlation of the two over episodes."""
    rng = np.random.default_rng(seed)
    played = [play(task, Player(chance, rng)) for task in make_tasks(episodes, rng)]
    right = np.asarray([t.answer == t.task.answer for t in played], dtype=np.float64)
    passes = np.asarray([pass_rate(t) for t in played])
    related = float(np.corrcoef(right, passes)[0, 1]) if right.std() and passes.std() else 0.0
    return {"accuracy": float(right.mean()), "passes": float(passes.mean()), "correlation": related}


def corrects(chance: FloatArray, chains: int, seed: int, suffix: int, most: int = 4) -> dict[str, float]:
    """Let the self-correcting agent solve chains with the calculator and count what it kept and what it gave up."""
    tasks = make_tasks(chains, np.random.default_rng(seed))
    agent = SelfCorrect(rounds=LENGTH, most=most, suffix=suffix)
    episodes = drive(agent, tasks, Toolbox((calculator,), calls=100), speaker(chance), seed=seed)
    kept = [e.trajectories[0] for e in episodes]
    return {
        "accuracy": float(np.mean([t.answer == t.task.answer for t in kept])),
        "passes": float(np.mean([pass_rate(t) for t in kept])),
        "given up": float(np.mean([len(e.trajectories) - 1 for e in episodes])),
    }


SUFFIXES: Mapping[str, Mapping[str, int]] = {
    "no correction": {"suffix": 0, "most": 0}, "code only": {"suffix": 0}, "some": {"suffix": 1}, "all": {"suffix": 2},
}  # fmt: skip


def run_seed(seed: int, scale: str) -> dict[str, dict[str, float]]:
    """Measure every arm with one seed."""
    size = SCALES[scale]
    start = imitated(400, np.random.default_rng([seed, 1]))
    first = np.exp(start - np.logaddexp.reduce(start, axis=1, keepdims=True))
    out = {"imitation": evaluate(first, size["episodes"], 10_000 + seed)}
    for name, settings in ARMS.items():
        chance, spent = train(start, steps=size["steps"], tasks=size["tasks"], seed=seed, **settings)
        out[name] = {**evaluate(chance, size["episodes"], 10_000 + seed), **spent}
    for name, taken in SUFFIXES.items():
        out[f"suffix: {name}"] = corrects(first, size["chains"], 20_000 + seed, **taken)
    return out


def conditions(runs: Sequence[Mapping[str, Mapping[str, float]]]) -> list[Condition]:
    """Return what must hold, from one result of ``run_seed`` per seed.

    Calls that pass foretell a right answer (correlation of at least 0.3); the step level adds at least 5 points of
    passed calls and 2 of accuracy at equal updates; taking part of the thought back beats writing the code alone again.
    """

    def gap(arm: str, base: str, key: str) -> list[float]:
        return [run[arm][key] - run[base][key] for run in runs]

    return [
        at_least(
            "share of passed calls, episode + step minus episode", gap("episode + step", "episode", "passes"), 0.05
        ),
        at_least("accuracy, episode + step minus episode", gap("episode + step", "episode", "accuracy"), 0.02),
        at_least(
            "correlation of passed calls and right answers", [run["imitation"]["correlation"] for run in runs], 0.3
        ),
        at_least(
            "accuracy, part of the thought minus code only", gap("suffix: some", "suffix: code only", "accuracy"), 0
        ),
    ]


def measure(scale: str, seeds: Sequence[int]) -> Claim:
    """Run all seeds and judge."""
    size = scale_of(SCALES, scale)
    runs = [run_seed(seed, scale) for seed in seeds]
    found = conditions(runs)
    arms = over_seeds({arm: [run[arm] for run in runs] for arm in runs[0]})
    means = {arm: {key: float(np.mean(values)) for key, values in row.items()} for arm, row in arms.items()}
    notes = [
        f"{arm}: accuracy {row['accuracy']:.3f}, passed calls {row['passes']:.3f}"
        + (f", decisions sampled {row['decisions']:.0f}" if "decisions" in row else "")
        for arm, row in means.items()
    ]
    notes.append("Correction at inference was measured on the imitating policy, whose calls fail most.")
    notes.append("The learning rate is the better of 1 and 5 for training on episodes alone on a development seed.")
    return judged(
        found,
        paper="thor",
        statement="Repairing failed calls adds passed calls and accuracy to training on episodes alone.",
        arms=arms,
        falsifier="The step level moves the share of passed calls by less than 1 point, "
        "or code alone does as well as taking part of the thought back.",
        seeds=tuple(seeds),
        scale=scale,
        notes=notes,
        setup={**size, "learning_rate": RATE},
    )
