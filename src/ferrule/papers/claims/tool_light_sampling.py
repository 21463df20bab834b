"""Tool-Light: branches where the model is unsure, at random steps, and whole new chains, at equal tokens of pocket."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ferrule.agents.best_of import BestOf
from ferrule.agents.entropy import EntropyBranch
from ferrule.core.flows import Agent
from ferrule.core.records import Trajectory
from ferrule.papers.tool_light import chains
from ferrule.rollout.drive import drive
from ferrule.rollout.record import Episode
from ferrule.studies.conditions import at_least, less, minus, of
from ferrule.studies.study import Study
from ferrule.worlds.apis import Apis

__all__ = ["STUDY", "arm", "random_steps", "within"]

LEVELS = (1, 2, 3)
"""Levels whose tasks are judged by the answer alone: one call, or a chain of two."""
STEPS, WIDTH = 1, 16
"""Chains have two or three steps: with three to branch at, the least sure ones and random ones are the same."""
PER = 10_000


def random_steps(values: Sequence[float], count: int = 3) -> list[int]:
    """Pick steps at random, whatever their entropy: the control. The same entropies give the same steps."""
    return random.Random(repr(values)).sample(range(len(values)), min(count, len(values)))


def within(episode: Episode, tokens: int) -> Episode:
    """Return an episode with the chains that fit into ``tokens``, in the order in which they began; one at least.

    What chains share counts once. Chains stand whole or not at all, so that none is wrong because it was cut off.
    """
    kept, counted = list[Trajectory](), dict[int, int]()
    for path in sorted(episode.trajectories, key=lambda path: [turn.id for turn in path.turns]):
        taken = counted | {turn.id: len(turn.sampled) for turn in path.turns}
        if kept and sum(taken.values()) > tokens:
            break
        kept.append(path)
        counted = taken
    return replace(episode, trajectories=tuple(kept))


def arm(*, seed: int, questions: int, tokens: int, agent: Any) -> dict[str, float]:
    """Sample with the pocket model and keep what fits into ``tokens`` per question; return what differs, per 10,000.

    ``mixed`` counts questions with a right and a wrong chain, ``answers`` the distinct answers of all questions.
    """
    from ferrule.policies.named import load

    world = Apis()
    tasks = world.tasks("train", questions, seed=seed, levels=LEVELS)
    how: Agent = agent(max_tokens=64, turns=4)
    episodes = [
        within(episode, tokens) for episode in drive(how, tasks, world, load("pocket"), temperature=1.0, seed=seed)
    ]
    right = [[candidate.correct >= 1 for candidate, _ in chains(episode)] for episode in episodes]
    answers = [{path.turns[-1].notes.get("answer") for path in episode.trajectories} for episode in episodes]
    allowed = tokens * len(episodes)
    return {
        "mixed": PER * sum(any(own) and not all(own) for own in right) / allowed,
        "answers": PER * sum(len(own - {None}) for own in answers) / allowed,
        "chains": sum(map(len, right)) / len(right),
        "tokens": sum(episode.sampled_count for episode in episodes) / len(episodes),
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
        UNSURE: partial(arm, agent=partial(EntropyBranch, steps=STEPS, width=WIDTH)),
        ANY: partial(arm, agent=partial(EntropyBranch, steps=STEPS, width=WIDTH, choose=random_steps)),
        ANEW: partial(arm, agent=partial(BestOf, samples=WIDTH)),
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
    sizes={"small": {"questions": 200, "tokens": 200}, "tiny": {"questions": 12, "tokens": 200}},
    seeds=(100, 101, 102, 103, 104),
    setup={"levels": LEVELS, "steps": STEPS, "width": WIDTH, "per_tokens": PER},
    models=("pocket",),
)
