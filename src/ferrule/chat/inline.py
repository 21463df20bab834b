"""Solutions with code and its output inside, as one text and as messages.

The form is that of "ReTool: Reinforcement Learning for Strategic Tool Use in LLMs" (paper 17): code stands in
``<code>`` with a Python fence, its output in ``<interpreter>``, and the end in ``<answer>``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ferrule.core.records import Call, Message, Observation, plain_text

__all__ = ["PROMPT", "TOOL", "code_of", "loss_mask", "observation_text", "result_text", "to_messages", "to_text"]

TOOL = "code_interpreter"
PROMPT = (
    "Solve the following problem step by step. You may write Python scripts and read their output; every script must "
    "be complete, imports included. Write code as\n<code>\n```python\n...\n```\n</code>\nand its output comes back as\n"
    "<interpreter>\n...\n</interpreter>\nEnd with\n<answer>\n\\boxed{...}\n</answer>"
)
"""System text of the tag grammar."""

_OPENING = re.compile(
    r"(?P<code><code>\s*```(?i:python3?|py)?[ \t]*\n)|(?P<result><interpreter>\n?)|(?P<answer><answer>)"
)
_CLOSING = {
    "code": re.compile(r"\n?```\s*</code>"),
    "result": re.compile(r"\n?</interpreter>"),
    "answer": re.compile(r"</answer>"),
}
_FENCE = re.compile(r"```(?:python3?|py)\b", re.IGNORECASE)
_TAG = re.compile(r"</?(?:code|interpreter|answer)>")


def to_messages(text: str) -> list[Message]:
    r"""Split a text with inline blocks into chat messages.

    Every code block ends an assistant message with one call ``code_interpreter(code)``; every interpreter block is a
    tool message; the rest without the tags of the answer block is the last assistant message. White space inside a
    message stays as it is. Raises ``ValueError`` that says what is wrong: a stray tag, code without a result, a result
    without code, text after the answer.
    """
    messages: list[Message] = []
    waiting, answered, end = "", False, 0
    for kind, body, start, stop in _blocks(text):
        between, end = text[end:start], stop
        before = between.strip()
        if _TAG.search(before):
            raise ValueError(f"stray tag in {before[:60]!r}")
        if answered:
            raise ValueError("a block follows the answer")
        if (kind != "result") == bool(waiting):
            raise ValueError("a code block has no result" if waiting else "a result has no code block")
        if kind == "code":
            waiting = f"call_{len(messages) // 2}"  # a call and its result are two messages
            call = Call(TOOL, {"code": body}, id=waiting)
            messages.append(Message("assistant", before, calls=(call,)))
        elif kind == "result":
            if before:
                raise ValueError("text stands between a code block and its result")
            messages.append(Message("tool", body.strip(), name=TOOL, call_id=waiting))
            waiting = ""
        else:
            messages.append(Message("assistant", (between + body).strip()))
            answered = True
    rest = text[end:].strip()
    if waiting:
        raise ValueError("a code block has no result")
    if _TAG.search(rest) or (answered and rest):
        raise ValueError(f"stray tag or text at the end: {rest[:60]!r}")
    if rest:
        messages.append(Message("assistant", rest))
    return messages


def _blocks(text: str) -> Iterator[tuple[str, str, int, int]]:
    """Yield the blocks that are closed, in order: the kind, what stands inside, and the range."""
    at, unclosed = 0, set[str]()
    while opening := _OPENING.search(text, at):
        kind = opening.lastgroup or ""
        closing = None if kind in unclosed else _CLOSING[kind].search(text, opening.end())
        if closing is None:
            unclosed.add(kind)
            at = opening.start() + 1
            continue
        yield kind, text[opening.end() : closing.start()], opening.start(), closing.end()
        at = closing.end()


def to_text(messages: Sequence[Message]) -> str:
    """Join messages to the inline text; the inverse of ``to_messages`` where line breaks stand as written here.

    The last paragraph of a final assistant message is the answer block when it holds a boxed value, or its last line
    when there is one paragraph.
    """
    joined = ""
    for message in messages:
        content = plain_text(message)
        if message.role == "tool":
            joined += f"<interpreter>\n{content}\n</interpreter>\n\n"
        elif message.calls:
            joined += content + ("\n" if content else "")
            joined += f"<code>\n```python\n{message.calls[0].arguments['code']}\n```\n</code>\n"
        else:
            joined += _with_answer(content)
    return joined


def _with_answer(content: str) -> str:
    """Put the part of a text that holds the boxed value at its end into an answer block; tags that are there stay."""
    if _TAG.search(content) or "\\boxed{" not in content:
        return content
    gap = "\n\n" if "\n\n" in content else "\n"
    before, _, last = content.rpartition(gap)
    if "\\boxed{" not in last:
        return content if gap == "\n\n" else f"<answer>\n{content}\n</answer>"
    return f"{before}{gap[1:]}<answer>\n{last}\n</answer>"


def loss_mask(text: str) -> list[bool]:
    """Say for every character whether it may carry loss: all but interpreter blocks, tags included."""
    mask = [True] * len(text)
    for block in re.finditer(r"<interpreter>.*?</interpreter>", text, re.DOTALL):
        mask[block.start() : block.end()] = [False] * (block.end() - block.start())
    return mask


def code_of(generated: str) -> str:
    """Return the code of a text that stopped at a closing code tag: what follows the last opening Python fence."""
    fences = list(_FENCE.finditer(generated))
    tail = generated[fences[-1].end() :] if fences else ""
    return tail.removesuffix("</code>").rstrip().removesuffix("```").strip()


def result_text(code: str, observation: Observation) -> str:
    """Return what the model reads for a result: the output, the last line of a traceback, ``None`` for empty code."""
    if not code.strip():
        return "None"
    lines = observation.text.strip().splitlines() or [""]
    return observation.text.strip() if observation.status == "ok" else lines[-1]


def observation_text(result: str) -> str:
    """Return the text inserted after a pause at a closing code tag, that tag included."""
    return f"</code>\n<interpreter>\n{result}\n</interpreter>\n\n"
