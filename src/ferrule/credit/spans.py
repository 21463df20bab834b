"""Labelled stretches of a turn (think, call, fold, answer, guidance) as boolean masks over tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ferrule.core.arrays import BoolArray, Signals, by_name

__all__ = ["both", "check_labels", "inside", "outside", "within"]


def check_labels(labels: Sequence[str]) -> None:
    """Refuse anything but a sequence of labels of spans, a single text included (``ValueError``)."""
    if isinstance(labels, str):
        raise ValueError(f"spans is the text {labels!r}; give several labels, such as ({labels!r},)")
    if not labels or not all(isinstance(label, str) and label for label in labels):
        raise ValueError(f"spans are {tuple(labels)!r}; give labels of spans, such as ('call', 'fold')")


def within(signals: Signals, *labels: str) -> BoolArray:
    """Say for every token whether it is the model's own and lies in a span of one of ``labels``, shape (N, T), bool.

    A label that no turn of the batch carries marks nothing.
    """
    wanted = [i for i, label in enumerate(signals.labels) if label in labels]
    return np.isin(signals.span_NT, wanted) & (signals.turn_NT >= 0)


def inside(*labels: str) -> Callable[[Signals], BoolArray]:
    """Return a mask for ``Recipe.mask`` that keeps only the spans of ``labels`` in the loss."""

    def mask(signals: Signals) -> BoolArray:
        return within(signals, *labels)

    return mask


def both(*masks: Callable[..., BoolArray]) -> Callable[[Signals], BoolArray]:
    """Return a mask for ``Recipe.mask`` that keeps what every one of ``masks`` keeps (each per token or per row)."""

    def mask(signals: Signals) -> BoolArray:
        kept_NT = signals.turn_NT >= 0
        for part in masks:
            marked = np.asarray(by_name(part, {**signals.named(), "signals": signals}), dtype=bool)
            kept_NT = kept_NT & (marked if marked.ndim == 2 else marked[:, None])
        return kept_NT

    return mask


def outside(*labels: str) -> Callable[[Signals], BoolArray]:
    """Return a mask for ``Recipe.mask`` that takes the spans of ``labels`` (such as ``guidance``) out of the loss."""

    def mask(signals: Signals) -> BoolArray:
        return (signals.turn_NT >= 0) & ~within(signals, *labels)

    return mask
