"""Searching for a text that serves a whole task: programs, instructions and tool descriptions, scored on data.

A text is run on items (labelled examples, tasks of a world), which gives a score per item. ``shortlist`` narrows given
texts down in rounds; ``reflected`` and ``by_item`` turn ``ferrule.agents.refine.refine`` into a search that reads what
went wrong on a few items, keeps what helps there, and goes on from texts that are best somewhere. Sources: "Learning to
Reason via Program Generation, Emulation, and Search" (61), "JTPRO: A Joint Tool-Prompt Reflective Optimization
Framework for Language Agents" (56), and the released code of "GEPA: Reflective Prompt Evolution Can Outperform
Reinforcement Learning" (arXiv 2507.19457).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, TypeAlias

from ferrule.agents.flow import together
from ferrule.agents.refine import Candidate, Check, Checked, Propose, Refined, Select, in_batch, refine
from ferrule.core.flows import Flow

__all__ = [
    "OnItems", "Rewrite", "Round", "RunItems", "by_item", "item_fronts", "reflected", "search_texts", "shortlist",
]  # fmt: skip

RunItems: TypeAlias = Callable[[str, Sequence[Any]], "Flow[Sequence[float]] | Sequence[float]"]
"""Runs a text on items and returns a score per item, 1 for a right one; as a flow it may ask a model and call tools."""

Rewrite: TypeAlias = Callable[[str, Sequence[tuple[Any, float]]], "Flow[Sequence[str]] | Sequence[str]"]
"""Writes texts from one and what it scored on some items; as a flow it may ask a model."""


@dataclass
class OnItems:
    """Runs texts on ``items`` by ``run``, each text on each item at most once, and counts the runs.

    ``runs`` is the budget of the search: items that texts were run on. Once ``most`` are spent no new ones begin
    (``over``); what was begun together ends. Items are known by their place.
    """

    run: RunItems
    items: Sequence[Any]
    most: int | None = None
    runs: int = 0
    _known: dict[tuple[str, int], float] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Refuse to score on nothing, and a budget that allows nothing."""
        if not self.items:
            raise ValueError("OnItems.items is empty; a text is scored on at least one item")
        if self.most is not None and self.most < 1:
            raise ValueError(f"OnItems.most is {self.most}; the least is 1, and None sets no limit")

    @property
    def over(self) -> bool:
        """Whether the budget is spent."""
        return self.most is not None and self.runs >= self.most

    def missing(self, text: str, places: Sequence[int]) -> list[int]:
        """Return the places on which a text was not run yet, each once."""
        return [place for place in dict.fromkeys(places) if (text, place) not in self._known]

    def scores(self, text: str, places: Sequence[int]) -> Flow[list[float]]:
        """Return the scores of a text on the items at some places. Raises ``ValueError`` for another number of them."""
        missing = self.missing(text, places)
        if missing:
            self.runs += len(missing)
            (scores,) = yield from in_batch([self.run(text, [self.items[place] for place in missing])])
            if len(scores) != len(missing):
                raise ValueError(f"a run on {len(missing)} items gave {len(scores)} scores; it gives one per item")
            self._known |= {(text, place): float(score) for place, score in zip(missing, scores, strict=True)}
        return [self._known[text, place] for place in places]

    def check(self, places: Sequence[int] | None = None) -> Check:
        """Return the check of a refinement: the mean score on items (all of them), with each item's in ``scores``."""
        chosen = range(len(self.items)) if places is None else places

        def check(text: str) -> Flow[Checked]:
            scores = yield from self.scores(text, chosen)
            return Checked(fmean(scores), scores=tuple(scores))

        return check

    def spent(self, candidates: Sequence[Candidate]) -> str:
        """End a refinement (its ``stop``) once the budget is spent."""
        return "runs" if self.over else ""


@dataclass(frozen=True)
class Round:
    """A round of ``shortlist``: on which ``places`` of the items, the least mean score, and how many go on."""

    places: Sequence[int]
    least: float = -math.inf
    keep: int | None = None


def shortlist(texts: Sequence[str], on: OnItems, rounds: Sequence[Round]) -> Flow[list[Candidate]]:
    """Narrow texts down round by round and return what is left, best first, of equals the earlier text.

    Each round scores the texts that are left on its own items, drops those below ``least`` (all stay where none reaches
    it), orders them by their scores and keeps the first. Equal texts are one candidate, whose number is its first
    place. When the budget is spent the texts that were scored in that round are chosen from. Raises ``ValueError``
    without texts or rounds.
    """
    if not texts or not rounds:
        raise ValueError(f"{len(texts)} texts and {len(rounds)} rounds; the least is one of each")
    left = [Candidate(text, Checked(0.0), texts.index(text)) for text in dict.fromkeys(texts)]
    for each in rounds:
        check, todo = on.check(each.places), _affordable(on, left, each.places)
        results = yield from in_batch([check(candidate.text) for candidate in todo])
        scored = [Candidate(one.text, checked, one.number) for one, checked in zip(todo, results, strict=True)]
        passed = [one for one in scored if one.checked.score >= each.least] or scored
        left = sorted(passed, key=lambda one: (-one.checked.score, one.number))[: each.keep] or left
    return left


