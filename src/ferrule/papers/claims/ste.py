"""STE: networks that learn tools in rounds, with and without a share of the items of earlier rounds."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from ferrule.data.replay import with_replay
from ferrule.studies.conditions import at_least, less, of
from ferrule.studies.standins.taught_tools import BATCHES, QUERIES, TOOLS, Learner, draw_batches
from ferrule.studies.study import Study
from ferrule.studies.tuning import Tuning

__all__ = ["STUDY", "in_rounds"]


def in_rounds(
    *, seed: int, steps: int, queries: int = QUERIES, share: float = 0.0, fresh: float = 1.0, joint: bool = False,
    rate: float = 3e-3, unit: type[torch.nn.Module] = torch.nn.ReLU,
) -> dict[str, float]:  # fmt: skip
    """Return the share of right tools on test requests of each batch after the last round; rounds have equal steps.

    A round learns the share ``fresh`` of its batch and ``share`` of earlier ones. ``joint`` learns all batches at once.
    """
    drawn = draw_batches(seed, queries)
    learner = Learner(drawn.learn[0][0].shape[1], BATCHES * TOOLS, seed, unit=unit)
    rng = np.random.default_rng(seed)
    batches = []
    for bags, labels in drawn.learn:
        places = rng.permutation(len(labels))[: round(fresh * len(labels))]
        batches.append(list(zip(bags[places], labels[places], strict=True)))
    if joint:
        batches = [[item for batch in batches for item in batch]] * BATCHES
    for place in range(BATCHES):
        items = with_replay(batches, place, share=0.0 if joint else share)
        bag_NV, label_N = np.stack([bag for bag, _ in items]), np.array([label for _, label in items])
        learner.fit(bag_NV, label_N, steps=steps, rate=rate)
    rights = [learner.right(*batch) for batch in drawn.test]
    numbers = {f"batch {place}": right for place, right in enumerate(rights)}
    return {**numbers, "old": min(rights[:-1]), "mean": float(np.mean(rights))}


NONE, REPLAY, EQUAL, JOINT = "no replay", "replay 10 %", "replay 10 %, as many items", "all at once"
FRESH = 0.85
"""With it a round has on average as many items as without replay: 0.1 of 0, 1, 2 and 3 earlier batches."""
STUDY = Study(
    paper="ste",
    statement="A tenth of the items of earlier rounds keeps what was learned in them; without it that is forgotten.",
    falsifier="With replay an old batch falls below 0.4, or without it the first batch stays above 0.3.",
    grade="B",
    trained="a network of 64 hidden units from nothing, on drawn requests of 48 tools in 4 batches",
    arms={
        NONE: in_rounds,
        REPLAY: partial(in_rounds, share=0.1),
        EQUAL: partial(in_rounds, share=0.1, fresh=FRESH),
        JOINT: partial(in_rounds, joint=True),
        f"{NONE}, tanh": partial(in_rounds, unit=torch.nn.Tanh),
        f"{REPLAY}, tanh": partial(in_rounds, share=0.1, unit=torch.nn.Tanh),
    },
    asks=(
        at_least("right tools in the worst old batch, replay", of(REPLAY, "old"), 0.4),
        at_least("0.3 minus right tools in the first batch, no replay", of(NONE, "batch 0", factor=-1, plus=0.3), 0.0),
        at_least("right tools in the worst old batch, replay of as many items", of(EQUAL, "old"), 0.4),
        at_least(
            "right tools in the first batch, tanh, replay minus none",
            less("batch 0", f"{REPLAY}, tanh", f"{NONE}, tanh"),
            0.0,
            decides=False,
        ),
        at_least("right tools in the last batch, replay", of(REPLAY, "batch 3"), 0.8, decides=False),
    ),
    sizes={"small": {"steps": 1200}, "tiny": {"steps": 30, "queries": 10, "rate": 3e-3}},
    setup={"batches": BATCHES, "tools of a batch": TOOLS, "requests of a tool": QUERIES},
    tuning=Tuning("rate", (1e-3, 3e-3, 1e-2), {}, tuple(range(4)), "mean"),
)
