"""Charts as seven choices: which mark, which columns, and how they are grouped and aggregated.

Source: "HAIChart: Human and AI Paired Visualization System" (paper 57).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from ferrule.core.arrays import nearest
from ferrule.worlds.charts.columns import Plotted

__all__ = [
    "CHOICES",
    "SLOTS",
    "STOP",
    "X_KINDS",
    "Chart",
    "Partial",
    "SlotChoice",
    "chart_of",
    "chart_text",
    "check_picks",
    "choices_of",
    "counts_itself",
    "fill",
    "filled",
    "legal_choices",
    "open_slots",
    "read_slot",
    "value_text",
]  # fmt: skip

SLOTS = ("mark", "x", "transform", "aggregate", "y", "group", "bin")
"""The slots of a chart, in the order in which they are filled."""
STOP = "stop"
"""What a choice that ends a chart without finishing it has in the place of its slot."""
SlotChoice: TypeAlias = tuple[str, Any]
"""A slot and what it is filled with; None is the choice of nothing."""
Partial: TypeAlias = tuple[SlotChoice, ...]
"""The choices so far, in order."""
CHOICES: Mapping[str, tuple[Any, ...]] = {
    "mark": ("bar", "line", "point", "arc"),
    "transform": (False, True),
    "aggregate": ("count", "sum", "average", None),
    "bin": (None, "auto", "zero", "date", "day"),
}
"""All values of the slots that hold no column."""
X_KINDS: Mapping[str, tuple[str, ...]] = {
    "bar": ("categorical", "numerical", "temporal"), "line": ("categorical", "numerical", "temporal"),
    "point": ("numerical", "temporal"), "arc": ("categorical",),
}  # fmt: skip
"""The kinds of columns that each mark shows on x."""
_BINS = {"numerical": (None, "auto", "zero"), "temporal": (None, "auto", "date", "day"), "categorical": (None,)}


@dataclass(frozen=True)
class Chart:
    """A chart: ``mark`` over the columns ``x`` and ``y``.

    With ``transform`` the rows may be put together: by ``group`` (a column) after cutting x by ``bin``, with
    ``aggregate`` of y. A bin is ``auto`` (about ten steps, or a unit of time), ``zero`` (below and above 0), ``date``
    (the day) or ``day`` (the day of the week).
    """

    mark: str
    x: str
    y: str
    transform: bool = True
    aggregate: str | None = None
    group: str | None = None
    bin: str | None = None

    @property
    def drawn(self) -> Chart:
        """The chart without what does not show: the column that is counted, and ``transform``."""
        y = "" if self.aggregate == "count" else self.y
        return replace(self, y=y, transform=True)


def filled(partial: Partial) -> dict[str, Any]:
    """Return what each slot is filled with; leaving out ``transform`` leaves the next slots with nothing."""
    known: dict[str, Any] = dict(partial)
    if known.get("transform") is False:
        known = {**known, "aggregate": None, "group": None, "bin": None}
    return known


def open_slots(partial: Partial) -> tuple[str, ...]:
    """Return the slots that are still to be filled; none after a stop."""
    known = filled(partial)
    return () if STOP in known else tuple(slot for slot in SLOTS if slot not in known)


def legal_choices(table: Plotted, partial: Partial, picks: Mapping[str, Any] | None = None) -> tuple[SlotChoice, ...]:
    """Return what may be chosen next: values of the first open slot, or a stop where it has none.

    ``picks`` are a user's: a pick takes the place of a slot's whole list. Empty where the chart is finished or stopped.
    """
    slots = open_slots(partial)
    if not slots:
        return ()
    slot, picks = slots[0], picks or {}
    if slot in picks:
        return ((slot, picks[slot]),)
    values = _values(table, slot, filled(partial), picks)
    return tuple((slot, value) for value in values) or ((STOP, slot),)


def _values(table: Plotted, slot: str, known: Mapping[str, Any], picks: Mapping[str, Any]) -> Sequence[Any]:
    if slot == "x":
        return table.named(*X_KINDS[known["mark"]])  # type: ignore[arg-type]
    if slot == "transform":
        forced = any(picked in picks for picked in ("aggregate", "group", "bin"))
        return (False, True) if known["mark"] == "point" and not forced else (True,)
    if slot == "y":
        left_out = None if known["transform"] else known["x"]
        if counts_itself(table, known["aggregate"]):
            return (known["x"],)
        return [name for name in table.named("numerical") if name != left_out]
    if slot == "group":
        return (known["x"],) if known["aggregate"] is not None else (known["x"], None)
    if slot == "bin":
        return _BINS[table.variable(known["x"]).kind]
    return CHOICES[slot]


def counts_itself(table: Plotted, aggregate: str | None) -> bool:
    """Tell whether rows are counted by the column on x: in a table without numbers there is no other y."""
    return aggregate == "count" and not table.named("numerical")


def fill(partial: Partial, choice: SlotChoice) -> Partial:
    """Return the choices with one more."""
    return (*partial, choice)


def chart_of(partial: Partial) -> Chart | None:
    """Return the chart of finished choices; None of those that stopped or are not finished."""
    known = filled(partial)
    if STOP in known or open_slots(partial):
        return None
    return Chart(**known)


def choices_of(chart: Chart) -> tuple[SlotChoice, ...]:
    """Return a chart as choices, slot by slot."""
    return tuple((slot, getattr(chart, slot)) for slot in SLOTS)


def chart_text(chart: Chart) -> str:
    """Return a chart as text: ``bar: x = city, y = average of delay, grouped by city``."""
    y = "count" if chart.aggregate == "count" else f"{chart.aggregate} of {chart.y}" if chart.aggregate else chart.y
    parts = [f"x = {chart.x}", f"y = {y}"]
    parts += [f"grouped by {chart.group}"] if chart.group is not None else []
    parts += [f"binned by {chart.bin}"] if chart.bin is not None else []
    parts += ["as it is"] if not chart.transform else []
    return f"{chart.mark}: {', '.join(parts)}"


_WORDS: Mapping[Any, str] = {None: "none", True: "true", False: "false"}


def value_text(value: Any) -> str:
    """Return the value of a slot as text: ``none``, ``true``, ``false``, or the word itself."""
    return _WORDS[value] if value is None or isinstance(value, bool) else str(value)


def read_slot(text: str) -> SlotChoice:
    """Read ``slot=value``, the value as ``value_text`` writes it (``ValueError`` naming the nearest slot)."""
    slot, equals, value = (part.strip() for part in text.partition("="))
    if not equals or slot not in SLOTS:
        raise ValueError(f"{text!r} is no choice; write slot=value, {nearest(slot, SLOTS)}")
    known = {word: each for each, word in _WORDS.items()}
    return slot, value if slot in ("mark", "x", "y") else known.get(value, value)


def check_picks(table: Plotted, picks: Mapping[str, Any]) -> None:
    """Refuse picks that no chart of a table can hold (``ValueError`` naming the nearest that one can)."""
    mark, x = str(picks.get("mark")), table.by_name.get(str(picks.get("x")))
    if mark in X_KINDS and x is not None and x.kind not in X_KINDS[mark]:
        shown = " or ".join(X_KINDS[mark])
        raise ValueError(f"x is {x.name!r}, which is {x.kind}; the mark {mark} shows x that is {shown}")
    for slot, value in picks.items():
        if slot not in SLOTS:
            raise ValueError(f"unknown slot {slot!r}; {nearest(slot, SLOTS)}")
        if slot in ("x", "y", "group"):
            if not (slot == "group" and value is None):
                kind = table.variable(str(value)).kind
                if slot == "y" and kind != "numerical" and not counts_itself(table, picks.get("aggregate", "count")):
                    numbers = ", ".join(table.named("numerical")) or "none"
                    raise ValueError(f"y is {value!r}, which is {kind}; y is a column of numbers (here: {numbers})")
        elif value not in CHOICES[slot]:
            raise ValueError(
                f"{slot} is {value_text(value)!r}; {nearest(value_text(value), list(map(value_text, CHOICES[slot])))}"
            )
