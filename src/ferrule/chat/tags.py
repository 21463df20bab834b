"""Tags in a model's text: how often they are opened and closed, what an element holds, and the calls in it.

Calls are read strictly, for rewards that judge a text by its letter; codecs read them with repairs.
"""

from __future__ import annotations

import json
from typing import Any

from ferrule.core.records import Call

__all__ = ["balanced", "call_in", "calls_in", "element", "tag_counts"]

_LONGEST_CALL = 20_000
"""Only this many characters of an element are searched for a call."""


def tag_counts(text: str, tag: str) -> tuple[int, int]:
    """Return how often ``<tag>`` and ``</tag>`` stand in a text."""
    return text.count(f"<{tag}>"), text.count(f"</{tag}>")


def balanced(text: str, *tags: str) -> bool:
    """Say whether each of the tags is closed as often as it is opened; order and nesting are not looked at."""
    return all(opened == closed for opened, closed in (tag_counts(text, tag) for tag in tags))


def element(text: str, tag: str) -> str | None:
    """Return what stands between the first ``<tag>`` that is closed and its ``</tag>``, None without such a pair."""
    opening = f"<{tag}>"
    begin = text.find(opening)
    close = text.find(f"</{tag}>", begin + len(opening)) if begin >= 0 else -1
    return text[begin + len(opening) : close] if close >= 0 else None


def calls_in(text: str, *, bare: bool = False) -> list[Call] | None:
    """Return the calls in the first ``<tool_call>`` element, one JSON object a line.

    None without such an element, and when a line is not an object with ``name`` and ``parameters`` (or ``arguments``).
    With ``bare`` a call may have no parameters at all.
    """
    block = element(text, "tool_call")
    if block is None:
        return None
    calls = []
    for line in filter(None, map(str.strip, block.splitlines())):
        try:
            row: Any = json.loads(line)
        except (ValueError, RecursionError):
            return None
        given = row.get("parameters", row.get("arguments", {} if bare else None)) if isinstance(row, dict) else None
        if not isinstance(given, dict) or not isinstance(row.get("name"), str):
            return None
        calls.append(Call(row["name"], given, raw=line))
    return calls


def call_in(text: str) -> Call | None:
    """Return the first object with ``name`` and ``parameters`` in the first ``<tool_call>`` element, None without one.

    Whatever else the element holds does not matter.
    """
    block = element(text, "tool_call")
    if block is None:
        return None
    body = block[:_LONGEST_CALL]
    at = body.find("{")
    while at >= 0:
        row, end = _object(body, at)
        name, given = row.get("name"), row.get("parameters")
        if isinstance(name, str) and name and isinstance(given, dict):
            return Call(name, given, raw=block)
        at = body.find("{", end)
    return None


def _object(text: str, at: int) -> tuple[dict[str, Any], int]:
    """Return the JSON object that begins here (else an empty one) and where to look for the next."""
    try:
        row, end = json.JSONDecoder().raw_decode(text, at)
    except (ValueError, RecursionError):
        return {}, at + 1
    return row, end
