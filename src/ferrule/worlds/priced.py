"""Priced calls: every tool is there twice, cheap and dear, and the purse pays for nothing but the cheap way.

Tasks are chains of look-ups (``ferrule.worlds.chains``) whose number of calls is the level. A tool says what a call
costs, the prompt how many coins there are: one for each call that the chain needs. A dear call, or one that leads
nowhere, leaves too few; one that the purse cannot pay empties it. What is drawn for ``test`` is drawn by the rule of
chains.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ferrule.core.demonstration import Demonstration
from ferrule.core.flows import Session
from ferrule.core.records import Call, Observation, Task, Tool
from ferrule.tools.budget import Budget
from ferrule.worlds.chains import Route, reading, route_of
from ferrule.worlds.session import ToolSession
from ferrule.worlds.splits import check_split, different

__all__ = ["WORLD", "Priced"]

_WAYS = ("", "fetch_")
"""What stands before the name of a tool, for its two ways; either may be the cheap one."""


@dataclass(frozen=True)
class _Offer:
    """A route, the price of every tool by its name, and the cheap name of each tool of the route."""

    route: Route
    prices: Mapping[str, int]
    cheap: Mapping[str, str]


@dataclass
class _Purse:
    """The coins that are left."""

    coins: int

    def read(self, offer: _Offer, key: str) -> int | Observation:
        name, _, number = key.partition(".")
        price, cell = offer.prices[name], f"{_plain(name)}.{number}"
        if price > self.coins:
            had, self.coins = self.coins, 0
            return Observation(f"this costs {_coins(price)}; the purse had {had} and is empty now", "refused")
        self.coins -= price
        if cell not in offer.route.cells:
            raise KeyError(f"no entry {key}")
        return offer.route.cells[cell]


@dataclass(frozen=True)
class Priced:
    """Seeded chains whose tools come cheap (one coin) and dear (``dear`` coins), under names that do not tell which.

    The purse holds a coin per call of the chain. ``most`` caps what the calls of an episode may cost, those that the
    purse refuses included.
    """

    dear: int = 3
    most: int = 60
    name: str = "priced"

    def __post_init__(self) -> None:
        """Refuse a dear way that costs no more than the cheap one."""
        if self.dear < 2:
            raise ValueError(f"Priced.dear is {self.dear}; the least is 2, since the cheap way costs 1")

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return at most ``count`` different tasks whose levels take turns."""
        check_split(split, levels)
        return different(lambda level, place, key: self._task(split, level, f"{seed}/{key}"), count, levels)

    def _offer(self, key: str) -> _Offer:
        _, split, level, _, _ = key.rsplit("/", 4)
        rng = random.Random(key)
        route = route_of(rng, split, int(level), decoys=0)
        cheap = {name: rng.choice(_WAYS) for name in route.texts}
        pairs = [(name, way) for name in route.texts for way in _WAYS]
        rng.shuffle(pairs)
        prices = {f"{way}{name}": 1 if way == cheap[name] else self.dear for name, way in pairs}
        return _Offer(route, prices, {name: f"{way}{name}" for name, way in cheap.items()})

    def _task(self, split: str, level: int, drawn: str) -> Task:
        key = f"{self.name}/{split}/{level}/{drawn}"
        route = self._offer(key).route
        coins = "1 coin" if level == 1 else f"{level} coins"
        meta = {"verifier": "numeric", "level": level, "split": split, "coins": level}
        prompt = f"What is {route.what}? You have {coins} to spend."
        return Task(id=key, prompt=prompt, answer=str(route.answer), world=self.name, meta=meta)

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session with a full purse; calls that never run cost nothing."""
        offer = self._offer(task.id)

        def build(purse: _Purse) -> tuple[Tool, ...]:
            return tuple(
                reading(
                    name,
                    f"{offer.route.texts[_plain(name)]}, for {_coins(price)}",
                    lambda key: purse.read(offer, key),
                    cost=price,
                )
                for name, price in offer.prices.items()
            )

        return ToolSession(task, build, _Purse(len(offer.route.calls)), budget=Budget(total=self.most))

    def demonstrate(self, task: Task) -> Demonstration:
        """Return the cheap calls, one per round, and the answer."""
        offer = self._offer(task.id)
        cheap: list[Call] = [replace(call, name=offer.cheap[call.name]) for call in offer.route.calls]
        return Demonstration(tuple((call,) for call in cheap), str(offer.route.answer))


def _plain(name: str) -> str:
    """The name without the way that it is bought."""
    return name.removeprefix("fetch_")


def _coins(count: int) -> str:
    return "1 coin" if count == 1 else f"{count} coins"


WORLD = Priced
