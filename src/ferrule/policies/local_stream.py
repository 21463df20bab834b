"""Asks on their way through a local policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ferrule.chat.forced import forced
from ferrule.core.flows import Ask
from ferrule.core.records import Reply
from ferrule.policies.engine.rows import Row
from ferrule.policies.replies import head_extras, reply_of, rows_of, scores_of

__all__ = ["LocalStream"]


class LocalStream:
    """Asks on their way through a local policy; several streams share its engine."""

    def __init__(self, policy: Any) -> None:
        self._policy, self._training = policy, policy.model.training
        policy.model.train(False)
        self._open: dict[int, tuple[Ask, list[Row]]] = {}
        self._scores: dict[int, dict[str, Any]] = {}

    def begin(self, asks: Sequence[tuple[int, Ask]]) -> None:
        """Queue asks, each under a number of the caller's; equal prompts are computed together."""
        policy = self._policy
        ready = [(number, forced(ask, policy.renderer.codec, policy.pieces)) for number, ask in asks]
        opened = {number: (ask, rows_of(policy, ask)) for number, ask in ready}
        with policy.lock:
            scores = scores_of(policy, [ask for _, ask in ready])
        self._scores |= {number: score for (number, _), score in zip(ready, scores, strict=True) if score}
        self._open |= opened
        rows = [row for _, members in opened.values() for row in members if not row.finish]
        with self._policy.lock:
            self._policy.engine.submit(sorted(rows, key=lambda row: (len(row.given), row.given)))

    def advance(self) -> list[tuple[int, list[Reply]]]:
        """Compute one step for all rows and return the asks that are complete, by number."""
        with self._policy.lock:
            if self._waiting():
                self._policy.step()
        ready = [n for n, (_, rows) in self._open.items() if all(row.finish for row in rows)]
        return [(n, self._replies(n, *self._open.pop(n))) for n in ready]

    def _replies(self, number: int, ask: Ask, rows: Sequence[Row]) -> list[Reply]:
        replies = [reply_of(self._policy, ask, row) for row in rows]
        more = self._scores.pop(number, {})
        with self._policy.lock:
            said = head_extras(self._policy, ask, rows)
        extras = [{**more, **own} for own in said]
        return [replace(r, extras={**r.extras, **x}) if x else r for r, x in zip(replies, extras, strict=True)]

    def _waiting(self) -> bool:
        return any(not row.finish for _, rows in self._open.values() for row in rows)

    def close(self) -> None:
        """Give up what is on its way; the model's mode is what it was before."""
        self._policy.model.train(self._training)
        rows = [row for _, members in self._open.values() for row in members if not row.finish]
        self._open = {}
        if rows:
            with self._policy.lock:
                self._policy.engine.cancel(rows)
