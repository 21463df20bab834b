"""Weighted graphs of tools: which followed which in runs that worked, with what was noted of the state in between.

A run is an entry of a library (kind ``run``), so that it has an origin, and can be retired; the graph is what the live
runs add up to. Source: "SIT-Graph: State Integrated Tool Graph for Multi-Turn Agents" (20).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import TypeAlias

from ferrule.core.records import Message, Score, Task, Trajectory
from ferrule.memory.entries import Entry, Origin
from ferrule.memory.library import Library
from ferrule.memory.memory import Memory, Played, Recalled

__all__ = [
    "RUN", "SUMMARY", "Alike", "Edge", "Run", "Summary", "ToolGraph", "aligned", "by_library", "graph_memory",
    "graph_of", "learned", "ranked", "run_of", "watching", "word_overlap",
]  # fmt: skip

RUN = "run"
"""The kind of entries that hold runs."""
SUMMARY = "summarize_the_task"
"""The tool whose calls note the state."""


@dataclass(frozen=True)
class Summary:
    """What a run noted of its state, between two calls of tools."""

    text: str


Run: TypeAlias = Sequence[str | Summary]
"""Names of the tools that a run called and what it noted, in order."""
Alike: TypeAlias = Callable[[str, Sequence[str]], Sequence[float]]
"""``alike(text, others)`` says how alike a text is to each of others; 0 is not at all."""


@dataclass(frozen=True)
class Edge:
    """How often one tool followed another, the weight of that, and what was noted on the way."""

    count: int = 0
    weight: float = 0.0
    summaries: tuple[str, ...] = ()


@dataclass(frozen=True)
class ToolGraph:
    """Tools, and for each pair of which the second followed the first an ``Edge``."""

    nodes: tuple[str, ...] = ()
    edges: Mapping[tuple[str, str], Edge] = field(default_factory=dict)

    def after(self, tool: str) -> dict[str, Edge]:
        """Return what followed a tool."""
        return {second: edge for (first, second), edge in self.edges.items() if first == tool}


def learned(graph: ToolGraph, run: Run, *, efficiency: float = 1.0) -> ToolGraph:
    """Return the graph after one more run that worked.

    Each two tools in a row count 1 and weigh ``1 + efficiency / n``, n being the length of the run with its summaries;
    so does each summary with the nearest tool on either side, where there are both, and its text is kept on that edge.
    """
    edges, bonus = dict(graph.edges), efficiency / len(run) if run else 0.0

    def count(first: str, second: str, text: str = "") -> None:
        edge = edges.get((first, second), Edge())
        texts = (*edge.summaries, text) if text.strip() else edge.summaries
        edges[first, second] = Edge(edge.count + 1, edge.weight + 1.0 + bonus, texts)

    for first, second in pairwise(run):
        if isinstance(first, str) and isinstance(second, str):
            count(first, second)
    for place, step in enumerate(run):
        if isinstance(step, Summary):
            before = next((s for s in reversed(run[:place]) if isinstance(s, str)), None)
            following = next((s for s in run[place + 1 :] if isinstance(s, str)), None)
            if before is not None and following is not None:
                count(before, following, step.text)
    nodes = tuple(dict.fromkeys((*graph.nodes, *(step for step in run if isinstance(step, str)))))
    return ToolGraph(nodes, edges)


def word_overlap(text: str, others: Sequence[str]) -> list[float]:
    """Return the Jaccard overlap of the words of a text with those of each of others, case apart."""
    words = set(re.findall(r"\w+", text.lower()))
    sets = [set(re.findall(r"\w+", other.lower())) for other in others]
    return [len(words & other) / len(words | other) if words | other else 0.0 for other in sets]


def by_library(library: Library) -> Alike:
    """Return the likeness by the cosine of a library's vectors."""

    def alike(text: str, others: Sequence[str]) -> list[float]:
        return [float(value) for value in library.vectors(others) @ library.vectors([text])[0]] if others else []

    return alike


def ranked(
    graph: ToolGraph, tool: str, available: Iterable[str], *, state: str | None = None, alike: Alike = word_overlap,
    scale: float = 500.0, normalise: bool = False,
) -> list[tuple[str, float]]:  # fmt: skip
    """Return the available tools that followed ``tool``, with their scores, the best first.

    With a ``state`` the score of an edge with summaries is the largest likeness of one of them to it. Where that is 0,
    there are none, or no ``state`` is given, it is ``weight / scale``, or with ``normalise`` the share of the weight of
    all these edges, so that it lies between 0 and 1 as a likeness does. Equal ones stay in the order they came in.
    """
    offered = set(available)
    edges = {name: edge for name, edge in graph.after(tool).items() if name in offered}
    whole = sum(edge.weight for edge in edges.values()) if normalise else scale
    scores = {name: edge.weight / whole for name, edge in edges.items()}
    for name, edge in edges.items():
        likeness = max(alike(state, edge.summaries)) if state is not None and edge.summaries else 0.0
        scores[name] = likeness or scores[name]
    return sorted(scores.items(), key=lambda pair: -pair[1])


