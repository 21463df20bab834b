"""A turn loop with budgets in tokens: why it ended, and how observations are cut.

Source: "VerlTool: Towards Holistic Agentic Reinforcement Learning with Tool Use" (24).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ferrule.agents.flow import acted, opening
from ferrule.core.arrays import nearest
from ferrule.core.flows import Ask, Flow, Session, ask
from ferrule.core.records import Answer, Call, Message, Reply, Task, Trajectory, Turn, plain_text

__all__ = [
    "ActionLoop",
    "Reason",
    "Side",
    "cut",
    "finished",
    "stop_reason",
]

Side: TypeAlias = Literal["left", "right", "middle"]
Reason: TypeAlias = Literal[
    "tool_signaled_done",
    "model_chose_to_finish",
    "max_turns_reached",
    "max_model_len_exceeded",
    "max_response_length_reached",
    "no_action_stop_token",
]
_SIDES = ("left", "right", "middle")
_UNREAD = "no action could be read before the stop string"


def _bytes(text: str) -> tuple[int, ...]:
    """Return the UTF-8 bytes of a text."""
    return tuple(text.encode("utf-8", "surrogatepass"))


def _text(ids: Sequence[int]) -> str:
    """Return the text of bytes; those of a cut character become U+FFFD."""
    return bytes(ids).decode("utf-8", "replace")


def cut(ids: Sequence[int], limit: int = 512, *, marker: Sequence[int] = (), side: Side = "middle") -> tuple[int, ...]:
    """Cut token ids to ``limit`` and say so by ``marker``, which comes on top of the limit.

    ``left`` keeps the last ids, ``right`` the first, each with the marker behind; ``middle`` keeps ``limit // 2`` from
    either end around the marker. Raises ``ValueError`` on another side and a negative limit. Source: "VerlTool" (24).
    """
    if side not in _SIDES:
        raise ValueError(f"side is {side!r}; {nearest(str(side), _SIDES)}")
    if limit < 0:
        raise ValueError(f"limit is {limit}; the least is 0")
    if len(ids) <= limit:
        return tuple(ids)
    half = limit // 2
    if side == "left":
        return (*ids[len(ids) - limit :], *marker)
    return (*ids[:limit], *marker) if side == "right" else (*ids[:half], *marker, *ids[len(ids) - half :])


@dataclass(frozen=True)
class ActionLoop:
    """Act at most ``turns`` times, in at most ``turns + 1`` replies; a call in the last reply is not made.

    A reply may take ``min(max_action, max_response - tokens so far)`` tokens, where the prompt does not count. A tool
    is called when a reply stopped by itself and holds a call, or a ``stop`` string. Observations are cut to
    ``max_observation`` tokens on ``side``. ``encode`` and ``decode`` are the model's tokenizer; without them bytes
    stand for tokens until a reply shows the true count. The answer is the last reply, or what a terminal tool said;
    ``stop_reason`` tells from the record why the loop ended. Defaults are those of the maths runs of "VerlTool" (24).
    """

    system: str = ""
    turns: int = 10
    stop: tuple[str, ...] = ("```output",)
    max_action: int = 2048
    max_response: int = 3072
    max_observation: int = 512
    side: Side = "middle"
    marker: str = "...(truncated)..."
    encode: Callable[[str], Sequence[int]] = _bytes
    decode: Callable[[Sequence[int]], str] = _text

    def __post_init__(self) -> None:
        """Refuse limits that allow nothing."""
        if self.turns < 0 or min(self.max_action, self.max_response) < 1:
            raise ValueError("ActionLoop needs turns of at least 0, max_action and max_response of at least 1")
        cut((), self.max_observation, side=self.side)

    def __call__(self, task: Task, session: Session) -> Flow[Answer]:
        """Play one episode."""
        messages = opening(task, self.system)
        used, prompt, text = 0, -1, ""
        for turn in range(self.turns + 1):
            budget = min(self.max_action, self.max_response - used)
            if budget <= 0:
                break
            request = Ask(tuple(messages), tools=session.tools, stop=self.stop, max_tokens=budget)
            (reply,) = yield from ask(request)
            text = plain_text(reply.message).strip()
            prompt = len(reply.given) if prompt < 0 else prompt
            used = self._used(reply, prompt, used)
            if turn == self.turns or not self.wants(reply.message, reply.finish):
                break
            calls = reply.message.calls or (Call("", problem=_UNREAD),)
            answer = yield from acted(messages, reply.message, calls=calls, show=self.shown)
            if answer is not None:
                return answer
            used += sum(len(self.encode(plain_text(message))) for message in messages[-len(calls) :])
        return text

    def _used(self, reply: Reply, prompt: int, before: int) -> int:
        """Tokens after the prompt: read off the reply's own ids where it has any, else counted from its text."""
        if reply.given:
            return len(reply.given) - prompt + len(reply.sampled)
        return before + len(self.encode(plain_text(reply.message)))

    def wants(self, message: Message, finish: str) -> bool:
        """Say whether a reply asks for a tool: it stopped by itself, with a call or behind a stop string."""
        text = plain_text(message)
        return finish == "stop" and (bool(message.calls) or any(stop in text for stop in self.stop))

    def shown(self, text: str) -> str:
        """Return what the model sees of an observation."""
        ids = self.encode(text)
        if len(ids) <= self.max_observation:
            return text
        return self.decode(cut(ids, self.max_observation, marker=self.encode(self.marker), side=self.side))


def _length(turns: Sequence[Turn]) -> int:
    """Tokens after the prompt."""
    return sum(len(turn.given) + len(turn.sampled) for turn in turns) - len(turns[0].given)


def stop_reason(trajectory: Trajectory, loop: ActionLoop) -> Reason:
    """Say from the record why ``loop`` ended an episode. Source: "VerlTool" (24).

    An episode without turns had no room to begin: ``max_model_len_exceeded``.
    """
    if not trajectory.turns:
        return "max_model_len_exceeded"
    last = trajectory.turns[-1]
    if any(observation.terminal for observation in last.observations):
        return "tool_signaled_done"
    if loop.wants(last.reply, last.finish):
        return "max_turns_reached" if len(trajectory.turns) > loop.turns else "max_model_len_exceeded"
    if last.finish != "length":
        return "model_chose_to_finish"
    return "max_response_length_reached" if _length(trajectory.turns) >= loop.max_response else "no_action_stop_token"


def finished(reason: Reason) -> bool:
    """Return whether an episode ended by itself: the model finished, or a tool ended it."""
    return reason in ("model_chose_to_finish", "tool_signaled_done")
