"""A long walk: every room says how many coins lie in it and which room is next; the answer is how many there were.

A script that reads nothing but its context walks it, and another one folds: what neither context nor memories hold is
lost. Above a cap of words the walker writes nothing, as a model whose context is full.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ferrule.core.flows import Ask, Session
from ferrule.core.records import Call, Message, Task, plain_text
from ferrule.tools.tool import tool
from ferrule.worlds.session import ToolSession

__all__ = ["Rooms", "folder", "walker"]

_RESULT = re.compile(r"room \d+: (\d+) coins.*?next room (\d+)", re.DOTALL)
_PROGRESS = re.compile(r"after (\d+) rooms (\d+) coins, next room (\d+)")


@dataclass(frozen=True)
class Rooms:
    """Walks of ``steps`` rooms; each result has ``filler`` words that do not matter."""

    steps: int = 60
    filler: int = 40
    name: str = "rooms"

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return walks that begin in room 0, each through rooms of its own."""
        return [self._task(f"{split}/{seed}/{number}") for number in range(count)]

    def _task(self, id: str) -> Task:
        coins = self._coins(id)
        prompt = f"Begin in room 0 and go through {self.steps} rooms. How many coins are there in all?"
        return Task(id, prompt, str(sum(coins)), self.name, meta={"turns": self.steps + 1})

    def _coins(self, id: str) -> list[int]:
        rng = random.Random(id)
        return [rng.randrange(10) for _ in range(self.steps)]

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open the rooms of a task."""
        coins, words = self._coins(task.id), " ".join(["dust"] * self.filler)

        @tool
        def visit(room: int) -> str:
            """Look into a room.

            Args:
                room: its number
            """
            if not 0 <= room < len(coins):
                raise ValueError(f"there is no room {room}")
            return f"room {room}: {coins[room]} coins {words} next room {room + 1}".replace("  ", " ")

        return ToolSession(task, lambda state: (visit,))


def _so_far(texts: Sequence[str]) -> tuple[int, int, int]:
    """Return rooms, coins and the next room, by the last memory among texts and the results after it."""
    rooms = coins = following = 0
    for text in texts:
        if noted := list(_PROGRESS.finditer(text)):
            rooms, coins, following = map(int, noted[-1].groups())
        for here, after in _RESULT.findall(text):
            rooms, coins, following = rooms + 1, coins + int(here), int(after)
    return rooms, coins, following


def walker(*, cap: int | None = None) -> Callable[[Ask, int], Message]:
    """Return a script that visits the next room until it has seen all; with a context above ``cap`` words it stops."""

    def script(request: Ask, sample: int) -> Message:
        texts = [plain_text(message) for message in request.messages]
        if cap is not None and sum(len(text.split()) for text in texts) > cap:
            return Message("assistant", "")
        wanted = int(re.findall(r"through (\d+) rooms", " ".join(texts))[0])
        rooms, coins, following = _so_far(texts)
        if rooms >= wanted:
            return Message("assistant", str(coins))
        return Message("assistant", "", (Call("visit", {"room": following}),))

    return script


def folder(request: Ask, sample: int) -> str:
    """Answer what a fold asks for: what was seen so far goes into the episodic memory."""
    text = plain_text(request.messages[-1])
    rooms, coins, following = _so_far([text])
    if "the steps that mattered" in text:
        noted = {"current_progress": f"after {rooms} rooms {coins} coins, next room {following}"}
        return json.dumps({"task_description": "count", "key_events": [], **noted})
    if "the goal at hand" in text:
        return json.dumps({"immediate_goal": f"room {following}", "current_challenges": "", "next_actions": []})
    return "nothing new about tools"
