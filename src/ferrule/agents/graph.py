"""Monte Carlo graph search over choices: what leads to the same choice shares what is learned of it.

A tree keeps its statistics per way to a choice; here they are kept by ``node_key(state, action)``, which may be the
same for many ways, so that what followed a choice after one beginning counts after another. What may be chosen still
depends on the way itself.

Source: "HAIChart: Human and AI Paired Visualization System" (paper 57).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

__all__ = [
    "ROOT",
    "ChoiceGraph",
    "Choosing",
    "Edge",
    "KeyOf",
    "by_choice",
    "by_way",
    "graph_search",
    "random_chance",
    "random_search",
    "worth_trying",
]  # fmt: skip

S = TypeVar("S", bound=Hashable)
KeyOf: TypeAlias = Callable[[Any, Any], Hashable]
"""What a choice is known by, from the state before it and the choice: ``node_key(state, action)``."""
ROOT: tuple[str, ...] = ()
"""The key of the beginning."""


class Choosing(Protocol[S]):
    """Something that is put together choice by choice; states are values that can be hashed."""

    @property
    def first(self) -> S:
        """The state before any choice."""
        ...

    @property
    def slots(self) -> int:
        """The number of choices that are open at the beginning."""
        ...

    def legal(self, state: S) -> Sequence[Any]:
        """Return what may be chosen; nothing where a state is an end."""
        ...

    def step(self, state: S, action: Any) -> S:
        """Return the state after a choice."""
        ...

    def left(self, state: S) -> int:
        """Return the number of choices that are still open."""
        ...

    def score(self, state: S) -> float | None:
        """Return what an end is worth, None where it is invalid."""
        ...


@dataclass(slots=True)
class Edge:
    """What a search learned of going from one key to another: how often it went there, and the sum of what came out."""

    visits: int = 0
    value: float = 0.0

    @property
    def mean(self) -> float:
        """The mean of what came out."""
        return self.value / self.visits


@dataclass
class ChoiceGraph(Generic[S]):
    """What searches know: edges between keys, how often each key was gone on from, and the scores of all ends.

    It lasts from one search to the next; ``scores`` are in the order in which ends were first reached.
    """

    edges: dict[Hashable, dict[Hashable, Edge]] = field(default_factory=dict)
    visits: dict[Hashable, int] = field(default_factory=dict)
    scores: dict[S, float | None] = field(default_factory=dict)

    def below(self, key: Hashable) -> Mapping[Hashable, Edge]:
        """Return the edges that lead from a key, by the key that they lead to."""
        return self.edges.get(key, {})

    @property
    def keys(self) -> list[Hashable]:
        """All keys but the first, in the order in which they were reached."""
        return list(dict.fromkeys(key for edges in self.edges.values() for key in edges))

    def gain(self, keys: Sequence[Hashable], score: float) -> None:
        """Add a score to every edge of a way of keys, making those that are missing.

        Each edge is that of the way itself, and each key but the last was gone on from once more.
        """
        for above, key in pairwise(keys):
            edge = self.edges.setdefault(above, {}).setdefault(key, Edge())
            edge.visits += 1
            edge.value += score
            self.visits[above] = self.visits.get(above, 0) + 1

    def score(self, problem: Choosing[S], end: S, invalid: float) -> float:
        """Return what an end is worth, asking the problem once; ``invalid`` for what is."""
        if end not in self.scores:
            self.scores[end] = problem.score(end)
        score = self.scores[end]
        return invalid if score is None else score


def by_choice(state: Any, action: Any) -> Hashable:
    """Know a choice by itself, whatever came before it: a graph."""
    return action  # type: ignore[no-any-return]


def by_way(state: Any, action: Any) -> Hashable:
    """Know a choice by all that came before it: a tree."""
    return state, action


def random_chance(left: int, slots: int, *, decay: float = 0.8) -> float:
    """Return the probability of a random choice with ``left`` of ``slots`` open: ``exp(-decay (1 - left / slots))``."""
    return math.exp(-decay * (1 - left / slots))


def worth_trying(edge: Edge, above: int, *, weight: float = 1.5) -> float:
    """Return ``value / visits + weight sqrt(2 ln(above) / visits)``; infinity for an edge without visits.

    ``above`` is how often the key before it was gone on from.
    """
    if not edge.visits:
        return math.inf
    return edge.mean + weight * math.sqrt(2 * math.log(max(above, 1)) / edge.visits)


def _rolled_out(problem: Choosing[S], state: S, draw: random.Random) -> S:
    """Return an end that choices drawn evenly lead to."""
    while legal := problem.legal(state):
        state = problem.step(state, draw.choice(legal))
    return state


def random_search(problem: Choosing[S], graph: ChoiceGraph[S], *, simulations: int, seed: int = 0) -> list[S]:
    """Draw every choice evenly, ``simulations`` times, and return the ends: the baseline."""
    draw = random.Random(f"random/{seed}")
    ends = [_rolled_out(problem, problem.first, draw) for _ in range(simulations)]
    for end in ends:
        graph.score(problem, end, 0.0)
    return ends


def graph_search(
    problem: Choosing[S], graph: ChoiceGraph[S], *, simulations: int = 100, weight: float = 1.5, decay: float = 0.8,
    invalid: float = -15.0, node_key: KeyOf = by_choice, seed: int = 0,
) -> list[S]:  # fmt: skip
    """Search ``simulations`` times from the beginning, add what is learned to ``graph``, and return the ends reached.

    While every legal choice of a state has an edge, one is taken: evenly drawn with ``random_chance``, else that most
    ``worth_trying``. Where some have none, one of those is drawn and tried, and further choices are drawn evenly up to
    an end. Its score, ``invalid`` for an end that is, goes to the edges up to the one that was tried. An end that was
    reached before is not scored again. With ``by_way`` this is Monte Carlo tree search.
    """
    draw = random.Random(f"graph/{seed}")
    ends = []
    for _ in range(simulations):
        state, keys = problem.first, list[Hashable]([ROOT])
        while legal := problem.legal(state):
            known = graph.below(keys[-1])
            named = [(action, node_key(state, action)) for action in legal]
            fresh = [pair for pair in named if pair[1] not in known]
            if fresh:
                action, key = draw.choice(fresh)
            elif draw.random() < random_chance(problem.left(state), problem.slots, decay=decay):
                action, key = draw.choice(named)
            else:
                above = graph.visits.get(keys[-1], 0)
                action, key = max(named, key=lambda pair: worth_trying(known[pair[1]], above, weight=weight))
            state, keys = problem.step(state, action), [*keys, key]
            if fresh:
                break
        end = _rolled_out(problem, state, draw)
        graph.gain(keys, graph.score(problem, end, invalid))
        ends.append(end)
    return ends
