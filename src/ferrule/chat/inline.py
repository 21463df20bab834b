"""Solutions with code and its output inside, as one text and as messages.

The form is that of "ReTool: Reinforcement Learning for Strategic Tool Use in LLMs" (paper 17): code stands in
``<code>`` with a Python fence, its output in ``<interpreter>``, and the end in ``<answer>``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ferrule.core.records import Call, Message, Observation, plain_text

__all__ = ["PROMPT", "TOOL", "code_of", "loss_mask", "observation_text", "result_text", "to_messages", "to_text"]

TOOL = "code_interpreter"
PROMPT = (
    "Solve the following problem step by step. You may write Python scripts and read their output; every script must "
    "be complete, imports included. Write code as\n<code>\n```python\n...\n```\n</code>\nand its output comes back as\n"
    "<interpreter>\n...\n</interpreter>\nEnd with\n<answer>\n\\boxed{...}\n</answer>"
)
"""System text of the tag grammar."""

_BLOCK = re.compile(
    r"<code>\s*```(?:python|py)?[ \t]*\n(?P<code>.*?)\n?```\s*</code>"
    r"|<interpreter>\n?(?P<result>.*?)\n?</interpreter>"
    r"|<answer>\s*(?P<answer>.*?)\s*</answer>",
    re.DOTALL,
)
_TAG = re.compile(r"</?(?:code|interpreter|answer)>")


def to_messages(text: str) -> list[Message]:
    r"""Split a text with inline blocks into chat messages.

    Every code block ends an assistant message with one call ``code_interpreter(code)``; every interpreter block is a
    tool message; the rest and the body of the answer block, joined by a blank line, are the last assistant message.
    Raises ``ValueError`` that says what is wrong: a stray tag, code without a result, a result without code, text after
    the answer.
    """
    messages: list[Message] = []
    waiting, answered, end = "", False, 0
    for block in _BLOCK.finditer(text):
        before = text[end : block.start()].strip()
        end = block.end()
        if _TAG.search(before):
            raise ValueError(f"stray tag in {before[:60]!r}")
        if answered:
            raise ValueError("a block follows the answer")
        if (block["result"] is None) == bool(waiting):
            raise ValueError("a code block has no result" if waiting else "a result has no code block")
        if block["code"] is not None:
            waiting = f"call_{sum(m.role == 'tool' for m in messages)}"
            call = Call(TOOL, {"code": block["code"]}, id=waiting)
            messages.append(Message("assistant", before, calls=(call,)))
        elif block["result"] is not None:
            if before:
                raise ValueError("text stands between a code block and its result")
            messages.append(Message("tool", block["result"].strip(), name=TOOL, call_id=waiting))
            waiting = ""
        else:
            messages.append(Message("assistant", "\n\n".join(part for part in (before, block["answer"]) if part)))
            answered = True
    rest = text[end:].strip()
    if waiting:
        raise ValueError("a code block has no result")
    if _TAG.search(rest) or (answered and rest):
        raise ValueError(f"stray tag or text at the end: {rest[:60]!r}")
    if rest:
        messages.append(Message("assistant", rest))
    return messages


def to_text(messages: Sequence[Message]) -> str:
    """Join messages to the inline text; the inverse of ``to_messages`` for texts in canonical spacing.

    The last paragraph of a final assistant message is the answer block when it holds a boxed value.
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
            before, _, last = content.rpartition("\n\n")
            answer = f"<answer>\n{last}\n</answer>"
            joined += (f"{before}\n{answer}" if before else answer) if "\\boxed{" in last else content
    return joined


def loss_mask(text: str) -> list[bool]:
    """Say for every character whether it may carry loss: all but interpreter blocks, tags included."""
    mask = [True] * len(text)
    for block in re.finditer(r"<interpreter>.*?</interpreter>", text, re.DOTALL):
        mask[block.start() : block.end()] = [False] * (block.end() - block.start())
    return mask


def code_of(generated: str) -> str:
    """Return the code of a text that stopped at a closing code tag: what follows the last opening Python fence."""
    tail = generated.rpartition("```python")[2] if "```python" in generated else ""
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
