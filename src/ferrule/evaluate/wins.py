"""Comparisons of two conditions counted: wins, wins at equal length, and means by the number of calls.

Sources: "From Proof to Program" (11); "Length-Controlled AlpacaEval: A Simple Way to Debias Automatic Evaluators"
(arXiv 2404.04475) for equal length.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from ferrule.evaluate.metrics import bootstrap_mean, ratio

__all__ = ["by_calls", "controlled_gap", "wins"]

_RIDGE, _STEPS = 0.01, 50


def wins(
    shares: Sequence[float | None], *, lengths: Sequence[tuple[float, float]] = (), tasks: Sequence[str] = ()
) -> dict[str, Any]:
    """Return how often the first and the second of two solutions is better, and how often neither is.

    ``shares`` say how far the first is: 1, 0, and a tie between; None is a comparison without a result, counted as
    ``unknown`` and left out. ``gap`` is ``first - second``, with its interval over ``tasks`` (the task of each
    comparison; each is one of its own without them). ``decided`` is the share of the first among those that were no
    tie, and ``gap_at_equal_length`` the ``controlled_gap`` where the ``lengths`` of both are given. What nothing is
    known of is None. Raises ``ValueError`` for a share outside 0 to 1, and for ``lengths`` or ``tasks`` that are not
    one per share.
    """
    for name, given in (("lengths", lengths), ("tasks", tasks)):
        if given and len(given) != len(shares):
            raise ValueError(f"there are {len(given)} {name} for {len(shares)} shares; give one for each")
    wrong = [share for share in shares if share is not None and not 0.0 <= share <= 1.0]
    if wrong:
        raise ValueError(f"a share is {wrong[0]}; it must lie in 0 to 1, or be None where nothing is known")
    known = [(place, value) for place, value in enumerate(shares) if value is not None]
    first, second = (sum(value == end for _, value in known) for end in (1.0, 0.0))
    count = len(known)
    groups: dict[str, list[float]] = {}
    for place, value in known:
        groups.setdefault(tasks[place] if tasks else str(place), []).append(float(value == 1.0) - float(value == 0.0))
    data: dict[str, Any] = {
        "first": ratio(first, count),
        "second": ratio(second, count),
        "tie": ratio(count - first - second, count),
        **bootstrap_mean([fmean(group) for group in groups.values()]).as_dict("gap"),
        "decided": ratio(first, first + second),
        "unknown": len(shares) - count,
    }
    if lengths and count:
        apart = [lengths[place][0] - lengths[place][1] for place, _ in known]
        data["gap_at_equal_length"] = controlled_gap([value for _, value in known], apart)
    return data


def controlled_gap(shares: Sequence[float], longer: Sequence[float]) -> float:
    r"""Return the gap ``first - second`` that a logistic model expects of solutions of equal length.

    With :math:`z_i = \tanh(d_i / s)` for the differences of length ``longer`` and their root mean square s, the model
    is :math:`p_i = \sigma(a + b z_i)`; it is fitted to the shares by Newton's method, and the gap is
    :math:`2 \sigma(a) - 1`. Half a win and half a loss of equal length are added, and b has a small penalty, so that
    one-sided results stay finite.
    """
    apart = np.asarray(longer, dtype=np.float64)
    scale = float(np.sqrt(np.mean(apart**2))) if apart.size else 0.0
    z = np.tanh(apart / scale) if scale else apart
    columns = np.column_stack([np.ones(len(z) + 2), np.append(z, [0.0, 0.0])])
    wanted, weight = np.append(shares, [1.0, 0.0]), np.append(np.ones(len(z)), [0.5, 0.5])
    penalty, at = np.diag([0.0, _RIDGE]), np.zeros(2)
    for _ in range(_STEPS):
        chance = 1.0 / (1.0 + np.exp(-columns @ at))
        slope = columns.T @ (weight * (wanted - chance)) - penalty @ at
        bend = (columns * (weight * chance * (1.0 - chance))[:, None]).T @ columns + penalty
        step = np.linalg.solve(bend, slope)
        at = at + step
        if np.abs(step).max() < 1e-10:
            break
    return float(2.0 / (1.0 + math.exp(-at[0])) - 1.0)


def by_calls(
    calls: Sequence[int], values: Sequence[float | None], edges: Sequence[int] = (1, 5, 10), *,
    reduce: Callable[[Sequence[float]], float] = fmean,
) -> dict[str, float | None]:  # fmt: skip
    """Return the mean of values in buckets of the number of calls, which begin at 0 and at each of ``edges``.

    A bucket without known values is None. Raises ``ValueError`` for edges that do not rise from at least 1.
    """
    starts = [0, *edges]
    if any(later <= earlier for earlier, later in zip(starts, edges, strict=False)):
        raise ValueError(f"edges are {list(edges)}; they must rise, the first of them at least 1")
    table: dict[str, float | None] = {}
    for place, start in enumerate(starts):
        end = starts[place + 1] - 1 if place + 1 < len(starts) else math.inf
        name = str(start) if start == end else f"{start}+" if end == math.inf else f"{start}-{end}"
        own = [value for count, value in zip(calls, values, strict=True) if start <= count <= end and value is not None]
        table[name] = reduce(own) if own else None
    return table
