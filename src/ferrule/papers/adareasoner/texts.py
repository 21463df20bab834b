"""Texts of AdaReasoner's episodes: the format gate, the call of a turn, and whether a path of moves ends well."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from ferrule.core.records import Call

__all__ = ["call_in", "gate_holds", "reaches_goal"]

_TAGS = ("think", "tool_call", "response")
_LONGEST_CALL = 20_000
"""Only this many characters of a tag are looked at."""
_MOVES = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}


def gate_holds(text: str) -> bool:
    """Say whether all tags are closed, there is one response and at least one thought, and a thought for every act.

    Acts are calls and the response: ``#think = #response + #tool_call``.
    """
    opened = {tag: text.count(f"<{tag}>") for tag in _TAGS}
    closed = all(text.count(f"</{tag}>") == opened[tag] for tag in _TAGS)
    return closed and opened["response"] == 1 and opened["think"] == 1 + opened["tool_call"]


def call_in(text: str) -> Call | None:
    """Return the first call of a turn's text, None when its tag holds no object with ``name`` and ``parameters``.

    Whatever else the tag holds, the first object that is a call counts.
    """
    found = re.search(r"<tool_call>(.*?)</tool_call>", text, re.DOTALL)
    if found is None:
        return None
    body = found[1][:_LONGEST_CALL]
    at = body.find("{")
    while at >= 0:
        row, end = _object(body, at)
        name, given = row.get("name"), row.get("parameters")
        if isinstance(name, str) and name and isinstance(given, dict):
            return Call(name, given, raw=found[1])
        at = body.find("{", end)
    return None


def _object(text: str, at: int) -> tuple[dict[str, Any], int]:
    """Return the JSON object that begins here (else an empty one) and where to look for the next."""
    try:
        row, end = json.JSONDecoder().raw_decode(text, at)
    except (ValueError, RecursionError):
        return {}, at + 1
    return row, end


def reaches_goal(grid: Sequence[str], moves: Sequence[str]) -> bool:
    """Say whether moves (up, down, left, right) from ``S`` end on the goal ``G`` of a grid that does not slip.

    Walls and the border keep the walker in its place (``#``), holes (``H``) and the goal keep it for good. Case of the
    moves does not matter; a path with a move that does not exist leads nowhere. Raises ``ValueError`` for a grid
    without one start.
    """
    starts = [(i, row.index("S")) for i, row in enumerate(grid) if "S" in row]
    if len(starts) != 1:
        raise ValueError(f"the grid has {len(starts)} rows with a start 'S'; it needs one")
    row, column = starts[0]
    for move in (str(move).strip().lower() for move in moves):
        if move not in _MOVES:
            return False
        if grid[row][column] in "HG":
            break
        down, right = row + _MOVES[move][0], column + _MOVES[move][1]
        if 0 <= down < len(grid) and 0 <= right < len(grid[down]) and grid[down][right] != "#":
            row, column = down, right
    return grid[row][column] == "G"
