"""Contract marks: how a piece states, where it is defined, which contract it does not keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

from ferrule.core.arrays import nearest

__all__ = ["Promise", "exempt", "exemptions"]

Promise = Literal["centred", "independent", "blind", "loss"]
_PROMISES = ("centred", "independent", "blind", "loss")

F = TypeVar("F", bound=Callable[..., Any])


def exempt(*promises: Promise) -> Callable[[F], F]:
    """Mark a credit rule, reward or function over log-probs as exempt from a contract that is checked by default.

    ``centred``: equal rewards give zero advantage. ``independent``: a group's result does not depend on other groups.
    ``blind``: the score does not depend on the prompt or on the text of observations. ``loss``: the result is a loss
    per token (a helper over the same arrays has another meaning). The function itself is returned unchanged; nothing
    but the contract suite reads the mark.
    """
    for promise in promises:
        if promise not in _PROMISES:
            raise ValueError(f"unknown promise {promise!r}; {nearest(promise, _PROMISES)}")

    def mark(function: F) -> F:
        setattr(function, "exempt", frozenset(promises))  # noqa: B010
        return function

    return mark


def exemptions(function: Callable[..., Any]) -> frozenset[str]:
    """Return the promises that a piece does not make (a ``functools.partial`` inherits those of its function)."""
    inner = getattr(function, "func", function)
    return frozenset(getattr(function, "exempt", getattr(inner, "exempt", frozenset())))
