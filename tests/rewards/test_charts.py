"""Ratings of charts: a ranking that is learned from planted relations, a person's choices, and weighted means."""

from __future__ import annotations

import random
import sys

import pytest

from ferrule.evaluate.ranking import hit
from ferrule.rewards.charts import by_choices, choice_features, default_ranker, train_ranker, weighted_rates
from ferrule.rewards.choices import ChoiceModel, Offered, fit_choices
from ferrule.worlds.charts.choosing import Rates
from ferrule.worlds.charts.columns import plotted
from ferrule.worlds.charts.drawing import chart_features, marks_of, rule_score
from ferrule.worlds.charts.grammar import Chart, chart_text
from ferrule.worlds.charts.making import Planted, all_charts, draw_table

TABLE = plotted("t", {"city": ["a", "b", "c"], "y": [1, 2, 4]})
BAR, LINE = (Chart(mark, "city", "y", True, "sum", "city") for mark in ("bar", "line"))


def ranking(planted: Planted, rates: Rates) -> list[str]:
    charts = sorted(all_charts(planted.table), key=lambda c: -rates(planted.table, c, marks_of(planted.table, c)))
    return [chart_text(chart.drawn) for chart in charts]


def test_the_ranker_learns_what_rules_do_not_say() -> None:
    """Tables that it was not fitted to: a planted chart is among its first three in nearly all, by rules in few."""
    drawn = [draw_table(random.Random(f"held out/{seed}"), 1 + seed % 5) for seed in range(10)]
    shares = [
        sum(hit(ranking(planted, rates), {chart_text(c.drawn) for c in planted.charts}, 3) for planted in drawn)
        / len(drawn)
        for rates in (default_ranker(), rule_score)
    ]
    assert shares[0] >= 0.8
    assert shares[1] <= 0.5


def test_a_ranker_of_ones_own() -> None:
    """Labels that prefer lines give a ranker that does; the same labels give the same one."""
    row = {chart.mark: chart_features(TABLE, chart) for chart in (BAR, LINE)}
    groups = [[(row["bar"], 0), (row["line"], 3)] * 5 for _ in range(6)]
    one, other = (train_ranker(groups, trees=5) for _ in range(2))
    rates = [one(TABLE, chart, marks_of(TABLE, chart)) for chart in (BAR, LINE)]
    assert 0 < rates[0] < 0.5 < rates[1] < 1
    assert rates == [other(TABLE, chart, marks_of(TABLE, chart)) for chart in (BAR, LINE)]
    with pytest.raises(ValueError, match="the 14 numbers of CHART_FEATURES"):
        train_ranker([[((1.0, 2.0), 0)]])


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(ImportError, match=r'pip install "ferrule\[charts\]"'):
        train_ranker([])


def test_weighted_means() -> None:
    """3 x (1 x 0.2 + 3 x 0.6) / 4 = 1.5."""
    rates = weighted_rates((1.0, lambda table, chart, marks: 0.2), (3.0, lambda table, chart, marks: 0.6))
    assert rates(TABLE, BAR, marks_of(TABLE, BAR)) == pytest.approx(1.5)
    for weights in ((0.0, 0.0), (-1.0, 2.0)):
        with pytest.raises(ValueError, match="none may be below 0"):
            weighted_rates(*((weight, rule_score) for weight in weights))


def test_choices_with_a_memory() -> None:
    """After "a" then "b" with half kept: a 0.5, b 1. With repeat 2 and weight 1 for a: 2 and 2; even chances."""
    model = ChoiceModel({"a": 1.0}, repeat=2.0, keeps=0.5)
    assert model.remembered([["a"], ["b"]]) == {"a": 0.5, "b": 1.0}
    assert model.chances([["a"], ["b"]], [["a"], ["b"]]) == pytest.approx([0.5, 0.5])
    assert model.chances([["a"], ["c"]]) == pytest.approx([0.731059, 0.268941], abs=1e-6)  # 1 / (1 + 1/e)


def test_what_a_person_prefers_is_learned() -> None:
    """One group takes lines in nine of ten, the other stays with what it took first."""
    rng = random.Random(5)
    offered = [["mark line"], ["mark bar"], ["x numerical"]]
    lines: list[list[Offered]] = [[(offered, 0 if rng.random() < 0.9 else 1)] for _ in range(60)]
    model = fit_choices(lines)
    chances = model.chances(offered)
    assert chances[0] > 0.7 > 0.3 > chances[1] > chances[2]
    assert model.repeat == 0.0
    loyal: list[list[Offered]] = [[(offered, first)] * 4 for first in (0, 1, 2) for _ in range(10)]
    model = fit_choices(loyal)
    assert model.repeat > 1
    assert model.chances(offered, [["mark bar"]])[1] > 0.7
    assert fit_choices([]).chances(offered) == pytest.approx([1 / 3] * 3)


def test_charts_are_rated_by_choices() -> None:
    """A chart of a mark that a person likes is worth more, one half without anything known."""
    assert choice_features(TABLE, ("x", "city")) == ("x categorical",)
    assert choice_features(TABLE, ("group", None)) == ("group None",)
    rates = by_choices(ChoiceModel({"mark bar": 2.0}))
    bar, line = (rates(TABLE, chart, marks_of(TABLE, chart)) for chart in (BAR, LINE))
    assert bar > line == 0.5
    again = by_choices(ChoiceModel({}, repeat=2.0), [["mark line"]])
    assert again(TABLE, LINE, marks_of(TABLE, LINE)) > again(TABLE, BAR, marks_of(TABLE, BAR))
