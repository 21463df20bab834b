"""STE on the pocket model: fine-tuning on tools in rounds, with and without a share of the items of earlier rounds."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from ferrule.core.flows import Ask
from ferrule.core.records import Message
from ferrule.data.records import Completion
from ferrule.papers.ste import continual, scores
from ferrule.policies.named import load
from ferrule.studies.conditions import at_least, less
from ferrule.studies.standins.unnamed import draw_lookups, requests_for, tools_of
from ferrule.studies.study import Study
from ferrule.studies.tuning import Tuning
from ferrule.train.loop import train
from ferrule.train.settings import Settings
from ferrule.worlds.apis import Apis

__all__ = ["STUDY", "in_rounds"]

BATCHES, TOOLS, BATCH = 3, 8, 8
"""Batches of tools, tools of each, and items per step."""


def _items(lookups: Mapping[str, tuple[str, str]], count: int, seed: object) -> list[Completion]:
    """Return requests with their calls, which are learned; the tools on offer say nothing of themselves."""
    tools = tuple(tools_of(lookups))
    return [
        Completion((Message("user", item.query),), (Message("assistant", "", (item.gold,)),), tools)
        for item in requests_for(lookups, count, seed)
    ]


def _right(policy: Any, lookups: Mapping[str, tuple[str, str]], count: int, seed: object) -> float:
    """Return the share of further requests that the model answers with the right call."""
    tools, asked = tuple(tools_of(lookups)), requests_for(lookups, count, f"{seed}/test")
    asks = [Ask((Message("user", item.query),), tools=tools, max_tokens=48, temperature=0.0) for item in asked]
    calls = [next(iter(replies[0].message.calls), None) for replies in policy.generate(asks)]
    return scores(calls, [item.gold for item in asked]).right / 100


def in_rounds(
    *, seed: int, steps: int, items: int, test: int, learning_rate: float, share: float = 0.0, fresh: float = 1.0,
    joint: bool = False,
) -> dict[str, float]:  # fmt: skip
    """Fine-tune in rounds of equal steps; return the share of right calls for each batch of tools after the last one.

    A round learns the share ``fresh`` of its ``items`` and ``share`` of earlier ones; ``joint`` learns all in each.
    """
    lookups = draw_lookups(seed, BATCHES * TOOLS)
    names = list(lookups)
    parts = [{name: lookups[name] for name in names[place::BATCHES]} for place in range(BATCHES)]
    batches = [_items(part, items, seed)[: round(fresh * items)] for part in parts]
    if joint:
        batches = [[item for batch in batches for item in batch]] * BATCHES
    method = continual(
        batches, share=0.0 if joint else share, learning_rate=learning_rate, max_steps=steps,
        per_device_train_batch_size=BATCH, gradient_accumulation_steps=1,
    )  # fmt: skip
    policy: Any = load("pocket", device="cpu")
    train(method, Apis(), policy, Settings(seed=seed), None)
    rights = [_right(policy, part, test, seed) for part in parts]
    numbers = {f"batch {place}": right for place, right in enumerate(rights)}
    return {**numbers, "old": min(rights[:-1]), "mean": sum(rights) / len(rights)}


NONE, REPLAY, EQUAL, JOINT = "no replay", "replay 10 %", "replay 10 %, as many items", "all at once"
STUDY = Study(
    paper="ste",
    part="pocket",
    statement="A tenth of the items of earlier rounds keeps a model's calls of earlier tools right.",
    falsifier="With replay the worst old batch gains less than 0.3 over none, or the last batch loses more than 0.1.",
    grade="A",
    trained="all weights of the shipped model, on requests and calls of 24 tools in 3 rounds",
    models=("pocket",),
    arms={
        NONE: in_rounds,
        REPLAY: partial(in_rounds, share=0.1),
        EQUAL: partial(in_rounds, share=0.1, fresh=0.9),
        JOINT: partial(in_rounds, joint=True),
    },
    asks=(
        at_least("right calls of the worst old batch, replay minus none", less("old", REPLAY, NONE), 0.3),
        at_least("the same with as many items as without replay", less("old", EQUAL, NONE), 0.3),
        at_least("right calls of the last batch, replay minus none", less("batch 2", REPLAY, NONE), -0.1),
        at_least("right calls on average, replay minus all at once", less("mean", REPLAY, JOINT), -0.1, decides=False),
    ),
    sizes={
        "small": {"steps": 40, "items": 80, "test": 48},
        "tiny": {"steps": 6, "items": 20, "test": 8, "learning_rate": 1e-3},
    },
    seeds=tuple(range(100, 105)),
    setup={"batches": BATCHES, "tools of a batch": TOOLS, "items per step": BATCH},
    tuning=Tuning("learning_rate", (3e-4, 1e-3, 3e-3), {"test": 24}, (0, 1), "mean"),
)
