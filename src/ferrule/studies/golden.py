"""Goldens: the numbers of every arm at the size ``tiny``, and of every condition on them.

They lie beside the stored claims, one JSON file per study: ``arms`` by name, and ``asks`` with value and threshold of
every condition. A change of code makes stored measurements of an arm stale only when it changes the arm's golden.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ferrule.studies.study import Study, Unit

__all__ = ["GOLDEN", "asked", "differences", "digest", "golden", "read", "write"]

GOLDEN = ("tiny", 0)
"""Size and seed of goldens."""
_DIGITS = 9


def golden(study: Study, arm: str) -> dict[str, dict[str, Any]]:
    """Measure the golden of one arm: its rows, without quantities that measure the machine."""
    size, seed = GOLDEN
    rows = study.measure(Unit(study.slug, arm, seed, size))
    return {name: {k: v for k, v in row.items() if k not in study.machine} for name, row in rows.items()}


def asked(study: Study, arms: Mapping[str, Mapping[str, Any]]) -> dict[str, list[float]]:
    """Return value and threshold of every condition on the goldens of all arms; what measures the machine counts 1."""
    machine = dict.fromkeys(study.machine, 1.0)
    rows = {name: {**machine, **row} for golden_rows in arms.values() for name, row in golden_rows.items()}
    return {condition.name: [condition.values([rows])[0], condition.threshold] for condition in study.asks}


def read(folder: Path, slug: str) -> dict[str, Any]:
    """Return the stored goldens of a study: ``arms`` and ``asks``, both empty where none are stored."""
    path = folder / f"{slug}.json"
    if not path.is_file():
        return {"arms": {}, "asks": {}}
    return dict(json.loads(path.read_text(encoding="utf-8")))


def write(folder: Path, study: Study) -> Path:
    """Measure the goldens of all arms and store them."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{study.slug}.json"
    arms = {arm: golden(study, arm) for arm in study.arms}
    path.write_text(json.dumps(_rounded({"arms": arms, "asks": asked(study, arms)}), indent=1) + "\n", encoding="utf-8")
    return path


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
