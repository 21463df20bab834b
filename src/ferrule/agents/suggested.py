"""What may be called next, by a graph of tools: a guide that suggests, and asks for the state where that decides.

Source: "SIT-Graph: State Integrated Tool Graph for Multi-Turn Agents" (20).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

from ferrule.agents.flow import returned
from ferrule.agents.guided import Guidance, Guided, Moment, forced
from ferrule.agents.react import ToolLoop
from ferrule.agents.search import refuse_below_one
from ferrule.core.arrays import nearest
from ferrule.core.flows import Ask, Flow, Session, ask
from ferrule.core.records import Message, Task, Tool, plain_text
from ferrule.memory.graph import SUMMARY, Alike, Edge, ToolGraph, ranked, watching, word_overlap
from ferrule.memory.library import Library
from ferrule.tools.tool import tool

__all__ = ["Needs", "Suggested", "always", "asked", "never", "suggesting", "summary_tool"]

Needs: TypeAlias = Callable[[Moment, str, Mapping[str, Edge]], "Flow[bool] | bool"]
"""``needs(moment, last tool, edges)`` says whether the state decides what comes next."""


def summary_tool(name: str = SUMMARY) -> Tool:
    """Return the tool by which a model notes the state; it returns what it is given."""

    @tool(name=name)
    def summarize(summary: str) -> str:
        """Write a summary of the current state, with what is known of the environment and of the user.

        Args:
            summary: the summary
        """
        return summary

    return summarize


def always(moment: Moment, last: str, edges: Mapping[str, Edge]) -> bool:
    """Ask for the state wherever an edge has summaries."""
    return True


def never(moment: Moment, last: str, edges: Mapping[str, Edge]) -> bool:
    """Go by weights alone."""
    return False


def asked(moment: Moment, last: str, edges: Mapping[str, Edge], *, role: str = "helper") -> Flow[bool]:
    """Ask a model whether the state decides what comes next; a reply that is neither yes nor no means yes."""
    told = "\n".join(f"{m.role}: {plain_text(m)} {[c.name for c in m.calls] or ''}".strip() for m in moment.messages)
    text = (
        f"{told}\n\nThe last tool was {last}. In earlier runs these came next: {', '.join(edges)}. Does it depend on "
        "the state of the conversation which of them comes next? Reply with yes or no."
    )
    (reply,) = yield from ask(Ask((Message("user", text),), role=role, max_tokens=10, temperature=0.0))
    return re.match(r"\W*no\b", plain_text(reply.message), re.IGNORECASE) is None


def suggesting(
    graph: Callable[[], ToolGraph], *, needs: Needs = asked, k: int = 2, alike: Alike = word_overlap,
    scale: float = 500.0, normalise: bool = True, summary: str = SUMMARY, nodes: Mapping[str, str] | None = None,
) -> Callable[[Moment], Flow[Guidance]]:  # fmt: skip
    """Return the guide that suggests the ``k`` tools which the graph ranks highest after the last one.

    Where an edge has summaries and ``needs`` says so, the model is made to note the state first by a call of
    ``summary``, and its summary is compared with those of the edges. Without a last tool, or without a known one after
    it, nothing is put before the model. ``nodes`` says which tool of the graph each tool stands for, where names differ
    (``ferrule.memory.graph.aligned``). ``Turn.notes`` says what was suggested. Further settings are those of
    ``ranked``. Raises ``ValueError`` for ``k`` below 1.
    """
    if k < 1:
        raise ValueError(f"k is {k}; the least is 1")

    def guide(moment: Moment) -> Flow[Guidance]:
        known, node = graph(), dict(nodes or {})
        offered = {node.get(each.name, each.name): each.name for each in moment.tools if each.name != summary}
        last = next((n for n in (node.get(name, name) for name in reversed(moment.called)) if n in offered), "")
        edges = {name: edge for name, edge in known.after(last).items() if name in offered}
        if not edges:
            return Guidance()
        state, added = None, tuple[Message, ...]()
        noting = any(each.name == summary for each in moment.tools) and any(e.summaries for e in edges.values())
        if noting and (yield from returned(needs(moment, last, edges))):
            noted = yield from forced(moment, summary)
            added, seen = noted.messages, noted.observation
            state = seen.text if seen is not None and seen.status == "ok" else ""
        best = ranked(known, last, edges, state=state, alike=alike, scale=scale, normalise=normalise)[:k]
        names = [offered[name] for name, _ in best]
        notes: dict[str, Any] = {"suggested": names, "recalled": state is not None}
        return Guidance((*added, Message("user", f"tool graph suggestion: {', '.join(names)}")), notes)

    return guide


@dataclass(frozen=True)
class Suggested:
    """A tool loop with suggestions of the tool graph in the library at ``memory`` (made where missing; "": no graph).

    ``k`` tools are suggested; ``state`` says when the model is made to note its state: "asked" (the role ``helper``
    says so), "always", or "never". Other fields are those of ``ToolLoop`` and of ``Guided``.
    """

    memory: str = ""
    k: int = 2
    state: str = "asked"
    share: float = 1.0
    system: str = ""
    turns: int = 6
    max_tokens: int = 256

    def __post_init__(self) -> None:
        """Refuse an unknown ``state``, and no suggestions."""
        refuse_below_one(self, "k")
        if self.state not in _NEEDS:
            raise ValueError(f"Suggested.state is {self.state!r}; {nearest(self.state, list(_NEEDS))}")

    def __call__(self, task: Task, session: Session) -> Flow[Any]:
        """Play one episode."""
        loop = ToolLoop(self.system, self.turns, self.max_tokens)
        guide = suggesting(_opened(self.memory), needs=_NEEDS[self.state], k=self.k)
        return (yield from Guided(guide, loop, (summary_tool(),), self.share)(task, session))


@cache
def _opened(path: str) -> Callable[[], ToolGraph]:
    return watching(Library(path)) if path else ToolGraph


_NEEDS: Mapping[str, Needs] = {"asked": asked, "always": always, "never": never}
AGENTS = {"suggested": Suggested}
