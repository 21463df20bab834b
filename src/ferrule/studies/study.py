"""A study is a value: arms that measure numbers for a seed, and conditions that decide on a claim."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeAlias

from ferrule.core.arrays import nearest
from ferrule.studies.conditions import Condition, Measured, Rows, conclude, describe
from ferrule.studies.paper import Claim, Grade
from ferrule.studies.tuning import Tuned, Tuning, best, changes_of

__all__ = ["Arm", "Study", "Unit"]

Arm: TypeAlias = Callable[..., Mapping[str, Any]]
"""``arm(seed=, **size)``: numbers by quantity, or several rows of numbers by name where arms share their work."""
Notes: TypeAlias = Callable[[Sequence[Rows]], Sequence[str]]


@dataclass(frozen=True)
class Unit:
    """The smallest piece of work of a study, which ``study`` names by its slug: one arm with one seed at one size.

    ``changes`` are settings of the arm beside those of the size: a tuned one, or those of a trial.
    """

    study: str
    arm: str
    seed: int
    size: str
    changes: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        with_changes = "".join(f", {name} {value}" for name, value in self.changes)
        return f"{self.study}, {self.arm}, seed {self.seed}{with_changes}"


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
    ``tuning`` chooses a setting of each arm beforehand. ``seeds`` are those that nothing was developed on. A paper may
    have several studies: each but the first has a ``part``, and its ``slug`` is ``PAPER-PART``.
    """

    paper: str
    statement: str
    falsifier: str
    arms: Mapping[str, Arm]
    asks: tuple[Condition, ...]
    sizes: Mapping[str, Mapping[str, Any]]
    seeds: tuple[int, ...] = tuple(range(100, 116))
    grade: Grade = "C"
    trained: str = ""
    setup: Mapping[str, Any] = field(default_factory=dict)
    notes: Notes = _no_notes
    machine: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    part: str = ""
    tuning: Tuning | None = None

    def __post_init__(self) -> None:
        """Refuse a study that decides nothing or has no tiny size."""
        if missing := {"small", "tiny"} - set(self.sizes):
            raise ValueError(f"the study of {self.slug!r} lacks the sizes {', '.join(sorted(missing))}")
        if not any(condition.decides for condition in self.asks):
            raise ValueError(
                f"no condition of the study of {self.slug!r} decides; its verdict would follow from nothing"
            )

    @property
    def slug(self) -> str:
        """The name of the study, which its files bear: that of the paper, and the part."""
        return f"{self.paper}-{self.part}" if self.part else self.paper

    def settings(self, size: str) -> Mapping[str, Any]:
        """Return what the arms are called with at a size (``ValueError`` naming the sizes there are)."""
        if size not in self.sizes:
            raise ValueError(f"size is {size!r}; {nearest(size, list(self.sizes))}")
        return self.sizes[size]

    def tunes(self, size: str) -> bool:
        """Whether arms are tuned before they are measured at a size."""
        return self.tuning is not None and self.tuning.setting not in self.settings(size)

    def trials(self, size: str = "small") -> dict[str, list[tuple[float, Unit]]]:
        """Return the values that are tried, and the work that tries them, by arm; nothing where nothing is tuned."""
        tuning = self.tuning
        if tuning is None or not self.tunes(size):
            return {}
        return {
            arm: [
                (value, Unit(self.slug, arm, seed, size, changes_of(tuning, value)))
                for value in tuning.values
                for seed in tuning.seeds
            ]
            for arm in self.arms
        }

    def tuned(self, measured: Mapping[Unit, Mapping[str, Any]], size: str = "small") -> dict[str, Tuned]:
        """Return what suits each arm best by the rows of all ``trials``; nothing where nothing is tuned."""
        tuning = self.tuning
        if tuning is None:
            return {}
        return {
            arm: best(tuning, [(value, measured[unit][arm]) for value, unit in pairs])
            for arm, pairs in self.trials(size).items()
        }

    def units(
        self, size: str = "small", seeds: Sequence[int] | None = None, tuned: Mapping[str, Tuned] | None = None
    ) -> list[Unit]:
        """Return all work of the study, seed by seed; ``tuned`` is what its arms are measured with."""
        self.settings(size)
        chosen, setting = self.seeds if seeds is None else seeds, self.tuning.setting if self.tuning else ""
        changes = {arm: ((setting, choice.value),) for arm, choice in (tuned or {}).items()}
        return [Unit(self.slug, arm, seed, size, changes.get(arm, ())) for seed in chosen for arm in self.arms]

    def measure(self, unit: Unit) -> dict[str, dict[str, Any]]:
        """Run one unit and return its rows: one by the name of the arm, or those that the arm names."""
        numbers = self.arms[unit.arm](seed=unit.seed, **{**self.settings(unit.size), **dict(unit.changes)})
        if numbers and all(isinstance(row, Mapping) for row in numbers.values()):
            return {name: dict(row) for name, row in numbers.items()}
        return {unit.arm: dict(numbers)}

    def __call__(self, size: str = "small", *, seeds: Sequence[int] | None = None) -> Claim:
        """Measure all units one after the other and judge."""
        chosen = tuple(self.seeds if seeds is None else seeds)
        trials = {unit: self.measure(unit) for pairs in self.trials(size).values() for _, unit in pairs}
        tuned = self.tuned(trials, size)
        rows: dict[int, dict[str, dict[str, Any]]] = {seed: {} for seed in chosen}
        for unit in self.units(size, chosen, tuned):
            rows[unit.seed] |= self.measure(unit)
        return self.judge(rows, size, tuned)

    def judge(self, rows: Mapping[int, Rows], size: str = "small", tuned: Mapping[str, Tuned] | None = None) -> Claim:
        """Return the claim that the rows of every seed decide; ``tuned`` is noted in its setup.

        The condition that is shown is the first that is not held, else the first that is undecided, else the first.
        """
        seeds = [rows[seed] for seed in rows]
        measured = [condition.measure(seeds) for condition in self.asks]
        shown = _shown(measured)
        notes = (*map(describe, measured), *self.notes(seeds))
        conditions = [condition.as_dict() for condition in measured]
        setup = {**self.setup, "size": dict(self.settings(size)), "conditions": conditions}
        if self.tuning is not None and tuned:
            chosen = {arm: asdict(choice) for arm, choice in tuned.items()}
            setup["tuned"] = {**asdict(self.tuning), "arms": chosen}
        return Claim(
            paper=self.paper,
            part=self.part,
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
            setup=setup,
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
