"""The plain tool loop: ask, run the calls, show the observations, until a reply has no calls."""

from __future__ import annotations

from dataclasses import dataclass

from ferrule.core.records import Answer, Ask, Flow, Message, Session, Task, ask, plain_text, use

__all__ = ["ToolLoop"]


@dataclass(frozen=True)
class ToolLoop:
    """Answer a task by calling tools at most ``turns`` times; the last reply without calls is the answer.

    ``system`` is put before the prompt when it is not empty. ``max_tokens`` bounds one reply and ``stop`` adds stop
    strings. When the turns run out, or a reply is cut off, the answer is None. A terminal tool's observation ends
    the episode and is the answer. ``role`` names the policy that is asked when there are several.
    """

    system: str = ""
    turns: int = 6
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    role: str = "solver"

    def __call__(self, task: Task, session: Session) -> Flow[Answer]:
        """Play one episode."""
        messages = [Message("system", self.system)] if self.system else []
        messages.append(Message("user", task.prompt))
        for _ in range(self.turns):
            request = Ask(
                tuple(messages), tools=session.tools, stop=self.stop, max_tokens=self.max_tokens, role=self.role
            )
            (reply,) = yield from ask(request)
            if reply.finish not in ("stop", "answer") and not reply.message.calls:
                return None
            if not reply.message.calls:
                return plain_text(reply.message).strip()
            observations = yield from use(*reply.message.calls)
            messages.append(reply.message)
            for call, observation in zip(reply.message.calls, observations, strict=True):
                messages.append(Message("tool", observation.text, name=call.name, call_id=call.id))
                if observation.terminal:
                    return observation.text
        return None