def aligned(nodes: Mapping[str, str], tools: Mapping[str, str], alike: Alike = word_overlap) -> dict[str, str]:
    """Return for tools the node that each stands for, one to one, by name and then by how alike descriptions are.

    Both map names to descriptions. Of pairs the most alike is taken first; those without any likeness are left out.
    """
    same = {name: name for name in tools if name in nodes}
    left = [name for name in nodes if name not in same]
    pairs = [
        (value, tool, node)
        for tool, text in tools.items() if tool not in same
        for node, value in zip(left, alike(text, [nodes[name] for name in left]), strict=True) if value > 0
    ]  # fmt: skip
    for _, tool, node in sorted(pairs, key=lambda pair: -pair[0]):
        if tool not in same and node not in same.values():
            same[tool] = node
    return same


def run_of(trajectory: Trajectory, *, summary: str = SUMMARY) -> tuple[str | Summary, ...]:
    """Return the tools that ran in an episode in order, and the states that were noted by calls of ``summary``."""
    steps: list[str | Summary] = []
    for call, observation in trajectory.calls:
        if call.name == summary and observation.executed:
            steps.append(Summary(str(call.arguments.get("summary", ""))))
        elif observation.counted:
            steps.append(call.name)
    return tuple(steps)


# ---------------------------------------------------------------------------------------------------------- as a memory


def graph_of(library: Library, *, efficiency: float = 1.0) -> ToolGraph:
    """Return the graph of all live runs of a library, in their order."""
    return watching(library, efficiency=efficiency)()


def watching(library: Library, *, efficiency: float = 1.0) -> Callable[[], ToolGraph]:
    """Return a function that returns the graph of the live runs as they are now; only new runs are read again."""
    latest: tuple[tuple[str, ...], ToolGraph] = ((), ToolGraph())

    def graph() -> ToolGraph:
        nonlocal latest
        entries, before = library.entries(kind=RUN), latest  # another thread may put a later one there
        ids = tuple(entry.id for entry in entries)
        known, built = before if ids[: len(before[0])] == before[0] else ((), ToolGraph())
        for entry in entries[len(known) :]:
            built = learned(built, _steps(entry), efficiency=efficiency)
        latest = (ids, built)
        return built

    return graph


def _steps(entry: Entry) -> list[str | Summary]:
    """Read the run of an entry; raises ``ValueError`` naming one that holds none."""
    try:
        steps = [step if isinstance(step, str) else Summary(str(step["summary"])) for step in entry.data["steps"]]
    except (KeyError, TypeError):
        wanted = 'data {"steps": [tool or {"summary": text}, ...]}'
        raise ValueError(f"the entry {entry.id!r} of kind {RUN!r} holds no run; wanted are {wanted}") from None
    return steps


def _nothing(task: Task, messages: Sequence[Message]) -> Recalled:
    return Recalled()


def _keep(library: Library, least: float, summary: str, episode: Played, scores: Sequence[Score]) -> None:
    steps = run_of(episode.trajectories[0], summary=summary)
    names = [step for step in steps if isinstance(step, str)]
    if not scores[0].value > least or not names:  # a score that is no number keeps nothing
        return
    data = {"steps": [step if isinstance(step, str) else {"summary": step.text} for step in steps]}
    origin = Origin(episode.task.id, episode.sample)
    library.add(" -> ".join(names), when=episode.task.prompt, kind=RUN, origins=(origin,), data=data)


def graph_memory(library: Library, *, least: float = 0.55, summary: str = SUMMARY) -> Memory:
    """Return the memory that keeps the runs of episodes whose score is above ``least``.

    It recalls nothing before an episode: what follows a call is suggested step by step, by a guide that reads the graph
    (``ferrule.agents.suggested``).
    """

    graph = watching(library)

    def counts() -> dict[str, float]:
        return {"graph/runs": float(len(library.entries(kind=RUN))), "graph/edges": float(len(graph().edges))}

    return Memory(_nothing, partial(_keep, library, least, summary), library.state, library.load, counts)
