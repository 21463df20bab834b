"""Sampling one step ahead of the update, with importance weights for what the weights have moved meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from ferrule.train.policy import Copies, Trains
from ferrule.train.sample import Batch, score_segments

__all__ = ["Ahead", "corrected"]


def corrected(
    batch: Batch, policy: Trains, *, temperature: float = 1.0, cap: float = 2.0
) -> tuple[Batch, dict[str, float]]:
    """Return a batch of older weights made fit for the present ones, and what that took.

    Every token's advantage is multiplied by ``w = min(pi(token) / mu(token), cap)``, where mu sampled it and pi are the
    present weights; ``old`` becomes ``log pi``, so that ratios and clipping start from the present weights.
    """
    signals = batch.signals
    if not len(signals.reward_N):
        return batch, {}
    mine_NT = signals.turn_NT >= 0
    present_NT = score_segments(lambda ids, turn: policy.scores(ids, turn, temperature=temperature), signals)
    gap_NT = np.where(mine_NT, present_NT - signals.logp_NT, 0.0)
    weight_NT = np.minimum(np.exp(np.minimum(gap_NT, 60.0)), cap)
    metrics = {
        "stale/steps": 1.0,
        "stale/weight": float(weight_NT[mine_NT].mean()),
        "stale/capped": float((weight_NT[mine_NT] >= cap).mean()),
        "stale/kl": float(-gap_NT[mine_NT].mean()),
    }
    return replace(batch, signals=replace(signals, logp_NT=present_NT), adv=batch.adv * weight_NT), metrics


class Ahead:
    """Hands out the batch of each step and samples the next one meanwhile, on a copy of the weights as they are now.

    A batch is at most one step behind. ``fresh(step)`` names steps whose batch must not be begun early: after a
    checkpoint everything starts from what the checkpoint holds.
    """

    def __init__(self, sampled: Callable[[int, Any], Batch], policy: Copies, fresh: Callable[[int], bool]) -> None:
        self._sampled, self._policy, self._fresh = sampled, policy, fresh
        self._copy = policy.frozen()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="ferrule-ahead")
        self._next: Future[Batch] | None = None

    def __call__(self, step: int, temperature: float) -> tuple[Batch, dict[str, float]]:
        """Return the batch of a step with its metrics, and begin the next."""
        waiting, self._next = self._next, None
        batch = self._sampled(step, self._policy) if waiting is None else waiting.result()
        metrics = {"stale/steps": 0.0}
        if waiting is not None:
            batch, metrics = corrected(batch, self._policy, temperature=temperature)
        if not self._fresh(step + 1):
            self._copy.follow(self._policy)
            self._next = self._pool.submit(self._sampled, step + 1, self._copy)
        return batch, metrics

    def close(self) -> None:
        """Wait for what is being sampled and drop it."""
        self._pool.shutdown(wait=True, cancel_futures=True)
