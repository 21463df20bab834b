"""Any agent by other documents of its tools: it reads an overlay's words, and the rules for all tools.

So agents that read different documents can be compared in one world, and documents searched for by how tasks end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ferrule.agents.flow import Requests, placed, relayed
from ferrule.agents.remembering import in_system
from ferrule.core.flows import Agent, Flow, Session
from ferrule.core.records import Task
from ferrule.tools.documents import as_lines, documents_of
from ferrule.tools.overlay import Overlay
from ferrule.worlds.aliased import Aliased

__all__ = ["Documented", "by_text"]


@dataclass(frozen=True)
class Documented:
    """``agent`` with its tools in the words of ``overlay``, and ``rules`` in the system message of each task.

    Words for tools that a task does not offer rest. The overlay keeps the names of tools and parameters, as rewards and
    records speak of these: ``ferrule.worlds.aliased`` is for other names. Raises ``ValueError`` otherwise.
    """

    agent: Agent
    overlay: Overlay = field(default_factory=Overlay)
    rules: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse other names."""
        for tool, text in self.overlay.texts.items():
            if text.name or any(entry.name for entry in text.parameters.values()):
                raise ValueError(f"the overlay gives {tool!r} or a parameter of it another name; word texts alone")

    @property
    def role(self) -> str:
        """The role that the agent asks as."""
        return str(getattr(self.agent, "role", "solver"))

    def __call__(self, task: Task, session: Session) -> Flow[Any]:
        """Play one episode."""
        worded = Aliased(session, self.overlay)
        told = in_system(task, as_lines(self.rules)) if self.rules else task

        def change(requests: Requests) -> Requests:
            return tuple(placed(request, worded) for request in requests)

        return (yield from relayed(self.agent(told, worded), change))


def by_text(agent: Agent, text: str) -> Documented:
    """Return an agent that reads what ``ferrule.tools.documents.documents_text`` wrote.

    With ``ferrule.evaluate.texts.played_with`` documents are searched for as texts, by the scores of tasks.
    """
    return Documented(agent, *documents_of(text))
