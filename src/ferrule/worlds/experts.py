"""Reference calls of a task, and the conversation of carrying a reference solution out."""

from __future__ import annotations

from dataclasses import replace

from ferrule.core.demonstration import Demonstrates, Demonstration
from ferrule.core.flows import Session
from ferrule.core.records import Call, Message, Task
from ferrule.worlds.named import generated
from ferrule.worlds.user import calls_of

__all__ = ["reference_calls", "transcript"]


def reference_calls(task: Task) -> tuple[Call, ...]:
    """Return the reference calls of a task in order: ``meta["calls"]`` where it has them, else those of its world.

    The world is the generated one that ``task.world`` names; for any other, call its ``demonstrate`` yourself. Raises
    ``ValueError`` for a task without calls whose world is not a generated one or has no reference solutions.
    """
    if "calls" in task.meta:
        return calls_of(task)
    known: dict[str, object] = {name: build() for name, build in generated().items()}
    able = {name: home for name, home in known.items() if isinstance(home, Demonstrates)}
    if task.world not in able:
        raise ValueError(
            f"task {task.id!r} has no meta['calls'], and its world {task.world!r} is not one that knows reference "
            f"solutions by name: {', '.join(able)}"
        )
    return able[task.world].demonstrate(task).calls


def transcript(task: Task, session: Session, demonstration: Demonstration) -> tuple[Message, ...]:
    """Carry a demonstration out in a session of its task and return the conversation.

    It holds what the task asks, then per round the calls and their results, then the answer where there is one.
    """
    messages = list(task.conversation)
    for calls in demonstration.rounds:
        named = tuple(replace(call, id=f"call_{i}") for i, call in enumerate(calls))
        messages.append(Message("assistant", "", named))
        for call in named:
            messages.append(Message("tool", session.act(call).text, name=call.name, call_id=call.id))
    if demonstration.answer is not None:
        messages.append(Message("assistant", demonstration.answer))
    return tuple(messages)
