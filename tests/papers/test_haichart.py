"""HAIChart: the paper's values, what sharing changes, and a person's chart in few rounds.

Worked examples 1 to 3 are in ``agents/test_graph.py``, 4 in ``agents/test_coverage.py``, 5 in ``worlds/test_charts.py``.
"""

from __future__ import annotations

import random
from collections.abc import Hashable

import pytest

from ferrule.agents.charts import Recommend
from ferrule.agents.graph import by_choice, by_way
from ferrule.papers import find, haichart
from ferrule.papers.claims.haichart import STUDY, reached
from ferrule.papers.claims.haichart_hints import arm, hints_by_score, random_hints
from ferrule.rewards.charts import default_ranker
from ferrule.rewards.choices import ChoiceModel
from ferrule.studies.standins.slots import draw_slots
from ferrule.worlds.charts.drawing import marks_of
from ferrule.worlds.charts.grammar import SlotChoice
from ferrule.worlds.charts.making import draw_table


def test_the_values_of_the_paper() -> None:
    recommender = haichart.recommender(draw_table(random.Random(1), 3).table)
    how, hinting = recommender.how, recommender.hinting
    assert (how.simulations, how.weight, how.decay, how.invalid, how.seed) == (100, 1.5, 0.8, -15.0, 15)
    assert how.node_key is by_choice
    assert (hinting.most, hinting.budget, hinting.per_field) == (9, 100, 2)
    agent = haichart.asking_agent(times=2)
    assert isinstance(agent, Recommend)
    assert (agent.times, agent.rounds.invalid) == (2, -15.0)
    assert find("haichart").number == 57


def test_the_release_ranks_alone() -> None:
    """The score is three times the ranker's; with rules, or with a person, it is another."""
    planted = draw_table(random.Random(2), 2)
    scores = []
    for settings in ({"reference": True}, {}, {"model": ChoiceModel({"mark line": 5.0})}):
        recommender = haichart.recommender(planted.table, **settings)  # type: ignore[arg-type]
        recommender.search()
        scores.append(dict(recommender.ranked))
    common = set.intersection(*map(set, scores))
    assert common
    for chart in common:
        assert scores[0][chart] == pytest.approx(
            3 * default_ranker()(planted.table, chart, marks_of(planted.table, chart))
        )
        assert len({each[chart] for each in scores}) == 3


def test_slots_with_known_scores() -> None:
    """7,776 ends between 0 and 3; about 0.85^4 = 52 % are valid; the best ten are the largest valid scores."""
    problem = draw_slots(3)
    valid = problem.scores[problem.scores == problem.scores]
    assert problem.scores.size == 7776
    assert 0.35 < valid.size / 7776 < 0.7
    assert 0 <= valid.min() < valid.max() <= 3
    least = min(problem.scores[end] for end in problem.best)
    assert (valid > least).sum() == 9
    assert all(problem.score(end) is not None for end in problem.best)


def test_sharing_changes_what_is_reached() -> None:
    """The ablation, on seeds that nothing is measured on: other ends are reached with the keys of ways."""
    size = {"simulations": (1000,), "weight": 1.5}
    rows = [
        [reached(seed=seed, node_key=key, **size)["reached 1000"] for seed in range(6)] for key in (by_choice, by_way)
    ]  # type: ignore[arg-type]
    assert rows[0] != rows[1]
    assert sum(rows[0]) > sum(reached(seed=seed, node_key=None, **size)["reached 1000"] for seed in range(6))  # type: ignore[arg-type]


def test_every_way_is_measured_at_its_best_weight() -> None:
    assert STUDY.tuning is not None
    assert STUDY.tuning.values == (0.5, 1.5, 4.5)
    assert not set(STUDY.tuning.seeds) & set(STUDY.seeds)
    assert {name.partition(",")[0] for name in STUDY.arms} == {"random", "tree", "graph"}


def test_a_person_is_led_to_a_chart_that_rules_do_not_put_first() -> None:
    """The ablation: with hints most get there, by searching on without any nearly none do."""
    size = {"seed": 7, "tables": 6, "rounds": 6, "simulations": 100}
    with_hints, without = arm(**size), arm(**size, most=0)
    assert with_hints["start"] == without["start"] < 0.5
    assert with_hints["found"] > without["found"] + 0.3
    assert with_hints["asked"] < without["asked"]


def test_other_ways_to_choose_hints() -> None:
    """By score x = city is first with 4, then mark = bar and y = price with 3 each; what covers nothing is never drawn."""
    covers: dict[SlotChoice, dict[Hashable, float]] = {
        ("x", "city"): {"v1": 3.0, "v2": 1.0}, ("y", "price"): {"v1": 3.0}, ("mark", "bar"): {"v2": 1.0, "v3": 2.0},
        ("mark", "arc"): {},
    }  # fmt: skip
    assert hints_by_score(covers, most=2) == [("x", "city"), ("y", "price")]
    drawn = random_hints(covers, most=9)
    assert sorted(drawn) == sorted(covers)[1:]
    assert random_hints(covers, most=2) == random_hints(covers, most=2)
