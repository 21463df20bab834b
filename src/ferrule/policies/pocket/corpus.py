"""Demonstrations that the pocket model learns from: easy levels, with and without tools, of mixed quality.

A share of the demonstrations answers without calling a tool even when the answer cannot be known that way. The
model thus learns every skill but not the habit: when to call is left for reinforcement learning.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ferrule.core.records import Message, Task, Tool, World
from ferrule.worlds import apis, arithmetic, facts

__all__ = ["Conversation", "conversations"]


@dataclass(frozen=True)
class Conversation:
    """Messages of one demonstration and the tools on offer."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]


def _play(task: Task, world: World, rounds: tuple[tuple, ...], answer: str) -> Conversation:  # type: ignore[type-arg]
    """Carry the expert's calls out in the world and write the conversation down."""
    session = world.start(task)
    messages = [Message("user", task.prompt)]
    for calls in rounds:
        named = tuple(replace(call, id=f"call_{i}") for i, call in enumerate(calls))
        messages.append(Message("assistant", "", named))
        for call in named:
            messages.append(Message("tool", session.act(call).text, name=call.name, call_id=call.id))
    messages.append(Message("assistant", answer))
    tools = session.tools
    session.close()
    return Conversation(tuple(messages), tools)


def _arithmetic(rng: random.Random, index: int, seed: int) -> Conversation:
    """One arithmetic demonstration of level 1 to 3 (rarely 4): a call of either tool, or a bare answer."""
    level = rng.choices((1, 2, 3, 4), (3, 3, 3, 1))[0]
    offered = rng.choice((("calculator",), ("python",), ("calculator", "python"), ("calculator", "python"), ()))
    world = arithmetic.Arithmetic()
    (task,) = world.tasks("train", 1, seed=seed * 1_000_003 + index, levels=(level,))
    task = replace(task, tools=offered)
    session = world.start(task)
    bare = not offered or rng.random() < (0.75 if level == 1 else 0.5)
    user, last = Message("user", task.prompt), Message("assistant", str(task.answer))
    messages: tuple[Message, ...] = (user, last)
    if not bare:
        name = rng.choice(offered)
        ((call,),) = arithmetic.demonstrate(task, name)
        call = replace(call, id="call_0")
        # What both tools show is known beforehand, so no interpreter has to be started.
        shown = f"{task.answer}\n" if name == "python" else str(task.answer)
        result = Message("tool", shown, name=name, call_id=call.id)
        messages = (user, Message("assistant", "", (call,)), result, last)
    return Conversation(messages, session.tools)


def _apis(rng: random.Random, index: int, seed: int) -> Conversation:
    """One demonstration on generated tools of level 1 to 3 (rarely above), or a bare guess."""
    level = rng.choices((1, 2, 3, 4, 5), (3, 3, 3, 1, 1))[0]
    world = apis.Apis()
    (task,) = world.tasks("train", 1, seed=seed * 1_000_003 + index, levels=(level,))
    if rng.random() < 0.4:
        return _play(task, world, (), str(rng.randint(10, 999)))
    return _play(task, world, apis.demonstrate(task), str(task.answer))


def _facts(rng: random.Random, index: int, seed: int) -> Conversation:
    """One question of level 1 to 3 (rarely 4): common facts mostly from memory, rare ones searched."""
    level = rng.choices((1, 2, 3, 4), (4, 3, 2, 1))[0]
    world = facts.Facts()
    (task,) = world.tasks("train", 1, seed=seed * 1_000_003 + index, levels=(level,))
    bare = rng.random() < (0.25 if task.meta["rare"] else 0.75)
    return _play(task, world, () if bare else facts.demonstrate(task), str(task.answer))


_KINDS = (_arithmetic, _apis, _facts)
_WEIGHTS = (4, 4, 2)


def conversations(count: int, seed: int = 0) -> Iterator[Conversation]:
    """Yield ``count`` demonstrations, worlds drawn by weight; the same for the same seed."""
    for index in range(count):
        rng = random.Random(f"corpus/{seed}/{index}")
        yield rng.choices(_KINDS, _WEIGHTS)[0](rng, index, seed)
