"""A chart put together choice by choice, for a search or in a session."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ferrule.core.records import Observation
from ferrule.worlds.charts.columns import Plotted
from ferrule.worlds.charts.drawing import Marks, marks_of, problem_of, rule_score
from ferrule.worlds.charts.grammar import (
    SLOTS,
    Chart,
    Partial,
    SlotChoice,
    chart_of,
    chart_text,
    fill,
    legal_choices,
    open_slots,
    read_slot,
    value_text,
)

__all__ = ["Filling", "Picking", "Rates"]

Rates: TypeAlias = Callable[[Plotted, Chart, Marks], float]
"""How good a chart is that can be read, from the table, the chart and its marks."""


@dataclass(frozen=True)
class Filling:
    """The choices of a chart of a table as a problem for a search (``ferrule.agents.graph.Choosing``).

    ``picks`` are what a user has chosen, by slot. An end is worth ``rates``, 0 where nothing could follow, and is
    invalid where the chart cannot be read.
    """

    table: Plotted
    rates: Rates = rule_score
    picks: Mapping[str, Any] = field(default_factory=dict)
    first: Partial = ()
    slots: int = len(SLOTS)

    def legal(self, state: Partial) -> Sequence[SlotChoice]:
        """Return what may be chosen."""
        return legal_choices(self.table, state, self.picks)

    def step(self, state: Partial, action: SlotChoice) -> Partial:
        """Return the choices with one more."""
        return fill(state, action)

    def left(self, state: Partial) -> int:
        """Return the number of open slots."""
        return len(open_slots(state))

    def score(self, state: Partial) -> float | None:
        """Return what a finished chart is worth."""
        chart = chart_of(state)
        if chart is None:
            return 0.0
        marks = marks_of(self.table, chart)
        return None if problem_of(self.table, chart, marks) else self.rates(self.table, chart, marks)


@dataclass
class Picking:
    """A chart in the making: the state of a session."""

    table: Plotted
    partial: Partial = ()

    def fork(self) -> Picking:
        """Return an independent one with the same choices."""
        return Picking(self.table, self.partial)

    def choose(self, slot: str, value: str) -> Observation:
        """Fill the next slot; the last one ends the episode with the chart as the answer."""
        legal = legal_choices(self.table, self.partial)
        if not legal:
            return Observation("the chart is finished", "error")
        choice = read_slot(f"{slot}={value}")
        if choice not in legal:
            return Observation(f"that cannot be chosen now; {_offer(legal)}", "error")
        self.partial = fill(self.partial, choice)
        chart = chart_of(self.partial)
        if chart is not None:
            return Observation(chart_text(chart), terminal=True)
        return Observation(_offer(legal_choices(self.table, self.partial)))

    def final(self) -> Mapping[str, Any]:
        """Return the choices, the chart as text, why it cannot be read, and how well its mark suits it."""
        chart = chart_of(self.partial)
        choices = dict(self.partial)
        if chart is None:
            return {"choices": choices, "chart": "", "problem": "it is not finished", "score": 0.0}
        marks = marks_of(self.table, chart)
        said = {"problem": problem_of(self.table, chart, marks), "score": rule_score(self.table, chart, marks)}
        return {"choices": choices, "chart": chart_text(chart), **said}


def _offer(legal: Sequence[SlotChoice]) -> str:
    """Say what may be chosen next."""
    if not legal:
        return "nothing can follow: the table has no column for the next slot"
    return f"next: {legal[0][0]} = {' | '.join(value_text(value) for _, value in legal)}"
