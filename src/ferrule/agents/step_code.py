"""Steps of a solution rewritten as code: a refiner sees one step alone and writes code for what it calculates.

Source: "THOR: Tool-Integrated Hierarchical Optimization via RL for Mathematical Reasoning" (paper 39), where a
generator and a refiner write the first data.
"""

from __future__ import annotations

from dataclasses import replace

from ferrule.agents.flow import cut_off
from ferrule.agents.reviewed import Critic, Ruling
from ferrule.agents.search import Node
from ferrule.chat.fence import Fence
from ferrule.core.flows import Ask, Flow, ask
from ferrule.core.records import Message, Task, plain_text

__all__ = ["by_refiner", "code_request", "refined"]


def code_request(step: str) -> tuple[Message, ...]:
    """Return the request to a refiner: the step, and nothing of the question or the answer."""
    text = (
        "Below is one step of a solution. Where it calculates something that Python can, rewrite it: keep its words "
        "and its style up to the calculation, and in the place of that write a block of Python that prints the "
        "result:\n```python\n...\n```\nSay nothing about the result; the code is run and its output is shown after it. "
        f"Where there is nothing to calculate, reply KEEP.\n\nStep:\n{step}"
    )
    return (Message("user", text),)


def refined(said: Message, *, fence: Fence | None = None) -> Message | None:
    """Read a refiner's reply: the words before its first block of code, and a call that runs it; None without code."""
    fence, text = fence or Fence(), plain_text(said)
    starts = [start for label, start, _ in fence.spans(text) if label == "call"]
    calls, words = (said.calls, text) if said.calls else (fence.read(text).calls, text[: min(starts, default=0)])
    if not calls or calls[0].problem:
        return None
    return Message("assistant", words.strip(), (replace(calls[0], id="call_0"),))


def by_refiner(*, role: str = "refiner", fence: Fence | None = None, max_tokens: int = 1024) -> Critic:
    """Return the critic that lets ``role`` rewrite each step as code, for ``Reviewed(..., in_parts=True)``.

    ``fence`` names the tool that runs code and its argument. The refiner sees only what was written since the last
    step. A step with calls of its own, and one of which the refiner makes no code, stays as it is.
    """

    def critic(task: Task, node: Node) -> Flow[Ruling]:
        assert node.reply is not None
        assert node.parent is not None
        above, message = node.parent, node.reply.message
        so_far = plain_text(above.reply.message) if above.begun and above.reply is not None else ""
        step = plain_text(message).removeprefix(so_far)
        if message.calls or not step.strip():
            return None
        (reply,) = yield from ask(Ask(code_request(step), role=role, max_tokens=max_tokens))
        better = None if cut_off(reply) else refined(reply.message, fence=fence)
        if better is None:
            return None
        words = plain_text(better)
        joint = "\n" if so_far and words and not so_far[-1].isspace() else ""
        return replace(better, content=f"{so_far}{joint}{words}")

    return critic
