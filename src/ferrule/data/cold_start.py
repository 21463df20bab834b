"""Text solutions rewritten with code: each is executed again and its answer verified before it is learned from.

Source: "ReTool: Reinforcement Learning for Strategic Tool Use in LLMs" (paper 17), whose cold start it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from ferrule.chat.answer import boxed
from ferrule.chat.inline import result_text, to_messages
from ferrule.core.records import Message, Observation, Task, plain_text
from ferrule.rewards.verify import verify

__all__ = ["ColdStart", "Execute", "Rewrite", "cold_start", "rewrite_problem"]

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
        result = result_text(code, execute(code))
        if result.split() != stated.split():
            return f"result: {code[:60]!r} gives {result[:60]!r}, not {stated[:60]!r}"
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
