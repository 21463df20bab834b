"""One update step: log-probs, loss and one optimiser step per minibatch, with whole-batch denominators."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ferrule.objectives.channels import over_channels
from ferrule.objectives.reduce import Totals
from ferrule.policies.packing.packed import micro_batches
from ferrule.train.memory import hand_back
from ferrule.train.sample import Batch, segments
from ferrule.train.shard import is_sharded, passes_missing, whole_norm

__all__ = ["Sequences", "clip_and_step", "sequences", "update"]


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
        found: dict[int, list[int]] = {}
        for i in range(len(self.ids)):
            found.setdefault(self.unit[i] if self.unit is not None else i, []).append(i)
        return list(found.values())

    def total(self, rows: Sequence[int]) -> Totals:
        """Count model tokens and rows that have any."""
        own = [int((self.turn[i] >= 0).sum()) for i in rows]
        return Totals(float(sum(own)), float(sum(n > 0 for n in own)))


def sequences(batch: Batch) -> Sequences:
    """Cut every trajectory into its context segments; rows without model tokens are left out."""
    s, out = batch.signals, Sequences([], [], {"old_NT": [], "adv": []})
    if batch.target_NT is not None:
        out.beside.update(target_NT=[], old_value_NT=[])
    if s.ref_NT is not None:
        out.beside.update(ref_NT=[])
    out.beside.update((name, []) for name in batch.beside)
    for n, at in segments(s):
        out.ids.append(s.ids_NT[n, at])
        out.turn.append(s.turn_NT[n, at])
        out.beside["old_NT"].append(s.logp_NT[n, at])
        out.beside["adv"].append(batch.adv[..., n, at])
        for name, array_NT in batch.beside.items():
            out.beside[name].append(array_NT[n, at])
        if s.ref_NT is not None:
            out.beside["ref_NT"].append(s.ref_NT[n, at])
        if batch.target_NT is not None and s.value_NT is not None:
            out.beside["target_NT"].append(batch.target_NT[n, at])
            out.beside["old_value_NT"].append(s.value_NT[n, at])
    return out


def _tensor(parts: Sequence[np.ndarray[Any, Any]], fill: float, device: torch.device) -> Tensor:
    """Right-pad along the last axis and stack along the row axis (the one before it)."""
    width = max(part.shape[-1] for part in parts)
    padded = [np.pad(p, [(0, 0)] * (p.ndim - 1) + [(0, width - p.shape[-1])], constant_values=fill) for p in parts]
    array = np.stack(padded, axis=-2)
    return torch.from_numpy(array).to(device, torch.int64 if array.dtype.kind == "i" else torch.float32)


def _loss(
    policy: Any, seqs: Sequences, rows: Sequence[int], objective: Callable[..., Tensor], heat: float, reference: bool
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Return ``loss_NT`` (summed over channels), ``turn_NT`` and the arrays the objective could name."""
    ids_NT = _tensor([seqs.ids[i] for i in rows], -1, policy.device)
    turn_NT = _tensor([seqs.turn[i] for i in rows], -1, policy.device)
    named = dict(policy.logps(ids_NT, turn_NT, temperature=heat))
    if reference and "ref_NT" not in seqs.beside:
        named["ref_NT"] = policy.reference_logps(ids_NT, turn_NT, temperature=heat)
    for name, parts in seqs.beside.items():
        named[name] = _tensor([parts[i] for i in rows], 0.0, policy.device)
    for name, numbers in seqs.per_row.items():
        named[name] = torch.tensor([numbers[i] for i in rows], device=policy.device)
    adv = named.pop("adv") if "adv" in named else torch.zeros_like(named["logp_NT"])
    loss_NT = over_channels(objective, adv if adv.ndim == 3 else adv[None], {**named, "turn_NT": turn_NT})
    return loss_NT, turn_NT, {**named, "adv_NT": adv if adv.ndim == 2 else adv.sum(0)}


