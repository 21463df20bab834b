"""Acting by tags: one tagged action per turn, a hint after a turn without one, and a last turn for the answer.

Source: "TAPO: Tool-Augmented Policy Optimization" (02).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ferrule.agents.flow import acted, opening, prefixed
from ferrule.chat.blocks import bare
from ferrule.chat.tagged import Tagged
from ferrule.core.flows import Ask, Flow, Session, ask
from ferrule.core.records import Answer, Message, Task, Trajectory, plain_text

__all__ = ["ACTIONS", "CODEC", "HINT", "TagLoop", "action", "cut", "rules", "transcript"]

ACTIONS = ("search", "code", "answer")
"""Tags that act, in the order in which a text is cut."""
CODEC = Tagged(arguments=(("search", "query"), ("code", "code")), result="response", answer="", known_only=True)
"""Calls and results as these tags write them; answers keep their tags, so that the loop sees whether there are any."""
HINT = "That was no action. Write <search>...</search>, <code>...</code>, or <answer>...</answer> to finish."
_RULES = {
    "search": "To look a fact up, write the query as <search>query</search>.",
    "code": "To compute, write a Python program that prints its result as <code>program</code>.",
}


def cut(text: str, *, actions: Sequence[str] = ACTIONS) -> str:
    """Cut a text after the first closing tag: of the first of ``actions`` that is closed anywhere."""
    for name in actions:
        end = text.find(f"</{name}>")
        if end >= 0:
            return text[: end + len(name) + 3]
    return text


def action(text: str, *, actions: Sequence[str] = ACTIONS) -> tuple[str, str] | None:
    """Return the first closed action of a text and what it holds, trimmed; None without one."""
    match = re.search(rf"<({'|'.join(map(re.escape, actions))})>(.*?)</\1>", text, re.DOTALL)
    return (match[1], match[2].strip()) if match else None


def rules(*, search: bool = True, code: bool = True, example: bool = False) -> str:
    """Return the rules of the tags for a system message: with both tools, either, or none.

    ``example`` adds a short episode that uses each tool on offer once.
    """
    offered = [_RULES[name] for name, on in (("search", search), ("code", code)) if on]
    lines = ["Think within <think> and </think> before you act.", *offered]
    if offered:
        lines.append("Each result comes back within <response> and </response>.")
    lines.append("Finish with the answer alone as <answer>answer</answer>.")
    numbered = "\n".join(f"{i}. {line}" for i, line in enumerate(lines, 1))
    return f"{numbered}\n\n{_episode(search, code)}" if example else numbered


def _episode(search: bool, code: bool) -> str:
    """Return an example that reads a length where there is a search, and doubles it by code where there is that."""
    lines = [
        "Example. Question: " + ("How many metres are two Eiffel Towers?" if search else "How much is 2 times 330?")
    ]
    if search:
        lines += ["<think>I need the height.</think>", "<search>height of the Eiffel Tower</search>",
                  "<response>The tower is 330 m tall.</response>"]  # fmt: skip
    lines += ["<think>That is 2 times 330.</think>"]
    if code:
        lines += ["<code>print(2 * 330)</code>", "<response>660</response>"]
    return "\n".join([*lines, "<answer>660</answer>"])


@dataclass(frozen=True)
class TagLoop:
    """Answer a task in at most ``turns`` rounds of tools and one more turn, in which calls are not run.

    A reply without an action is answered by ``hint`` and costs a round. Only a closed ``answer`` tag ends an episode
    with an answer. Made for policies with ``CODEC``. ``system`` is put before the prompt when it is not empty (see
    ``rules``), as a message of its own or, with ``split=False`` (for models without a chat form), in one user message
    with the prompt; ``max_tokens`` bounds one reply.
    """

    system: str = ""
    split: bool = True
    turns: int = 4
    max_tokens: int = 2048
    hint: str = HINT
    role: str = "solver"

    def __call__(self, task: Task, session: Session) -> Flow[Answer]:
        """Play one episode."""
        apart = self.split or not self.system
        messages = opening(task, self.system) if apart else prefixed(task.conversation, f"{self.system}\n\n")
        for left in range(self.turns, -1, -1):
            # The tools stay on offer in the last turn: without them the prompt would read differently from its start.
            request = Ask(
                tuple(messages), tools=session.tools, stop=("</answer>",), max_tokens=self.max_tokens, role=self.role
            )
            (reply,) = yield from ask(request)
            done = action(plain_text(reply.message), actions=("answer",))
            if done is not None:
                return done[1]
            if not left or (reply.finish == "length" and not reply.message.calls):
                return None
            if not reply.message.calls:
                messages += [reply.message, Message("user", self.hint)]
                continue
            answer = yield from acted(messages, reply.message)
            if answer is not None:
                return answer
        return None


def transcript(trajectory: Trajectory) -> str:
    """Return an episode as one tagged response; result blocks are left empty."""
    parts = []
    for turn in trajectory.turns:
        text = plain_text(turn.reply)
        if turn.reply.calls:
            calls = [call.raw or f"<{call.name}></{call.name}>" for call in turn.reply.calls]
            parts += [text, *calls, "<response></response>" * len(turn.observations)]
        else:
            last = turn is trajectory.turns[-1] and bare(text)
            parts.append(Tagged(result="response").write(Message("assistant", text)) if last else text)
    return "".join(parts)
