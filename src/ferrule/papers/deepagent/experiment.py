"""The experiment behind ToolPO's claim: nine decisions that must all be right, six of them tool calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ferrule.core.arrays import FloatArray
from ferrule.core.recipe import Recipe
from ferrule.core.records import Call, Observation, Score, Task, Trajectory
from ferrule.credit.group import group_relative
from ferrule.papers.deepagent import recipe, success_and_action
from ferrule.rewards.outcome import outcome
from ferrule.studies.old import Condition, at_least, judged, over_seeds, scale_of
from ferrule.studies.paper import Claim

__all__ = ["ARMS", "SCALES", "measure", "run", "summed"]

TOOLS, ANSWERS, OPTIONS = 6, 3, 4
LEARNING_RATE = 3.0 * (TOOLS + ANSWERS)
"""3 per decision: the loss is a mean over the nine tokens of an episode."""
SCALES: Mapping[str, int] = {"small": 200, "tiny": 15}
"""Training steps of each scale."""
ARMS: Mapping[str, tuple[str, int]] = {
    "success only": ("outcome", 8),
    "summed": ("summed", 8),
    "ToolPO": ("toolpo", 8),
    "summed, 16 samples": ("summed", 16),
    "ToolPO, 16 samples": ("toolpo", 16),
}
"""Arms of the claim: the method and its group size."""


def play(task: Task, player: Any) -> Trajectory:
    """Make six calls and three answer tokens; option 0 is right everywhere, and a wrong call is refused by its tool."""
    picks = []
    for state in range(TOOLS):
        picks.append(player.decide(state, "call"))
        call = Call("choose", {"place": state, "option": picks[-1]})
        player.turn("", [(call, Observation("done", "ok" if picks[-1] == 0 else "error"))])
    picks += [player.decide(TOOLS + i) for i in range(ANSWERS)]
    return player.trajectory(task, "right" if not any(picks) else "wrong")  # type: ignore[no-any-return]


def summed(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
    """Control: success and actions as one number, which every token is credited for."""
    scores = success_and_action(task, trajectories)
    return [replace(score, value=score.parts["success"] + score.parts["action"]) for score in scores]


def _base(samples: int) -> Recipe:
    from ferrule.agents.react import ToolLoop
    from ferrule.objectives.reduce import token_mean
    from ferrule.objectives.surrogate import surrogate

    return Recipe(ToolLoop(), outcome, group_relative, surrogate, token_mean, samples=samples)


def run(method: str, samples: int, *, seed: int, steps: int, prompts: int = 2) -> dict[str, float]:
    """Train one arm; return the success of the final table and the steps it took to one half (``steps`` if never)."""
    from ferrule.studies.table import train_table

    base = _base(samples)
    chosen = {"outcome": base, "summed": replace(base, reward=summed), "toolpo": recipe(base, samples=base.samples)}[
        method
    ]
    tasks = [Task(f"prompt {i}", "choose", answer="right") for i in range(prompts)]

    def success(step: int, chance_SA: FloatArray) -> dict[str, float]:
        return {"success": float(np.prod(chance_SA[:, 0]))}

    start = np.zeros((TOOLS + ANSWERS, OPTIONS))
    table = train_table(chosen, play, tasks, start, steps=steps, learning_rate=LEARNING_RATE, seed=seed, watch=success)
    curve = [row["success"] for row in table.curve]
    reached = [i + 1 for i, value in enumerate(curve) if value >= 0.5]
    return {"success": curve[-1], "steps_to_half": float(reached[0] if reached else steps)}


def _conditions(found: Mapping[str, Sequence[Mapping[str, float]]]) -> list[Condition]:
    """Judge steps against the median of the summed reward: a few of its seeds never get there."""
    usual = float(np.median([row["steps_to_half"] for row in found["summed"]]))
    pairs = zip(found["ToolPO"], found["success only"], strict=True)
    return [
        at_least(
            "steps to half success saved by ToolPO, share of the summed reward's median",
            [1 - row["steps_to_half"] / usual for row in found["ToolPO"]],
            0.5,
        ),
        at_least(
            "final success, ToolPO minus success only", [own["success"] - other["success"] for own, other in pairs], 0.5
        ),
    ]


def measure(scale: str, seeds: Sequence[int]) -> Claim:
    """Run all arms and compare: ToolPO with the summed reward (steps to half success), and with success alone.

    ``scale`` is ``"small"`` (200 steps) or ``"tiny"`` (15, to try the machinery). The arms with 16 samples are reported
    beside the verdict: they say how much of the gap is noise that larger groups average away.
    """
    steps = scale_of(SCALES, scale)
    runs = {name: partial(run, method, samples, steps=steps) for name, (method, samples) in ARMS.items()}
    found = {name: [one(seed=seed) for seed in seeds] for name, one in runs.items()}
    conditions = _conditions(found)
    medians = {name: float(np.median([row["steps_to_half"] for row in rows])) for name, rows in found.items()}
    solved = {name: sum(row["success"] > 0.9 for row in rows) for name, rows in found.items()}
    notes = [
        f"{name}: median {medians[name]:.0f} steps to half success, {solved[name]} of {len(seeds)} seeds above 0.9"
        for name in found
    ]
    notes.append("Only the credit rule is measured; folding a context belongs to the agent.")
    return judged(
        conditions,
        paper="deepagent",
        statement="An action advantage on call tokens only learns faster than one summed reward on all tokens.",
        arms=over_seeds(found),
        falsifier="ToolPO needs more than half the steps of the summed reward, or is no better than success alone.",
        seeds=tuple(seeds),
        scale=scale,
        notes=notes,
        setup={
            "steps": steps,
            "decisions": TOOLS + ANSWERS,
            "options": OPTIONS,
            "prompts": 2,
            "learning_rate": LEARNING_RATE,
        },
    )
