"""The stages of the recipe as functions over data: teachers, problems, traces, their mix, and checkpoints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

__all__ = [
    "Checkpoint",
    "T",
    "Trace",
    "mixed",
    "rank_teachers",
    "refused",
    "select_checkpoint",
    "text_count",
    "tool_advantage",
]


T = TypeVar("T")


@dataclass(frozen=True)
class Trace:
    """One teacher trace: pass rates of its problem with and without the tool, and what the trace itself looks like.

    ``length`` in tokens; ``calls`` that were executed; ``unresolved`` calls that could not be and were left at that.
    """

    p_tool: float
    p_text: float
    length: int
    correct: bool
    calls: int
    unresolved: int = 0


@dataclass(frozen=True)
class Checkpoint:
    """What a supervised checkpoint came to: pass@k and mean rollout length (tokens), and its training loss."""

    step: int
    passed: float
    length: float
    loss: float = math.nan


def rank_teachers(measured: Mapping[str, tuple[float, float]], *, digits: int = 2) -> list[str]:
    """Order teachers by ``(gain, nll)``: the student's gain in pass@k first, then its likelihood of their tokens.

    Gains are rounded to ``digits`` decimals, so that near ones tie; ``nll`` is in nats per token, lower is better.
    Raises ``ValueError`` on a figure that is NaN.
    """
    unknown = [name for name, figures in measured.items() if any(map(math.isnan, figures))]
    if unknown:
        raise ValueError(f"the gain or nll of {', '.join(unknown)} is NaN; measure them, or leave those teachers out")
    return sorted(measured, key=lambda name: (-round(measured[name][0], digits), measured[name][1], name))


def tool_advantage(p_tool: float, p_text: float) -> float:
    """What the tool adds to a problem's pass rate: ``p_tool - p_text``."""
    return p_tool - p_text


def refused(trace: Trace, *, least_gain: float = 0.0, longest: int = 32_000) -> str:
    """Say why a trace is not learned from, "" when it is.

    Asked in this order: is its problem ever solved with the tool, and does the tool add more than ``least_gain``; is
    the answer right, was a call executed, is no call left unresolved, is it at most ``longest`` tokens long?
    """
    checks = {
        "no gain": trace.p_tool > 0 and tool_advantage(trace.p_tool, trace.p_text) > least_gain,
        "wrong answer": trace.correct,
        "no call": trace.calls > 0,
        "unresolved call": not trace.unresolved,
        "overlong": trace.length <= longest,
    }
    return next((reason for reason, good in checks.items() if not good), "")


def text_count(tools: int, *, rho: float = 0.25) -> int:
    """Number of text-only traces that make up a share ``rho`` beside ``tools`` tool traces: ``rho / (1 - rho) tools``.

    Raises ``ValueError`` unless ``rho`` is at least 0 and below 1.
    """
    if not 0 <= rho < 1:
        raise ValueError(f"rho is {rho}; the share of text-only traces must be at least 0 and below 1")
    return round(rho / (1 - rho) * tools)


def mixed(tool: Sequence[T], text: Sequence[T], *, rho: float = 0.25, seed: int = 0) -> list[T]:
    """Return all tool traces and a share ``rho`` of text-only ones, shuffled.

    Text traces repeat when there are too few; they must have been rendered without a tool's schema. Raises
    ``ValueError`` when some are needed and none given.
    """
    rng, count = np.random.default_rng(seed), text_count(len(tool), rho=rho)
    if count and not text:
        raise ValueError(f"{count} text-only traces are needed for rho = {rho}, and there are none")
    order = [int(i) for _ in range(-(-count // max(len(text), 1))) for i in rng.permutation(len(text))]
    joined = [*tool, *(text[i] for i in order[:count])]
    return [joined[int(i)] for i in rng.permutation(len(joined))]


def select_checkpoint(rows: Sequence[Checkpoint], *, tol: float = 0.005) -> Checkpoint:
    """Return the checkpoint of the shortest rollouts among those within ``tol`` of the best pass@k; the earlier of two.

    The training loss plays no part. Checkpoints whose pass@k or length is not finite are passed over. Raises
    ``ValueError`` when no other is there.
    """
    measured = [row for row in rows if math.isfinite(row.passed) and math.isfinite(row.length)]
    if not measured:
        raise ValueError(f"select_checkpoint needs a checkpoint with finite pass@k and length; {len(rows)} given")
    best = max(row.passed for row in measured)
    near = [row for row in measured if row.passed >= best - tol - 1e-12]
    return min(near, key=lambda row: (row.length, row.step))
