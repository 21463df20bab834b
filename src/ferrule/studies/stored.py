"""Stored claims: those measured here, and those that the package ships."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["stored"]


def stored(slug: str, folder: Path = Path("claims")) -> dict[str, Any] | None:
    """Return the stored claim of a paper, None without one: measured here (``folder``), else the package's own."""
    here = Path(__file__).parent
    shipped = (here / "claims", here.parents[2] / "claims")  # in a wheel, in a checkout
    for path in (place / f"{slug}.json" for place in (folder, *shipped)):
        if path.is_file():
            data = json.loads(path.read_text(encoding="utf-8"))
            return data if isinstance(data, dict) else None
    return None
