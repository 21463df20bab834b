"""Demonstrations that the pocket model learns from: easy levels, with and without tools, of mixed quality.

A share of the demonstrations answers without calling a tool even when the answer cannot be known that way. The
model thus learns every skill but not the habit: when to call is left for reinforcement learning.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ferrule.core.demonstration import Demonstration
from ferrule.core.flows import World
from ferrule.core.records import Message, Task, Tool
from ferrule.worlds.experts import transcript
from ferrule.worlds.named import world

__all__ = ["PARTS", "Conversation", "Part", "conversations"]


@dataclass(frozen=True)
class Conversation:
    """Messages of one demonstration and the tools on offer."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]


@dataclass(frozen=True)
class Part:
    """What one world adds: its weight among the worlds, the weights of levels 1, 2, ..., and how a task is told."""

    weight: int
    levels: tuple[int, ...]
    tell: Callable[[Any, Task, random.Random], Conversation]


def _play(home: World, task: Task, demonstration: Demonstration) -> Conversation:
    """Carry a demonstration out in the world and write the conversation down."""
    session = home.start(task)
    messages, tools = transcript(task, session, demonstration), session.tools
    session.close()
    return Conversation(messages, tools)


def _bare(answer: Any) -> Demonstration:
    return Demonstration((), str(answer))


def _arithmetic(home: Any, task: Task, rng: random.Random) -> Conversation:
    """Tell an arithmetic task with some of the tools on offer: a call of either, or a bare answer."""
    offered = rng.choice((("calculator",), ("python",), ("calculator", "python"), ("calculator", "python"), ()))
    task = replace(task, tools=offered)
    if not offered or rng.random() < (0.75 if task.meta["level"] == 1 else 0.5):
        return _play(home, task, _bare(task.answer))
    name = rng.choice(offered)
    (call,) = home.demonstrate(task, tool=name).calls
    call = replace(call, id="call_0")
    # What both tools show is known beforehand, so no interpreter has to be started.
    shown = f"{task.answer}\n" if name == "python" else str(task.answer)
    result = Message("tool", shown, name=name, call_id=call.id)
    last = Message("assistant", str(task.answer))
    messages = (Message("user", task.prompt), Message("assistant", "", (call,)), result, last)
    return Conversation(messages, home.start(task).tools)


def _apis(home: Any, task: Task, rng: random.Random) -> Conversation:
    """Tell a task on generated tools by its calls, or by a bare guess."""
    return _play(home, task, _bare(rng.randint(10, 999)) if rng.random() < 0.4 else home.demonstrate(task))


def _facts(home: Any, task: Task, rng: random.Random) -> Conversation:
    """Tell a question: common facts mostly from memory, rare ones mostly searched."""
    bare = rng.random() < (0.25 if task.meta["rare"] else 0.75)
    return _play(home, task, _bare(task.answer) if bare else home.demonstrate(task))


PARTS: Mapping[str, Part] = {
    "arithmetic": Part(4, (3, 3, 3, 1), _arithmetic),
    "apis": Part(4, (3, 3, 3, 1, 1), _apis),
    "facts": Part(2, (4, 3, 2, 1), _facts),
}
"""The worlds of the corpus by name."""


def conversations(count: int, seed: int = 0) -> Iterator[Conversation]:
    """Yield ``count`` demonstrations, worlds drawn by weight; the same for the same seed."""
    weights = [part.weight for part in PARTS.values()]
    for index in range(count):
        rng = random.Random(f"corpus/{seed}/{index}")
        (name,) = rng.choices(list(PARTS), weights)
        home, part = world(name), PARTS[name]
        (level,) = rng.choices(range(1, len(part.levels) + 1), part.levels)
        (task,) = home.tasks("train", 1, seed=seed * 1_000_003 + index, levels=(level,))
        yield part.tell(home, task, rng)
