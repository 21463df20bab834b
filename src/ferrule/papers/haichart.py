"""HAIChart: Human and AI Paired Visualization System (paper 57), June 2024, https://arxiv.org/abs/2406.11033.

A chart is seven choices. A Monte Carlo search tries them, and shares what it learns between charts that made the same
choice, whatever else they chose; a person is shown hints, single choices that cover many good and distinctive charts,
and what they pick bounds the next round. The search is ``ferrule.agents.graph`` (for steps of a model ``MonteCarlo``
with ``shares``), the choice of hints ``agents.coverage``, the rounds ``agents.charts``, the grammar and a world of
charts ``worlds.charts``, the learned ranking and the person's choices ``rewards.charts`` and ``rewards.choices``, the
page ``view.charts`` (``ferrule charts``).

Departures from the paper:

1. Choices are known by pairs of slot and value, not by text that is split at ``_``, so columns may have any name.
2. A score goes to the edges of the way that led to it. The release looks first parents up, which comes to the same
   since the first edge always begins at the root.
3. One seed draws everything, in place of two generators. A chart that stops is worth 0, as published.
4. An invalid chart is worth -15 here, as published, and -1 in ``Rounds`` and on the command line: -15 condemns a choice
   for a few invalid charts that hold it. The claim measures both.
5. Which charts can be read is not told in full: see ``worlds.charts.drawing.problem_of``. Rules are reworded after
   DeepEye, whose 14 features (two columns with kind, different values, values, ratio, least and largest; correlation;
   mark) are recollected. A numerical bin is the least of 1, 2 and 5 times a power of ten that makes ten steps at most.
6. The ranker is LambdaMART (lightgbm) fitted to drawn tables whose planted relations say which charts are good, in
   place of charts that people labelled; ``train_ranker`` takes labels of one's own.
7. The model of a person is a logit over the hints on offer with a decaying memory of earlier picks, in place of a
   recurrent network. The release does not connect it with the search; here it weighs 0 unless one is given.
8. The weights of ranker, rules and person are not told: 1, 1 and 0. ``reference=True`` ranks alone, as released. Each
   is 0 to 1 and their mean is scaled to 3.
9. A good chart, which hints may cover, has at least half the score of the best; charts that look alike count once. A
   pick scores what is known again, as a person's memory has changed.
10. The field of a hint, of which two are taken at most, is its value: a column, whatever its slot.
11. The claims are measured on slots with known scores, each way of searching at the best of three weights, and with a
    script that wants a planted chart of a drawn table. The people and labelled tables of the paper, and so its Hit@3
    and R10@30, are not at hand; ``evaluate.ranking`` has both measures.
"""

from __future__ import annotations

from typing import Any

from ferrule.agents.charts import Hinting, Recommend, Recommender, Rounds, rating
from ferrule.agents.coverage import covering
from ferrule.agents.graph import KeyOf, by_choice, graph_search
from ferrule.rewards.charts import train_ranker
from ferrule.rewards.choices import ChoiceModel, fit_choices
from ferrule.studies.paper import Paper
from ferrule.worlds.charts import Charts
from ferrule.worlds.charts.columns import Plotted
from ferrule.worlds.charts.people import Person

__all__ = ["PAPER", "asking_agent", "recommender"]


def recommender(
    table: Plotted, *, simulations: int = 100, weight: float = 1.5, decay: float = 0.8, invalid: float = -15.0,
    node_key: KeyOf = by_choice, hints: int = 9, views: int = 100, per_field: int = 2, seed: int = 15,
    model: ChoiceModel | None = None, reference: bool = False,
) -> Recommender:  # fmt: skip
    """Return the recommender of charts for a table, with the paper's values; ``reference`` scores by ranking alone."""
    rates = rating(rules=0.0) if reference else rating(person=0.0 if model is None else 1.0, model=model)
    rounds = Rounds(simulations, weight, decay, invalid, node_key, seed)
    return Recommender(table, rates, rounds=rounds, hinting=Hinting(hints, views, per_field))


def asking_agent(*, invalid: float = -15.0, **settings: Any) -> Recommend:
    """Return the agent that talks with a person; ``settings`` are further fields of ``Recommend``."""
    return Recommend(**{"rounds": Rounds(invalid=invalid), **settings})


PAPER = Paper(
    number=57,
    slug="haichart",
    title="HAIChart: Human and AI Paired Visualization System",
    date="2024-06",
    url="https://arxiv.org/abs/2406.11033",
    pieces={
        "recommender": recommender,
        "agent": asking_agent,
        "search": graph_search,
        "hints": covering,
        "ranker": train_ranker,
        "preferences": fit_choices,
        "person": Person,
        "world": Charts,
    },
    summary="Searches charts by a graph in which equal choices are one node, and offers hints that a person picks.",
    reported=(
        "Hit@3 25.1 % and R10@30 14.9 % over other systems; recall 21 % over tools in people's hands, 1.8 times "
        "as fast (abstract)."
    ),
)
