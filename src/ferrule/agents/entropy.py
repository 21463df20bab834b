"""Branching where the model was unsure: a main chain, and other ways on from the openings of its least sure steps.

Source: "Toward Effective Tool-Integrated Reasoning via Self-Evolved Preference Learning" (paper 27), its sampler.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from ferrule.agents.search import Budget, Node, Search, Stuck, no_answer, refuse_below_one
from ferrule.agents.values import Pick, majority
from ferrule.core.flows import Flow, Leaves, Session
from ferrule.core.records import Task

__all__ = ["PREFIXES", "Choose", "EntropyBranch", "most_unsure", "opening_entropy", "top_entropy"]

Choose: TypeAlias = Callable[[Sequence[float], int], Sequence[int]]
"""Picks the places of as many steps as are said, by the entropies of their openings."""

PREFIXES = (10, 20, 30, 40, 50)
"""Lengths (tokens) of the beginnings of a step that are looked at."""


def top_entropy(tops: Sequence[Sequence[tuple[object, float]]]) -> list[float]:
    """Return ``-sum p ln p`` (nats) per token over its most probable ids with log-probs, not renormalised.

    What is missing of the whole distribution counts nothing, so that a flat one comes out too low.
    """
    return [-math.fsum(math.exp(logp) * logp for _, logp in top) for top in tops]


def opening_entropy(entropies: Sequence[float], prefixes: Sequence[int] = PREFIXES) -> tuple[float, int]:
    """Return the largest mean entropy of a beginning of a step, and the number of tokens of that beginning.

    Of equal means the shorter beginning counts; a step without entropies gives 0 and 0.
    """
    best = (0.0, 0)
    for length in sorted({min(prefix, len(entropies)) for prefix in prefixes} - {0}):
        mean = math.fsum(entropies[:length]) / length
        if not best[1] or mean > best[0]:
            best = (mean, length)
    return best


def most_unsure(values: Sequence[float], count: int = 3) -> list[int]:
    """Return the places of the ``count`` largest values, the largest first; of equal ones the earlier first."""
    return sorted(range(len(values)), key=lambda place: -values[place])[:count]


@dataclass(frozen=True)
class EntropyBranch:
    """Play a tool loop, and go on anew from ``width`` times each of its ``steps`` whose openings were least sure.

    An opening is the beginning of a step (of ``prefixes`` tokens) with the largest mean entropy over the ``top`` most
    probable tokens. A branch keeps it, by the very ids that were sampled, and plays on in the world as it was before
    that step, with the calls that were left then. All branches run side by side. ``pick`` chooses among all answers,
    that of the main chain first; ``Turn.notes`` hold the ``entropy`` of every step's opening. No chain is longer than
    ``turns`` replies. Where a policy tells no probabilities every step is as unsure as any other, and is written anew
    from its beginning. ``choose`` picks the steps by these entropies. ``system``, ``max_tokens`` and ``stop`` are as in
    ``ToolLoop``.
    """

    steps: int = 3
    width: int = 3
    turns: int = 6
    pick: Pick = majority
    prefixes: tuple[int, ...] = PREFIXES
    top: int = 50
    choose: Choose = most_unsure
    budget: Budget = field(default_factory=Budget)
    stuck: Stuck = no_answer
    system: str = ""
    max_tokens: int = 256
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a search that never branches."""
        refuse_below_one(self, "steps", "width", "turns", "top")
        if not self.prefixes or min(self.prefixes) < 1:
            raise ValueError(f"EntropyBranch.prefixes are {self.prefixes}; name at least one, of 1 token or more")

    def __call__(self, task: Task, session: Session) -> Flow[Leaves]:
        """Play the main chain and its branches."""
        search = Search(task, session, self, want=(f"top_logps:{self.top}",))
        try:
            yield from self._played(search, [(search.root, 1)])
            main = list(search.nodes)
            chosen = self.choose([node.more["entropy"] for node in main], self.steps)
            yield from self._played(search, [(self._fork(search, main[place]), self.width) for place in chosen])
            answers = [node for node in search.nodes if node.state == "answer"]
            picked = self.pick(task, answers) if answers else -1
            place = picked if isinstance(picked, int) else (yield from picked)
            return search.leaves(answers[place] if answers else None)
        finally:
            search.close()

    def _played(self, search: Search, places: Sequence[tuple[Node, int]]) -> Flow[None]:
        """Play on from places until every chain has ended, and note how unsure each step began."""
        while places:
            drawn = yield from search.grow(places)
            for node in drawn:
                node.more["entropy"], _ = self._opening(node)
            places = [(node, 1) for node in drawn if node.state == "open" and node.depth < self.turns]

    def _opening(self, node: Node) -> tuple[float, int]:
        tops = node.reply.extras.get("top_logps", ()) if node.reply is not None else ()
        return opening_entropy(top_entropy(tops), self.prefixes)

    def _fork(self, search: Search, step: Node) -> Node:
        """Return what the branches of a step go on from: its opening, of which at least one token is left to write."""
        assert step.reply is not None
        assert step.parent is not None
        stop = min(self._opening(step)[1], len(step.reply.sampled) - 1)
        return search.cut(step, [stop])[0] if stop > 0 else step.parent


AGENTS = {"entropy": EntropyBranch}
