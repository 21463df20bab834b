"""A study is a value: arms that measure numbers for a seed, and conditions that decide on a claim."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from ferrule.core.arrays import nearest
from ferrule.studies.conditions import Condition, Measured, Rows, conclude, describe
from ferrule.studies.paper import Claim, Grade

__all__ = ["Arm", "Study", "Unit"]

Arm: TypeAlias = Callable[..., Mapping[str, Any]]
"""``arm(seed=, **size)``: numbers by quantity, or several rows of numbers by name where arms share their work."""
Notes: TypeAlias = Callable[[Sequence[Rows]], Sequence[str]]


@dataclass(frozen=True)
class Unit:
    """The smallest piece of work of a study: one arm with one seed at one size."""

    paper: str
    arm: str
    seed: int
    size: str

    def __str__(self) -> str:
        return f"{self.paper}, {self.arm}, seed {self.seed}"


def _no_notes(seeds: Sequence[Rows]) -> Sequence[str]:
    return ()


@dataclass(frozen=True)
class Study:
    """How the claim of a paper is measured; calling it gives the claim.

    ``arms`` are called with a seed and the settings of a size; ``asks`` are the conditions, the first of which is shown
    where all hold. ``sizes`` maps a name to settings of the arms; a study has at least ``small`` (what is stored) and
    ``tiny`` (its stored numbers tell whether an arm still computes the same). ``notes`` adds sentences made from the
    rows of all seeds. ``machine`` names quantities that measure the machine (seconds) and differ from run to run.
    ``models`` and ``trained`` say which shipped models are used and what learns on what, ``grade`` how strong that is.
    """

    paper: str
    statement: str
    falsifier: str
    arms: Mapping[str, Arm]
    asks: tuple[Condition, ...]
    sizes: Mapping[str, Mapping[str, Any]]
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    grade: Grade = "C"
    trained: str = ""
    setup: Mapping[str, Any] = field(default_factory=dict)
    notes: Notes = _no_notes
    machine: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a study that decides nothing or has no tiny size."""
        if missing := {"small", "tiny"} - set(self.sizes):
            raise ValueError(f"the study of {self.paper!r} lacks the sizes {', '.join(sorted(missing))}")
        if not any(condition.decides for condition in self.asks):
            raise ValueError(
                f"no condition of the study of {self.paper!r} decides; its verdict would follow from nothing"
            )

    def settings(self, size: str) -> Mapping[str, Any]:
        """Return what the arms are called with at a size (``ValueError`` naming the sizes there are)."""
        if size not in self.sizes:
            raise ValueError(f"size is {size!r}; {nearest(size, list(self.sizes))}")
        return self.sizes[size]

    def units(self, size: str = "small", seeds: Sequence[int] | None = None) -> list[Unit]:
        """Return all work of the study, seed by seed."""
        self.settings(size)
        chosen = self.seeds if seeds is None else seeds
        return [Unit(self.paper, arm, seed, size) for seed in chosen for arm in self.arms]

    def measure(self, unit: Unit) -> dict[str, dict[str, Any]]:
        """Run one unit and return its rows: one by the name of the arm, or those that the arm names."""
        numbers = self.arms[unit.arm](seed=unit.seed, **self.settings(unit.size))
        if numbers and all(isinstance(row, Mapping) for row in numbers.values()):
            return {name: dict(row) for name, row in numbers.items()}
        return {unit.arm: dict(numbers)}

    def __call__(self, size: str = "small", *, seeds: Sequence[int] | None = None) -> Claim:
        """Measure all units one after the other and judge."""
        chosen = tuple(self.seeds if seeds is None else seeds)
        rows: dict[int, dict[str, dict[str, Any]]] = {seed: {} for seed in chosen}
        for unit in self.units(size, chosen):
            rows[unit.seed] |= self.measure(unit)
        return self.judge(rows, size)

    def judge(self, rows: Mapping[int, Rows], size: str = "small") -> Claim:
        """Return the claim that the rows of every seed decide.

        The condition that is shown is the first that is not held, else the first that is undecided, else the first.
        """
        seeds = [rows[seed] for seed in rows]
        measured = [condition.measure(seeds) for condition in self.asks]
        shown = _shown(measured)
        notes = (*map(describe, measured), *self.notes(seeds))
        conditions = [condition.as_dict() for condition in measured]
        return Claim(
            paper=self.paper,
            statement=self.statement,
            measured=shown.name,
            arms=_over_seeds(seeds),
            effect=shown.effect,
            interval=shown.interval,
            threshold=shown.threshold,
            falsifier=self.falsifier,
            verdict=conclude(measured),
            seeds=tuple(rows),
            size=size,
            grade=self.grade,
            trained=self.trained,
            notes=notes,
            setup={**self.setup, "size": dict(self.settings(size)), "conditions": conditions},
        )

    def only(self, *arms: str) -> Study:
        """Return the study with some of its arms, to measure them alone."""
        return replace(self, arms={name: self.arms[name] for name in arms})


def _shown(measured: Sequence[Measured]) -> Measured:
    deciding = [condition for condition in measured if condition.decides]
    for wanted in ("not held", "undecided"):
        for condition in deciding:
            if condition.verdict == wanted:
                return condition
    return deciding[0]


def _over_seeds(seeds: Sequence[Rows]) -> dict[str, dict[str, list[Any]]]:
    """Turn one row per arm and seed into lists over seeds by arm and quantity."""
    return {arm: {name: [rows[arm][name] for rows in seeds] for name in row} for arm, row in seeds[0].items()}
