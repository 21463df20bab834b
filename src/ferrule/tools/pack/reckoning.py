"""Tools of the pack that reckon: dates, units, molar masses, and tables."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from statistics import fmean
from typing import Literal

from ferrule.core.arrays import nearest
from ferrule.core.records import Tool
from ferrule.tools.tool import tool

__all__ = ["calendar", "chemistry_tool", "molar_mass", "table", "units"]

_UNITS: Mapping[str, Mapping[str, float]] = {
    "length": {"mm": 0.001, "cm": 0.01, "m": 1, "km": 1000, "in": 0.0254, "ft": 0.3048, "yd": 0.9144, "mi": 1609.344},
    "mass": {"mg": 1e-6, "g": 0.001, "kg": 1, "t": 1000, "oz": 0.028349523125, "lb": 0.45359237},
    "time": {"s": 1, "min": 60, "h": 3600, "d": 86400, "week": 604800},
    "volume": {"ml": 0.001, "l": 1, "m3": 1000, "gal": 3.785411784, "cup": 0.2365882365},
    "speed": {"m/s": 1, "km/h": 1 / 3.6, "mph": 0.44704, "kn": 1852 / 3600},
    "energy": {"J": 1, "kJ": 1000, "cal": 4.184, "kcal": 4184, "kWh": 3.6e6},
}
_DEGREES = {"C": (1.0, 273.15), "K": (1.0, 0.0), "F": (5 / 9, 459.67 * 5 / 9)}
"""Factor and offset of each scale of temperature to kelvin."""


@tool
def calendar(day: str, add_days: int = 0, until: str = "") -> dict[str, object]:
    """Tell the weekday of a date, the date some days later, or how many days lie between two dates.

    Args:
        day: a date such as 2024-02-28
        add_days: days to add, negative for earlier
        until: another date, to count the days to it
    """
    try:
        moment = _date(day) + timedelta(days=add_days)
    except OverflowError:
        raise ValueError("the date lies outside the years 1 to 9999") from None
    result: dict[str, object] = {"date": moment.isoformat(), "weekday": moment.strftime("%A")}
    return {**result, "days_until": (_date(until) - moment).days} if until else result


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no date; write it as 2024-02-28") from None


@tool
def units(value: float, from_unit: str, to_unit: str) -> float:
    """Convert a value to another unit of length, mass, time, volume, speed, energy or temperature.

    Args:
        value: how many of the first unit
        from_unit: such as km, lb, kWh or C
        to_unit: a unit of the same kind
    """
    known = {unit: kind for kind, factors in _UNITS.items() for unit in factors}
    known |= dict.fromkeys(_DEGREES, "temperature")
    for unit in (from_unit, to_unit):
        if unit not in known:
            raise ValueError(f"unknown unit {unit!r}; {nearest(unit, list(known))}")
    kind = known[from_unit]
    if known[to_unit] != kind:
        raise ValueError(f"{from_unit} is a unit of {kind}, {to_unit} one of {known[to_unit]}")
    if kind == "temperature":
        (factor, offset), (other, base) = _DEGREES[from_unit], _DEGREES[to_unit]
        return _finite(round((value * factor + offset - base) / other, 9))
    return _finite(float(f"{value * _UNITS[kind][from_unit] / _UNITS[kind][to_unit]:.12g}"))


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"the result is {value}, no finite number")
    return value


def molar_mass(formula: str, masses: Mapping[str, float]) -> float:
    """Return the molar mass (g/mol) of a formula such as ``Ca(OH)2``; raises ``ValueError`` for an invalid one."""
    stack: list[float] = [0.0]
    last = 0
    for match in re.finditer(r"([A-Z][a-z]?)(\d{0,6})|(\()|(\))(\d{0,6})", formula):
        if match.start() != last:
            break
        last = match.end()
        symbol, count, opens, closes, times = match.groups()
        if opens:
            stack.append(0.0)
        elif closes and len(stack) > 1:
            inner = stack.pop()
            stack[-1] += inner * int(times or 1)
        elif symbol in masses:
            stack[-1] += masses[symbol] * int(count or 1)
        elif symbol:
            raise ValueError(f"unknown element {symbol!r} in {formula!r}")
        else:
            raise ValueError(f"{formula!r} closes more than it opens")
    if last != len(formula) or len(stack) != 1 or not stack[0]:
        raise ValueError(f"{formula!r} is no formula; write it as Ca(OH)2")
    return round(stack[0], 3)


def chemistry_tool(masses: Mapping[str, float]) -> Tool:
    """Return the tool ``chemistry`` over the masses of elements."""

    @tool
    def chemistry(formula: str) -> str:
        """Compute the molar mass of a substance in grams per mole.

        Args:
            formula: a chemical formula such as H2O or Ca(OH)2
        """
        return f"{molar_mass(formula.strip(), masses):.12g} g/mol"

    return chemistry


_OPERATIONS: Mapping[str, Callable[[list[float]], float]] = {
    "sum": sum, "mean": fmean, "min": min, "max": max, "count": len,
}  # fmt: skip


@tool
def table(
    csv_text: str, column: str, operation: Literal["sum", "mean", "min", "max", "count"], where: str = ""
) -> float:
    """Compute a figure of one column of a table.

    Args:
        csv_text: the table as CSV, names of columns in the first line
        column: the column to compute with
        operation: what to compute
        where: keep only rows in which a column has a value, such as city=Rome
    """
    reader = csv.DictReader(io.StringIO(csv_text.strip()), skipinitialspace=True)
    rows = list(reader)
    names = list(reader.fieldnames or ()) if rows else []
    name, _, value = where.partition("=")
    for each in (column, *([name] if where else [])):
        if each not in names:
            raise ValueError(f"no column {each!r}; {nearest(each, names)}" if names else "the table has no rows")
    cells = [row[column] or "" for row in rows if not where or (row[name] or "").strip() == value.strip()]
    if operation == "count":
        return float(len(cells))
    try:
        numbers = [float(cell) for cell in cells]
    except ValueError as error:
        raise ValueError(f"column {column!r} holds more than numbers: {error}") from None
    if not numbers:
        raise ValueError("no row is left")
    return _finite(float(_OPERATIONS[operation](numbers)))
