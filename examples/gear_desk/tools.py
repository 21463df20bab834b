"""The desk of a gear room: three tools over a state that every episode gets anew.

A file whose tools share a state defines ``start()``, which returns the state of one episode, and ``tools(state)``,
which returns the tools that act on it.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Literal

from ferrule.core.records import Tool
from ferrule.tools.tool import tool

Kind = Literal["tent", "stove", "rope", "kayak"]
# Price of a day by code; the first letter says what it is, large pieces have codes above 4.
RATES = {
    "t1": 9, "t2": 9, "t3": 8, "t5": 14, "t6": 15,
    "s1": 4, "s2": 4, "s5": 6,
    "r1": 2, "r2": 2, "r3": 2, "r4": 3, "r5": 5, "r6": 5,
    "k1": 21, "k5": 34,
}  # fmt: skip


@dataclass
class Desk:
    """What one episode has lent: days by code."""

    lent: dict[str, int] = field(default_factory=dict)


def start() -> Desk:
    """Return the state of a new episode: everything is in the room."""
    return Desk()


def tools(desk: Desk) -> tuple[Tool, ...]:
    """Return the tools of one episode."""

    @tool
    async def count(
        kind: Literal["tent", "stove", "rope", "kayak"], size: Literal["small", "large"] | None = None
    ) -> int:
        """number of pieces of a kind

        Args:
            kind: kind of gear
            size: only pieces of this size
        """
        await asyncio.sleep(0.001)  # stands for the request to a server
        codes = [code for code in RATES if code[0] == kind[0]]
        return sum(size is None or (size == "large") == (int(code[1]) > 4) for code in codes)

    @tool(effects="write")
    def lend(code: str, days: int = 1) -> int:
        """lend a piece and say what it costs

        Args:
            code: code of the piece
            days: number of days
        """
        if code not in RATES:
            raise ValueError(f"no piece has the code {code!r}; codes look like t1")
        if code in desk.lent:
            raise ValueError(f"{code} is lent already")
        desk.lent[code] = days
        return RATES[code] * days

    @tool
    def loans() -> int:
        """number of pieces that are lent now"""
        return len(desk.lent)

    return count, lend, loans
