"""Tool-Light: branches where the model is unsure, at random steps, and whole new chains, at equal tokens of pocket."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from typing import Any

from ferrule.agents.best_of import BestOf
from ferrule.agents.entropy import EntropyBranch
from ferrule.agents.search import Budget
from ferrule.core.flows import Agent
from ferrule.papers.tool_light import chains
from ferrule.rollout.drive import drive
from ferrule.studies.conditions import at_least, less, minus, of
from ferrule.studies.study import Study
from ferrule.worlds.apis import Apis

__all__ = ["STUDY", "arm", "random_steps"]

LEVELS = (1, 2, 3)
"""Levels whose tasks are judged by the answer alone: one call, or a chain of two."""
PER = 10_000


def random_steps(values: Sequence[float], count: int = 3) -> list[int]:
    """Pick steps at random, whatever their entropy: the control. The same entropies give the same steps."""
    return random.Random(repr(values)).sample(range(len(values)), min(count, len(values)))


def arm(*, seed: int, questions: int, tokens: int, agent: Any) -> dict[str, float]:
    """Sample with the pocket model, at most ``tokens`` per question; return what differs, per 10,000 tokens.

    ``mixed`` counts questions with a right and a wrong chain, ``answers`` the distinct answers of all questions.
    """
    from ferrule.policies.named import load

    world = Apis()
    tasks = world.tasks("train", questions, seed=seed, levels=LEVELS)
    how: Agent = agent(max_tokens=64, turns=4, budget=Budget(tokens=tokens))
    episodes = drive(how, tasks, world, load("pocket"), temperature=1.0, seed=seed)
    written = sum(episode.sampled_count for episode in episodes)
    right = [[candidate.correct >= 1 for candidate, _ in chains(episode)] for episode in episodes]
    answers = [{path.turns[-1].notes.get("answer") for path in episode.trajectories} for episode in episodes]
    return {
        "mixed": PER * sum(any(own) and not all(own) for own in right) / written,
        "answers": PER * sum(len(own - {None}) for own in answers) / written,
        "chains": sum(map(len, right)) / len(right),
        "tokens": written / len(episodes),
    }


UNSURE, ANY, ANEW = "least sure steps", "random steps", "whole chains"
STUDY = Study(
    paper="tool-light",
    part="sampling",
    statement="Branching where steps begin least surely gives more questions with right and wrong chains per token.",
    falsifier="Branching at random steps gives as many.",
    grade="A",
    trained="nothing; the pocket model samples tasks of the world apis, and the seed draws the tasks",
    arms={
        UNSURE: partial(arm, agent=EntropyBranch),
        ANY: partial(arm, agent=partial(EntropyBranch, choose=random_steps)),
        ANEW: partial(arm, agent=partial(BestOf, samples=10)),
    },
    asks=(
        at_least(
            "mixed questions per 10,000 tokens, least sure minus 1.2 times whole chains",
            minus(of(UNSURE, "mixed"), of(ANEW, "mixed", factor=1.2)),
            0.0,
        ),
        at_least("mixed questions per 10,000 tokens, least sure minus random steps", less("mixed", UNSURE, ANY), 0.0),
        at_least(
            "answers per 10,000 tokens, least sure minus whole chains",
            less("answers", UNSURE, ANEW),
            0.0,
            decides=False,
        ),
    ),
    sizes={"small": {"questions": 200, "tokens": 600}, "tiny": {"questions": 12, "tokens": 400}},
    seeds=(100, 101, 102, 103, 104),
    setup={"levels": LEVELS, "per_tokens": PER},
    models=("pocket",),
)
