"""The experiment behind TAPO's claim: three kinds of questions, two tools, and a table of decisions.

A question needs a search, a program, or a search and then a program. A policy decides turn by turn which tool to call,
whether to muse at length, or to answer. All questions of a kind share their rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from ferrule.core.arrays import FloatArray
from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Call, Observation, Task, Trajectory
from ferrule.credit.group import group_relative
from ferrule.papers.tapo import recipe, tapo_reward
from ferrule.rewards.outcome import outcome
from ferrule.studies.old import Condition, at_least, judged, over_seeds, scale_of
from ferrule.studies.paper import Claim

__all__ = ["ARMS", "SCALES", "evaluate", "measure", "play", "trained"]

NEEDS: Mapping[str, tuple[str, ...]] = {"lookup": ("search",), "sums": ("code",), "both": ("search", "code")}
"""Calls that a kind of question needs, in order."""
ACTIONS = ("answer", "search", "code", "muse")
STAGES = 3
ROUNDS = 4
KNOWN, GUESSED = 0.95, 0.05
"""Chance of a right answer with and without all that is needed."""
WORDS: Mapping[str, int] = {"answer": 10, "search": 10, "code": 10, "muse": 40}
"""Tokens that the model writes for an action."""
OBSERVED = 60
"""Tokens of an observation: half of the buffer, where the paper allows up to twice the buffer."""
LENGTH: Mapping[str, Any] = {"longest": 160, "buffer": 120}
TARGET = 0.75
"""Accuracy whose first sight is timed."""
SCALES: Mapping[str, int] = {"small": 100, "tiny": 8}
"""Training steps of each scale."""
GROUPS, RATE = 6, 2.0


def written_words(trajectory: Trajectory) -> float:
    """Count what the model wrote: the tokens of its actions."""
    return float(sum(WORDS[str(turn.reply.content)] for turn in trajectory.turns))


def all_words(trajectory: Trajectory) -> float:
    """Count observations as well."""
    return written_words(trajectory) + OBSERVED * len(trajectory.calls)


def _start() -> FloatArray:
    """Return the first logits: a policy that answers at once in 55 of 100 cases, and rarely knows which tool."""
    row = np.log([0.55, 0.15, 0.15, 0.15])
    return np.tile(row, (len(NEEDS) * STAGES, 1))


def play(task: Task, player: Any) -> Trajectory:
    """Play one episode: at most ``ROUNDS`` turns before the last one, in which only an answer counts."""
    kind = str(task.meta["kind"])
    needs, stage = NEEDS[kind], 0
    for turn in range(ROUNDS + 1):
        action = ACTIONS[player.decide(list(NEEDS).index(kind) * STAGES + stage)]
        if action == "answer":
            player.turn(action)
            right = player.rng.random() < (KNOWN if stage == len(needs) else GUESSED)
            return player.trajectory(task, "right" if right else "wrong")  # type: ignore[no-any-return]
        if action == "muse" or turn == ROUNDS:
            player.turn(action)
            continue
        fits = stage < len(needs) and needs[stage] == action
        stage += fits
        player.turn(action, [(Call(action, id=f"call_{turn}"), Observation("seen", "ok" if fits else "error"))])
    return player.trajectory(task, None, finish="turns")  # type: ignore[no-any-return]


def _arms() -> dict[str, Recipe]:
    from ferrule.agents.react import ToolLoop
    from ferrule.objectives.reduce import token_mean
    from ferrule.objectives.surrogate import surrogate

    base = Recipe(ToolLoop(), outcome, partial(group_relative, std="unbiased"), surrogate, token_mean, samples=4)
    base = vary(base, minibatches=2)
    whole = recipe(base, minibatches=base.minibatches)
    whole = vary(whole, reward=partial(tapo_reward, length=written_words, **LENGTH))
    plain = vary(base, reward=partial(tapo_reward, length=lambda trajectory: 0.0))
    return {
        "grpo": plain,
        "grpo + filter": vary(plain, keep=whole.keep, refill=whole.refill),
        "tapo": whole,
        "tapo, observations counted": vary(whole, reward=partial(tapo_reward, length=all_words, **LENGTH)),
        "tapo, no filter": vary(whole, keep=None, refill=0),
    }


ARMS = ("grpo", "grpo + filter", "tapo", "tapo, observations counted", "tapo, no filter")
"""Names of the arms."""


def evaluate(chance_SA: FloatArray) -> dict[str, float]:
    """Return the exact accuracy and calls of every kind, and their means."""
    out: dict[str, float] = {}
    for k, (kind, needs) in enumerate(NEEDS.items()):
        at = np.zeros(STAGES)
        at[0], right, calls = 1.0, 0.0, 0.0
        for turn in range(ROUNDS + 1):
            chance = chance_SA[k * STAGES : (k + 1) * STAGES]
            known = np.where(np.arange(STAGES) == len(needs), KNOWN, GUESSED)
            right += float((at * chance[:, 0] * known).sum())
            calls += float((at * chance[:, 1:3].sum(1)).sum()) if turn < ROUNDS else 0.0
            later = at * (1 - chance[:, 0])
            for stage, need in enumerate(needs if turn < ROUNDS else ()):
                moved = at[stage] * chance[stage, ACTIONS.index(need)]
                later[stage] -= moved
                later[stage + 1] += moved
            at = later
        out |= {f"accuracy {kind}": right, f"calls {kind}": calls}
    for name in ("accuracy", "calls"):
        out[name] = float(np.mean([out[f"{name} {kind}"] for kind in NEEDS]))
    return out


@dataclass
class _Watch:
    """What happens along a run: accuracy, episodes played, and groups whose members differ."""

    episodes: int = 0
    accuracy: list[float] = field(default_factory=list)
    played: list[int] = field(default_factory=list)
    trained: list[bool] = field(default_factory=list)

    def play(self, task: Task, player: Any) -> Trajectory:
        self.episodes += 1
        return play(task, player)

    def credit(self, rule: Callable[..., FloatArray]) -> Callable[..., FloatArray]:
        def watched(reward_N: Any, group_N: Any, turn_NT: Any) -> FloatArray:
            adv_NT = rule(reward_N, group_N, turn_NT)
            self.trained += [bool(adv_NT[group_N == group].any()) for group in np.unique(group_N)]
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


def trained(arm: str, *, seed: int, steps: int) -> dict[str, float]:
    """Train one arm and return what it reached, when, and at what cost."""
    from ferrule.studies.table import train_table

    watch, own = _Watch(), _arms()[arm]
    meta = [{"kind": kind} for kind in NEEDS]
    tasks = [Task(f"{m['kind']}/{i}", "?", "right", meta=m) for i in range(GROUPS // len(meta)) for m in meta]
    table = train_table(
        vary(own, credit=watch.credit(own.credit)), watch.play, tasks, _start(), steps=steps, learning_rate=RATE,
        seed=seed, groups=GROUPS, watch=watch.after,
    )  # fmt: skip
    steps_needed, episodes_needed = watch.reached(steps)
    return {
        **evaluate(table.chance_SA),
        "steps to target": steps_needed,
        "episodes to target": episodes_needed,
        "informative groups": float(np.mean(watch.trained)) if watch.trained else 0.0,
    }


def _conditions(column: Callable[[str, str], FloatArray]) -> list[Condition]:
    """Judge the arms; every difference is within a seed."""
    ratio = column("grpo", "steps to target") / column("tapo", "steps to target")
    wrongly, rightly = "tapo, observations counted", "tapo"
    fact = {arm: (column(arm, "accuracy lookup") + column(arm, "accuracy both")) / 2 for arm in (wrongly, rightly)}
    return [
        at_least("updates to the target, GRPO without filter over TAPO", ratio.tolist(), 1.3),
        at_least("share of groups that teach, TAPO", column("tapo", "informative groups").tolist(), 0.99),
        at_least(
            "calls, TAPO minus TAPO with observations counted",
            (column(rightly, "calls") - column(wrongly, "calls")).tolist(), 0.2,
        ),
        at_least(
            "accuracy on lookup and both, TAPO minus TAPO with observations counted",
            (fact[rightly] - fact[wrongly]).tolist(), 0.02,
        ),
    ]  # fmt: skip


def measure(scale: str, seeds: Sequence[int]) -> Claim:
    """Compare the arms at equal updates.

    Held when all hold by their 95 % intervals: the filter saves updates (a factor of 1.3 to an accuracy of 0.75),
    nearly all groups teach, and counting observations in the length penalty costs calls (0.2) and accuracy (2 points).
    ``scale`` is ``"small"`` (100 steps) or ``"tiny"`` (8, to try the machinery).
    """
    steps = scale_of(SCALES, scale)
    found = {arm: [trained(arm, seed=seed, steps=steps) for seed in seeds] for arm in ARMS}
    conditions = _conditions(lambda arm, name: np.asarray([row[name] for row in found[arm]]))
    notes = []
    for arm, rows in found.items():
        mean = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        notes.append(
            f"{arm}: accuracy {mean['accuracy']:.3f}, calls {mean['calls']:.2f}, target after "
            f"{mean['steps to target']:.0f} updates and {mean['episodes to target']:.0f} episodes, "
            f"{mean['informative groups']:.2f} of groups teach"
        )
    return judged(
        conditions,
        paper="tapo",
        statement="Training on mixed groups only saves updates, and observations must not count as length.",
        arms=over_seeds(found),
        falsifier="The filter saves no updates, or counting observations as length makes no difference.",
        seeds=tuple(seeds),
        scale=scale,
        notes=notes,
        setup={
            "steps": steps, "groups": GROUPS, "target": TARGET, "observed": OBSERVED, "words": dict(WORDS),
            **LENGTH,
        },
    )  # fmt: skip
