"""TIM on the pocket model: a tool that answers and hides lemmas, pairs of equal answers, and starts without myopia."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from ferrule.agents.react import ToolLoop
from ferrule.core.recipe import Method, Part
from ferrule.data import records
from ferrule.evaluate.evaluate import WITH, WITHOUT
from ferrule.evaluate.paired import Judges, paired
from ferrule.papers.tim import method
from ferrule.rewards.derivation import stated
from ferrule.studies.conditions import Rows, at_least, less, of, over
from ferrule.studies.learner import Conversation, copied, learner, moved
from ferrule.studies.standins.lemmas import Lemmas, right_lemmas, solved
from ferrule.studies.study import Study
from ferrule.studies.table import plain
from ferrule.studies.tuning import Tuning
from ferrule.train.loop import train
from ferrule.train.settings import Settings
from ferrule.train.stage import best_and_worst, dpo, from_records, sft

__all__ = ["STUDY", "arm", "measured"]

LOOP, BATCH, SAMPLES, HELD_OUT, MYOPIC = ToolLoop(turns=4, max_tokens=160), 32, 8, 10_000, 0.7
"""The agent, samples of a step, episodes of a task, the seeds of judged tasks, and how often lemmas are left out."""
JUDGES = Judges(covers=stated, right=right_lemmas)
Second: TypeAlias = Callable[[Lemmas, Sequence[Conversation], int, int], "Part | Method"]
"""What follows the start: of a world, the conversations of the start, how many tasks are played, and a seed."""


def _more(world: Lemmas, said: Sequence[Conversation], drawn: int, seed: int) -> Part:
    return sft(from_records([records.Conversation(tuple(messages), tuple(tools)) for messages, tools in said]))


def _equal(world: Lemmas, said: Sequence[Conversation], drawn: int, seed: int) -> Method:
    return method(plain(agent=LOOP, num_generations=SAMPLES), world, tasks=drawn, seed=seed)


def _answers(world: Lemmas, said: Sequence[Conversation], drawn: int, seed: int) -> Part:
    return dpo(best_and_worst(plain(agent=LOOP, num_generations=SAMPLES), world, tasks=drawn, seed=seed))


def _outcome(world: Lemmas, said: Sequence[Conversation], drawn: int, seed: int) -> Part:
    return plain(agent=LOOP, num_generations=SAMPLES)


def measured(policy: Any, world: Lemmas, tasks: int, seed: int) -> dict[str, float]:
    """Return accuracy, missing and right lemmas with and without the tool, on held-out tasks at temperature 1.

    ``gain`` is the accuracy that the tool adds, ``drop`` how many more lemmas are missing with it.
    """
    todo = world.tasks("test", tasks, seed=HELD_OUT + seed)
    both = paired(LOOP, policy, world, todo, judges=JUDGES, temperature=1.0, seed=seed).as_dict((1, 2))
    sides: Mapping[str, Any] = {"tool": both["sides"][WITH], "alone": both["sides"][WITHOUT]}
    numbers: dict[str, float] = {}
    for name, side in sides.items():
        numbers[f"accuracy, {name}"], numbers[f"missing, {name}"] = side["success"], side["missing"]["mean"]
        numbers[f"right, {name}"] = side.get("right_steps", {}).get("mean") or 0.0
        numbers[f"words, {name}"] = side["words"]
    calls = both["by_calls"]["all"]
    once, more = (calls[bucket]["missing with"] for bucket in ("1", "2+"))
    return {
        **numbers,
        "gain": numbers["accuracy, tool"] - numbers["accuracy, alone"],
        "drop": numbers["missing, tool"] - numbers["missing, alone"],
        "more missing with more calls": 0.0 if once is None or more is None else more - once,
        "whole": numbers["accuracy, tool"] - numbers["missing, tool"],
    }


def arm(
    *, seed: int, length: int, largest: int, shown: int, sft_steps: int, drawn: int, steps: int, tasks: int,
    rate: float, myopic: float, second: Second,
) -> dict[str, float]:  # fmt: skip
    """Fine-tune the pocket model on solved tasks, half of them with the tool, go on by ``second``, and measure it."""
    world, rng = Lemmas(length, largest), random.Random(seed)
    said = [
        solved(task, rng, tools=place % 2 == 0, myopic=myopic)
        for place, task in enumerate(world.tasks("train", shown, seed=seed))
    ]
    policy = learner(said, seed=seed, max_steps=sft_steps)
    first = copied(policy)
    settings = Settings(
        max_steps=steps, learning_rate=rate, per_device_train_batch_size=BATCH, gradient_accumulation_steps=1, seed=seed
    )
    train(second(world, said, drawn, seed), world, policy, settings, None)
    return {**measured(policy, world, tasks, seed), "moved": moved(policy, first)}


def _drops(rows: Rows) -> float:
    """Return the larger drop of the two starts without myopia."""
    return max(float(rows[name]["drop"]) for name in (RICH, OUTCOME))


MIXED, EQUAL, ANSWERS = "mixture", "pairs of equal answers", "pairs of answers"
RICH, OUTCOME = "no myopia", "no myopia, outcome reward"
STUDY = Study(
    paper="tim",
    statement="A tool adds right answers and takes lemmas away; pairs of equal answers bring them back at no cost.",
    falsifier="Without myopic examples no lemmas get lost, or pairs lower accuracy by more than 5 points.",
    grade="A",
    trained="the pocket model on solved chains of sums, then by pairs or rewards; judged on held-out chains",
    models=("pocket",),
    arms={
        MIXED: partial(arm, myopic=MYOPIC, second=_more),
        EQUAL: partial(arm, myopic=MYOPIC, second=_equal),
        ANSWERS: partial(arm, myopic=MYOPIC, second=_answers),
        RICH: partial(arm, myopic=0.0, second=_more),
        OUTCOME: partial(arm, myopic=0.0, second=_outcome),
    },
    asks=(
        at_least("accuracy that the tool adds", of(MIXED, "gain"), 0.1),
        at_least("lemmas missing with the tool minus without", of(MIXED, "drop"), 0.15),
        at_least("share of missing lemmas that pairs of equal answers bring back",
                 over("missing, tool", EQUAL, MIXED, factor=-1, plus=1), 1 / 3),
        at_least("accuracy with the tool, pairs minus mixture", less("accuracy, tool", EQUAL, MIXED), -0.02),
        at_least("lemmas missing with the tool minus without, starts without myopia", _drops, 0.05),
        at_least("missing lemmas, pairs of answers minus pairs of equal answers",
                 less("missing, tool", ANSWERS, EQUAL), 0.0, decides=False),
        at_least("missing lemmas, two calls or more minus one call",
                 of(MIXED, "more missing with more calls"), 0.0, decides=False),
    ),
    sizes={
        "small": {
            "length": 6, "largest": 29, "shown": 2240, "sft_steps": 140, "drawn": 48, "steps": 12, "tasks": 100,
        },
        "tiny": {
            "length": 2, "largest": 9, "shown": 160, "sft_steps": 20, "drawn": 6, "steps": 2, "tasks": 8, "rate": 1e-4,
        },
    },
    seeds=(100, 101, 102, 103, 104),
    setup={"chance that lemmas are left out": MYOPIC, "samples per step": BATCH, "episodes per task": SAMPLES},
    tuning=Tuning("rate", (1e-5, 1e-4, 1e-3), {"steps": 6, "drawn": 24, "tasks": 60}, (0,), "whole"),
)  # fmt: skip
