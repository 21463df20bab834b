"""One turn's text in ToolRL's format: a block of thought, then calls, a response, or both."""

from __future__ import annotations

import json
import re
from typing import Any

from ferrule.core.records import Call

__all__ = ["calls_in", "format_holds", "length_score"]

_BLOCKS = {
    "think": r"<think>.*?</think>",
    "tool_call": r"<tool_call>\n.*?\n</tool_call>",
    "response": r"<response>.*?</response>",
}


def format_holds(text: str, gold: str) -> bool:
    """Say whether ``text`` consists of a thought and the blocks that ``gold`` has, calls first, a newline between.

    Each block stands once and nothing stands around them; call tags have lines of their own.
    """
    wanted = ["think", *(tag for tag in ("tool_call", "response") if f"<{tag}>" in gold)]
    once = all(text.count(f"<{tag}>") == text.count(f"</{tag}>") == (tag in wanted) for tag in _BLOCKS)
    return once and re.fullmatch("\n".join(_BLOCKS[tag] for tag in wanted), text, re.DOTALL) is not None


def calls_in(text: str) -> list[Call] | None:
    """Return the calls of a turn's text, one JSON object a line; None without call tags or when one is no call."""
    found = re.search(r"<tool_call>(.*?)</tool_call>", text, re.DOTALL)
    if found is None:
        return None
    calls = []
    for line in filter(None, map(str.strip, found[1].splitlines())):
        try:
            row: Any = json.loads(line)
        except (ValueError, RecursionError):
            return None
        given = row.get("parameters", row.get("arguments")) if isinstance(row, dict) else None
        if not isinstance(given, dict) or not isinstance(row.get("name"), str):
            return None
        calls.append(Call(row["name"], given, raw=line))
    return calls


def length_score(text: str, target: float = 512.0) -> float:
    """Reward for words of thought: ``min(1, words / target)`` to two digits."""
    found = re.search(r"<think>(.*?)</think>", text, re.DOTALL)
    return min(1.0, round(len(found[1].split()) / target, 2)) if found else 0.0
