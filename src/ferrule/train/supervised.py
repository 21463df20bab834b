"""Supervised and preference training: the same update on rows and pairs instead of rollouts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ferrule.data.formats import Pair, Row
from ferrule.objectives.reduce import sequence_mean, token_mean
from ferrule.objectives.supervised import nll
from ferrule.train.logs import Logs
from ferrule.train.optimiser import optimiser_of
from ferrule.train.settings import Settings, rate
from ferrule.train.update import Sequences, update

__all__ = ["fit", "fit_pairs", "pairs", "rows"]

Show = Callable[[Mapping[str, Any]], None]


def _arrays(row: Row) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    return np.asarray(row.ids, dtype=np.int64), np.asarray(row.turn, dtype=np.int64)


def rows(data: Sequence[Row]) -> Sequences:
    """Return rows as sequences for ``update``; ``chosen_N`` carries their labels (for unpaired preference losses)."""
    listed = [_arrays(row) for row in data]
    return Sequences(
        [i for i, _ in listed], [t for _, t in listed], per_row={"chosen_N": [float(r.label) for r in data]}
    )


def pairs(data: Sequence[Pair]) -> Sequences:
    """Return pairs as sequences; the members of a pair share ``pair_N`` and a micro-batch."""
    flat = [(k, row, chosen) for k, p in enumerate(data) for row, chosen in ((p.chosen, 1.0), (p.rejected, 0.0))]
    listed = [_arrays(row) for _, row, _ in flat]
    numbers = {"pair_N": [float(k) for k, _, _ in flat], "chosen_N": [c for _, _, c in flat]}
    return Sequences([i for i, _ in listed], [t for _, t in listed], per_row=numbers, unit=[k for k, _, _ in flat])


def fit(
    policy: Any,
    data: Sequence[Any],
    settings: Settings,
    *,
    make: Callable[[Sequence[Any]], Sequences] = rows,
    objective: Callable[..., Any] = nll,
    reduce: Callable[..., Any] = token_mean,
    reference: bool = False,
    folder: Path | None = None,
    show: Show | None = None,
    pool: Any = None,
) -> list[float]:
    """Take ``settings.max_steps`` steps over shuffled data (again from the start when it runs out); return the losses.

    One step uses ``per_device_train_batch_size * gradient_accumulation_steps`` items per process; a micro-batch holds
    ``per_device_train_batch_size`` of them.
    """
    if not data:
        raise ValueError("there is nothing to learn from: the data is empty")
    if reference:
        policy.keep_reference()
    optimiser = optimiser_of(policy, settings)
    size = settings.samples(1 if pool is None else pool.num_processes)
    logs = Logs(folder, vars(settings), settings.report_to) if folder is not None else None
    rng = np.random.default_rng(settings.seed)
    order: list[int] = []
    losses: list[float] = []
    for step in range(settings.max_steps):
        while len(order) < min(size, len(data)):
            order += rng.permutation(len(data)).tolist()
        chosen, order = order[:size], order[size:]
        for group in optimiser.param_groups:
            group["lr"] = rate(settings, step)
        metrics = update(
            policy, make([data[i] for i in chosen]), objective, reduce, optimiser,
            rows=settings.per_device_train_batch_size * (2 if make is pairs else 1),
            max_grad_norm=settings.max_grad_norm, reference=reference, seed=settings.seed + step, pool=pool,
        )  # fmt: skip
        losses.append(metrics["loss"])
        row = {"step": step + 1, "phase": "train", **metrics, "learning_rate": rate(settings, step)}
        if logs:
            logs.write(row)
        if show:
            show(row)
    if logs:
        logs.close()
    return losses


def fit_pairs(
    policy: Any, data: Sequence[Pair], settings: Settings, objective: Callable[..., Any], **options: Any
) -> list[float]:
    """``fit`` on preference pairs with ``on_pairs(dpo)`` or its relatives; the loss is the mean over pairs."""
    # Both members carry the loss of their pair, so the mean over rows is the mean over pairs.
    return fit(
        policy, data, settings, make=pairs, objective=objective, reduce=partial(sequence_mean, tokens="sum"), **options
    )
