"""THOR on a language model: chains of calls that fail when a call is wrong, and what training repairs adds."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from ferrule.agents.react import ToolLoop
from ferrule.core.recipe import Recipe, vary
from ferrule.papers import thor
from ferrule.rewards.outcome import outcome
from ferrule.studies.conditions import at_least, less
from ferrule.studies.learner import taught
from ferrule.studies.study import Study
from ferrule.studies.table import plain
from ferrule.studies.tuning import Tuning
from ferrule.worlds.aliased import renamed
from ferrule.worlds.apis import Apis

__all__ = ["STUDY", "undropped"]

LEVELS, SAMPLES, SUFFIX = (3, 5), 8, 8
"""Chains of two and four calls; samples of an episode; tokens of thought that a repair takes back."""
REPAIRS = "episodes and repairs"
WORLD, AGENT = renamed(Apis(), share=1.0, words="syllables"), ToolLoop(turns=6, max_tokens=64)
_OURS: Mapping[str, Any] = {"num_generations": SAMPLES, "rounds": AGENT.turns - 1, "least_tokens": -1}


def undropped(base: Recipe) -> Recipe:
    """Return the episode level that learns from failed episodes as well: the control at its strongest."""
    return vary(thor.recipe(base, **_OURS), reward=outcome, keep=base.keep)


_arm = partial(taught, agent=AGENT, world=WORLD, levels=LEVELS)
_base = plain(agent=AGENT)

STUDY = Study(
    paper="thor",
    part="pocket",
    statement="Training a language model on repairs of failed calls makes more calls run, and more answers right.",
    falsifier="Repairs lower the share of failed calls by less than a point, or all episodes undropped do better.",
    grade="A",
    trained="the pocket model by group advantages on tools with made-up names, judged on tools it did not train on",
    arms={
        "all episodes": partial(_arm, method=undropped(_base)),
        "episodes": partial(_arm, method=thor.recipe(_base, **_OURS)),
        REPAIRS: partial(_arm, method=thor.method(_base, suffix=SUFFIX, **_OURS)),
    },
    asks=(
        at_least(
            "share of failed calls, episodes minus with repairs",
            less("failed", "episodes", REPAIRS),
            0.01,
        ),
        at_least("success, with repairs minus episodes", less("success", REPAIRS, "episodes"), 0.02),
        at_least("success, with repairs minus all episodes", less("success", REPAIRS, "all episodes"), 0.0),
    ),
    sizes={
        "small": {"sampled": 150_000, "tasks": 300, "batch": 64},
        "tiny": {"sampled": 2_400, "tasks": 6, "batch": 32, "learning_rate": 1e-3},
    },
    seeds=(100, 101, 102, 103, 104),
    tuning=Tuning("learning_rate", (5e-5, 1e-4, 2e-4), {"sampled": 37_500}),
    setup={"levels": LEVELS, "samples": SAMPLES, "suffix": SUFFIX},
    models=("pocket",),
)
