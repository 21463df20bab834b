"""JSON that stands somewhere in a reply of a model."""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["list_in", "list_or_none", "object_in"]


def list_in(text: str) -> list[Any]:
    """Return the JSON list from the first ``[`` to the last ``]`` of a text; empty where there is none."""
    return list_or_none(text) or []


def list_or_none(text: str) -> list[Any] | None:
    """Return the list of ``list_in``, and None in place of an empty one where the text holds none."""
    rows = _read(r"\[.*\]", text)
    return rows if isinstance(rows, list) else None


def object_in(text: str) -> dict[str, Any] | None:
    """Return the JSON object from the first ``{`` to the last ``}`` of a text; None where there is none."""
    fields = _read(r"\{.*\}", text)
    return fields if isinstance(fields, dict) else None


def _read(pattern: str, text: str) -> Any:
    match = re.search(pattern, text, re.DOTALL)
    try:
        return json.loads(match[0]) if match else None
    except (ValueError, RecursionError):
        return None
