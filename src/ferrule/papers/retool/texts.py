"""Solutions with code and its output inside: as one text, as messages, and checked before they are learned from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ferrule.core.records import Call, Message, Observation, Task, plain_text
from ferrule.rewards.verify import verify

__all__ = [
    "PROMPT",
    "TOOL",
    "ColdStart",
    "boxed",
    "code_of",
    "cold_start",
    "loss_mask",
    "observation_text",
    "result_text",
    "rewrite_problem",
    "to_messages",
    "to_text",
]

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
    for found in _BLOCK.finditer(text):
        before = text[end : found.start()].strip()
        end = found.end()
        if _TAG.search(before):
            raise ValueError(f"stray tag in {before[:60]!r}")
        if answered:
            raise ValueError("a block follows the answer")
        if (found["result"] is None) == bool(waiting):
            raise ValueError("a code block has no result" if waiting else "a result has no code block")
        if found["code"] is not None:
            waiting = f"call_{sum(m.role == 'tool' for m in messages)}"
            call = Call(TOOL, {"code": found["code"]}, id=waiting)
            messages.append(Message("assistant", before, calls=(call,)))
        elif found["result"] is not None:
            if before:
                raise ValueError("text stands between a code block and its result")
            messages.append(Message("tool", found["result"].strip(), name=TOOL, call_id=waiting))
            waiting = ""
        else:
            messages.append(Message("assistant", "\n\n".join(part for part in (before, found["answer"]) if part)))
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
    out = ""
    for message in messages:
        content = plain_text(message)
        if message.role == "tool":
            out += f"<interpreter>\n{content}\n</interpreter>\n\n"
        elif message.calls:
            out += content + ("\n" if content else "")
            out += f"<code>\n```python\n{message.calls[0].arguments['code']}\n```\n</code>\n"
        else:
            before, _, last = content.rpartition("\n\n")
            answer = f"<answer>\n{last}\n</answer>"
            out += (f"{before}\n{answer}" if before else answer) if "\\boxed{" in last else content
    return out


def loss_mask(text: str) -> list[bool]:
    """Say for every character whether it may carry loss: all but interpreter blocks, tags included."""
    mask = [True] * len(text)
    for found in re.finditer(r"<interpreter>.*?</interpreter>", text, re.DOTALL):
        mask[found.start() : found.end()] = [False] * (found.end() - found.start())
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


def boxed(text: str | None) -> str | None:
    r"""Return the content of the last ``\boxed{...}`` with balanced braces, or None."""
    start = text.rfind("\\boxed{") if text else -1
    if text is None or start < 0:
        return None
    depth, first = 0, start + len("\\boxed")
    for i in range(first, len(text)):
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return text[first + 1 : i]
    return None


Execute: TypeAlias = Callable[[str], Observation]
Rewrite: TypeAlias = Callable[[Task, str], str]


def rewrite_problem(task: Task, text: str, execute: Execute) -> str:
    """Say why a rewritten solution must be dropped, or return an empty string.

    Three passes: the tags parse and there is code; every block gives the stated result when executed again (last line
    of a traceback for failures); the boxed answer is right by the task's verifier.
    """
    try:
        messages = to_messages(text)
    except ValueError as error:
        return f"format: {error}"
    calls = [call for message in messages for call in message.calls]
    results = [plain_text(message) for message in messages if message.role == "tool"]
    if not calls:
        return "format: no code block"
    for call, stated in zip(calls, results, strict=True):
        code = str(call.arguments["code"])
        got = result_text(code, execute(code))
        if got.split() != stated.split():
            return f"result: {code[:60]!r} gives {got[:60]!r}, not {stated[:60]!r}"
    final = plain_text(messages[-1]) if messages[-1].role == "assistant" else ""
    if not verify(str(task.meta.get("verifier", "exact")), boxed(final), task.answer) > 0.5:
        return f"answer: {boxed(final)!r} is not {task.answer!r}"
    return ""


@dataclass(frozen=True)
class ColdStart:
    """Rewritten solutions that passed all checks, as ``(task, messages)``, and the reasons of those that did not."""

    kept: tuple[tuple[Task, tuple[Message, ...]], ...]
    dropped: tuple[tuple[Task, str], ...]


def cold_start(solutions: Iterable[tuple[Task, str]], rewrite: Rewrite, execute: Execute) -> ColdStart:
    """Rewrite text solutions with code by ``rewrite`` and keep those that ``rewrite_problem`` finds nothing wrong with.

    ``rewrite(task, solution)`` is a model or a template; ``execute(code)`` runs one script.
    """
    kept: list[tuple[Task, tuple[Message, ...]]] = []
    dropped: list[tuple[Task, str]] = []
    for task, solution in solutions:
        text = rewrite(task, solution)
        problem = rewrite_problem(task, text, execute)
        if problem:
            dropped.append((task, problem))
        else:
            kept.append((task, (Message("user", task.prompt), *to_messages(text))))
    return ColdStart(tuple(kept), tuple(dropped))
