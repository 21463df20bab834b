"""Agents that learned without gradients on equal footing: taught on training tasks, then measured under controls.

A way to teach is a function that plays or explores training tasks and returns an agent, or a memory for one. All ask
one policy, ``Cast``, which meters what learning took: the model itself plays and tries tools, somebody else may write.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from ferrule.core.flows import Agent, Ask, Policy, World
from ferrule.core.records import Reply, Task, plain_text
from ferrule.evaluate.evaluate import Evaluation
from ferrule.evaluate.stream import Learn, Streamed, stream
from ferrule.memory.library import Library
from ferrule.memory.memory import Memory, forgetful, frozen, shuffled
from ferrule.memory.recall import library_memory
from ferrule.rollout.spent import Spent, added
from ferrule.tools.overlay import Overlay

__all__ = ["TAUGHT", "Cast", "Measured", "Taught", "Teach", "by_calls", "of_others", "play_taught"]

TAUGHT = ("on", "frozen", "shuffled")
"""The controls of what was learned; ``off`` is the agent without it."""


class Cast:
    """A model for all that plays and calls tools, and a writer for all other asks of other roles, as one policy.

    ``spent`` is what each role took: written tokens, or words of a writer that has no tokens.
    """

    def __init__(self, model: Policy, writer: Policy | None = None, *, player: str = "solver") -> None:
        self.model, self.writer, self.player = model, writer or model, player
        self.spent: dict[str, Spent] = {}
        self.renderer = getattr(model, "renderer", None)
        self.powers: frozenset[str] = getattr(model, "powers", frozenset())

    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        """Answer all asks: those of the player, and those that offer tools, by the model."""
        mine = [ask for ask in asks if ask.role == self.player or ask.tools]
        others = [ask for ask in asks if ask.role != self.player and not ask.tools]
        replies = {"mine": iter(self.model.generate(mine) if mine else ()),
                   "others": iter(self.writer.generate(others) if others else ())}  # fmt: skip
        answers = []
        for ask in asks:
            answers.append(next(replies["mine" if ask.role == self.player or ask.tools else "others"]))
            took = Spent(1, sum(len(one.sampled) or len(plain_text(one.message).split()) for one in answers[-1]))
            self.spent = added([self.spent, {ask.role: took}])
        return answers


@dataclass(frozen=True)
class Taught:
    """What was learned: an ``agent`` that plays with it, or a ``memory`` to give to the agent, or both.

    ``other`` is the agent with what belongs to other tools, which is played for ``shuffled`` where no recall can be
    shuffled. ``keeps`` says that the memory, and ``learn``, go on learning from measured tasks, if allowed.
    ``size`` counts entries or documents, ``curve`` is the success over the batches that were learned from.
    """

    agent: Agent
    other: Agent | None = None
    memory: Memory | None = None
    learn: Learn | None = None
    keeps: bool = False
    size: int = 0
    curve: tuple[float, ...] = ()


Teach: TypeAlias = Callable[[Agent, Policy, World, Sequence[Task], int], Taught]
"""``teach(agent, policy, world, tasks, seed)`` lets an agent learn on training tasks, whose answers it may see."""


def by_calls(agent: Agent, policy: Policy, world: World, tasks: Sequence[Task], seed: int) -> Taught:
    """Keep the calls of the runs that worked, and recall those of the tasks that are most alike."""
    library = Library()
    memory = library_memory(library)
    played = stream(agent, policy, world, tasks, memory, seed=seed, temperature=0.0)
    return Taught(agent, memory=memory, keeps=True, size=len(library), curve=curve_of(played))


def curve_of(streamed: Streamed) -> tuple[float, ...]:
    """Return the success in each batch of a stream."""
    return tuple(point.success for point in streamed.points)


def of_others(overlay: Overlay, seed: int) -> Overlay:
    """Return documents of which each stands beside another tool: as many words that fit nothing.

    The words of parameters and results stay out, as other tools have others.
    """
    names = random.Random(f"others/{seed}").sample(list(overlay.texts), len(overlay.texts))
    pairs = zip(names, [*names[1:], *names[:1]], strict=True)
    return Overlay({name: replace(overlay.texts[other], parameters={}, output=None) for name, other in pairs})


@dataclass(frozen=True)
class Measured:
    """An evaluation under a control, and what learning took in all before it and, under ``on``, on the way."""

    evaluation: Evaluation
    learning: Mapping[str, Spent]


def play_taught(
    teach: Teach, player: Agent, cast: Cast, world: World, learn: Sequence[Task], tasks: Sequence[Task],
    controls: Sequence[str], *, seed: int, **settings: Any,
) -> tuple[Taught, dict[str, Measured]]:  # fmt: skip
    """Teach an agent once and measure it under each of ``controls`` that says something of it.

    What keeps nothing more is the same ``on`` and ``frozen``, so that it is measured as ``frozen`` alone. ``settings``
    are those of ``evaluate``.
    """
    taught = teach(player, cast, world, learn, seed)
    learning = dict(cast.spent)
    measured: dict[str, Measured] = {}
    memory = taught.memory or forgetful()
    for control in (c for c in ("frozen", "shuffled", "on") if c in controls and (c != "on" or taught.keeps)):
        cast.spent, agent, used = {}, taught.agent, frozen(memory)
        if control == "shuffled":
            agent = taught.other or agent
            used = used if taught.other is not None else shuffled(used, tasks, seed=seed)
        more: dict[str, Any] = {"learn": taught.learn} if control == "on" else {}
        used = memory if control == "on" else used
        played = stream(agent, cast, world, tasks, used, seed=seed, **more, **settings)
        measured[control] = Measured(played.evaluation, added([learning, played.spent]))
    return taught, measured
