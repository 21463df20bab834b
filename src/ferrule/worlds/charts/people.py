"""What is said between a recommender of charts and a person, and a person who is played by rules.

Source: "HAIChart: Human and AI Paired Visualization System" (paper 57).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ferrule.core.flows import Ask
from ferrule.core.records import plain_text
from ferrule.worlds.charts.grammar import Chart, SlotChoice, chart_text, choices_of, read_slot, value_text

__all__ = ["DONE", "ON", "Person", "charts_in", "hint_question", "hints_in", "picked"]

DONE, ON = "done", "none"
"""What a person says who has the chart they want, and one to whom no hint is of use."""


def hint_question(charts: Sequence[Chart], hints: Sequence[SlotChoice]) -> str:
    """Return charts and hints as a person is shown them, with how to answer."""
    lines = [f"chart {place}: {chart_text(chart)}" for place, chart in enumerate(charts, 1)]
    lines += [f"hint {place}: {slot} = {value_text(value)}" for place, (slot, value) in enumerate(hints, 1)]
    return "\n".join([*lines, f"Answer with the number of a hint, {ON!r} to look on without one, or {DONE!r}."])


def charts_in(text: str) -> list[str]:
    """Return the charts of a ``hint_question``, as they are told."""
    return re.findall(r"^chart \d+: (.*)$", text, re.MULTILINE)


def hints_in(text: str) -> list[SlotChoice]:
    """Return the hints of a ``hint_question``."""
    return [read_slot(hint) for hint in re.findall(r"^hint \d+: (.*)$", text, re.MULTILINE)]


def picked(reply: str, hints: Sequence[SlotChoice]) -> int | None:
    """Return the place of the hint that a reply picks, None where it names none there is."""
    number = re.search(r"\d+", reply)
    place = int(number[0]) - 1 if number else -1
    return place if 0 <= place < len(hints) else None


@dataclass(frozen=True)
class Person:
    """Someone who wants certain charts (``wants``: how much, by chart) and picks hints that lead there.

    Content with a wanted chart among the first ``looks`` charts. Else the hint is picked that stands in most of what is
    wanted, by weight, and with probability ``errs`` any hint.
    """

    wants: Mapping[Chart, float]
    looks: int = 3
    errs: float = 0.0
    seed: int = 0

    def __call__(self, ask: Ask, sample: int) -> str:
        """Answer a ``hint_question``: the script of a ``Scripted`` policy."""
        text = plain_text(ask.messages[-1])
        wanted = {chart_text(chart.drawn) for chart in self.wants}
        if any(chart in wanted for chart in charts_in(text)[: self.looks]):
            return DONE
        hints = hints_in(text)
        draw = random.Random(f"{self.seed}/{len(ask.messages)}")
        if hints and draw.random() < self.errs:
            return str(1 + draw.randrange(len(hints)))
        weights = [sum(weight for chart, weight in self.wants.items() if hint in choices_of(chart)) for hint in hints]
        best = max(range(len(hints)), key=lambda place: (weights[place], -place), default=None)
        return ON if best is None or weights[best] <= 0 else str(best + 1)

    @property
    def script(self) -> Callable[[Ask, int], str]:
        """The person as the script of a policy."""
        return self
