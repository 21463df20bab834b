"""The experiments behind ASPO's claim: what a tool brings into reach, and how calls are moved forward."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ferrule.core.arrays import FloatArray, Signals, apply, pack
from ferrule.core.recipe import Recipe
from ferrule.core.records import Call, Observation, Score, Task, Trajectory
from ferrule.credit.group import group_relative
from ferrule.evaluate.metrics import pass_at_k
from ferrule.papers.aspo import bonus_reward, recipe, solvability
from ferrule.rewards.outcome import outcome
from ferrule.studies.old import Condition, at_least, judged, over_seeds, scale_of
from ferrule.studies.paper import Claim

__all__ = ["ARMS", "BITS", "SCALES", "guessing", "measure", "pushed_down", "run"]

BITS = (1, 4, 8, 12)
"""Bits of a keyed hash that an answer must hold."""
SAMPLES, INPUTS, CALLING = 256, 40, 0.3
"""Samples per task, tasks per number of bits, and how often the policy with the tool calls it."""
SCALES: Mapping[str, int] = {"small": 300, "tiny": 8}
"""Training steps of each scale."""
PLACES, OPTIONS = 8, 4
ARMS: tuple[str, ...] = ("no push", "bonus", "ASPO")


def guessing(bits: int, *, tool: bool, seed: int) -> FloatArray:
    """Let a scripted policy answer with the first ``bits`` bits of a keyed hash; return pass@256 per input.

    Without the tool every bit is guessed; with it, the policy calls it in 3 of 10 samples and guesses otherwise.
    """
    rng = np.random.default_rng([seed, bits, tool])
    out = []
    for i in range(INPUTS):
        digest = hashlib.blake2b(f"input {seed} {i}".encode(), key=b"secret", digest_size=4).digest()
        answer = int.from_bytes(digest, "big") >> (32 - bits)
        said = rng.integers(2**bits, size=SAMPLES)
        if tool:
            said = np.where(rng.random(SAMPLES) < CALLING, answer, said)
        out.append(pass_at_k(SAMPLES, int((said == answer).sum()), SAMPLES))
    return np.asarray(out)


def _play(task: Task, player: Any) -> Trajectory:
    """Think or call at up to eight places; then answer, which the place of the call has no part in."""
    for place in range(PLACES):
        if player.decide(place):
            player.turn("", [(Call("python"), Observation("printed"))])
            break
        player.turn("thinking")
    right = player.decide(PLACES) == 0
    return player.trajectory(task, "right" if right else "wrong")  # type: ignore[no-any-return]


def _pushed_down(adv_NT: FloatArray, signals: Signals) -> float:
    """Share of right answers whose advantage is negative."""
    right_N = signals.parts_CN[signals.channels.index("outcome")] > 0
    return float((adv_NT[right_N] < 0).any(axis=1).mean()) if right_N.any() else 0.0


def pushed_down(arm: str, *, seed: int, groups: int) -> float:
    """Share of right answers with a negative advantage in random groups of 8 that all called, at any success rate."""
    from ferrule.studies.table import Player

    rng = np.random.default_rng([seed, 8])
    chosen = _recipe(arm)
    rows: list[Trajectory] = []
    scores: list[Score] = []
    task = Task("random", "?", answer="right")
    chance_SA = np.asarray([[1.0]])
    for rate in rng.random(groups):
        group = []
        for right in rng.random(8) < rate:
            player = Player(chance_SA, rng)
            before = int(rng.integers(30))
            _write(player, before)
            player.turn("thinking")
            _write(player, 1)
            player.turn("", [(Call("python"), Observation("printed"))])
            _write(player, 39 - before)
            group.append(player.trajectory(task, "right" if right else "wrong"))
        rows += group
        scores += chosen.reward(task, group)
    signals = pack(rows, scores, [i // 8 for i in range(len(rows))])
    return _pushed_down(apply(chosen.credit, signals), signals)


def _write(player: Any, tokens: int) -> None:
    for _ in range(tokens):
        player.decide(0)


def _watched(credit: Callable[..., Any], seen: list[float]) -> Callable[[Signals], FloatArray]:
    """Return the rule itself; every batch adds the share of right answers with a negative advantage to ``seen``."""

    def rule(signals: Signals) -> FloatArray:
        adv_NT = apply(credit, signals)
        seen.append(_pushed_down(adv_NT, signals))
        return adv_NT

    return rule


def _recipe(arm: str) -> Recipe:
    from ferrule.agents.react import ToolLoop
    from ferrule.objectives.reduce import token_mean
    from ferrule.objectives.surrogate import surrogate

    base = Recipe(ToolLoop(), outcome, partial(group_relative, std="unbiased"), surrogate, token_mean)
    if arm == "bonus":
        return replace(base, reward=bonus_reward)
    return recipe(base) if arm == "ASPO" else base


def run(arm: str, *, seed: int, steps: int) -> dict[str, float]:
    """Train one arm; return accuracy, place of the first call, and the share of right answers that were pushed down."""
    from ferrule.studies.table import train_table

    flips: list[float] = []
    chosen = _recipe(arm)
    chosen = replace(chosen, credit=_watched(chosen.credit, flips))
    start = np.zeros((PLACES + 1, OPTIONS))
    start[:PLACES] = [1.0, -0.5, -1e9, -1e9]  # two options only: think or call
    tasks = [Task(str(i), "?", answer="right") for i in range(4)]
    table = train_table(
        chosen, _play, tasks, start, steps=steps, learning_rate=2.0, seed=seed, watch=lambda step, chance: _now(chance)
    )
    late = [row["accuracy"] for row in table.curve[len(table.curve) // 2 :]]
    return {
        **_now(table.chance_SA),
        "late_accuracy": float(np.mean(late)),
        "late_spread": float(np.std(late)),
        "pushed_down": float(np.mean(flips)) if flips else 0.0,
        "pushed_down_at_random": pushed_down(arm, seed=seed, groups=200),
    }


def _now(chance_SA: FloatArray) -> dict[str, float]:
    """Exact accuracy, chance of a call, and mean place of the first call (``PLACES`` without one)."""
    think = chance_SA[:PLACES, 0]
    still = np.concatenate([[1.0], np.cumprod(think)])
    return {
        "accuracy": float(chance_SA[PLACES, 0]),
        "calls": float(1 - still[-1]),
        "place": float(still[1:].sum()),
    }


def _conditions(
    reach: Sequence[Mapping[str, float]], rows: Mapping[str, Sequence[Mapping[str, float]]]
) -> list[Condition]:
    def less(name: str, one: str, other: str) -> list[float]:
        return [a[name] - b[name] for a, b in zip(rows[one], rows[other], strict=True)]

    return [
        at_least("pass@256 on 12 bits, with the tool minus without", [own["expansion"] for own in reach], 0.5),
        at_least("first call earlier with ASPO than without a push, places", less("place", "no push", "ASPO"), 0.5),
        at_least("accuracy, ASPO minus no push", less("accuracy", "ASPO", "no push"), -0.02),
        at_least(
            "right answers that ASPO pushes down in training or in random groups, share, times -1",
            [-max(row["pushed_down"], row["pushed_down_at_random"]) for row in rows["ASPO"]],
            0.0,
        ),
        at_least(
            "right answers that a bonus pushes down in random groups, share",
            [row["pushed_down_at_random"] for row in rows["bonus"]],
            0.1,
        ),
    ]


def measure(scale: str, seeds: Sequence[int]) -> Claim:
    """Measure the reach of a policy with and without the tool, and train three arms where place does not matter.

    ``scale`` is ``"small"`` (300 steps) or ``"tiny"`` (8, to try the machinery).
    """
    steps = scale_of(SCALES, scale)
    passed = {
        (bits, tool): [guessing(bits, tool=tool, seed=seed) for seed in seeds]
        for bits in BITS
        for tool in (False, True)
    }
    reach = [
        solvability((text > 0.5).tolist(), (tool > 0.5).tolist())
        for text, tool in zip(passed[12, False], passed[12, True], strict=True)
    ]
    rows = {arm: [run(arm, seed=seed, steps=steps) for seed in seeds] for arm in ARMS}
    conditions = _conditions(reach, rows)
    notes = []
    for bits in BITS:
        text, tool = (float(np.mean(passed[bits, with_tool])) for with_tool in (False, True))
        expected = 1 - (1 - 2.0**-bits) ** SAMPLES
        notes.append(
            f"{bits} bits: pass@256 {text:.3f} by guessing (expected {expected:.3f}), {tool:.3f} with the tool"
        )
    for arm, found in rows.items():
        means = {name: float(np.mean([row[name] for row in found])) for name in found[0]}
        notes.append(
            f"{arm}: first call at place {means['place']:.2f}, accuracy {means['accuracy']:.3f} (over the second half "
            f"{means['late_accuracy']:.3f}, spread {means['late_spread']:.4f}), right answers pushed down "
            f"{means['pushed_down']:.1%} in training, {means['pushed_down_at_random']:.1%} in random groups"
        )
    arms = over_seeds(rows)
    for tool, label in ((False, "guessing"), (True, "tool")):
        arms[label] = {f"pass_256_{bits}_bits": [float(p.mean()) for p in passed[bits, tool]] for bits in BITS}
    return judged(
        conditions,
        first=1,
        paper="aspo",
        statement="A tool brings answers into reach, and shaping moves calls forward at equal accuracy.",
        arms=arms,
        falsifier="Shaping pushes a right answer down, or costs more than 2 points of accuracy.",
        seeds=tuple(seeds),
        scale=scale,
        notes=notes,
        setup={
            "steps": steps,
            "samples": 8,
            "places": PLACES,
            "options": OPTIONS,
            "inputs_per_number_of_bits": INPUTS,
        },
    )
