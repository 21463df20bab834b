"""Recall that asks a model: what a task needs, and how what was found reads for it.

Source: "XSkill: Continual Learning from Experience and Skills in Multimodal Agents" (40).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ferrule.agents.flow import cut_off, returned
from ferrule.core.flows import Ask, Flow, ask
from ferrule.core.records import Message, Task, plain_text
from ferrule.memory.entries import Entry
from ferrule.memory.library import Library
from ferrule.memory.replies import object_in

__all__ = ["by_parts", "rewritten", "subtasks"]


def subtasks(task: Task, *, role: str = "adapter", most: int = 3, max_tokens: int = 256) -> Flow[list[str]]:
    """Ask a model for 2 to ``most`` queries about methods that a task needs; empty where it gives none."""
    asked = (
        f"Split this task into 2 to {most} questions about methods (use of tools, strategy, difficulty), one a line, "
        f"without names or values.\n\n{plain_text(task.conversation[-1])}"
    )
    (reply,) = yield from ask(Ask((Message("user", asked),), role=role, max_tokens=max_tokens))
    lines = [] if cut_off(reply) else plain_text(reply.message).splitlines()
    return [query for line in lines if (query := line.strip(" \t-*0123456789.)"))][:most]


def rewritten(
    task: Task, entries: Sequence[Entry], *, role: str = "adapter", max_tokens: int = 512
) -> Flow[list[Entry]]:
    """Ask a model to word entries for a task, as a JSON object of texts by id.

    Entries that it leaves out are dropped; where it fails all stay as they are.
    """
    told = "\n".join(f"[{entry.id}] {entry.text}" for entry in entries)
    asked = f"Reword what helps here, as a JSON object of texts by id; leave out the rest.\n\n{told}\n\nTask:\n"
    message = Message("user", asked + plain_text(task.conversation[-1]))
    (reply,) = yield from ask(Ask((message,), role=role, max_tokens=max_tokens))
    texts = None if cut_off(reply) else object_in(plain_text(reply.message))
    if texts is None:
        return list(entries)
    return [replace(entry, text=str(texts[entry.id]), when="") for entry in entries if texts.get(entry.id)]


def by_parts(
    library: Library, task: Task, split: Callable[[Task], Flow[Sequence[str]] | Sequence[str]] = subtasks, *,
    k: int = 3, least: float = 1e-9,
) -> Flow[list[Entry]]:  # fmt: skip
    """Return what is retrieved for the parts of a task, at most ``k`` entries each, in the order they came first.

    Where ``split`` gives no parts the task itself is the only one.
    """
    queries = (yield from returned(split(task))) or [plain_text(task.conversation[-1])]
    entries = {e.id: e for query in queries for e, _ in library.search(query, k, least=least)}
    return list(entries.values())
