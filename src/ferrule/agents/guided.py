"""Steps that are forced or guided: calls that a model must make, and texts put before it that carry no loss.

Source: "SIT-Graph: State Integrated Tool Graph for Multi-Turn Agents" (20).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from ferrule.agents.flow import Requests, placed, relayed, results, returned
from ferrule.agents.react import ToolLoop
from ferrule.core.flows import Agent, Ask, Flow, Session, Use, ask, use
from ferrule.core.records import Message, Observation, Task, Tool, plain_text
from ferrule.worlds.added import Added

__all__ = ["Forced", "Guidance", "Guide", "Guided", "Moment", "forced", "in_turns"]


@dataclass(frozen=True)
class Moment:
    """Where an episode stands before a reply: its messages, the tools on offer, and the session that calls run in."""

    task: Task
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]
    session: Session
    max_tokens: int | None = None
    role: str = "solver"

    @property
    def called(self) -> tuple[str, ...]:
        """Names of the tools that were called so far, in order."""
        return tuple(call.name for message in self.messages for call in message.calls if not call.problem)


@dataclass(frozen=True)
class Guidance:
    """What a guide puts after the last message; ``notes`` become part of ``Turn.notes`` of the reply that follows."""

    messages: tuple[Message, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)


Guide: TypeAlias = Callable[[Moment], "Flow[Guidance] | Guidance"]
"""Says what is put before a reply; as a flow it may ask, and make calls."""


@dataclass(frozen=True)
class Forced:
    """A call that had to be made: its observation (None where the reply held none), and what it added."""

    observation: Observation | None
    messages: tuple[Message, ...]


def forced(moment: Moment, tool: str) -> Flow[Forced]:
    """Make the model call ``tool`` now and run the call; its turn is part of the episode as any other.

    The beginning of the call is given and carries no loss, its arguments are the model's own. Needs a policy that can
    be made to call a tool (``Ask.must_call``).
    """
    request = Ask(moment.messages, tools=moment.tools, must_call=tool, max_tokens=moment.max_tokens, role=moment.role)
    (reply,) = yield from ask(request)
    calls = reply.message.calls
    if not calls:
        return Forced(None, (reply.message,))
    observations = yield from use(*calls, session=moment.session)
    return Forced(observations[0], (reply.message, *results(calls, observations)))


def in_turns(*guides: Guide) -> Guide:
    """Return the guide that puts what each of ``guides`` says, one after the other."""

    def guide(moment: Moment) -> Flow[Guidance]:
        messages: tuple[Message, ...] = ()
        notes: dict[str, Any] = {}
        for each in guides:
            said = yield from returned(each(replace(moment, messages=(*moment.messages, *messages))))
            messages, notes = (*messages, *said.messages), {**notes, **said.notes}
        return Guidance(messages, notes)

    return guide


@dataclass(frozen=True)
class Guided:
    """``agent`` with what ``guide`` puts before its replies; ``tools`` are on offer beside those of the session.

    What is put there is given and not sampled, so that no loss is on it; it stays where it stands, so that ids are only
    appended. A guide is asked once for each message that the agent's asks end with, and not again for samples or
    retries of the same step. ``share`` is how often it is asked at all: which steps those are depends on what the model
    wrote before, so that the samples of a group are guided at different ones.
    """

    guide: Guide
    agent: Agent = field(default_factory=ToolLoop)
    tools: tuple[Tool, ...] = ()
    share: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a share outside 0 to 1."""
        if not 0 <= self.share <= 1:
            raise ValueError(f"Guided.share is {self.share}; it lies between 0 and 1")

    @property
    def role(self) -> str:
        """The role that the agent asks as."""
        return str(getattr(self.agent, "role", "solver"))

    def __call__(self, task: Task, session: Session) -> Flow[Any]:
        """Play one episode."""
        here: Session = Added(session, self.tools) if self.tools else session
        put: dict[int, tuple[Message, Guidance]] = {}  # by the identity of the message it follows, which is kept

        def change(requests: Requests) -> Flow[Requests]:
            changed: list[Ask | Use] = []
            for request in requests:
                if isinstance(request, Ask) and request.role == self.role:
                    request = yield from self._guided(task, here, request, put)
                changed.append(placed(request, here) if self.tools else request)
            return tuple(changed)

        return (yield from relayed(self.agent(task, here), change))

    def _guided(
        self, task: Task, session: Session, request: Ask, put: dict[int, tuple[Message, Guidance]]
    ) -> Flow[Ask]:
        """Put what was said before each reply of this context back, and what is said before the next one."""
        whole: list[Message] = []
        for message in request.messages:
            whole += (message, *(put[id(message)][1].messages if id(message) in put else ()))
        last = request.messages[-1]
        if id(last) not in put:
            moment = Moment(task, tuple(whole), request.tools, session, request.max_tokens, request.role)
            said = (yield from returned(self.guide(moment))) if self._drawn(task, request) else Guidance()
            put[id(last)] = (last, said)
            whole += said.messages
        return replace(request, messages=tuple(whole), notes={**request.notes, **put[id(last)][1].notes})

    def _drawn(self, task: Task, request: Ask) -> bool:
        written = "\x1f".join(
            f"{plain_text(m)}{[(c.name, dict(c.arguments)) for c in m.calls]}"
            for m in request.messages if m.role == "assistant"
        )  # fmt: skip
        key = f"{task.id}\x1f{task.meta.get('pass', 0)}\x1f{written}"
        return zlib.crc32(key.encode("utf-8", "replace")) < self.share * 2**32
