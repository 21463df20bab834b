"""What a paper module exports, and what the measured outcome of its claim is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

__all__ = ["GRADES", "Claim", "Grade", "Paper", "Verdict", "verdict"]

Verdict = Literal["held", "not held", "undecided"]
Grade = Literal["A", "B", "C"]
GRADES: Mapping[Grade, str] = {
    "A": "a language model on held-out tasks of a world",
    "B": "learning on a stand-in for a model or a world",
    "C": "an illustration of the formula",
}
"""How strong the evidence of each grade is."""


@dataclass(frozen=True)
class Claim:
    """The measured outcome of a paper's central claim.

    ``arms`` maps an arm to its measurements per seed. The condition that decides is shown: ``measured`` names it,
    ``effect`` is its mean with its 95 % ``interval``, ``threshold`` what the paper's direction asks for. ``falsifier``
    is the sentence that would refute the claim, and ``verdict`` follows from the data alone. ``grade`` says how strong
    the evidence is, ``trained`` what learned, and ``size`` names the size of the experiment.
    """

    paper: str
    statement: str
    measured: str
    arms: Mapping[str, Mapping[str, list[Any]]]
    effect: float
    interval: tuple[float, float]
    threshold: float
    falsifier: str
    verdict: Verdict
    seeds: tuple[int, ...]
    size: str = "small"
    grade: Grade = "C"
    trained: str = ""
    notes: tuple[str, ...] = ()
    setup: Mapping[str, Any] = field(default_factory=dict)
    part: str = ""

    @property
    def slug(self) -> str:
        """The name of the study that was measured: that of the paper, and the ``part`` where there are several."""
        return f"{self.paper}-{self.part}" if self.part else self.paper

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
    """One published method: where it comes from and its pieces by kind; its claim is the study of the same slug.

    ``reported`` says what the paper reports at its scale, and in brackets where the figures were read.
    """

    number: int
    slug: str
    title: str
    date: str
    url: str
    pieces: Mapping[str, Callable[..., Any]]
    summary: str = ""
    reported: str = ""
