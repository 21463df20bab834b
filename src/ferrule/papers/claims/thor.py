"""THOR: what repairs add to episodes, and what going back into the thought adds to writing the code alone again."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from ferrule.agents.correct import SelfCorrect
from ferrule.agents.repair import pass_rate
from ferrule.core.arrays import FloatArray
from ferrule.core.recipe import vary
from ferrule.papers.thor import recipe, step_recipe
from ferrule.rewards.outcome import outcome
from ferrule.rollout.drive import drive
from ferrule.studies.conditions import at_least, less, of
from ferrule.studies.standins.plans import LENGTH, again, imitated, make_tasks, play, speaker
from ferrule.studies.study import Study
from ferrule.studies.table import Player, Weights, learn_from, plain, play_group
from ferrule.studies.tuning import Tuning
from ferrule.tools.calculator import calculator
from ferrule.train.sample import Group, kept_of
from ferrule.worlds.session import Toolbox

__all__ = ["STUDY", "corrected", "imitation", "trained"]

RATES = (5.0, 2.0, 12.0)


def _start(seed: int) -> FloatArray:
    return imitated(400, np.random.default_rng([seed, 1]))


def _chances(logits: FloatArray) -> FloatArray:
    return np.asarray(np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)))


def _evaluated(chance: FloatArray, episodes: int, seed: int) -> dict[str, float]:
    """Play new chains: accuracy, share of calls that passed, and the correlation of the two over episodes."""
    rng = np.random.default_rng(10_000 + seed)
    played = [play(task, Player(chance, rng)) for task in make_tasks(episodes, rng)]
    right = np.asarray([t.answer == t.task.answer for t in played], dtype=np.float64)
    passes = np.asarray([pass_rate(t) for t in played])
    related = float(np.corrcoef(right, passes)[0, 1]) if right.std() and passes.std() else 0.0
    return {"accuracy": float(right.mean()), "passes": float(passes.mean()), "correlation": related}


def imitation(*, seed: int, episodes: int, **size: Any) -> Mapping[str, float]:
    """Measure the policy that imitates the writer of the first traces."""
    return _evaluated(_chances(_start(seed)), episodes, seed)


def trained(
    *, seed: int, decisions: int, tasks: int, episodes: int, rate: float, alpha: float = 0.0, repairing: bool = False,
    dropping: bool = True, **size: Any,
) -> Mapping[str, float]:  # fmt: skip
    """Train the imitating table until it has sampled ``decisions``, repairs included, and measure it.

    ``repairing`` adds the step level; without ``dropping`` failed episodes are trained on as well. ``confidence`` is
    the chance of the likeliest decision, over all rows.
    """
    whole = recipe(plain(), alpha=alpha, least_tokens=-1)
    if not dropping:
        whole = vary(whole, reward=outcome)
    step = step_recipe(whole)
    rng, weights = np.random.default_rng(seed), Weights(_start(seed))
    sampled = {"decisions": 0.0, "groups": 0.0, "repairs": 0.0}
    while sampled["decisions"] < decisions:
        chance = weights.chance_SA
        drawn = [play_group(whole, task, partial(play, task), chance, rng) for task in make_tasks(tasks, rng)]
        repairs: list[Group] = []
        if repairing:
            failed = [t for g in drawn for t, s in zip(g.trajectories, g.scores, strict=True) if s.drop]
            chosen = [failed[i] for i in sorted(rng.permutation(len(failed))[: len(drawn)])]
            repairs = [play_group(step, t.task, partial(again, t), chance, rng) for t in chosen]
        kept, again_kept = kept_of(whole, drawn), kept_of(step, repairs)
        sampled["decisions"] += sum(t.sampled_count for g in (*drawn, *repairs) for t in g.trajectories)
        sampled["groups"] += len(kept)
        sampled["repairs"] += len(again_kept)
        learn_from(weights, whole, [*kept, *again_kept], learning_rate=rate, rng=rng)
    sure = {"confidence": float(weights.chance_SA.max(1).mean())}
    return {**_evaluated(weights.chance_SA, episodes, seed), **sampled, **sure}


def corrected(*, seed: int, chains: int, suffix: int, most: int = 4, **size: Any) -> Mapping[str, float]:
    """Let the self-correcting agent solve chains with the calculator and count what it kept and what it gave up."""
    tasks = make_tasks(chains, np.random.default_rng(20_000 + seed))
    agent = SelfCorrect(rounds=LENGTH, most=most, suffix=suffix)
    policy = speaker(_chances(_start(seed)))
    episodes = drive(agent, tasks, Toolbox((calculator,), calls=100), policy, seed=20_000 + seed)
    kept = [episode.trajectories[0] for episode in episodes]
    return {
        "accuracy": float(np.mean([t.answer == t.task.answer for t in kept])),
        "passes": float(np.mean([pass_rate(t) for t in kept])),
        "given up": float(np.mean([len(episode.trajectories) - 1 for episode in episodes])),
    }


BOTH, ALONE, UNDROPPED = "episode + step", "episode", "episode, nothing dropped"

STUDY = Study(
    paper="thor",
    statement="Repairing failed calls adds passed calls and accuracy to training on episodes alone.",
    falsifier="The step level moves the share of passed calls by less than 1 point, training on all episodes with as "
    "many decisions does better, or code alone does as well as taking part of the thought back.",
    trained="a table of 30 rows that reads, plans and writes code for chains of arithmetic",
    grade="B",
    arms={
        "imitation": imitation,
        ALONE: trained,
        BOTH: partial(trained, repairing=True),
        "episode + step + likelihood": partial(trained, alpha=0.01, repairing=True),
        UNDROPPED: partial(trained, dropping=False),
        "suffix: no correction": partial(corrected, suffix=0, most=0),
        "suffix: code only": partial(corrected, suffix=0),
        "suffix: some": partial(corrected, suffix=1),
        "suffix: all": partial(corrected, suffix=2),
    },
    asks=(
        at_least("share of passed calls, episode + step minus episode", less("passes", BOTH, ALONE), 0.05),
        at_least("accuracy, episode + step minus episode", less("accuracy", BOTH, ALONE), 0.02),
        at_least("accuracy, episode + step minus nothing dropped", less("accuracy", BOTH, UNDROPPED), 0.0),
        at_least("correlation of passed calls and right answers", of("imitation", "correlation"), 0.3),
        at_least(
            "accuracy, part of the thought minus code only", less("accuracy", "suffix: some", "suffix: code only"), 0.0
        ),
    ),
    sizes={
        "small": {"decisions": 240_000, "tasks": 8, "episodes": 2000, "chains": 200},
        "tiny": {"decisions": 3840, "tasks": 4, "episodes": 100, "chains": 12, "rate": RATES[0]},
    },
    tuning=Tuning("rate", RATES, {"decisions": 60_000}, (0, 1), "accuracy"),
    setup={"corrected": "the imitating policy, whose calls fail most"},
)
