"""Work that one process and two sharded processes do alike; started by torchrun this is one of the two.

``torchrun --nproc-per-node 2 -m tests.train.sharded FOLDER`` does all jobs and writes what each process found.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tests.toys import tiny_policy
from tests.train.pieces import LETTERS, draw, recipe

from ferrule.core.arrays import chain
from ferrule.core.recipe import Recipe
from ferrule.credit.group import whiten
from ferrule.credit.returns import gae, value_targets
from ferrule.objectives.penalty import add, kl_k3, with_kl
from ferrule.objectives.reduce import token_mean
from ferrule.objectives.supervised import value_loss
from ferrule.objectives.surrogate import surrogate
from ferrule.policies.local import load
from ferrule.policies.pocket import WEIGHTS
from ferrule.train.loop import train
from ferrule.train.sample import sample
from ferrule.train.settings import Settings
from ferrule.train.shard import Shards
from ferrule.train.update import sequences, update

RECIPE = recipe()
NEAR = replace(RECIPE, objective=with_kl(surrogate, 0.1, estimator=kl_k3), reference=True, num_iterations=2)
CRITIC = replace(
    RECIPE,
    credit=chain(gae, whiten),
    critic=value_targets,
    objective=add(surrogate, partial(value_loss, clip=None), 0.5),
)


def weights(policy: Any) -> dict[str, torch.Tensor]:
    found = {name: p.detach().clone() for name, p in policy.model.named_parameters()}
    found |= {f"head.{name}": p.detach().clone() for name, p in policy.heads.named_parameters()}
    return found


def updated(pool: Any = None, *, groups: int = 3) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    """Three clipped steps of the pocket model on one batch of four rows per group, in passes of at most three rows."""
    policy = load(WEIGHTS)
    batch = sample(RECIPE, draw, groups, LETTERS, policy, seed=11)
    shards = Shards(policy, pool) if pool is not None else None
    # AdamW divides by the size of a gradient: with its usual eps the rounding of a gradient near 0 would be a full step
    optimiser = torch.optim.AdamW(policy.parameters(), lr=1e-3, eps=1e-4)
    seqs = sequences(batch)
    if groups == 1:  # three rows: two for the first process, in two passes, and one for the second
        seqs = replace(
            seqs,
            ids=seqs.ids[:3],
            turn=seqs.turn[:3],
            beside={name: rows[:3] for name, rows in seqs.beside.items()},
        )
    rows = 1 if groups == 1 else 3
    found = [
        update(policy, seqs, RECIPE.objective, token_mean, optimiser, rows=rows, max_grad_norm=0.005, pool=pool)
        for _ in range(3)
    ]
    if shards:
        shards.restore()
    return weights(policy), found


def trained(
    folder: Path, pool: Any = None, *, steps: int = 3, resume: bool = False, base: Recipe = NEAR
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """A run with a reference, two epochs and checkpoints after every step, which may be gone on with."""
    policy = tiny_policy()
    settings = Settings(
        max_steps=steps,
        learning_rate=1e-3,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=1 if pool is not None else 2,
        save_steps=1,
        save_total_limit=5,
        fsdp=pool is not None,
    )
    summary = train(base, LETTERS, policy, settings, folder, pool=pool, resume=resume)
    return weights(policy), summary


def main(folder: Path) -> None:
    from accelerate import Accelerator

    from ferrule.view import report

    torch.set_num_threads(1)
    report._drawn = lambda *_: (b"", "")  # type: ignore[assignment]  # curves take longer than all the steps
    pool = Accelerator(cpu=True)
    assert pool.num_processes == 2
    found: dict[str, Any] = {
        "updated": updated(pool),
        "uneven": updated(pool, groups=1),
        "trained": trained(folder / "two", pool),
        "resumed": trained(folder / "one", pool, resume=True),
        "critic": trained(folder / "critic", pool, base=CRITIC),
    }
    torch.save(found, folder / f"rank{pool.process_index}.pt")
    pool.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
