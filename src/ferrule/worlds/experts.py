"""Reference calls of a task: what an expert would call, hidden from the model and open to rewards that compare."""

from __future__ import annotations

from ferrule.core.records import Call, Task
from ferrule.worlds import apis, apps, arithmetic

__all__ = ["reference_calls", "reference_rounds"]

_EXPERTS = {"arithmetic": arithmetic.demonstrate, "apis": apis.demonstrate, "apps": apps.demonstrate}


def reference_rounds(task: Task) -> tuple[tuple[Call, ...], ...]:
    """Return the rounds of calls of an expert: ``meta["calls"]`` where a task has it, else its world's expert.

    ``meta["calls"]`` is a list of ``{"name": ..., "arguments": {...}}`` (or ``"parameters"``), one round each. Raises
    ``ValueError`` for a task that has neither.
    """
    if "calls" in task.meta:
        rows = task.meta["calls"]
        return tuple((Call(row["name"], row.get("arguments", row.get("parameters", {}))),) for row in rows)
    kind = task.id.split("/")[0]
    if kind not in _EXPERTS:
        raise ValueError(f"task {task.id!r} has no meta['calls'], and its world has no expert: {sorted(_EXPERTS)} have")
    return _EXPERTS[kind](task)


def reference_calls(task: Task) -> tuple[Call, ...]:
    """Return the reference calls of a task in order."""
    return tuple(call for calls in reference_rounds(task) for call in calls)
