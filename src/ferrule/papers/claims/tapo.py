"""TAPO: a table of decisions on three kinds of questions, with and without the filter of groups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from ferrule.core.arrays import FloatArray
from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Task, Trajectory
from ferrule.papers.tapo import recipe, tapo_reward
from ferrule.studies.conditions import Rows, at_least, less, of, over
from ferrule.studies.standins.needs import OBSERVED, WORDS, all_words, evaluate, play, start, tasks, written_words
from ferrule.studies.study import Study
from ferrule.studies.table import Player, plain, train_table

__all__ = ["STUDY", "arm", "baseline", "filtered", "tapo", "unfiltered"]

LENGTH: dict[str, Any] = {"longest": 160, "buffer": 120}
"""An observation takes half of the buffer; the paper allows up to twice the buffer."""
TARGET = 0.75
"""Accuracy whose first sight is timed."""
GROUPS, RATE = 6, 2.0


def baseline() -> Recipe:
    """Return GRPO on the scores alone: no length is charged, every group trains."""
    return plain(num_generations=4, num_mini_batches=2, reward=partial(tapo_reward, length=lambda trajectory: 0.0))


def tapo(length: Callable[[Trajectory], float] = written_words) -> Recipe:
    """Return the recipe of the paper; ``length`` says what counts as an answer's length."""
    whole = recipe(plain(), num_mini_batches=2)
    return vary(whole, reward=partial(tapo_reward, length=length, **LENGTH))


def filtered(chosen: Recipe) -> Recipe:
    """Return a recipe with the paper's filter of groups."""
    whole = tapo()
    return vary(chosen, keep=whole.keep, refill=whole.refill)


def unfiltered(chosen: Recipe) -> Recipe:
    """Return a recipe in which every group trains."""
    return vary(chosen, keep=None, refill=0)


@dataclass
class _Watch:
    """What happens along a run: accuracy, episodes played, and groups whose members differ."""

    episodes: int = 0
    accuracy: list[float] = field(default_factory=list)
    played: list[int] = field(default_factory=list)
    teaches: list[bool] = field(default_factory=list)

    def play(self, task: Task, player: Player) -> Trajectory:
        self.episodes += 1
        return play(task, player)

    def credit(self, rule: Callable[..., FloatArray]) -> Callable[..., FloatArray]:
        def watched(reward_N: Any, group_N: Any, turn_NT: Any) -> FloatArray:
            adv_NT = rule(reward_N, group_N, turn_NT)
            self.teaches += [bool(adv_NT[group_N == group].any()) for group in np.unique(group_N)]
            return adv_NT

        return watched

    def after(self, step: int, chance_SA: FloatArray) -> dict[str, float]:
        self.accuracy.append(evaluate(chance_SA)["accuracy"])
        self.played.append(self.episodes)
        return {}

    def reached(self, steps: int) -> tuple[float, float]:
        """Steps and episodes until ``TARGET``; twice all of them when it was never seen."""
        for step, accuracy in enumerate(self.accuracy):
            if accuracy >= TARGET:
                return float(step + 1), float(self.played[step])
        return 2.0 * steps, 2.0 * self.episodes


def arm(*, seed: int, steps: int, method: Callable[[], Recipe]) -> dict[str, float]:
    """Train one arm and return what it reached, when, and at what cost."""
    watch, chosen = _Watch(), method()
    table = train_table(
        vary(chosen, credit=watch.credit(chosen.credit)), watch.play, tasks(GROUPS), start(), steps=steps,
        learning_rate=RATE, seed=seed, groups=GROUPS, watch=watch.after,
    )  # fmt: skip
    steps_needed, episodes_needed = watch.reached(steps)
    return {
        **evaluate(table.chance_SA),
        "steps to target": steps_needed,
        "episodes to target": episodes_needed,
        "informative groups": float(np.mean(watch.teaches)) if watch.teaches else 0.0,
    }


def _facts(rows: Rows) -> float:
    """Accuracy on questions that need a search, TAPO minus TAPO with observations counted."""
    rightly, wrongly = (rows[arm] for arm in ("tapo", "tapo, observations counted"))
    return sum(float(rightly[name] - wrongly[name]) / 2 for name in ("accuracy lookup", "accuracy both"))


STUDY = Study(
    paper="tapo",
    statement="Training on mixed groups only saves updates, and observations must not count as length.",
    falsifier="The filter saves no updates, or counting observations as length makes no difference.",
    grade="B",
    trained="a table of 9 states, 4 actions each, on three kinds of questions",
    arms={
        "grpo": partial(arm, method=baseline),
        "grpo + filter": partial(arm, method=lambda: filtered(baseline())),
        "tapo": partial(arm, method=tapo),
        "tapo, observations counted": partial(arm, method=partial(tapo, all_words)),
        "tapo, no filter": partial(arm, method=lambda: unfiltered(tapo())),
    },
    asks=(
        at_least("updates to the target, GRPO without filter over TAPO", over("steps to target", "grpo", "tapo"), 1.3),
        at_least("share of groups that teach, TAPO", of("tapo", "informative groups"), 0.99),
        at_least(
            "calls, TAPO minus TAPO with observations counted",
            less("calls", "tapo", "tapo, observations counted"),
            0.2,
        ),
        at_least("accuracy on lookup and both, TAPO minus TAPO with observations counted", _facts, 0.02),
    ),
    sizes={"small": {"steps": 100}, "tiny": {"steps": 24}},
    setup={"groups": GROUPS, "target": TARGET, "observed": OBSERVED, "words": dict(WORDS), **LENGTH},
)
