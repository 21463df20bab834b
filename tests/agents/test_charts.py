"""Charts found with a person: rounds, picks, hints, and the agent that asks."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from ferrule.agents.charts import Hinting, Recommend, Recommender, Rounds, offers_in, rating
from ferrule.core.records import plain_text
from ferrule.policies.scripted import Scripted
from ferrule.rewards.choices import ChoiceModel
from ferrule.rollout.drive import drive
from ferrule.worlds.charts.choosing import Rates
from ferrule.worlds.charts.columns import Plotted
from ferrule.worlds.charts.drawing import Marks, rule_score
from ferrule.worlds.charts.grammar import Chart, chart_text, choices_of
from ferrule.worlds.charts.making import all_charts, draw_table
from ferrule.worlds.charts.people import DONE, Person
from ferrule.worlds.charts.world import Charts, table_task

TABLE = draw_table(random.Random("agent"), 4).table


def rules(memory: Sequence[Sequence[str]]) -> Rates:
    return rule_score


def test_rounds_narrow_the_search_and_keep_what_was_learned() -> None:
    recommender = Recommender(TABLE, rules)
    recommender.search()
    first = recommender.ranked
    assert [score for _, score in first] == sorted((score for _, score in first), reverse=True)
    assert len({chart.drawn for chart, _ in first}) == len(first)
    name = next(chart.x for chart, _ in first if chart.mark == "bar")
    recommender.pick(("mark", "bar"))
    recommender.pick(("x", name))
    known = len(recommender.graph.scores)
    recommender.search()
    assert recommender.picks == {"mark": "bar", "x": name}
    assert {(chart.mark, chart.x) for chart, _ in recommender.ranked} == {("bar", name)}
    assert len(recommender.graph.scores) > known
    assert {slot for slot, _ in recommender.hints()} <= {"aggregate", "y", "group", "bin"}
    with pytest.raises(ValueError, match="mark is 'barr'"):
        recommender.pick(("mark", "barr"))


def test_a_pick_that_nothing_known_holds_clears_the_older_ones() -> None:
    """Nothing is known of arcs that are binned by day, since arcs show texts."""
    recommender = Recommender(TABLE, rules)
    recommender.search()
    recommender.pick(("bin", "day"))
    assert recommender.picks == {"bin": "day"}
    recommender.pick(("mark", "arc"))
    assert recommender.picks == {"mark": "arc"}


def test_hints_are_single_choices_of_good_charts() -> None:
    how = Hinting(most=5, good=0.5)
    recommender = Recommender(TABLE, rules, hinting=how, rounds=Rounds(simulations=300))
    recommender.search()
    hints, good = recommender.hints(), recommender.good
    assert 0 < len(hints) <= 5
    assert min(score for _, score in good) >= 0.5 * good[0][1]
    for slot, value in hints:
        assert value is not None
        assert slot != "transform"
        assert any((slot, value) in choices_of(chart) for chart, _ in good)
    fields = [value for _, value in hints]
    assert max(fields.count(value) for value in fields) <= 2


def test_picks_change_what_a_person_is_shown() -> None:
    """With a person who stays with what they picked, the same chart is worth more after a pick that it holds."""
    recommender = Recommender(TABLE, rating(ranker=0, rules=0.5, person=1, model=ChoiceModel({}, repeat=4.0)))
    recommender.search()
    before = dict(recommender.ranked)
    recommender.pick(("mark", "bar"))
    after = dict(recommender.ranked)
    assert all(score > before[chart] for chart, score in after.items())


def wanted_first(chart: Chart) -> Rates:
    def rate(table: Plotted, one: Chart, marks: Marks) -> float:
        return 0.1 + len(set(choices_of(one)) & set(choices_of(chart))) / 7

    return rate


def test_the_agent_asks_until_a_person_has_their_chart() -> None:
    """By rules alone the wanted chart is far down; picks lead to it, and every one is on record."""
    chart = next(c for c in all_charts(TABLE) if c.bin == "day" and c.aggregate == "average" and c.mark == "bar")
    person = Person({chart: 1.0})
    agent = Recommend(times=6, rates=rules, rounds=Rounds(simulations=200))
    (episode,) = drive(agent, [table_task(TABLE)], Charts(), {"user": Scripted(person.script)})
    path = episode.trajectories[0]
    assert not episode.problem
    assert path.answer == path.final["chart"]
    replies = [plain_text(turn.reply) for turn in path.turns]
    offers = offers_in(TABLE, path)
    assert len(offers) == len([reply for reply in replies if reply.isdigit()]) > 0
    assert all(0 <= place < len(features) for features, place in offers)
    assert replies[-1] == DONE


def test_the_answer_is_the_best_chart_without_a_pick() -> None:
    chart = next(c for c in all_charts(TABLE) if c.mark == "arc")
    agent = Recommend(times=1, rates=lambda memory: wanted_first(chart), rounds=Rounds(simulations=600))
    (episode,) = drive(agent, [table_task(TABLE)], Charts(), {"user": Scripted(["nothing here"])})
    assert episode.trajectories[0].answer == chart_text(chart)
