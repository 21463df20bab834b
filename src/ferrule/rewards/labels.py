"""Labels from a model that judges: which of two answers is better, and how good one is.

Source: "A Technical Survey of Reinforcement Learning Techniques for Large Language Models" (52), RLAIF.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

__all__ = ["ai_preference", "direct_score"]

T = TypeVar("T")


def ai_preference(labeller: Callable[[T, T], float], first: T, second: T) -> float:
    """Chance that ``first`` is better, averaged over both orders: ``(p(first, second) + 1 - p(second, first)) / 2``.

    The average cancels a constant leaning towards a position. It is the soft label of the pair loss (RLAIF).
    """
    return (labeller(first, second) + 1.0 - labeller(second, first)) / 2.0


def direct_score(mark: float, *, lowest: float = 1.0, highest: float = 10.0) -> float:
    """Map a labeller's mark to -1 to 1: ``2 (mark - lowest) / (highest - lowest) - 1``, marks outside are clipped."""
    return 2.0 * (min(max(mark, lowest), highest) - lowest) / (highest - lowest) - 1.0
