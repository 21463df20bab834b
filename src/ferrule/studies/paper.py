"""Published methods as modules: what a paper module exports, what a claim reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

__all__ = ["Claim", "Paper", "Verdict", "verdict"]

Verdict = Literal["held", "not held", "undecided"]


@dataclass(frozen=True)
class Claim:
    """The measured outcome of a paper's central claim.

    ``arms`` maps an arm to its measurements per seed, ``effect`` is the measured difference with its ``interval``
    (95 %), ``threshold`` what the paper's direction asks for, ``falsifier`` the sentence that would refute it, and
    ``verdict`` follows from the data alone.
    """

    paper: str
    statement: str
    measured: str
    arms: Mapping[str, Mapping[str, list[float]]]
    effect: float
    interval: tuple[float, float]
    threshold: float
    falsifier: str
    verdict: Verdict
    seeds: tuple[int, ...]
    scale: str = "small"
    notes: tuple[str, ...] = ()
    setup: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """A claim needs at least three seeds."""
        if len(self.seeds) < 3:
            raise ValueError(f"claim of {self.paper!r} has {len(self.seeds)} seeds; at least 3 are needed")

    def as_dict(self) -> dict[str, Any]:
        """Return the claim as plain JSON data."""
        return asdict(self)


def verdict(interval: tuple[float, float], threshold: float) -> Verdict:
    """Decide from an interval: held when it lies at or above the threshold, not held when below, else undecided."""
    low, high = interval
    if low >= threshold:
        return "held"
    return "not held" if high < threshold else "undecided"


@dataclass(frozen=True)
class Paper:
    """One published method: where it comes from, its pieces by kind, and how its claim is measured."""

    number: int
    slug: str
    title: str
    date: str
    url: str
    pieces: Mapping[str, Callable[..., Any]]
    claim: Callable[[str], Claim]
    summary: str = ""
