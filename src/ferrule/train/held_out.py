"""What a stage says of rows and pairs that it does not learn from."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch

from ferrule.core.arrays import by_name
from ferrule.core.recipe import Stage
from ferrule.data.formats import Pair
from ferrule.objectives.preference import dpo_margin, mean_margin, on_pairs
from ferrule.objectives.reduce import sequence_mean
from ferrule.policies.packing.packed import micro_batches
from ferrule.train.on_data import pairs, rows
from ferrule.train.policy import Refers, Trains
from ferrule.train.update import Lesson, loss_of

__all__ = ["held_out"]

# Both members of a pair carry its number on their first token, so the mean over rows is the mean over pairs.
_per_pair = partial(sequence_mean, tokens="sum")


def held_out(policy: Trains, stage: Stage, items: Sequence[Any], *, size: int = 8) -> dict[str, float]:
    """Return the ``loss`` of a stage on rows or pairs; no weight moves.

    Of pairs also ``margin``, the mean lead of the chosen row, and ``accuracy``, the share of pairs in which it leads:
    by ``dpo_margin`` at beta 1 where the stage has a reference (both are 0 at the reference), else by ``mean_margin``.
    A reference that the policy lacks is what it is now. A micro-batch has at most ``size`` rows or pairs.
    """
    if stage.reference:
        cast(Refers, policy).keep_reference()
    paired = isinstance(items[0], Pair)
    seqs = pairs(items) if paired else rows(items)
    lesson = Lesson(seqs, stage.objective, stage.reduce, reference=stage.reference)
    total = seqs.total(range(len(seqs.ids)))
    numbers = {"loss": 0.0, **({"accuracy": 0.0, "margin": 0.0} if paired else {})}
    lead = on_pairs(partial(dpo_margin, beta=1.0) if stage.reference else mean_margin)
    training = policy.model.training
    policy.model.eval()
    try:
        for micro in micro_batches(
            policy.model, seqs.ids, seqs.turn, units=seqs.units(), rows=size * (2 if paired else 1),
            autocast=getattr(policy, "autocast", False),
        ):  # fmt: skip
            with torch.no_grad():
                loss_NT, turn_NT, named = loss_of(policy, lesson, micro)
            parts = {"loss": stage.reduce(loss_NT, turn_NT, total)}
            if paired:
                margin_NT = by_name(lead, {**named, "turn_NT": turn_NT})
                parts["margin"] = _per_pair(margin_NT, turn_NT, total)
                parts["accuracy"] = _per_pair((margin_NT > 0).float(), turn_NT, total)
            for name, part in parts.items():
                numbers[name] += float(part)
    finally:
        policy.model.train(training)
    return numbers
