"""One update step: log-probs, loss and one optimiser step per minibatch, with whole-batch denominators."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ferrule.core.arrays import cut_rows
from ferrule.objectives.channels import over_channels
from ferrule.objectives.reduce import Totals
from ferrule.policies.heads import HasHeads, head_values, key_of
from ferrule.policies.packing.packed import micro_batches
from ferrule.train.memory import hand_back
from ferrule.train.policy import Refers, Trains
from ferrule.train.sample import Batch, segments
from ferrule.train.shard import is_sharded, passes_missing, whole_norm

__all__ = ["Lesson", "Sequences", "clip_and_step", "learn", "loss_of", "sequences", "update"]


@dataclass(frozen=True)
class Sequences:
    """Rows for an update: ids and turn index, named per-token arrays ``beside`` them, named numbers ``per_row``.

    Rows with the same entry in ``unit`` (the two members of a preference pair) always share a micro-batch; without
    ``unit`` every row stands alone.
    """

    ids: list[np.ndarray[Any, Any]]
    turn: list[np.ndarray[Any, Any]]
    beside: dict[str, list[np.ndarray[Any, Any]]] = field(default_factory=dict)
    per_row: dict[str, list[float]] = field(default_factory=dict)
    unit: list[int] | None = None

    def units(self) -> list[list[int]]:
        """Return the row numbers of every unit."""
        units: dict[int, list[int]] = {}
        for i in range(len(self.ids)):
            units.setdefault(self.unit[i] if self.unit is not None else i, []).append(i)
        return list(units.values())

    def moved(self, unit: Sequence[int]) -> bool:
        """Whether a unit has any advantage, as far as there are advantages."""
        return "adv" not in self.beside or any(self.beside["adv"][i].any() for i in unit)

    def total(self, rows: Sequence[int]) -> Totals:
        """Count model tokens and rows that have any."""
        counts = [int((self.turn[i] >= 0).sum()) for i in rows]
        return Totals(float(sum(counts)), float(sum(n > 0 for n in counts)))


def sequences(batch: Batch) -> Sequences:
    """Cut every trajectory into its context segments; rows without model tokens are left out."""
    s, rows = batch.signals, Sequences([], [], {"old_NT": [], "adv": []})
    if batch.target_NT is not None:
        rows.beside.update(target_NT=[], old_value_NT=[])
    if s.ref_NT is not None:
        rows.beside.update(ref_NT=[])
    rows.beside.update((name, []) for name in batch.beside)
    for n, at in segments(s):
        rows.ids.append(s.ids_NT[n, at])
        rows.turn.append(s.turn_NT[n, at])
        rows.beside["old_NT"].append(s.logp_NT[n, at])
        rows.beside["adv"].append(batch.adv[..., n, at])
        for name, array_NT in batch.beside.items():
            rows.beside[name].append(array_NT[n, at])
        if s.ref_NT is not None:
            rows.beside["ref_NT"].append(s.ref_NT[n, at])
        if batch.target_NT is not None and s.value_NT is not None:
            rows.beside["target_NT"].append(batch.target_NT[n, at])
            rows.beside["old_value_NT"].append(s.value_NT[n, at])
    return rows


@dataclass(frozen=True)
class Lesson:
    """Rows with the objective they serve, and how its losses become one number."""

    seqs: Sequences
    objective: Callable[..., Tensor]
    reduce: Callable[..., Tensor]
    temperature: float = 1.0
    reference: bool = False


def _tensor(parts: Sequence[np.ndarray[Any, Any]], fill: float, device: torch.device) -> Tensor:
    """Right-pad along the last axis and stack along the row axis (the one before it)."""
    width = max(part.shape[-1] for part in parts)
    padded = [np.pad(p, [(0, 0)] * (p.ndim - 1) + [(0, width - p.shape[-1])], constant_values=fill) for p in parts]
    array = np.stack(padded, axis=-2)
    return torch.from_numpy(array).to(device, torch.int64 if array.dtype.kind == "i" else torch.float32)


def loss_of(policy: Trains, lesson: Lesson, rows: Sequence[int]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Return ``loss_NT`` (summed over channels), ``turn_NT`` and the arrays the objective could name."""
    seqs, heat = lesson.seqs, lesson.temperature
    ids_NT = _tensor([seqs.ids[i] for i in rows], -1, policy.device)
    turn_NT = _tensor([seqs.turn[i] for i in rows], -1, policy.device)
    named = dict(policy.logps(ids_NT, turn_NT, temperature=heat))
    if lesson.reference and "ref_NT" not in seqs.beside:
        named["ref_NT"] = cast(Refers, policy).reference_logps(ids_NT, turn_NT, temperature=heat)
    for name, parts in seqs.beside.items():
        named[name] = _tensor([parts[i] for i in rows], 0.0, policy.device)
    for name, numbers in seqs.per_row.items():
        named[name] = torch.tensor([numbers[i] for i in rows], device=policy.device)
    adv = named.pop("adv") if "adv" in named else torch.zeros_like(named["logp_NT"])
    for head in getattr(policy, "head_kinds", {}).values():
        if head.at != "before" and key_of(head) in inspect.signature(lesson.objective).parameters:
            named[key_of(head)] = head_values(cast(HasHeads, policy), head.name, ids_NT, turn_NT)
    loss_NT = over_channels(lesson.objective, adv if adv.ndim == 3 else adv[None], {**named, "turn_NT": turn_NT})
    return loss_NT, turn_NT, {**named, "adv_NT": adv if adv.ndim == 2 else adv.sum(0)}


