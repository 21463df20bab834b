"""The plain tool loop: ask, run the calls, show the observations, until a reply has no calls."""

from __future__ import annotations

from dataclasses import dataclass

from ferrule.agents.flow import acted, answered, opening, spoken
from ferrule.core.flows import Ask, Flow, Session, ask
from ferrule.core.records import Answer, Task

__all__ = ["ToolLoop"]


@dataclass(frozen=True)
class ToolLoop:
    """Answer a task by calling tools at most ``turns`` times; the last reply without calls is the answer.

    ``system`` is put before the prompt when it is not empty. ``max_tokens`` bounds one reply and ``stop`` adds stop
    strings. When the turns run out, or a reply is cut off, the answer is None. A terminal tool's observation ends
    the episode and is the answer. ``role`` names the policy that is asked when there are several.

    In a task with a user (``meta["dialogue"]``) such a reply is said to them, and the loop goes on with what they say;
    the answer is all that was said. ``meta["turns"]`` of a task raises ``turns``.
    """

    system: str = ""
    turns: int = 6
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    role: str = "solver"

    def __call__(self, task: Task, session: Session) -> Flow[Answer]:
        """Play one episode."""
        messages = opening(task, self.system)
        said: list[str] = []
        for _ in range(max(self.turns, task.meta.get("turns", 0))):
            request = Ask(
                tuple(messages), tools=session.tools, stop=self.stop, max_tokens=self.max_tokens, role=self.role
            )
            (reply,) = yield from ask(request)
            if reply.message.calls:
                answer = yield from acted(messages, reply.message)
                over = answer is not None
            else:
                answer = answered(reply)
                over = answer is None or not task.meta.get("dialogue") or (yield from spoken(messages, reply.message))
            said += [] if answer is None else [answer]
            if over:
                return "\n\n".join(said) if answer is not None else None
        return None


AGENTS = {"loop": ToolLoop}
