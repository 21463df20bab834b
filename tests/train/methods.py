"""A method in which everything moves that a resumed run must bring back: rows, pairs, and own episodes with a critic."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from tests.toys import WORLDS, Prober, tiny_policy
from tests.train.pieces import recipe, seeded

from ferrule.core.arrays import chain
from ferrule.core.recipe import Method, Recipe
from ferrule.credit.group import whiten
from ferrule.credit.returns import gae, value_targets
from ferrule.data.formats import Row
from ferrule.objectives.penalty import add, with_kl
from ferrule.objectives.supervised import value_loss
from ferrule.objectives.surrogate import surrogate
from ferrule.rollout.drive import Limits
from ferrule.train.loop import train
from ferrule.train.settings import Settings
from ferrule.train.stage import best_and_worst, dpo, sft

STEPS = (5, 3, 5)
"""Steps of the three parts."""


def rows() -> list[Row]:
    """Seven rows of different lengths, so that a step's rows never line up with the end of the data."""
    return [Row((*range(3, 6), *range(40 + k, 44 + 2 * k)), (-1, -1, -1, *[0] * (4 + k))) for k in range(7)]


def own() -> Recipe:
    """Learning from own episodes near the weights that the part began with, with a critic."""
    return recipe(
        agent=Prober(turns=2, max_tokens=4),
        reward=seeded,
        credit=chain(gae, whiten),
        critic=value_targets,
        objective=add(with_kl(surrogate, 0.01), value_loss, 0.5),
        reference=True,
        num_mini_batches=2,
        settings={"max_steps": STEPS[2], "learning_rate": 1e-3},
    )


def method(rounds: int = 1) -> Method:
    """Supervised fine-tuning, preferences among own episodes, then learning from rewards."""
    pairs = best_and_worst(own(), WORLDS["apis"], tasks=4)
    parts = (sft(rows(), max_steps=STEPS[0]), dpo(pairs, max_steps=STEPS[1], per_device_train_batch_size=2), own())
    return Method(parts, rounds=rounds)


def run(folder: Path, *, resume: bool = False, rounds: int = 1, adapter: bool = False) -> dict[str, torch.Tensor]:
    """Train (or go on) and return all weights, the critic's included."""
    policy: Any = tiny_policy()
    if adapter:
        policy.add_adapter(lora_r=2, seed=1)
    settings = Settings(
        learning_rate=3e-3,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=1,
        save_steps=2,
        seed=4,
        lr_scheduler_type="cosine",
    )
    # With adapters the numbers of a row depend on its batch, and batches on calls that are waited for.
    limits = Limits(patience=60.0)
    train(method(rounds), WORLDS["apis"], policy, settings, folder, resume=resume, limits=limits)
    return {n: p.detach().clone() for n, p in [*policy.model.named_parameters(), *policy.heads.named_parameters()]}


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(Path(sys.argv[1]))
