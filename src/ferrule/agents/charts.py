"""Charts for a table, found with a person: search, show the best, offer hints, take a pick, and search on.

Source: "HAIChart: Human and AI Paired Visualization System" (paper 57).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ferrule.agents.coverage import covering
from ferrule.agents.graph import ChoiceGraph, KeyOf, by_choice, graph_search
from ferrule.core.flows import Ask, Flow, Session, ask, use
from ferrule.core.records import Answer, Message, Task, Trajectory, plain_text
from ferrule.rewards.charts import by_choices, choice_features, default_ranker, weighted_rates
from ferrule.rewards.choices import ChoiceModel, Offered
from ferrule.worlds.charts.choosing import Filling, Rates
from ferrule.worlds.charts.columns import Plotted
from ferrule.worlds.charts.drawing import rule_score
from ferrule.worlds.charts.grammar import (
    STOP,
    Chart,
    Partial,
    SlotChoice,
    chart_of,
    chart_text,
    check_picks,
    choices_of,
)
from ferrule.worlds.charts.people import DONE, hint_question, hints_in, picked
from ferrule.worlds.charts.world import calls_for, table_in

__all__ = ["Hinting", "Recommend", "Recommender", "Rounds", "offers_in", "rating"]


@dataclass(frozen=True)
class Rounds:
    """How a round searches: simulations and the settings of ``ferrule.agents.graph.graph_search``."""

    simulations: int = 100
    weight: float = 1.5
    decay: float = 0.8
    invalid: float = -1.0
    node_key: KeyOf = by_choice
    seed: int = 15


@dataclass(frozen=True)
class Hinting:
    """How hints are chosen: settings of ``ferrule.agents.coverage.covering``.

    They cover the charts whose score is at least ``good`` times the best. ``choose`` is that rule, or another one with
    its parameters.
    """

    most: int = 9
    budget: int = 100
    per_field: int = 2
    good: float = 0.5
    choose: Callable[..., list[SlotChoice]] = covering


def rating(
    ranker: float = 1.0, rules: float = 1.0, person: float = 0.0, model: ChoiceModel | None = None
) -> Callable[[Sequence[Sequence[str]]], Rates]:
    """Return the rating of charts after what a person has picked: the weighted mean of ranker, rules and ``model``."""

    def after(memory: Sequence[Sequence[str]]) -> Rates:
        learned = [(ranker, default_ranker())] if ranker else []
        liked = [(person, by_choices(model, memory))] if model is not None and person else []
        return weighted_rates(*learned, (rules, rule_score), *liked)

    return after


class Recommender:
    """Charts and hints for one table; picks narrow the search, and what was learned stays from round to round.

    ``rates`` gives the rating of charts from the features of all picks so far.
    """

    def __init__(
        self, table: Plotted, rates: Callable[[Sequence[Sequence[str]]], Rates] | None = None, *,
        rounds: Rounds | None = None, hinting: Hinting | None = None,
    ) -> None:  # fmt: skip
        self.table, self.how, self.hinting = table, rounds or Rounds(), hinting or Hinting()
        self.picks: dict[str, Any] = {}
        self.graph: ChoiceGraph[Partial] = ChoiceGraph()
        self.searched = 0
        self._rates, self._memory = rates or rating(), list[Sequence[str]]()

    def _problem(self) -> Filling:
        return Filling(self.table, self._rates(self._memory), self.picks)

    def search(self) -> None:
        """Search one round under the picks."""
        how = self.how
        graph_search(
            self._problem(), self.graph, simulations=how.simulations, weight=how.weight, decay=how.decay,
            invalid=how.invalid, node_key=how.node_key, seed=1_000_003 * self.searched + how.seed,
        )  # fmt: skip
        self.searched += 1

    @property
    def ranked(self) -> list[tuple[Chart, float]]:
        """The known charts that hold all picks and can be read, each as it is drawn once, the best first."""
        best: dict[Chart, tuple[Chart, float]] = {}
        for partial, score in self.graph.scores.items():
            chart = chart_of(partial)
            if chart is not None and score is not None and self.picks.items() <= dict(choices_of(chart)).items():
                best[chart.drawn] = max(best.get(chart.drawn, (chart, score)), (chart, score), key=lambda pair: pair[1])
        return sorted(best.values(), key=lambda pair: -pair[1])

    @property
    def good(self) -> list[tuple[Chart, float]]:
        """Those of ``ranked`` whose score is at least the share ``Hinting.good`` of the best."""
        ranked = self.ranked
        return [pair for pair in ranked if pair[1] >= self.hinting.good * ranked[0][1]]

    def hints(self) -> list[SlotChoice]:
        """Return single choices that together cover much of what is good.

        None is of nothing, of ``transform``, or of a slot that is picked.
        """
        nodes = dict.fromkeys(_choice(key) for key in self.graph.keys)
        good = [(chart.drawn, score, choices_of(chart)) for chart, score in self.good]
        shown: dict[SlotChoice, dict[Hashable, float]] = {
            (slot, value): {drawn: score for drawn, score, choices in good if (slot, value) in choices}
            for slot, value in nodes
            if value is not None and slot not in (STOP, "transform", *self.picks)
        }
        how = self.hinting
        return how.choose(shown, most=how.most, budget=how.budget, per_field=how.per_field, field=lambda hint: hint[1])

    def pick(self, choice: SlotChoice) -> None:
        """Take a pick: it fixes its slot, and where no good chart is known that holds all picks, the older ones go.

        Raises ``ValueError`` for what no chart of the table can hold.
        """
        check_picks(self.table, dict([choice]))
        self.picks |= dict([choice])
        if not self.good:
            self.picks = dict([choice])
        self._memory.append(choice_features(self.table, choice))
        problem = self._problem()
        self.graph.scores = {partial: problem.score(partial) for partial in self.graph.scores}


def _choice(key: Hashable) -> SlotChoice:
    """Return the choice that a key stands for: itself, or the last of a way."""
    assert isinstance(key, tuple)
    return key if isinstance(key[0], str) else key[1]


@dataclass(frozen=True)
class Recommend:
    """The recommender as an agent: it asks the role ``user`` which hint to follow, at most ``times`` times.

    ``shows`` charts are shown. The best one is put together in the session and is the answer.
    """

    times: int = 3
    shows: int = 3
    rates: Callable[[Sequence[Sequence[str]]], Rates] | None = None
    rounds: Rounds = field(default_factory=Rounds)
    hinting: Hinting = field(default_factory=Hinting)
    role: str = "user"

    def __call__(self, task: Task, session: Session) -> Flow[Answer]:
        """Play one episode; a task without a table has no answer."""
        if "table" not in task.meta:
            return None
        recommender = Recommender(table_in(task), self.rates, rounds=self.rounds, hinting=self.hinting)
        messages = [Message("system", "You look for charts of a table that tell you something.")]
        recommender.search()
        for _ in range(self.times):
            hints = recommender.hints()
            messages.append(
                Message("user", hint_question([c.drawn for c, _ in recommender.ranked[: self.shows]], hints))
            )
            (reply,) = yield from ask(Ask(tuple(messages), role=self.role, max_tokens=8))
            messages.append(reply.message)
            place = picked(plain_text(reply.message), hints)
            if place is None and DONE in plain_text(reply.message):
                break
            if place is not None:
                recommender.pick(hints[place])
            recommender.search()
        ranked = recommender.ranked
        if not ranked:
            return None
        yield from use(*calls_for(ranked[0][0]), session=session)
        return chart_text(ranked[0][0])


def offers_in(table: Plotted, trajectory: Trajectory) -> list[Offered]:
    """Return what a person was offered and picked in an episode of ``Recommend``, for ``fit_choices``."""
    offers: list[Offered] = []
    for turn in trajectory.turns:
        hints = hints_in(plain_text(turn.messages[-1])) if turn.messages else []
        place = picked(plain_text(turn.reply), hints)
        if place is not None:
            offers.append(([choice_features(table, hint) for hint in hints], place))
    return offers
