"""What a tool brings into reach: chances, supports, and who solves what."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ferrule.core.arrays import first_call
from ferrule.core.records import Trajectory

__all__ = ["feasible", "first_call_position", "solvability", "support", "text_probability"]


def first_call_position(trajectory: Trajectory) -> int | None:
    """Return where the first executed call begins, in tokens from the first that the model wrote; None without one."""
    column = first_call(trajectory)
    return None if column < 0 else column - len(trajectory.turns[0].given)


def text_probability(with_tool: float, bits: int) -> float:
    """Chance of an answer without the tool that must supply ``bits`` bits of a random oracle: ``q = p 2^-bits``."""
    return with_tool * 2.0**-bits


def support(chances: Sequence[float], *, eps: float) -> list[bool]:
    """Say which answers lie in the empirical support, ``p >= eps``."""
    return [chance >= eps for chance in chances]


def feasible(chances: Sequence[float], costs: Sequence[float], *, budget: float) -> bool:
    """Say whether a strategy lies in the feasible support: some trajectory has a chance and costs at most ``budget``.

    Costs are tokens of prompt, replies and tool results together.
    """
    return any(chance > 0 and cost <= budget for chance, cost in zip(chances, costs, strict=True))


def solvability(text: Sequence[bool], tool: Sequence[bool]) -> dict[str, float]:
    """Shares of problems by who solves them: the tool alone (expansion), both, text alone (shrinkage), or neither."""
    if len(text) != len(tool):
        raise ValueError(f"{len(text)} problems in text and {len(tool)} with the tool; they must be the same ones")
    without, using = np.asarray(text, dtype=bool), np.asarray(tool, dtype=bool)
    flows = {
        "expansion": using & ~without,
        "preservation": using & without,
        "shrinkage": without & ~using,
        "unsolved": ~using & ~without,
    }
    return {name: float(flow.mean()) if flow.size else 0.0 for name, flow in flows.items()}