def clip_and_step(policy: Trains, optimiser: Any, max_grad_norm: float, pool: Any = None) -> float:
    """Add gradients up over processes, clip their norm, and take one step; return the norm before clipping.

    A gradient that is not finite takes no step, and the norm returned says so. Sharded gradients are sums already.
    """
    parameters = policy.parameters()
    if pool is not None and not is_sharded(policy):
        for p in parameters:
            p.grad = pool.reduce(
                p.grad if p.grad is not None else torch.zeros_like(p, dtype=p.grad_dtype), reduction="sum"
            )
    norm = whole_norm(torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm if max_grad_norm > 0 else math.inf))
    if math.isfinite(norm):
        hand_back(parameters)
        optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return norm


@dataclass
class _Tally:
    """What the passes of a batch add up to."""

    loss: float = 0.0
    entropy: float = 0.0
    kl: float = 0.0
    tokens: float = 0.0
    rows: float = 0.0
    grad_norm: float = 0.0
    steps: int = 0

    def since(self, before: _Tally, pool: Any) -> tuple[float, float]:
        """Return the mean log-ratio of the rows since ``before`` (nats), and their loss, over all processes."""
        kl, loss = self.kl - before.kl, self.loss - before.loss
        if pool is not None:
            kl, loss = (float(x) for x in pool.reduce(torch.tensor([kl, loss], device=pool.device), reduction="sum"))
        return -kl / max(self.rows - before.rows, 1.0), loss

    def metrics(self, pool: Any) -> dict[str, float]:
        """Return averages over all processes: loss and gradient norm per step, entropy and divergence per token.

        Without tokens there is no entropy and no divergence: 0 would read as a collapse.
        """
        if pool is not None:
            mine = torch.tensor([self.loss, self.entropy, self.kl, self.tokens], device=pool.device)
            self.loss, self.entropy, self.kl, self.tokens = (float(x) for x in pool.reduce(mine, reduction="sum"))
        per_token = {"entropy": self.entropy / self.tokens, "kl": self.kl / self.tokens} if self.tokens else {}
        return {
            "loss": self.loss / max(self.steps, 1),
            **per_token,
            "grad_norm": self.grad_norm / max(self.steps, 1),
            "optimizer_steps": float(self.steps),
        }