def _affordable(on: OnItems, candidates: Sequence[Candidate], places: Sequence[int]) -> Sequence[Candidate]:
    """Return the candidates that the budget lets score on all places, the first ones first; what is known is free."""
    if on.most is None:
        return candidates
    left, chosen = on.most - on.runs, list[Candidate]()
    for candidate in candidates:
        price = len(on.missing(candidate.text, places))
        if price == 0 or price <= left:
            left -= price
            chosen.append(candidate)
    return chosen


# ----------------------------------------------------------------------------------------------------------- selection


def item_fronts(score_CI: Sequence[Sequence[float]]) -> dict[int, int]:
    """Return the candidates that survive on the fronts of items, and on how many of them each is.

    The front of an item is all candidates with its largest score. A candidate goes where every front that it is on
    holds another survivor; they are looked at from the lowest mean score up (of equals the first), from the lowest
    again after each one that goes. ``score_CI`` has a row per candidate and a column per item.
    """
    columns = list(zip(*score_CI, strict=True))
    fronts = [{place for place, score in enumerate(column) if score == max(column)} for column in columns]
    order = sorted({place for front in fronts for place in front}, key=lambda place: fmean(score_CI[place]))
    alive = list(order)
    while covered := [p for p in alive if all(len(f & set(alive)) > 1 for f in fronts if p in f)]:
        alive.remove(covered[0])
    return {place: sum(place in front for front in fronts) for place in sorted(alive)}


def by_item(seed: int = 0) -> Select:
    """Select one survivor of ``item_fronts`` by ``Checked.scores``, drawn in proportion to its number of fronts."""
    rng = random.Random(seed)

    def select(candidates: Sequence[Candidate]) -> Sequence[Sequence[Candidate]]:
        fronts = item_fronts([candidate.checked.scores for candidate in candidates])
        (place,) = rng.choices(list(fronts), list(fronts.values()))
        return [[candidates[place]]]

    return select


def reflected(
    rewrite: Rewrite, on: OnItems, places: Sequence[int], *, size: int = 3, goal: float = 1.0, seed: int = 0
) -> Propose:
    """Return what rewrites each parent from its scores on ``size`` items drawn from ``places``.

    A rewrite is proposed where it scores more on the same items; a parent that reaches the ``goal`` on all of them is
    left as it is, and so is every parent once the budget is spent. Raises ``ValueError`` where ``size`` is more than
    there are.
    """
    if not 1 <= size <= len(places):
        raise ValueError(f"size is {size} and there are {len(places)} items; the size lies from 1 to their number")
    rng = random.Random(seed)

    def improved(text: str, shown: Sequence[int]) -> Flow[list[str]]:
        before = yield from on.scores(text, shown)
        if min(before) >= goal or on.over:
            return []
        told = [(on.items[place], score) for place, score in zip(shown, before, strict=True)]
        (texts,) = yield from in_batch([rewrite(text, told)])
        fresh = [other for other in dict.fromkeys(texts) if other != text]
        after = yield from together(*(on.scores(other, shown) for other in fresh))
        return [other for other, scores in zip(fresh, after, strict=True) if sum(scores) > sum(before)]

    def propose(parents: Sequence[Candidate]) -> Flow[list[str]]:
        flows = [improved(parent.text, rng.sample(list(places), size)) for parent in parents if not on.over]
        proposed = yield from together(*flows)
        return [text for texts in proposed for text in texts]

    return propose


def search_texts(
    texts: Sequence[str], rewrite: Rewrite, on: OnItems, *, learn: Sequence[int], judge: Sequence[int], size: int = 3,
    rounds: int = 1000, patience: int | None = None, seed: int = 0, select: Select | None = None,
) -> Flow[Refined]:  # fmt: skip
    """Rewrite texts by what they score on some items, and judge them on others, until the budget of runs is spent.

    Every round rewrites one text that ``by_item`` (or ``select``) picks, from a few items of ``learn`` (``reflected``),
    and scores what improves there on all items of ``judge``. Items of ``judge`` are never shown to ``rewrite``. Raises
    ``ValueError`` where the two share an item.
    """
    if shared := set(learn) & set(judge):
        raise ValueError(f"{len(shared)} items are learned from and judged on as well; keep them apart")
    check = on.check(judge)
    results = yield from in_batch([check(text) for text in texts])
    start = [Candidate(text, checked) for text, checked in zip(texts, results, strict=True)]
    propose = reflected(rewrite, on, learn, size=size, seed=seed)
    how: dict[str, Any] = {"rounds": rounds, "patience": patience, "stop": on.spent, "start": start}
    return (yield from refine(propose, check, select=select or by_item(seed), **how))