def clip_and_step(policy: Any, optimiser: Any, max_grad_norm: float, pool: Any = None) -> float:
    """Add gradients up over processes, clip their norm, and take one step; return the norm before clipping.

    A gradient that is not finite takes no step, and the norm returned says so. Sharded gradients are sums already.
    """
    parameters = policy.parameters()
    if pool is not None and not is_sharded(policy):
        for p in parameters:
            p.grad = pool.reduce(p.grad if p.grad is not None else torch.zeros_like(p), reduction="sum")
    norm = whole_norm(torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm if max_grad_norm > 0 else math.inf))
    if math.isfinite(norm):
        hand_back(parameters)
        optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return norm


def update(
    policy: Any,
    seqs: Sequences,
    objective: Callable[..., Tensor],
    reduce: Callable[..., Tensor],
    optimiser: Any,
    *,
    rows: int = 16,
    tokens: int | None = None,
    epochs: int = 1,
    minibatches: int = 1,
    temperature: float = 1.0,
    max_grad_norm: float = 1.0,
    reference: bool = False,
    seed: int = 0,
    pool: Any = None,
) -> dict[str, float]:
    """Take ``epochs * minibatches`` optimiser steps and return averages of loss, entropy, divergence and gradient norm.

    A micro-batch has at most ``rows`` rows and computes at most ``tokens`` tokens (None: what suits the device), where
    prefixes that rows share count once; how a batch is cut never changes the result beyond rounding. With ``pool`` (an
    ``accelerate.Accelerator``) every process takes its share of the rows and gradients are added up.
    """
    sums = {"loss": 0.0, "entropy": 0.0, "kl": 0.0, "grad_norm": 0.0}
    steps, seen, units = 0, 0.0, seqs.units()
    policy.model.train()
    for epoch in range(epochs):
        order = np.random.Generator(np.random.Philox(key=seed + epoch)).permutation(len(units))
        for part in np.array_split(order, min(minibatches, max(len(order), 1))):
            total = seqs.total([i for u in part for i in units[u]])
            if not total.tokens:
                continue
            own = part[pool.process_index :: pool.num_processes] if pool is not None else part
            cut = list(micro_batches(
                policy.model, seqs.ids, seqs.turn, units=[units[u] for u in own], rows=rows, tokens=tokens,
                autocast=getattr(policy, "autocast", False),
            ))  # fmt: skip
            idle = passes_missing(policy, len(cut), pool)
            for micro in cut:
                loss_NT, turn_NT, named = _loss(policy, seqs, micro, objective, temperature, reference)
                loss = reduce(loss_NT, turn_NT, total)
                torch.autograd.backward(loss)
                mine = turn_NT >= 0
                sums["loss"] += float(loss.detach())
                sums["entropy"] += float(named["entropy_NT"].detach()[mine].sum())
                if "old_NT" in named:
                    sums["kl"] += float((named["old_NT"] - named["logp_NT"].detach())[mine].sum())
                seen += float(mine.sum())
            for _ in range(idle):  # sharded weights are gathered by all processes together
                loss_NT, turn_NT, _ = _loss(policy, seqs, units[part[0]], objective, temperature, reference)
                torch.autograd.backward(reduce(loss_NT, turn_NT, total) * 0.0)
            sums["grad_norm"] += clip_and_step(policy, optimiser, max_grad_norm, pool)
            steps += 1
    if pool is not None:
        mine = torch.tensor([sums["loss"], sums["entropy"], sums["kl"], seen], device=pool.device)
        shared = pool.reduce(mine, reduction="sum")
        sums["loss"], sums["entropy"], sums["kl"], seen = (float(x) for x in shared)
    return {
        "loss": sums["loss"] / max(steps, 1),
        "entropy": sums["entropy"] / max(seen, 1.0),
        "kl": sums["kl"] / max(seen, 1.0),
        "grad_norm": sums["grad_norm"] / max(steps, 1),
        "optimizer_steps": float(steps),
    }
