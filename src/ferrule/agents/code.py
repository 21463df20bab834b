"""The CodeAct loop: every turn is one block of Python, its outcome comes back as JSON.

Source: "Agents Learn Their Runtime: Interpreter Persistence as Training-Time Semantics" (paper 26),
https://arxiv.org/abs/2603.01209.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ferrule.agents.flow import cut_off, opening
from ferrule.chat.fence import Fence
from ferrule.core.flows import Ask, Flow, Session, ask, use
from ferrule.core.records import Answer, Call, Message, Observation, Reply, Task, plain_text
from ferrule.tools.python import PythonSession
from ferrule.worlds.session import ToolSession

__all__ = ["STATEMENTS", "CodeAct", "blocks_of", "fresh_python", "outcome_text"]

STATEMENTS = {
    True: "Runtime: persistent. Variables, functions and imports are kept from block to block.",
    False: "Runtime: reset. Variables, functions and imports are lost after every block.",
}
"""What the system message says about the runtime, by whether the interpreter keeps its state."""

_RULE = "Every turn must hold exactly one fenced Python block."


def outcome_text(observation: Observation, persistent: bool | None = None) -> str:
    """Return an observation as JSON ``{success, result, output, error}``.

    ``result`` is the ``repr`` of the last expression, ``output`` what was printed, ``error`` the last line of the
    exception or what else went wrong. With ``persistent`` given a field ``runtime_state`` names the runtime and
    the globals that the next block will find.
    """
    data = observation.data if isinstance(observation.data, dict) else {}
    good = observation.status == "ok"
    trouble = str(data.get("exception") or observation.text).strip()
    shown: dict[str, Any] = {
        "success": good,
        "result": data.get("value"),
        "output": data.get("stdout", observation.text if good else ""),
        "error": None if good else (trouble.splitlines() or [observation.status])[-1],
    }
    if persistent is not None:
        names = list(data.get("globals") or ()) if persistent else []
        shown["runtime_state"] = {"runtime": "persistent" if persistent else "reset", "active_globals": names}
    return json.dumps(shown, ensure_ascii=False)


def fresh_python(seconds: float = 10.0) -> Session:
    """Return a session with the tool ``python`` that forgets between calls, for flows that run code beside the task."""
    python = PythonSession(persistent=False, seconds=seconds)
    return ToolSession(Task("code", ""), lambda state: (state.tool,), python)


def blocks_of(reply: Reply, tool: str = "python") -> tuple[Call, ...]:
    """Return the calls of a reply that run code; a codec that knows no fences leaves them in the text."""
    if reply.message.calls:
        return reply.message.calls
    return Fence(tool=tool).read(plain_text(reply.message)).calls


@dataclass(frozen=True)
class CodeAct:
    """Solve a task by blocks of Python, exactly one a turn, until a block ends the episode or ``turns`` are over.

    ``persistent`` is what the system message states (by ``statements``) and must match the session's interpreter to
    be true. ``examples`` are messages shown before the prompt. ``runtime`` adds the field ``runtime_state`` to every
    outcome. A turn without a block, with several, or cut off at ``max_tokens`` gets an error in the form of an outcome
    and runs nothing. The answer is the text of the observation that ended the episode, else None.
    """

    persistent: bool = True
    system: str = _RULE
    turns: int = 20
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    tool: str = "python"
    runtime: bool = True
    examples: tuple[Message, ...] = ()
    statements: tuple[str, str] = (STATEMENTS[False], STATEMENTS[True])

    def __call__(self, task: Task, session: Session) -> Flow[Answer]:
        """Play one episode."""
        system = "\n".join(part for part in (self.system, self.statements[self.persistent]) if part)
        messages = opening(task, system, self.examples)
        state = self.persistent if self.runtime else None
        for _ in range(self.turns):
            request = Ask(tuple(messages), tools=session.tools, stop=self.stop, max_tokens=self.max_tokens)
            (reply,) = yield from ask(request)
            messages.append(reply.message)
            blocks = blocks_of(reply, self.tool)
            problem = _problem(reply, blocks)
            if problem:
                text = outcome_text(Observation(problem, "malformed"), state)
                messages += _answers(reply.message, text)
                continue
            (observation,) = yield from use(blocks[0])
            messages += _answers(reply.message, outcome_text(observation, state))
            if observation.terminal:
                return observation.text
        return None


def _problem(reply: Reply, blocks: tuple[Call, ...]) -> str:
    if cut_off(reply):
        return f"the reply was cut off, so nothing was run. {_RULE}"
    if len(blocks) == 1:
        return ""
    return f"the reply holds {len(blocks) or 'no'} blocks, so nothing was run. {_RULE}"


def _answers(message: Message, text: str) -> list[Message]:
    """Answer every call of a message by the same text; a message without calls is answered by the user."""
    if not message.calls:
        return [Message("user", text)]
    return [Message("tool", text, name=call.name, call_id=call.id) for call in message.calls]
