"""Trials of tools as a memory: for a task those whose requests are most like it are recalled.

Source: "LLMs in the Imaginarium: Tool Learning through Simulated Trial and Error" (19), its use in context.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Sequence

from ferrule.agents.probe import Trial
from ferrule.core.records import Message, Score, Task
from ferrule.memory.memory import Memory, Played, Recalled
from ferrule.tools.alike import Alike, by_words

__all__ = ["trial_memory", "trial_text"]


def trial_text(trial: Trial) -> str:
    """Return a trial as an example: the request, the last call that ran with its result, and the answer."""
    lines = [f"Request: {trial.query}"]
    ran = [(call, observation) for call, observation in trial.calls if observation.status == "ok"]
    for call, observation in ran[-1:]:
        lines.append(f"Call: {call.name}({json.dumps(dict(call.arguments), ensure_ascii=False)})")
        lines.append(f"Result: {observation.text}")
    return "\n".join(lines if trial.answer is None else [*lines, f"Answer: {trial.answer}"])


def trial_memory(trials: Sequence[Trial], *, count: int = 8, alike: Alike = by_words) -> Memory:
    """Return the memory that recalls the ``count`` trials most like a task's prompt, the most similar one last.

    Only trials with a call that ran count. Nothing is kept: exploration comes before. Raises ``ValueError`` for a count
    below 1.
    """
    if count < 1:
        raise ValueError(f"count is {count}; the least is 1")
    able = [
        (f"trial-{place}", trial)
        for place, trial in enumerate(trials)
        if any(observation.status == "ok" for _, observation in trial.calls)
    ]

    def recall(task: Task, messages: Sequence[Message]) -> Recalled:
        if messages:
            return Recalled()
        nearest = heapq.nlargest(count, able, key=lambda pair: alike(task.prompt, pair[1].query))[::-1]
        texts = [trial_text(trial) for _, trial in nearest]
        return Recalled("\n\n".join(texts), ids=tuple(id for id, _ in nearest))

    def keep(episode: Played, scores: Sequence[Score]) -> None:
        return None

    return Memory(recall, keep)
