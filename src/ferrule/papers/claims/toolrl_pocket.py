"""ToolRL on a language model: renamed tools, and rewards for answers, for whole calls, and for parts of calls."""

from __future__ import annotations

from functools import partial

from ferrule.agents.react import ToolLoop
from ferrule.core.recipe import Recipe, vary
from ferrule.papers import toolrl
from ferrule.rewards.calls import Grain
from ferrule.studies.conditions import at_least, less
from ferrule.studies.learner import taught
from ferrule.studies.study import Study
from ferrule.studies.table import plain
from ferrule.studies.tuning import Tuning
from ferrule.worlds.aliased import on_canonical, renamed
from ferrule.worlds.apis import Apis

__all__ = ["STUDY", "by_calls"]

LEVELS = (3, 5)
"""Chains of two calls and of four."""
WORLD, AGENT = renamed(Apis(), share=1.0, words="syllables"), ToolLoop(turns=6, max_tokens=64)


def by_calls(base: Recipe, *, grain: Grain) -> Recipe:
    """Return the paper's recipe with calls compared under their real names, and the group size of ``base``."""
    recipe = toolrl.recipe(base, grain=grain)
    return vary(recipe, reward=on_canonical(recipe.reward), num_generations=base.num_generations)


_arm = partial(taught, agent=AGENT, world=WORLD, levels=LEVELS)
_grpo = plain(agent=AGENT)

STUDY = Study(
    paper="toolrl",
    part="pocket",
    statement=(
        "Scoring names and values of reference calls one by one teaches a language model to use renamed tools better "
        "than all or nothing does, and no worse than rewards for answers."
    ),
    falsifier="All or nothing comes within 5 points of the fine reward, or answers alone do better by 5 points.",
    grade="A",
    trained="the pocket model by group advantages on tools with made-up names, judged on tools it did not train on",
    arms={
        "answers": partial(_arm, method=_grpo),
        "coarse": partial(_arm, method=by_calls(_grpo, grain="coarse")),
        "fine": partial(_arm, method=by_calls(_grpo, grain="fine")),
    },
    asks=(
        at_least("success, fine minus coarse", less("success", "fine", "coarse"), 0.05),
        at_least("success, fine minus answers alone", less("success", "fine", "answers"), -0.05),
    ),
    sizes={
        "small": {"sampled": 150_000, "tasks": 300, "batch": 64},
        "tiny": {"sampled": 2_400, "tasks": 6, "batch": 32, "learning_rate": 3e-4},
    },
    seeds=(100, 101, 102, 103, 104),
    tuning=Tuning("learning_rate", (5e-5, 1e-4, 2e-4), {"sampled": 37_500}),
    setup={"levels": LEVELS},
    models=("pocket",),
)
