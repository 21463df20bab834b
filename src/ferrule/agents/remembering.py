"""Any agent with a memory: what is recalled stands before the model, and the record says which entries that were."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from ferrule.agents.flow import Requests, placed, prefixed, relayed, returned
from ferrule.core.flows import Agent, Ask, Flow, Session, Use
from ferrule.core.records import Message, Task, plain_text
from ferrule.memory.memory import NOTE, Memory, Recalled
from ferrule.worlds.added import Added

__all__ = ["Put", "Remembering", "before_question", "in_system"]

Put: TypeAlias = Callable[[Task, str], Task]
"""Returns a task in whose messages a recalled text stands; an agent that reads them shows it to its model."""


def in_system(task: Task, text: str) -> Task:
    """Put a text into the system message of a task, after what that says already."""
    messages = list(task.conversation)
    if messages[0].role == "system":
        said = plain_text(messages.pop(0))
        text = f"{said}\n\n{text}" if said else text
    return replace(task, messages=(Message("system", text), *messages))


def before_question(task: Task, text: str) -> Task:
    """Put a text before the last message of a task, which is its question."""
    return replace(task, messages=tuple(prefixed(task.conversation, f"{text}\n\n")))


@dataclass(frozen=True)
class Remembering:
    """``agent`` with what ``memory`` recalls for its task.

    The text stands where ``put`` puts it, among what the model is given, so that it carries no loss; recalled tools are
    on offer beside those of the session. ``Turn.notes["memory"]`` of every turn whose ask held the text or a tool names
    the entries. Nothing is kept here: whoever scores an episode hands it to ``memory.keep``.
    """

    agent: Agent
    memory: Memory
    put: Put = in_system

    @property
    def role(self) -> str:
        """The role that the agent asks as."""
        return str(getattr(self.agent, "role", "solver"))

    def __call__(self, task: Task, session: Session) -> Flow[Any]:
        """Play one episode."""
        recalled = yield from returned(self.memory.recall(task, ()))
        if recalled.text:
            task = self.put(task, recalled.text)
        if recalled.tools:
            session = Added(session, recalled.tools)

        def change(requests: Requests) -> Requests:
            return tuple(_noted(placed(r, session) if recalled.tools else r, recalled) for r in requests)

        return (yield from relayed(self.agent(task, session), change))


def _noted(request: Ask | Use, recalled: Recalled) -> Ask | Use:
    """Name the entries in the notes of an ask that holds what was recalled."""
    if not recalled.ids or isinstance(request, Use):
        return request
    told = recalled.text and any(recalled.text in plain_text(message) for message in request.messages)
    offered = any(tool is given for tool in recalled.tools for given in request.tools)
    return replace(request, notes={**request.notes, NOTE: recalled.ids}) if told or offered else request
