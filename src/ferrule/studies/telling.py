"""Stored claims in words: numbers, cells of tables, sentences, and what measuring a claim took."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Cost", "cell", "cost_of", "numeral", "sentence"]

TOKENS = "sampled"
"""What arms that train a language model call the tokens they generated in training."""


def numeral(value: float) -> str:
    """Return a number with four digits that count, large ones in full."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def cell(text: str) -> str:
    """Return text that cannot break a table."""
    return " ".join(text.split()).replace("|", "\\|")


def sentence(text: str) -> str:
    """Return a phrase as a sentence."""
    return text[:1].upper() + text[1:].rstrip(".") + "."


@dataclass(frozen=True)
class Cost:
    """What the ``units`` of a claim took: ``seconds`` of one core in all, and generated ``tokens`` where units tell.

    Trials that choose a setting count as well.
    """

    units: int
    seconds: float
    tokens: float | None

    def __str__(self) -> str:
        took = f"{self.seconds:,.0f} s" if self.seconds < 600 else f"{self.seconds / 60:,.0f} min"
        tokens = "" if self.tokens is None else f", {self.tokens:,.0f} generated tokens"
        return f"{took} of one core in {self.units} units{tokens}"


def cost_of(claim: Mapping[str, Any], slug: str, folder: Path) -> Cost | None:
    """Return what the stored units of a claim took below ``folder`` of claims; None without units.

    A unit that was measured again counts once, as it was measured last.
    """
    record = folder / "units" / f"{slug}.jsonl"
    if not record.is_file():
        return None
    last: dict[str, Mapping[str, Any]] = {}
    tuned = set(claim.get("setup", {}).get("tuned", {}).get("seeds", ()))
    for line in record.read_text(encoding="utf-8").splitlines():
        unit = json.loads(line)
        if unit["size"] == claim["size"] and (unit["seed"] in claim["seeds"] or unit["seed"] in tuned):
            last[json.dumps([unit["arm"], unit["seed"], unit.get("changes")])] = unit
    generated = [
        row[TOKENS]
        for unit in last.values()
        for row in unit["result"].values()
        if isinstance(row, Mapping) and isinstance(row.get(TOKENS), (int, float))
    ]
    seconds = sum(float(unit["seconds"]) for unit in last.values())
    return Cost(len(last), seconds, float(sum(generated)) if generated else None) if last else None
