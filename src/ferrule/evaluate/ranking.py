"""How good a ranking is: discounted gain, recall, precision and completeness, and how often the first is right."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

__all__ = ["complete", "hit", "ndcg", "precision", "rank_at_1", "recall"]


def _check(k: int, relevant: Collection[str]) -> None:
    if k < 1:
        raise ValueError(f"k is {k}; the least is 1")
    if not relevant:
        raise ValueError("nothing is relevant to this query; leave it out of the mean")


def ndcg(ranked: Sequence[str], relevant: Collection[str], k: int, *, reference: bool = False) -> float:
    r"""Return the normalised discounted cumulative gain of the first ``k`` of a ranking, 0 to 1.

    :math:`\sum_{i \le k} r_i / \log_2(i + 1)`, where :math:`r_i` is 1 for a relevant entry and 0 otherwise, over the
    same for a ranking that begins with all ``relevant`` entries. An entry that comes twice counts once. ``reference``
    takes as relevant what was ranked at all, as the published code of ToolLLM (45) does: a ranking that misses an entry
    is then not charged for it, and is worth 0 where it ranks none. Raises ``ValueError`` for ``k`` below 1 and where
    nothing is relevant.
    """
    _check(k, relevant)
    hits = [entry in relevant and entry not in ranked[:place] for place, entry in enumerate(ranked)]
    gain = sum(1.0 / math.log2(place + 2) for place, hit in enumerate(hits[:k]) if hit)
    count = sum(hits) if reference else len(set(relevant))
    ideal = sum(1.0 / math.log2(place + 2) for place in range(min(count, k)))
    return gain / ideal if ideal else 0.0


def recall(ranked: Sequence[str], relevant: Collection[str], k: int) -> float:
    """Return the share of all ``relevant`` entries among the first ``k`` of a ranking.

    Raises ``ValueError`` for ``k`` below 1 and where nothing is relevant.
    """
    _check(k, relevant)
    wanted = set(relevant)
    return len(wanted.intersection(ranked[:k])) / len(wanted)


def precision(ranked: Sequence[str], relevant: Collection[str], k: int) -> float:
    """Return the share of the first ``k`` places of a ranking that hold ``relevant`` entries; missing places hold none.

    Raises ``ValueError`` for ``k`` below 1 and where nothing is relevant.
    """
    _check(k, relevant)
    return len(set(relevant).intersection(ranked[:k])) / k


def complete(ranked: Sequence[str], relevant: Collection[str], k: int) -> float:
    """Return 1 where all ``relevant`` entries are among the first ``k`` of a ranking, else 0: COMP@k of one query.

    Raises ``ValueError`` for ``k`` below 1 and where nothing is relevant. Source: "Tool Learning with Large Language
    Models: A Survey" (30).
    """
    _check(k, relevant)
    return float(set(relevant).issubset(ranked[:k]))


def hit(ranked: Sequence[str], relevant: Collection[str], k: int) -> float:
    """Return 1 where any ``relevant`` entry is among the first ``k`` of a ranking, else 0: Hit@k of one query.

    Raises ``ValueError`` for ``k`` below 1 and where nothing is relevant.
    """
    _check(k, relevant)
    return float(any(entry in relevant for entry in ranked[:k]))


def rank_at_1(scores: Sequence[Sequence[float]], right: Sequence[Sequence[bool]]) -> float:
    """Return the share of tasks whose candidate with the largest score is right, the first among equals; 0 to 1.

    ``scores`` and ``right`` have an entry per task, and in it one per candidate. nan without tasks. Raises
    ``ValueError`` for a task without candidates, for a score that is nan, and where scores and candidates differ in
    number.
    """
    picked = []
    for task, (each, good) in enumerate(zip(scores, right, strict=True)):
        if not each or len(each) != len(good):
            raise ValueError(f"task {task} has {len(each)} scores for {len(good)} candidates; each needs one, of some")
        if any(map(math.isnan, each)):
            raise ValueError(f"task {task} has a score that is nan; leave the candidate out, or score it -inf")
        picked.append(good[max(range(len(each)), key=lambda place: (each[place], -place))])
    return sum(picked) / len(picked) if picked else math.nan
