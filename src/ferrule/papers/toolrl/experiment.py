"""The experiment behind ToolRL's claim: a table that must emit one right call, by coarse, fine and length rewards."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ferrule.core.arrays import FloatArray
from ferrule.core.recipe import Recipe
from ferrule.core.records import Reward, Task, Trajectory
from ferrule.credit.group import group_relative
from ferrule.papers.toolrl import turn_reward
from ferrule.studies.old import at_least, judged, over_seeds, scale_of
from ferrule.studies.paper import Claim

if TYPE_CHECKING:
    from ferrule.studies.table import Player

__all__ = ["ARMS", "SCALES", "arm_of", "conditions_of", "play", "start", "tasks"]

TOOLS, VALUES, KINDS = 5, 6, 4
WORDS = (8, 16, 32, 64, 128, 256, 512)
"""Words of thought that a turn may have; none of them helps."""
SCALES: Mapping[str, Mapping[str, int]] = {"small": {"steps": 400}, "tiny": {"steps": 6}}
ARMS: Mapping[str, Reward] = {
    "coarse": partial(turn_reward, grain="coarse"),
    "intermediate": partial(turn_reward, grain="intermediate"),
    "fine": turn_reward,
    "fine, length": partial(turn_reward, target=lambda step: 512.0),
}
"""Arms of the claim by their rewards."""
RATE = 4.0
_NEVER = -40.0


def _text(tool: int, first: int, second: int, words: int = 1) -> str:
    call = json.dumps({"name": f"tool{tool}", "parameters": {"a": first, "b": second}})
    return f"<think>{'so ' * words}</think>\n<tool_call>\n{call}\n</tool_call>"


def _gold(kind: int) -> tuple[int, int, int]:
    return kind, (2 * kind + 1) % VALUES, (5 - kind) % VALUES


def tasks() -> list[Task]:
    """Four tasks, each with a gold turn that calls one of five tools with two values of six."""
    return [Task(f"call{kind}", f"{kind}", answer=_text(*_gold(kind)), meta={"kind": kind}) for kind in range(KINDS)]


def play(task: Task, player: Player) -> Trajectory:
    """Choose words of thought, a tool and two values, and write the turn."""
    state = 4 * task.meta["kind"]
    words = WORDS[player.decide(state, "think")]
    tool, first, second = (player.decide(state + k, "call") for k in (1, 2, 3))
    return player.trajectory(task, _text(tool, first, second, words))


def start() -> FloatArray:
    """Logits of the start: short thoughts are likelier (half as likely for every doubling), calls are even."""
    logits = np.full((4 * KINDS, len(WORDS)), _NEVER)
    logits[0::4] = -np.log(2) * np.arange(len(WORDS))
    logits[1::4, :TOOLS] = 0.0
    for k in (2, 3):
        logits[k::4, :VALUES] = 0.0
    return logits


def _watch(step: int, chance_SA: FloatArray) -> dict[str, float]:
    """Chance of a fully right call and expected words of thought, means over the tasks."""
    right = [np.prod([chance_SA[4 * kind + 1 + k, _gold(kind)[k]] for k in range(3)]) for kind in range(KINDS)]
    return {"right": float(np.mean(right)), "words": float((chance_SA[0::4] @ np.asarray(WORDS)).mean())}


def _recipe(reward: Reward) -> Recipe:
    from ferrule.objectives.reduce import token_mean
    from ferrule.objectives.surrogate import surrogate

    credit: Callable[..., Any] = partial(group_relative, std="unbiased")
    return Recipe(lambda task, session: iter(()), reward, credit, surrogate, token_mean, samples=4)  # type: ignore[arg-type,return-value]


def arm_of(arm: str, seed: int, scale: str) -> dict[str, float]:
    """Train one arm; return updates until 80 % right calls (``steps`` if never), and where it stands on the way."""
    from ferrule.studies.table import train_table

    steps = SCALES[scale]["steps"]
    table = train_table(
        _recipe(ARMS[arm]), play, tasks(), start(), steps=steps, learning_rate=RATE * KINDS, seed=seed, watch=_watch
    )
    right = [row["right"] for row in table.curve]
    out = {f"right after {at}": right[at - 1] for at in (20, 40, 80) if at <= steps}
    out["updates to 80 %"] = float(next((i + 1 for i, value in enumerate(right) if value >= 0.8), steps))
    return {**out, "right": right[-1], "words": table.curve[-1]["words"]}


def conditions_of(scale: str, seeds: Sequence[int]) -> Claim:
    """Measure how fast each reward teaches the call, and what paying for length does.

    Held when, by the 95 % intervals, the coarse reward takes at least twice the updates of the fine one until 80 % of
    calls are fully right (an arm that never gets there counts its whole budget), paying for length at least doubles
    the words of thought, and it gains at most 2 points of right calls. ``scale`` is ``"small"`` or ``"tiny"``.
    """
    size = scale_of(SCALES, scale)
    measured = {arm: [arm_of(arm, seed, scale) for seed in seeds] for arm in ARMS}
    arms = over_seeds(measured)
    pairs = list(zip(measured["coarse"], measured["fine"], measured["fine, length"], strict=True))
    name = "updates to 80 %"
    conditions = [
        at_least("updates to 80 % right calls, coarse over fine", [c[name] / f[name] for c, f, _ in pairs], 2.0),
        at_least("words of thought, paid for length over not", [p["words"] / f["words"] for _, f, p in pairs], 2.0),
        at_least("right calls, fine minus paid for length", [f["right"] - p["right"] for _, f, p in pairs], -0.02),
    ]
    return judged(
        conditions,
        paper="toolrl",
        statement="Scoring names and values one by one teaches a call in at most half the updates of all or nothing.",
        arms=arms,
        falsifier="The coarse reward reaches 80 % right calls as fast as the fine one.",
        seeds=tuple(seeds),
        scale=scale,
        setup={
            "steps": size["steps"],
            "samples": 4,
            "rate": RATE * KINDS,
            "tools": TOOLS,
            "values": VALUES,
            "tasks": KINDS,
        },
    )
