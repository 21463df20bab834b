"""What a cold start learns from: text solutions rewritten with code, and traces with calls, each checked by running it.

Sources: "ReTool: Reinforcement Learning for Strategic Tool Use in LLMs" (paper 17) for ``cold_start``, "Act Wisely:
Cultivating Meta-Cognitive Tool Use in Agentic Multimodal Models" (paper 15) for ``screened``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeAlias

from ferrule.chat.answer import boxed
from ferrule.chat.inline import result_text, to_messages
from ferrule.core.records import Message, Observation, Task, plain_text
from ferrule.rewards.verify import verify

__all__ = [
    "Candidate", "ColdStart", "Execute", "Judge", "Rerun", "Rewrite", "candidate_problem", "cold_start", "rerun",
    "rewrite_problem", "screened",
]  # fmt: skip

Execute: TypeAlias = Callable[[str], Observation]
Rewrite: TypeAlias = Callable[[Task, str], str]
Rerun: TypeAlias = Callable[[Sequence[str]], Sequence[Observation]]
"""Runs the scripts of one trace in their order, in one interpreter."""
Judge: TypeAlias = Callable[[Task, Sequence[Message]], Mapping[str, float]]
"""Scores a trace from 0 to 1 by name: is the call relevant, is the trace coherent, is the reason for the call good."""


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
    """Traces that passed all checks, as ``(task, messages)``, and the reasons of those that did not."""

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


@dataclass(frozen=True)
class Candidate:
    """A trace with calls, and how many of ``tries`` samples of the base model solved its task without tools."""

    task: Task
    messages: tuple[Message, ...]
    solved: int
    tries: int = 8

    def __post_init__(self) -> None:
        """Refuse counts that no measurement gives."""
        if self.tries < 1 or not 0 <= self.solved <= self.tries:
            raise ValueError(f"solved is {self.solved} of {self.tries} tries; it lies between 0 and tries, at least 1")


def rerun(scripts: Sequence[str], *, seconds: float = 20.0) -> list[Observation]:
    """Run scripts one after the other in a fresh isolated interpreter, up to the first that fails."""
    from ferrule.tools.python import PythonSession

    observations: list[Observation] = []
    with closing(PythonSession(seconds=seconds)) as session:
        for script in scripts:
            observations.append(session.run(script))
            if observations[-1].status != "ok":
                break
    return observations


def candidate_problem(
    candidate: Candidate,
    *,
    rerun: Rerun = rerun,
    judge: Judge | None = None,
    least: float = 0.7,
    argument: str = "code",
) -> str:
    """Say why a candidate must be dropped, or return an empty string.

    Asked in this order: does all of its code run (the texts of calls in ``argument``); did the base model fail to solve
    the task in at least one of its tries without tools; does ``judge`` give at least ``least`` (a choice) by every
    name? A trace without code has none that fails. A judge that names nothing, or gives what is no number from 0 to 1,
    has not judged, and the trace is dropped.
    """
    calls = [call for message in candidate.messages for call in message.calls]
    if any(call.problem or not isinstance(call.arguments, Mapping) for call in calls):
        return "call: one could not be read"
    scripts = [str(call.arguments[argument]) for call in calls if argument in call.arguments]
    results = rerun(scripts) if scripts else []
    for script, observation in zip(scripts, results, strict=False):
        if observation.status != "ok":
            last = (observation.text.strip().splitlines() or [observation.status])[-1]
            return f"code: {script[:60]!r} fails with {last[:80]!r}"
    if len(results) < len(scripts):
        return f"code: {len(scripts) - len(results)} of {len(scripts)} scripts did not run"
    if candidate.solved == candidate.tries:
        return f"easy: solved {candidate.solved} of {candidate.tries} times without tools"
    if judge is None:
        return ""
    scores = judge(candidate.task, candidate.messages)
    low = [name for name, score in scores.items() if math.isnan(score) or not least <= score <= 1.0]
    if low or not scores:
        return "judge: " + (", ".join(f"{name} is {scores[name]:.3g}" for name in low) or "no verdict")
    return ""


def screened(candidates: Iterable[Candidate], **settings: Any) -> ColdStart:
    """Keep the candidates that ``candidate_problem`` finds nothing wrong with; ``settings`` are its keywords."""
    kept: list[tuple[Task, tuple[Message, ...]]] = []
    dropped: list[tuple[Task, str]] = []
    for candidate in candidates:
        problem = candidate_problem(candidate, **settings)
        if problem:
            dropped.append((candidate.task, problem))
        else:
            kept.append((candidate.task, candidate.messages))
    return ColdStart(tuple(kept), tuple(dropped))
