"""Tool-Light: DPO on pairs by calls, entropy and difficulty, against one criterion and random pairs, on pocket."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from typing import Any

from ferrule.agents.entropy import EntropyBranch
from ferrule.agents.react import ToolLoop
from ferrule.core.records import Message
from ferrule.evaluate.evaluate import evaluate
from ferrule.papers.tool_light import Candidate, Rule, pre_aligned, preferred_chains, self_evolved
from ferrule.studies.conditions import at_least, less, of
from ferrule.studies.learner import copied, learner, moved
from ferrule.studies.study import Study
from ferrule.studies.tuning import Tuning
from ferrule.worlds.arithmetic import Arithmetic
from ferrule.worlds.experts import transcript

__all__ = ["STUDY", "arm", "at_random", "indifferent"]

EASY, HARD = (1, 2), (3, 4)
"""Levels of questions: those that the model mostly answers in its head, and those that need the calculator."""
WORLD = Arithmetic(tools=("calculator",))
_LOOP = ToolLoop(turns=3, max_tokens=64)


def at_random(candidates: Sequence[Candidate], easy: bool) -> list[tuple[Candidate, Candidate]]:
    """Return a right chain and a wrong one, both drawn at random: the control."""
    rng = random.Random(repr(candidates))
    right, wrong = ([c for c in candidates if (c.correct >= 1) is good] for good in (True, False))
    return [(rng.choice(right), rng.choice(wrong))] if right and wrong else []


def indifferent(seed: int, shown: int, steps: int) -> Any:
    """Return the pocket model after fine-tuning on answers, half of them by the calculator, whatever the question."""
    rng, said = random.Random(seed), []
    for task in WORLD.tasks("train", shown, seed=20_000 + seed, levels=(*EASY, *HARD)):
        with closing(WORLD.start(task)) as session:
            if rng.random() < 0.5:
                messages = transcript(task, session, WORLD.demonstrate(task))
            else:
                messages = (*task.conversation, Message("assistant", str(task.answer)))
            said.append((messages, session.tools))
    return learner(said, seed=seed, max_steps=steps)


def arm(
    *, seed: int, shown: int, sft_steps: int, questions: int, samples: int, steps: int, batch: int, held_out: int,
    learning_rate: float, rules: Sequence[Rule],
) -> dict[str, float]:  # fmt: skip
    """Train the indifferent model on pairs of each rule in turn for ``steps`` updates; return accuracy and calls."""
    from ferrule.train.settings import Settings
    from ferrule.train.stage import dpo, fit

    policy = indifferent(seed, shown, sft_steps)
    first = copied(policy)
    tasks = WORLD.tasks("train", questions, seed=seed, levels=(*EASY, *HARD))
    before = _judged(policy, held_out, seed)
    settings = Settings(
        max_steps=steps // len(rules), learning_rate=learning_rate, per_device_train_batch_size=batch,
        gradient_accumulation_steps=1, seed=seed,
    )  # fmt: skip
    agent = EntropyBranch(turns=3, max_tokens=64)
    for lap, rule in enumerate(rules):
        data = preferred_chains(tasks, WORLD, rule, agent=agent, plain=_LOOP, samples=samples, seed=seed + lap)
        fit(policy, dpo(data), settings)
    after = _judged(policy, held_out, seed)
    return {
        **{f"start, {name}": number for name, number in before.items()},
        **after,
        "accuracy": (after["accuracy, easy"] + after["accuracy, hard"]) / 2,
        "calls saved, easy": 0.9 * before["calls, easy"] - after["calls, easy"],
        "accuracy gained, hard": after["accuracy, hard"] - before["accuracy, hard"],
        "moved": moved(policy, first),
    }


def _judged(policy: Any, count: int, seed: int) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for name, levels in (("easy", EASY), ("hard", HARD)):
        tasks = WORLD.tasks("test", count, seed=10_000 + seed, levels=levels)
        result = evaluate(_LOOP, policy, WORLD, tasks, seed=seed, temperature=1.0)
        numbers[f"accuracy, {name}"] = result.success
        numbers[f"calls, {name}"] = sum(row.calls for row in result.rows) / len(result.rows)
        numbers[f"tokens, {name}"] = sum(row.tokens or 0 for row in result.rows) / len(result.rows)
    return numbers


BOTH, RANDOM = "criteria 1 and 2", "random pairs"
STUDY = Study(
    paper="tool-light",
    statement="Pairs by calls, entropy and difficulty save calls on easy questions without harm to hard ones.",
    falsifier="Calls on easy questions fall by less than a tenth, hard ones lose, or random pairs do as well.",
    grade="A",
    trained="the pocket model, taught to use a calculator at random, by DPO; judged on held-out arithmetic",
    arms={
        BOTH: partial(arm, rules=(pre_aligned, self_evolved, self_evolved)),
        "criterion 1": partial(arm, rules=(pre_aligned,) * 3),
        RANDOM: partial(arm, rules=(at_random,) * 3),
    },
    asks=(
        at_least("0.9 of the calls before, less those after, easy", of(BOTH, "calls saved, easy"), 0.0),
        at_least("accuracy gained on hard questions", of(BOTH, "accuracy gained, hard"), -0.02),
        at_least("accuracy, both criteria minus random pairs", less("accuracy", BOTH, RANDOM), 0.0),
        at_least("accuracy, both minus criterion 1", less("accuracy", BOTH, "criterion 1"), 0.0, decides=False),
    ),
    sizes={
        "small": {
            "shown": 400, "sft_steps": 60, "questions": 96, "samples": 10, "steps": 48, "batch": 16, "held_out": 100,
        },
        "tiny": {
            "shown": 32, "sft_steps": 12, "questions": 8, "samples": 2, "steps": 3, "batch": 4, "held_out": 10,
            "learning_rate": 1e-3,
        },
    },
    seeds=(100, 101, 102, 103, 104),
    setup={"easy": EASY, "hard": HARD, "beta": 0.1},
    models=("pocket",),
    tuning=Tuning("learning_rate", (1e-5, 1e-4, 1e-3), {"steps": 12, "held_out": 60}, (0,), "accuracy"),
)  # fmt: skip
