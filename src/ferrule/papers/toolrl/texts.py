"""One turn's text in ToolRL's format: a block of thought, then calls, a response, or both."""

from __future__ import annotations

import json
import re
from typing import Any

from ferrule.core.records import Call

__all__ = ["UnreadableGold", "calls_in", "format_holds", "gold_calls", "length_score"]

_THOUGHT = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)

_BLOCKS = {
    "think": r"<think>.*?</think>",
    "tool_call": r"<tool_call>\n.*?\n</tool_call>",
    "response": r"<response>.*?</response>",
}


def format_holds(text: str, gold: str) -> bool:
    """Say whether ``text`` consists of a thought and the blocks that ``gold`` has, calls first, a newline between.

    Each block stands once and nothing stands around them; call tags have lines of their own.
    """
    acts = _THOUGHT.sub("", gold, count=1)
    wanted = ["think", *(tag for tag in ("tool_call", "response") if f"<{tag}>" in acts)]
    once = all(text.count(f"<{tag}>") == text.count(f"</{tag}>") == (tag in wanted) for tag in _BLOCKS)
    return once and re.fullmatch("\n".join(_BLOCKS[tag] for tag in wanted), text, re.DOTALL) is not None


class UnreadableGold(ValueError):
    """A gold turn has call tags, and what stands in them is no call."""


def gold_calls(gold: str) -> list[Call]:
    """Return the calls of a gold turn behind its thought, [] when it has no call tags.

    Calls without parameters may leave the key out. Raises ``UnreadableGold`` when they cannot be read.
    """
    acts = _THOUGHT.sub("", gold, count=1)
    if "<tool_call>" not in acts:
        return []
    calls = calls_in(acts, bare=True)
    if calls is None:
        raise UnreadableGold("the calls of the gold turn cannot be read; write one JSON object a line")
    return calls


def calls_in(text: str, *, bare: bool = False) -> list[Call] | None:
    """Return the calls of a turn's text, one JSON object a line; None without call tags or when one is no call.

    With ``bare`` a call may have no ``parameters`` at all.
    """
    found = re.search(r"<tool_call>(.*?)</tool_call>", text, re.DOTALL)
    if found is None:
        return None
    calls = []
    for line in filter(None, map(str.strip, found[1].splitlines())):
        try:
            row: Any = json.loads(line)
        except (ValueError, RecursionError):
            return None
        given = row.get("parameters", row.get("arguments", {} if bare else None)) if isinstance(row, dict) else None
        if not isinstance(given, dict) or not isinstance(row.get("name"), str):
            return None
        calls.append(Call(row["name"], given, raw=line))
    return calls


def length_score(text: str, target: float = 512.0) -> float:
    """Reward for words of thought: ``min(1, words / target)`` to two digits; ``ValueError`` on no target above 0."""
    if not target > 0:
        raise ValueError(f"the target is {target} words; it must be above 0")
    found = re.search(r"<think>(.*?)</think>", text, re.DOTALL)
    return min(1.0, round(len(found[1].split()) / target, 2)) if found else 0.0
