"""A toolset with state, for tests: a program that serves it over stdio, and its host."""

from __future__ import annotations

import asyncio
import base64
import sys
from typing import Any

from ferrule.core.flows import Session
from ferrule.core.records import Artifact, Observation, Task, Tool
from ferrule.serve.host import InProcess
from ferrule.serve.mcp import run_stdio
from ferrule.tools import tool
from ferrule.worlds.session import ToolSession

PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(8)).decode()


def build(state: dict[str, int]) -> tuple[Tool, ...]:
    @tool(effects="write")
    def add(amount: int) -> int:
        """Add to the sum of this episode.

        Args:
            amount: what is added
        """
        print("a tool that prints")
        state["sum"] = state.get("sum", 0) + amount
        return state["sum"]

    @tool(effects="irreversible")
    def fail(why: str) -> str:
        """Fail."""
        raise RuntimeError(why)

    async def pause(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return f"slept {seconds:g} s"

    def draw() -> Observation:
        image = Artifact("dot.png", "image/png", 16, f"data:image/png;base64,{PIXEL}")
        return Observation(
            "a dot", artifacts=(image, Artifact("t.bin", "application/x-t", 2, "data:application/x-t;base64,AAE="))
        )

    def split(text: str) -> Any:
        return {"words": text.split()}

    words: dict[str, Any] = {"type": "object", "properties": {"words": {"type": "array", "items": {"type": "string"}}}}
    text = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    return (
        add,
        fail,
        tool(pause, description="Sleep.", seconds=60.0),
        tool(draw, description="Draw a dot."),
        Tool("split", "Split into words.", text, split, output=words),
    )


def host() -> InProcess:
    def open_one(episode: str) -> Session:
        return ToolSession(Task(episode, ""), build, {}, limit=10_000)

    return InProcess(open_one)


async def main() -> None:
    served = host()
    try:
        await run_stdio(served, name="toolbox", instructions="Add things up.")
    finally:
        await served.aclose()


if __name__ == "__main__":
    print("this line must not reach the protocol", file=sys.stderr)
    asyncio.run(main())
