"""The experiment behind MatchTIR's claim: a chain of four calls, learnt from outcome, summed or dual-level credit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ferrule.core.arrays import FloatArray, apply, pack
from ferrule.core.recipe import Recipe
from ferrule.core.records import Call, Observation, Score, Task, Trajectory
from ferrule.credit.group import group_relative
from ferrule.papers.matchtir import dual_level, matchtir_reward
from ferrule.studies.old import at_least, judged, over_seeds, scale_of
from ferrule.studies.paper import Claim

if TYPE_CHECKING:
    from ferrule.studies.table import Player

__all__ = ["ARMS", "SCALES", "arm_of", "conditions_of", "opposite_signs", "play", "tasks", "whole_chain"]

TURNS, TOOLS, KINDS, SAMPLES = 4, 6, 4, 8
SCALES: Mapping[str, Mapping[str, int]] = {"small": {"steps": 150, "groups": 200}, "tiny": {"steps": 4, "groups": 20}}
RATE = 4.0


def _gold(kind: int) -> list[int]:
    return [(2 * kind + 5 * turn + 1) % TOOLS for turn in range(TURNS)]


def _name(turn: int, tool: int) -> str:
    return f"turn{turn}_tool{tool}"


def tasks() -> list[Task]:
    """Four tasks, each with one right tool of six for every one of four turns."""
    return [
        Task(
            f"chain{kind}",
            f"{kind}",
            meta={"kind": kind, "calls": [{"name": _name(k, tool)} for k, tool in enumerate(_gold(kind))]},
        )
        for kind in range(KINDS)
    ]


def play(task: Task, player: Player) -> Trajectory:
    """Call one tool per turn; nothing tells whether it was the right one."""
    for turn in range(TURNS):
        tool = player.decide(TURNS * task.meta["kind"] + turn, "call")
        player.turn(calls=[(Call(_name(turn, tool)), Observation("done"))])
    return player.trajectory(task, None, finish="turns")


def whole_chain(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
    """Score 1 for a chain that is right throughout, else 0: the outcome alone."""
    return [Score(float(score.value == TURNS)) for score in matchtir_reward(task, trajectories)]


def _recipe(arm: str) -> Recipe:
    from ferrule.objectives.reduce import token_mean
    from ferrule.objectives.surrogate import surrogate

    reward, credit = ARMS[arm]
    return Recipe(lambda task, session: iter(()), reward, credit, surrogate, token_mean, samples=SAMPLES)  # type: ignore[arg-type,return-value]


_GROUP: Any = partial(group_relative, std="unbiased")
ARMS: Mapping[str, tuple[Any, Any]] = {
    "outcome": (whole_chain, _GROUP),
    "summed": (matchtir_reward, _GROUP),
    "dual": (matchtir_reward, dual_level),
    "turn level alone": (matchtir_reward, partial(dual_level, mix=1.0)),
}
"""Arms of the claim: reward and credit; all else is the same."""


def _watch(step: int, chance_SA: FloatArray) -> dict[str, float]:
    """Chance that a whole chain is right, mean over the tasks."""
    chains = [
        np.prod([chance_SA[TURNS * kind + k, tool] for k, tool in enumerate(_gold(kind))]) for kind in range(KINDS)
    ]
    return {"success": float(np.mean(chains))}


def opposite_signs(credit: Any, groups: int, seed: int) -> float:
    """Share of chains, right in the first half and wrong in the second, whose halves get advantages above and below 0.

    A half counts by its mean. Groups are drawn from a policy that is right at every turn with chance one half.
    """
    from ferrule.studies.table import Player

    chance_SA = np.full((TURNS * KINDS, TOOLS), 0.5 / (TOOLS - 1))
    chains = tasks()
    for kind in range(KINDS):
        chance_SA[TURNS * kind + np.arange(TURNS), _gold(kind)] = 0.5
    rng, found, split = np.random.default_rng([seed, 23]), 0, 0
    for i in range(groups):
        group = [play(chains[i % KINDS], Player(chance_SA, rng)) for _ in range(SAMPLES)]
        scores = matchtir_reward(chains[i % KINDS], group)
        adv_NT = apply(credit, pack(group, scores, [0] * SAMPLES))
        for row, score in zip(adv_NT, scores, strict=True):
            if score.turns == (1.0, 1.0, 0.0, 0.0):
                found += 1
                split += bool(row[:2].mean() > 0 > row[2:].mean())
    return split / max(found, 1)


def arm_of(arm: str, seed: int, scale: str) -> dict[str, float]:
    """Train one arm; return success on the way and its mean over the first 50 updates, and the split of signs."""
    from ferrule.studies.table import train_table

    sizes = SCALES[scale]
    table = train_table(
        _recipe(arm), play, tasks(), np.zeros((TURNS * KINDS, TOOLS)), steps=sizes["steps"],
        learning_rate=RATE * KINDS, seed=seed, watch=_watch,
    )  # fmt: skip
    success = [row["success"] for row in table.curve]
    out = {f"success after {at}": success[min(at, len(success)) - 1] for at in (20, 50, 150)}
    out["mean success over 50"] = float(np.mean(success[:50]))
    return {**out, "opposite signs": opposite_signs(ARMS[arm][1], sizes["groups"], seed)}


def conditions_of(scale: str, seeds: Sequence[int]) -> Claim:
    """Measure how fast a chain is learnt from its outcome, from summed turn rewards and from dual-level credit.

    Held when, by the 95 % intervals, dual-level credit is at least as successful as the sum on average over the first
    50 updates, leads the outcome alone by at least 10 points after 50, and tells the halves of at least half of the
    half-right chains apart, which one advantage per trajectory never does. ``scale`` is ``"small"`` or ``"tiny"``.
    """
    size = scale_of(SCALES, scale)
    measured = {arm: [arm_of(arm, seed, scale) for seed in seeds] for arm in ARMS}
    arms = over_seeds(measured)

    def lead(name: str, behind: str) -> list[float]:
        return [d[name] - o[name] for d, o in zip(measured["dual"], measured[behind], strict=True)]

    conditions = [
        at_least("mean success over 50 updates, dual minus summed", lead("mean success over 50", "summed"), 0.0),
        at_least("success after 50 updates, dual minus outcome", lead("success after 50", "outcome"), 0.10),
        at_least("half-right chains with opposite signs, dual minus summed", lead("opposite signs", "summed"), 0.5),
    ]
    return judged(
        conditions,
        paper="matchtir",
        statement="Matched turn rewards teach a chain long before its outcome does; the turn level is no slower than "
        "their sum and gives the halves of a half-right chain opposite signs.",
        arms=arms,
        falsifier="Dual-level credit is slower than the sum, the outcome alone comes within 10 points after 50 "
        "updates, or fewer than half of the half-right chains get opposite signs.",
        seeds=tuple(seeds),
        scale=scale,
        setup={
            **size,
            "samples": SAMPLES,
            "turns": TURNS,
            "tools": TOOLS,
            "tasks": KINDS,
            "rate": RATE * KINDS,
        },
    )
