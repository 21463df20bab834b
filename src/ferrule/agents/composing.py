"""Composite tools that are discovered on the way: what verified runs show again and again is on offer next time.

Source: "Evolving Medical Imaging Agents via Experience-driven Self-skill Discovery" (28).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ferrule.core.flows import Ask, Flow, ask
from ferrule.core.records import Call, Message, Observation, Score, Status, Tool, plain_text
from ferrule.memory.memory import Memory, Played
from ferrule.memory.offered import offered_tools
from ferrule.tools.effects import result_of
from ferrule.tools.forge_composite import Composite, RunLog, mined, run_log
from ferrule.tools.tool import NAME
from ferrule.worlds.composed import composite_tool

__all__ = ["discovering", "logs_of", "named_composites"]


def logs_of(held: Sequence[Any]) -> list[RunLog]:
    """Return the runs that are held as JSON data: calls as ``[name, arguments, status, result]``, and ``verified``."""
    return [RunLog(tuple(_pair(*call) for call in row["calls"]), bool(row["verified"])) for row in held]


def _pair(name: str, arguments: Mapping[str, Any], status: Status, result: Any) -> tuple[Call, Observation]:
    return Call(name, arguments), Observation("", status, data=result)


def _row(log: RunLog) -> dict[str, Any]:
    calls = [[call.name, dict(call.arguments), seen.status, result_of(seen)] for call, seen in log.calls]
    return {"calls": calls, "verified": log.verified}


def discovering(
    tools: Sequence[Tool], *, support: int = 5, rate: float = 0.6, longest: int = 3, most: int = 6, least: float = 1.0,
    runs: int = 1000,
) -> Memory:  # fmt: skip
    """Return the memory that offers composites of ``tools``, mined from the last ``runs`` runs that it kept.

    A run that scored at least ``least``, and in which every call ran, is verified. Calls inside composites count as
    calls, so that composites are made of ``tools`` alone. ``support``, ``rate``, ``longest`` and ``most`` are those of
    ``ferrule.tools.forge_composite.mined``. It is used as ``ferrule.agents.remembering.Remembering(agent, memory)``.
    """
    names = {tool.name for tool in tools}
    known: list[Any] = [None, ()]  # what was held when it was last mined, and the tools that were found

    def offer(held: Any) -> tuple[Tool, ...]:
        if known[0] is not held:
            found = mined(logs_of(held), support=support, rate=rate, longest=longest, most=most)
            known[:] = [held, tuple(composite_tool(one, tools) for one in found if one.name not in names)]
        offered: tuple[Tool, ...] = known[1]
        return offered

    def grow(held: Any, episode: Played, scores: Sequence[Score]) -> Any:
        pairs = zip(episode.trajectories, scores, strict=False)
        logs = [run_log(path, score.value >= least) for path, score in pairs]
        own = [log for log in logs if log.calls and all(name in names for name in log.names)]
        return [*held, *map(_row, own)][-runs:]

    return offered_tools(offer, grow, [])


def named_composites(
    composites: Sequence[Composite], tools: Sequence[Tool], *, role: str = "writer", max_tokens: int = 512
) -> Flow[list[Composite]]:
    """Ask a writer for names and descriptions of composites, one line ``name: description`` each, in order.

    A line that is missing, and a name that is invalid or taken, leave the composite as it is.
    """
    about = {tool.name: tool.description.strip().split("\n")[0] for tool in tools}
    lines = (", then ".join(f"{step.tool} ({about.get(step.tool)})" for step in one.steps) for one in composites)
    listed = "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))
    text = "Each line is a sequence of tools that becomes one tool. Write a name and a description for each, one line "
    text += f"'name: description' per tool, in this order:\n\n{listed}"
    (reply,) = yield from ask(Ask((Message("user", text),), role=role, max_tokens=max_tokens))
    said_lines = [line.strip(" -*`") for line in plain_text(reply.message).splitlines() if ":" in line]
    taken, named = set(about), []
    for number, one in enumerate(composites):
        name, _, said = said_lines[number].partition(":") if number < len(said_lines) else ("", "", "")
        name = name.strip().lstrip("0123456789. ")
        if NAME.fullmatch(name) and name not in taken and said.strip():
            one = replace(one, name=name, description=said.strip())
        taken.add(one.name)
        named.append(one)
    return named
