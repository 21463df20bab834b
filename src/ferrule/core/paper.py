"""Published methods as modules: what a paper module exports, what a claim reports, and how papers are found."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ferrule.core.arrays import nearest

__all__ = ["Claim", "Paper", "Verdict", "discover", "find", "verdict"]

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


def discover() -> list[Paper]:
    """Import every module of ``ferrule.papers`` and return their papers by number (tests, docs and listings only)."""
    package = importlib.import_module("ferrule.papers")
    found = []
    for entry in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"ferrule.papers.{entry.name}")
        paper = getattr(module, "PAPER", None)
        if not isinstance(paper, Paper):
            raise TypeError(f"ferrule.papers.{entry.name} has no PAPER of type ferrule.core.paper.Paper")
        found.append(paper)
    return sorted(found, key=lambda paper: paper.number)


def find(slug: str) -> Paper:
    """Return the paper of that slug; an unknown one is refused with the nearest valid slug."""
    papers = {paper.slug: paper for paper in discover()}
    if slug not in papers:
        raise KeyError(f"no paper {slug!r}; {nearest(slug, list(papers))}")
    return papers[slug]
