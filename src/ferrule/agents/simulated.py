"""Tools that are played by a model from their documents, in training and in trials.

Source: "DeepAgent: A General Reasoning Agent with Scalable Toolsets" (36), its tool simulator.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ferrule.agents.flow import Requests, relayed
from ferrule.agents.folded import call_text
from ferrule.agents.in_stream import FOLD, SEARCH
from ferrule.agents.react import ToolLoop
from ferrule.core.flows import Agent, Ask, Flow, Session, Use, ask
from ferrule.core.records import Call, Message, Observation, Task, Tool, plain_text
from ferrule.tools.invoke import Malformed, arguments
from ferrule.tools.schema import as_openai
from ferrule.worlds.told import Told

__all__ = ["Simulated", "simulation"]

_ASKED = (
    "You are an API. Reply with what a call returns and nothing else: the result as its document says, or an error "
    "where the arguments are wrong. Agree with what you returned before."
)


def simulation(
    tool: Tool, call: Call, past: Sequence[tuple[Call, Observation]] = (), *, role: str = "simulator",
    max_tokens: int = 256,
) -> Flow[Observation]:  # fmt: skip
    """Ask a model what a call returns, from the tool's document and the calls before it.

    Arguments that do not fit the schema are malformed, as they are for the tool itself; it is never run.
    """
    try:
        given, repairs = arguments(tool, call.arguments)
    except Malformed as problem:
        return Observation(str(problem), "malformed")
    document = {**as_openai(tool)["function"], **({"returns": dict(tool.output)} if tool.output else {})}
    before = "\n".join(f"{call_text(earlier)} -> {seen.text}" for earlier, seen in past)
    text = (
        f"{_ASKED}\n\nDocument:\n{json.dumps(document, ensure_ascii=False)}\n\nCalls so far:\n{before or 'none'}\n\n"
        f"Call:\n{call_text(replace(call, arguments=given))}"
    )
    (reply,) = yield from ask(Ask((Message("user", text),), role=role, max_tokens=max_tokens))
    return Observation(plain_text(reply.message).strip(), repairs=(*call.repairs, *repairs))


@dataclass(frozen=True)
class Simulated:
    """Play ``agent`` with the tools of its world played by the role ``simulator``; they are never run themselves.

    What it says is an observation of the record, and its tokens are counted under its role. Calls that end the episode,
    cannot be read or name no tool on offer go where the agent sends them, and so do those of tools in ``real``: tools
    that an agent brings along, which search and fold.
    """

    agent: Agent = field(default_factory=ToolLoop)
    simulator: str = "simulator"
    real: tuple[str, ...] = (SEARCH, FOLD)
    max_tokens: int = 256

    @property
    def role(self) -> str:
        """The role that the agent asks as."""
        return str(getattr(self.agent, "role", "solver"))

    def __call__(self, task: Task, session: Session) -> Flow[Any]:
        """Play one episode."""
        past: list[tuple[Call, Observation]] = []

        def change(requests: Requests) -> Flow[Requests]:
            changed: list[Ask | Use] = []
            for request in requests:
                if isinstance(request, Use):
                    request = yield from self._played(request, request.session or session, past)
                changed.append(request)
            return tuple(changed)

        return (yield from relayed(self.agent(task, session), change))

    def _played(self, request: Use, session: Session, past: list[tuple[Call, Observation]]) -> Flow[Use]:
        """Return a request whose calls are answered by what the simulator says, where it plays their tools."""
        offered = {tool.name: tool for tool in session.tools if not tool.terminal and tool.name not in self.real}
        pairs: list[tuple[Call, Observation]] = []
        for call in request.calls:
            if call.name in offered and not call.problem:
                tool = offered[call.name]
                seen = yield from simulation(tool, call, past, role=self.simulator, max_tokens=self.max_tokens)
                past.append((call, seen))
                pairs.append((call, seen))
        return replace(request, session=Told(pairs, session)) if pairs else request
