"""How good one call is, on a ladder from 0 to 4."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

from ferrule.core.arrays import nearest
from ferrule.core.records import Call
from ferrule.rewards.matching import readable

__all__ = ["Names", "call_score"]

Names: TypeAlias = Literal["required", "union"]


def call_score(
    call: Call | None,
    required: Mapping[str, Sequence[str]],
    *,
    names: Names = "required",
    valid: Callable[[Call], float] = lambda call: 1.0,
) -> float:
    """Score a call: 0 unreadable, 1 readable, 2 an offered tool, plus the share of its parameters, plus valid values.

    ``required`` maps the offered tools to their required parameters. The share is ``|given & required| / |required|``
    (1 when none is required), or with ``names="union"`` over ``|given | required|``, so that extra ones cost.
    ``valid(call)``, 0 to 1, counts once all required ones are there. Source: AdaReasoner (29).
    """
    if names not in ("required", "union"):
        raise ValueError(f"names is {names!r}; {nearest(names, ('required', 'union'))}")
    if call is None or not readable(call):
        return 0.0
    if call.name not in required:
        return 1.0
    needed, given = set(required[call.name]), set(call.arguments)
    among = needed | given if names == "union" else needed
    share = len(needed & given) / len(among) if among else 1.0
    return 2.0 + share + (valid(call) if needed <= given else 0.0)
