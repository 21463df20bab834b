"""Another world under made-up names: nothing but the descriptions tells what a tool and its parameters are.

Levels and the held-out split are those of the world inside, ``apis`` or ``chains``; names are drawn per task.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import get_args

from ferrule.core.arrays import nearest
from ferrule.core.demonstration import Demonstration
from ferrule.core.flows import Session
from ferrule.core.records import Call, Task
from ferrule.tools.overlay import Overlay, names
from ferrule.worlds.aliased import Aliased, Words, aliases
from ferrule.worlds.apis import Apis
from ferrule.worlds.chains import Chains

__all__ = ["WORLD", "Renamed"]

_INSIDE: dict[str, type[Apis] | type[Chains]] = {"apis": Apis, "chains": Chains}


@dataclass(frozen=True)
class Renamed:
    """Seeded tasks of the world ``of`` whose tools and parameters have made-up names, the same for the same task.

    ``words`` says how they look: ``characters`` (a letter and five letters and digits) or ``syllables``. ``calls`` caps
    the tool calls of an episode.
    """

    of: str = "apis"
    words: str = "characters"
    calls: int = 16
    name: str = "renamed"

    def __post_init__(self) -> None:
        """Refuse unknown worlds and words."""
        if self.of not in _INSIDE:
            raise ValueError(f"Renamed.of: {nearest(self.of, list(_INSIDE))}")
        if self.words not in get_args(Words):
            raise ValueError(f"Renamed.words: {nearest(self.words, get_args(Words))}")

    def _inside(self) -> Apis | Chains:
        return _INSIDE[self.of](calls=self.calls, name=self.name)

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return at most ``count`` different tasks whose levels take turns; ``meta["calls"]`` has the reference calls.

        Rewards find them there: a task does not say which world is inside.
        """
        return [self._with_calls(task) for task in self._inside().tasks(split, count, seed=seed, levels=levels)]

    def _with_calls(self, task: Task) -> Task:
        calls = [{"name": call.name, "arguments": dict(call.arguments)} for call in self.demonstrate(task).calls]
        return replace(task, meta={**task.meta, "calls": calls})

    def _overlay(self, task: Task) -> Overlay:
        """Draw the names of all tools of a task, offered or not."""
        words: Words = "syllables" if self.words == "syllables" else "characters"
        session = self._inside().start(replace(task, tools=None))
        overlay = aliases(session.tools, random.Random(f"names of {task.id}").getrandbits(32), words=words)
        session.close()
        return overlay

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session of the task under its names."""
        return Aliased(self._inside().start(task, seed), self._overlay(task))

    def demonstrate(self, task: Task) -> Demonstration:
        """Return the calls of the reference solution under the names of the task, and the answer."""
        solution, shown = self._inside().demonstrate(task), names(self._overlay(task))

        def said(call: Call) -> Call:
            entry = shown[call.name]
            given = {entry["parameters"].get(name, name): value for name, value in call.arguments.items()}
            return replace(call, name=entry["name"], arguments=given)

        return Demonstration(tuple(tuple(map(said, calls)) for calls in solution.rounds), solution.answer)


WORLD = Renamed