def _passes(
    policy: Trains,
    lesson: Lesson,
    units: Sequence[Sequence[int]],
    tally: _Tally,
    rows: int,
    tokens: int | None,
    size: int | None,
    pool: Any,
) -> bool:
    """Add the gradients of a minibatch of one lesson; False when it has no tokens to learn from.

    ``size`` stands for the number of rows in denominators.
    """
    seqs = lesson.seqs
    total = seqs.total([i for unit in units for i in unit])
    if not total.tokens:
        return False
    tally.rows += total.rows
    total = total if size is None else replace(total, rows=float(size))
    share = units[pool.process_index :: pool.num_processes] if pool is not None else units
    cut = list(micro_batches(
        policy.model, seqs.ids, seqs.turn, units=share, rows=rows, tokens=tokens,
        autocast=getattr(policy, "autocast", False),
    ))  # fmt: skip
    idle = passes_missing(policy, len(cut), pool)
    for micro in cut:
        loss_NT, turn_NT, named = loss_of(policy, lesson, micro)
        loss = lesson.reduce(loss_NT, turn_NT, total)
        torch.autograd.backward(loss)
        mine = turn_NT >= 0
        tally.loss += float(loss.detach())
        tally.entropy += float(named["entropy_NT"].detach()[mine].sum())
        if "old_NT" in named:
            tally.kl += float((named["old_NT"] - named["logp_NT"].detach())[mine].sum())
        tally.tokens += float(mine.sum())
    for _ in range(idle):  # sharded weights are gathered by all processes together
        loss_NT, turn_NT, _ = loss_of(policy, lesson, units[0])
        torch.autograd.backward(lesson.reduce(loss_NT, turn_NT, total) * 0.0)
    return True


def learn(
    policy: Trains,
    lessons: Sequence[Lesson],
    optimiser: Any,
    *,
    rows: int = 16,
    tokens: int | None = None,
    num_iterations: int = 1,
    num_mini_batches: int = 1,
    mini_batch_size: int | None = None,
    max_log_ratio: float | None = None,
    max_grad_norm: float = 1.0,
    seed: int = 0,
    pool: Any = None,
) -> dict[str, float]:
    """Take ``epochs * minibatches`` optimiser steps and return averages of loss, entropy, divergence and gradient norm.

    Each step adds up the losses of one minibatch of every lesson. A micro-batch has at most ``rows`` rows and computes
    at most ``tokens`` tokens (None: what suits the device), where prefixes that rows share count once; how a batch is
    cut never changes the result beyond rounding. ``mini_batch_size`` and ``max_log_ratio`` are those of ``Recipe``;
    where the latter ends the steps early, ``stopped_early`` is 1. With ``pool`` (an ``accelerate.Accelerator``) every
    process takes its share of the rows and gradients are added up.
    """
    tally = _Tally()
    policy.model.train()
    for epoch in range(num_iterations):
        cuts = []
        for lesson in lessons:
            units = [u for u in lesson.seqs.units() if mini_batch_size is None or lesson.seqs.moved(u)]
            order = np.random.Generator(np.random.Philox(key=seed + epoch)).permutation(len(units))
            parts = cut_rows(order, num_mini_batches, mini_batch_size)
            cuts.append([[units[u] for u in part] for part in parts])
        for parts_of_step in zip_longest(*cuts, fillvalue=[]):
            before = replace(tally)
            some = [
                _passes(policy, lesson, part, tally, rows=rows, tokens=tokens, size=mini_batch_size, pool=pool)
                for lesson, part in zip(lessons, parts_of_step, strict=True)
            ]
            if max_log_ratio is not None and any(some):
                log_ratio, loss = tally.since(before, pool)
                if not (abs(log_ratio) <= max_log_ratio and math.isfinite(loss)):
                    optimiser.zero_grad(set_to_none=True)
                    told = {} if math.isfinite(loss) else {"loss": loss}
                    return {**before.metrics(pool), **told, "stopped_early": 1.0}
            if any(some):
                tally.grad_norm += clip_and_step(policy, optimiser, max_grad_norm, pool)
                tally.steps += 1
    return {**tally.metrics(pool), **({} if max_log_ratio is None else {"stopped_early": 0.0})}


def update(
    policy: Trains,
    seqs: Sequences,
    objective: Callable[..., Tensor],
    reduce: Callable[..., Tensor],
    optimiser: Any,
    *,
    temperature: float = 1.0,
    reference: bool = False,
    **options: Any,
) -> dict[str, float]:
    """``learn`` from one lesson; ``options`` are those of ``learn``."""
    return learn(policy, (Lesson(seqs, objective, reduce, temperature, reference),), optimiser, **options)
