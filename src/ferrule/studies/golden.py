"""Goldens: the numbers of every arm at the size ``tiny``, and of every condition on them.

They lie beside the stored claims, one JSON file per study: ``arms`` by name, and ``asks`` with what tells a condition
from any other. A sampled token that lies on the edge falls the other way where a processor rounds sums differently:
``others`` holds what such an arm computes on further kinds of processors. A change of code makes stored measurements of
an arm stale only when it changes the arm's golden.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ferrule.studies.study import Study, Unit

__all__ = ["GOLDEN", "add", "asked", "asks_differ", "differences", "digest", "golden", "misses", "read", "write"]

GOLDEN = ("tiny", 0)
"""Size and seed of goldens."""
_DIGITS = 9
_THREE = (0.0, 1.0, 5.0)


def golden(study: Study, arm: str) -> dict[str, dict[str, Any]]:
    """Measure the golden of one arm: its rows, without quantities that measure the machine."""
    size, seed = GOLDEN
    rows = study.measure(Unit(study.slug, arm, seed, size))
    return {name: {k: v for k, v in row.items() if k not in study.machine} for name, row in rows.items()}


def asked(study: Study, arms: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return what every condition makes of the goldens of all arms, and of numbers that tell it from any other.

    ``value`` and ``threshold`` are those on the goldens, where what measures the machine counts 1. Differences of small
    arms may be 0, which says nothing of their direction: ``probe`` is the value on rows of the same shape whose numbers
    all differ. ``interval`` is that of three numbers, ``verdicts`` judge intervals around the
    threshold, and ``decides`` says whether the verdict depends on the condition.
    """
    machine = dict.fromkeys(study.machine, 1.0)
    rows = {name: {**machine, **row} for golden_rows in arms.values() for name, row in golden_rows.items()}
    probe = _distinct(rows)
    return {
        condition.name: {
            "value": condition.values([rows])[0],
            "threshold": condition.threshold,
            "probe": condition.values([probe])[0],
            "interval": list(condition.interval(_THREE)),
            "verdicts": [condition.judge(interval, condition.threshold) for interval in _around(condition.threshold)],
            "decides": condition.decides,
        }
        for condition in study.asks
    }


def _around(threshold: float) -> list[tuple[float, float]]:
    """Return intervals above, around, below and far below a threshold, and one between 0 and half of it."""
    ends = ((1.0, 2.0), (-1.0, 1.0), (-2.0, -1.0), (-1e9, -1e8))
    moved = [(threshold + low, threshold + high) for low, high in ends]
    return [*moved, (min(0.0, threshold / 2), max(0.0, threshold / 2))]


def _distinct(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return rows of the same shape whose numbers all differ; they lie between 1 and 2 and follow from the names."""

    def number(*names: Any) -> float:
        drawn = hashlib.blake2b(json.dumps(names).encode(), digest_size=4).digest()
        return 1.0 + int.from_bytes(drawn, "big") / 2**32

    def like(value: Any, *names: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: like(part, *names, key) for key, part in value.items()}
        if isinstance(value, (list, tuple)):
            return [like(part, *names, place) for place, part in enumerate(value)]
        return number(*names) if isinstance(value, (int, float)) and not isinstance(value, bool) else value

    return {name: {key: like(value, name, key) for key, value in row.items()} for name, row in rows.items()}


def asks_differ(stored: Mapping[str, Any], measured: Mapping[str, Any]) -> list[str]:
    """Return what differs between the stored conditions of a study and today's, one line each."""
    lines = [f"stored are {list(stored)}, asked {list(measured)}"] if list(stored) != list(measured) else []
    return lines + differences(stored, measured)


def read(folder: Path, slug: str) -> dict[str, Any]:
    """Return the stored goldens of a study: ``arms``, ``asks`` and ``others``, empty where none are stored."""
    path = folder / f"{slug}.json"
    stored = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {"arms": {}, "asks": {}, "others": {}, **stored}


def misses(stored: Mapping[str, Any], arm: str, measured: Mapping[str, Any]) -> list[str]:
    """Return how a golden differs from the stored one of its arm, nothing where it is that of another processor."""
    lines = differences(stored["arms"][arm], measured)
    others = stored["others"].get(arm, ())
    return [] if any(not differences(other, measured) for other in others) else lines


def write(folder: Path, study: Study) -> Path:
    """Measure the goldens of all arms and store them."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{study.slug}.json"
    arms = {arm: golden(study, arm) for arm in study.arms}
    path.write_text(json.dumps(_rounded({"arms": arms, "asks": asked(study, arms)}), indent=1) + "\n", encoding="utf-8")
    return path


def add(folder: Path, study: Study) -> list[str]:
    """Store what arms compute on this processor beside their goldens where it differs; return these arms.

    Only for a checkout whose goldens hold on the processor they were made on.
    """
    stored = read(folder, study.slug)
    added = []
    for arm in study.arms:
        measured = _rounded(golden(study, arm))
        if misses(stored, arm, measured):
            stored["others"].setdefault(arm, []).append(measured)
            added.append(arm)
    if added:
        (folder / f"{study.slug}.json").write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    return added


def digest(stored: Any) -> str:
    """Return a digest of the stored golden of an arm; ``none`` without one."""
    if stored is None:
        return "none"
    return hashlib.blake2b(json.dumps(stored, sort_keys=True).encode(), digest_size=8).hexdigest()


def differences(stored: Mapping[str, Any], measured: Mapping[str, Any], *, tolerance: float = 1e-5) -> list[str]:
    """Return what differs between two goldens of an arm by more than a relative ``tolerance``, one line each.

    Processors differ in the last digits of a sum, so equality to the last bit is not asked for.
    """
    lines = []
    for row in sorted(set(stored) | set(measured)):
        old, new = stored.get(row, {}), measured.get(row, {})
        for quantity in sorted(set(old) | set(new)):
            before, now = old.get(quantity), new.get(quantity)
            if not _close(before, now, tolerance):
                lines.append(f"{row}, {quantity}: stored {before}, measured {now}")
    return lines


def _close(first: Any, second: Any, tolerance: float) -> bool:
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        return len(first) == len(second) and all(_close(a, b, tolerance) for a, b in zip(first, second, strict=True))
    if isinstance(first, (int, float)) and isinstance(second, (int, float)):
        both_nan = first != first and second != second
        return both_nan or math.isclose(first, second, rel_tol=tolerance, abs_tol=tolerance * 1e-3)
    return bool(first == second)


def _rounded(data: Any) -> Any:
    if isinstance(data, float):
        return float(f"{data:.{_DIGITS}g}")
    if isinstance(data, Mapping):
        return {key: _rounded(value) for key, value in data.items()}
    return [_rounded(value) for value in data] if isinstance(data, (list, tuple)) else data
