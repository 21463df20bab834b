"""What each role of an episode took: asks, tokens and seconds, so that judges and other helpers are metered apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ferrule.core.records import Turn

__all__ = ["Spent", "added", "metrics_of", "spent_by_role"]


@dataclass(frozen=True)
class Spent:
    """What one role took.

    ``asks`` counts answered requests, ``tokens`` what was written for them (shared prefixes once, discarded branches
    included), ``seconds`` how long an episode waited for each ask, added up; asks in flight together count each.
    """

    asks: int = 0
    tokens: int = 0
    seconds: float = field(default=0.0, compare=False)

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.asks + other.asks, self.tokens + other.tokens, self.seconds + other.seconds)


def spent_by_role(waits: Iterable[tuple[str, float]], turns: Iterable[Turn]) -> dict[str, Spent]:
    """Return what each role took from its answered asks, as (role, seconds waited), and its turns."""
    return added(
        [
            *({role: Spent(asks=1, seconds=seconds)} for role, seconds in waits),
            *({turn.role: Spent(tokens=len(turn.sampled))} for turn in turns),
        ]
    )


def added(parts: Iterable[Mapping[str, Spent]]) -> dict[str, Spent]:
    """Return the sums by role, in the order of their names."""
    sums: dict[str, Spent] = {}
    for part in parts:
        for role, spent in part.items():
            sums[role] = sums.get(role, Spent()) + spent
    return dict(sorted(sums.items()))


def metrics_of(spent: Mapping[str, Spent]) -> dict[str, float]:
    """Return ``asks/ROLE``, ``tokens/ROLE`` and ``seconds/ROLE`` where several roles took part, nothing for one."""
    if len(spent) < 2:
        return {}
    return {
        f"{name}/{role}": float(getattr(took, name))
        for role, took in spent.items()
        for name in ("asks", "tokens", "seconds")
    }
