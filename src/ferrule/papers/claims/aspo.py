"""ASPO: what a tool brings into reach, and a table of places to call at where the place does not matter."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ferrule.core.arrays import FloatArray, Signals, apply, pack
from ferrule.core.recipe import Recipe
from ferrule.core.records import Call, Observation, Score, Task, Trajectory
from ferrule.evaluate.compare import solvability
from ferrule.evaluate.metrics import pass_at_k
from ferrule.papers.aspo import bonus_reward, recipe
from ferrule.studies.conditions import Rows, at_least, less, of
from ferrule.studies.standins.places import expected, play, start, tasks
from ferrule.studies.study import Study
from ferrule.studies.table import Player, plain, train_table

__all__ = ["STUDY", "guessing", "pushed_down", "reach", "trained"]

BITS = (1, 4, 8, 12)
"""Bits of a keyed hash that an answer must hold."""
SAMPLES, INPUTS, CALLING = 256, 40, 0.3
"""Samples per task, tasks per number of bits, and how often the policy with the tool calls it."""


def guessing(bits: int, *, tool: bool, seed: int) -> FloatArray:
    """Let a scripted policy answer with the first ``bits`` bits of a keyed hash; return pass@256 per input.

    Without the tool every bit is guessed; with it, the policy calls it in 3 of 10 samples and guesses otherwise.
    """
    rng = np.random.default_rng([seed, bits, tool])
    passed = []
    for i in range(INPUTS):
        digest = hashlib.blake2b(f"input {seed} {i}".encode(), key=b"secret", digest_size=4).digest()
        answer = int.from_bytes(digest, "big") >> (32 - bits)
        answers = rng.integers(2**bits, size=SAMPLES)
        if tool:
            answers = np.where(rng.random(SAMPLES) < CALLING, answer, answers)
        passed.append(pass_at_k(SAMPLES, int((answers == answer).sum()), SAMPLES))
    return np.asarray(passed)


def reach(*, seed: int, **size: Any) -> dict[str, dict[str, float]]:
    """Return pass@256 by number of bits without and with the tool, and the share of 12-bit inputs it adds."""
    passed = {name: [guessing(bits, tool=name == "tool", seed=seed) for bits in BITS] for name in ("guessing", "tool")}
    rows = {
        name: {f"pass_256_{bits}_bits": float(rates.mean()) for bits, rates in zip(BITS, by_bits, strict=True)}
        for name, by_bits in passed.items()
    }
    solved = {name: (by_bits[-1] > 0.5).tolist() for name, by_bits in passed.items()}
    rows["tool"]["expansion_12_bits"] = solvability(solved["guessing"], solved["tool"])["expansion"]
    return rows


def _negative(adv_NT: FloatArray, signals: Signals) -> float:
    """Share of right answers whose advantage is negative."""
    right_N = signals.parts_CN[signals.channels.index("outcome")] > 0
    return float((adv_NT[right_N] < 0).any(axis=1).mean()) if right_N.any() else 0.0


def pushed_down(chosen: Recipe, *, seed: int, groups: int = 200) -> float:
    """Share of right answers with a negative advantage in random groups of 8 that all called, at any success rate."""
    rng = np.random.default_rng([seed, 8])
    episodes: list[Trajectory] = []
    scores: list[Score] = []
    task = Task("random", "?", answer="right")
    for rate in rng.random(groups):
        group = []
        for right in rng.random(8) < rate:
            player = Player(np.asarray([[1.0]]), rng)
            before = int(rng.integers(30))
            _write(player, before)
            player.turn("thinking")
            _write(player, 1)
            player.turn("", [(Call("python"), Observation("printed"))])
            _write(player, 39 - before)
            group.append(player.trajectory(task, "right" if right else "wrong"))
        episodes += group
        scores += chosen.reward(task, group)
    signals = pack(episodes, scores, [i // 8 for i in range(len(episodes))])
    return _negative(apply(chosen.credit, signals), signals)


def _write(player: Player, tokens: int) -> None:
    for _ in range(tokens):
        player.decide(0)


def _watched(credit: Callable[..., Any], shares: list[float]) -> Callable[[Signals], FloatArray]:
    """Return the rule itself; every batch adds the share of right answers with a negative advantage to ``shares``."""

    def rule(signals: Signals) -> FloatArray:
        adv_NT = apply(credit, signals)
        shares.append(_negative(adv_NT, signals))
        return adv_NT

    return rule


def trained(*, seed: int, steps: int, chosen: Recipe) -> dict[str, float]:
    """Train one arm; return accuracy, place of the first call, and the share of right answers that were pushed down."""
    shares: list[float] = []
    table = train_table(
        replace(chosen, credit=_watched(chosen.credit, shares)),
        play,
        tasks(4),
        start(),
        steps=steps,
        learning_rate=2.0,
        seed=seed,
        watch=lambda step, chance_SA: expected(chance_SA),
    )
    late = [row["accuracy"] for row in table.curve[len(table.curve) // 2 :]]
    return {
        **expected(table.chance_SA),
        "late_accuracy": float(np.mean(late)),
        "late_spread": float(np.std(late)),
        "pushed_down": float(np.mean(shares)),
        "pushed_down_at_random": pushed_down(chosen, seed=seed),
    }


def _unharmed(rows: Rows) -> float:
    return -max(float(rows["ASPO"]["pushed_down"]), float(rows["ASPO"]["pushed_down_at_random"]))


STUDY = Study(
    paper="aspo",
    statement="A tool brings answers into reach, and shaping moves calls forward at equal accuracy.",
    falsifier="Shaping pushes a right answer down, or costs more than 2 points of accuracy.",
    trained="a table of 9 rows (think or call at eight places, and the answer)",
    arms={
        "no push": partial(trained, chosen=plain()),
        "bonus": partial(trained, chosen=plain(reward=bonus_reward)),
        "ASPO": partial(trained, chosen=recipe(plain())),
        "reach": reach,
    },
    asks=(
        at_least("first call earlier with ASPO than without a push, places", less("place", "no push", "ASPO"), 0.5),
        at_least("pass@256 on 12 bits, with the tool minus without", of("tool", "expansion_12_bits"), 0.5),
        at_least("accuracy, ASPO minus no push", less("accuracy", "ASPO", "no push"), -0.02),
        at_least(
            "right answers that ASPO pushes down in training or in random groups, share, times -1", _unharmed, 0.0
        ),
        at_least(
            "right answers that a bonus pushes down in random groups, share",
            of("bonus", "pushed_down_at_random"),
            0.1,
        ),
    ),
    sizes={"small": {"steps": 300}, "tiny": {"steps": 8}},
    setup={
        "samples": 8,
        "inputs": INPUTS,
        "expected pass@256 by guessing": {f"{bits} bits": 1 - (1 - 2.0**-bits) ** SAMPLES for bits in BITS},
    },
)
