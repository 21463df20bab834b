"""Fragments of replies as a search left them in the record, and rows and pairs made of their exact ids.

A fragment ends where the search cut the reply, in the middle of a sentence or a call: its row ends there as well, with
no end token. Source: "Boosting Tool Use of Large Language Models via Iterative Reinforced Fine-Tuning" (44).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ferrule.core.records import Trajectory, Turn
from ferrule.data.formats import Pair, Row

__all__ = ["Contrast", "Fork", "Fragment", "chain_row", "contrast", "forks_of", "fragment_pairs", "shared_tokens"]

Overlap: TypeAlias = Callable[[str, str], float]


@dataclass(frozen=True)
class Fragment:
    """A part of a reply: its text, its ids, and what the search knew of it in the end."""

    text: str
    ids: tuple[int, ...]
    value: float = 0.0
    visits: int = 0
    prior: float = 0.0


@dataclass(frozen=True)
class Fork:
    """Fragments that were drawn after the same ids: ``before`` are all ids of the context and of the reply so far.

    ``text`` is what was written of the reply before them.
    """

    before: tuple[int, ...]
    fragments: tuple[Fragment, ...]
    text: str = ""
    origin: Mapping[str, Any] = field(default_factory=dict, hash=False)


Contrast: TypeAlias = Callable[[Sequence[Fragment]], "tuple[int, int] | None"]
"""Picks the places of a better and a worse fragment of a fork, or none."""


def forks_of(paths: Sequence[Trajectory], **origin: Any) -> list[Fork]:
    """Return every place of an episode that fragments were drawn at, in the order of the record.

    ``paths`` are all trajectories of an episode of an agent that cuts replies (``Search.cut``). Replies that were drawn
    to look ahead only (``Turn.notes["ahead"]``) and replies without ids or pieces are left out.
    """
    turns = {turn.id: turn for path in paths for turn in path.turns}
    places: dict[tuple[int, ...], list[Fragment]] = {}
    texts: dict[tuple[int, ...], str] = {}
    for number in sorted(turns):
        turn = turns[number]
        if turn.notes.get("ahead"):
            continue
        before, first = (*_context(turn, turns), *turn.given), 0
        for part in turn.notes.get("parts", ()):
            ids = turn.sampled[first : part["stop"]]
            fragment = Fragment(part["text"], ids, part["value"], part["visits"], part["prior"])
            places.setdefault(before, []).append(fragment)
            text = texts.get(before, "") + part["text"]
            before, first = (*before, *ids), part["stop"]
            texts.setdefault(before, text)
    return [Fork(before, tuple(fragments), texts.get(before, ""), origin) for before, fragments in places.items()]


def _context(turn: Turn, turns: Mapping[int, Turn]) -> Iterator[int]:
    """Yield the ids of the turns whose context a turn extends."""
    if turn.parent is not None:
        above = turns[turn.parent]
        yield from _context(above, turns)
        yield from above.given
        yield from above.sampled


def shared_tokens(one: str, other: str) -> float:
    """Return how many words two texts share, as a share of the smaller set of words; 0 where one has none."""
    words, others = set(one.split()), set(other.split())
    return len(words & others) / min(len(words), len(others)) if words and others else 0.0


def contrast(
    fragments: Sequence[Fragment], *, gap: float = 0.1, most_overlap: float = 0.95, accept: float = -0.3,
    overlap: Overlap = shared_tokens,
) -> tuple[int, int] | None:  # fmt: skip
    """Return the places of the most and the least valuable fragment, or None where they make no pair.

    They do when their values differ by at least ``gap``, their texts overlap by at most ``most_overlap``, and the
    better one is worth at least ``accept``. Among equals the first counts. Source: paper 44.
    """
    places = range(len(fragments))
    best = max(places, key=lambda i: fragments[i].value, default=0)
    worst = min(places, key=lambda i: fragments[i].value, default=0)
    if best == worst:
        return None
    better, worse = fragments[best], fragments[worst]
    apart = better.value - worse.value >= gap - 1e-12 and better.value >= accept - 1e-12
    return (best, worst) if apart and overlap(better.text, worse.text) <= most_overlap else None


def fragment_pairs(forks: Sequence[Fork], choose: Contrast = contrast) -> list[Pair]:
    """Return a pair of rows for every fork at which ``choose`` picks two fragments.

    Both rows begin with the ids before the fork, which are read and not learned, and end with the ids of their
    fragment: an end token stands there only where the model wrote it.
    """
    pairs = []
    for fork in forks:
        places = choose(fork.fragments)
        if places is not None:
            chosen, rejected = (_row(fork.before, fork.fragments[place].ids) for place in places)
            pairs.append(Pair(chosen, rejected))
    return pairs


def _row(before: tuple[int, ...], ids: tuple[int, ...]) -> Row:
    return Row((*before, *ids), (*[-1] * len(before), *[0] * len(ids)))


def chain_row(trajectory: Trajectory) -> Row:
    """Return a recorded path as a row in which replies that go on from others are learned from their beginnings on.

    What such a reply began with (``Turn.notes["begun"]``, a number of ids) was sampled in another path of the episode
    and counts as the model's own here, which is right for a path that is compared with others as a whole.
    """
    ids: list[int] = []
    turn: list[int] = []
    for k, t in enumerate(trajectory.turns):
        begun = int(t.notes.get("begun", 0))
        ids += [*t.given, *t.sampled]
        turn += [-1] * (len(t.given) - begun) + [k] * (begun + len(t.sampled))
    return Row(tuple(ids), tuple(turn))
