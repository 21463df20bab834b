"""HAIChart: Human and AI Paired Visualization System (paper 57), June 2024, https://arxiv.org/abs/2406.11033.

A chart is seven choices. A Monte Carlo search tries them, and shares what it learns between charts that made the same
choice, whatever else they chose; a person is shown hints, single choices that cover many good and distinctive charts,
and what they pick bounds the next round. The search is ``ferrule.agents.graph``, the choice of hints
``agents.coverage``, the rounds ``agents.charts``, the grammar and a world of charts ``worlds.charts``, the learned
ranking and the person's choices ``rewards.charts`` and ``rewards.choices``, the page ``view.charts`` (``ferrule
charts``).

Departures from the paper:

1. Choices are known by pairs of slot and value, not by text that is split at ``_``, so columns may have any name.
2. A score goes to the edges of the way itself; the release takes the first parent of a shared node for the first edge.
3. One seed draws everything. A choice that cannot follow stops a chart, with the score 0, as published.
4. An invalid chart is worth -1 by default, in place of -15, which condemns choices that some invalid chart holds; here,
   with the paper's values, it is -15. The claim measures both.
5. Which charts can be read is not told in full: see ``worlds.charts.drawing.problem_of``. Rules are reworded from
   DeepEye, whose 14 features (two columns with kind, different values, values, ratio, least and largest; correlation;
   mark) are recollected.
6. Ranker and person are learned here. The ranker is LambdaMART (lightgbm) fitted to drawn tables whose planted
   relations say which charts are good, in place of charts that people labelled; ``train_ranker`` takes labels of one's
   own. The person is a logit over offered hints with a decaying memory of earlier picks, in place of a recurrent
   network; the release does not connect it with the search, so it weighs 0 unless it is given.
7. The weights of ranker, rules and person are not told: 1, 1 and 0. ``reference=True`` ranks alone, as released. Each
   is 0 to 1 and their mean is scaled to 3.
8. A good chart, which hints may cover, has at least half the score of the best; charts that look alike count once.
9. The person of the evaluation is a script that wants the charts of planted relations.
10. The claim is measured on slots with known scores, no language model.
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

__all__ = ["PAPER", "agent", "recommender"]


def recommender(
    table: Plotted, *, simulations: int = 100, weight: float = 1.5, decay: float = 0.8, invalid: float = -15.0,
    node_key: KeyOf = by_choice, hints: int = 9, views: int = 100, per_field: int = 2, seed: int = 15,
    model: ChoiceModel | None = None, reference: bool = False,
) -> Recommender:  # fmt: skip
    """Return the recommender of charts for a table, with the paper's values; ``reference`` scores by ranking alone."""
    rates = rating(rules=0.0) if reference else rating(person=0.0 if model is None else 1.0, model=model)
    rounds = Rounds(simulations, weight, decay, invalid, node_key, seed)
    return Recommender(table, rates, rounds=rounds, hinting=Hinting(hints, views, per_field))


def agent(*, invalid: float = -15.0, **settings: Any) -> Recommend:
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
        "agent": agent,
        "search": graph_search,
        "hints": covering,
        "ranker": train_ranker,
        "preferences": fit_choices,
        "person": Person,
        "world": Charts,
    },
    summary="Searches charts by a graph in which equal choices are one node, and offers hints that a person picks.",
)
