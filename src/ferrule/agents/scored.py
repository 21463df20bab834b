"""Values by a reward model: the scores of the steps on the way, as one number.

Source: "ToolComp: A Multi-Tool Reasoning & Process Supervision Benchmark" (13).
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from types import MappingProxyType
from typing import TypeAlias

from ferrule.agents.search import Node
from ferrule.agents.values import Value
from ferrule.core.flows import Ask, Flow, ask
from ferrule.core.records import Task, plain_text

__all__ = ["AGGREGATES", "Aggregate", "last_score", "log_odds", "read_scores", "scored"]

Aggregate: TypeAlias = Callable[[Sequence[float]], float]
"""Makes one number of the scores of steps, of at least one."""


def last_score(scores: Sequence[float]) -> float:
    """Return the score of the last step: what an outcome reward model says of a run."""
    return scores[-1]


def log_odds(scores: Sequence[float]) -> float:
    """Return the mean of ``ln(p / (1 - p))``: of what a reward model says before it is made a number from 0 to 1.

    Scores of 0 and 1 count as the numbers next to them.
    """
    inside = [min(max(score, sys.float_info.min), 1.0 - sys.float_info.epsilon / 2) for score in scores]
    return fmean(math.log(score / (1.0 - score)) for score in inside)


AGGREGATES: Mapping[str, Aggregate] = MappingProxyType(
    {"min": min, "max": max, "mean": fmean, "product": math.prod, "last": last_score, "log-odds": log_odds}
)
"""Ways to make one number of step scores. ``min`` and ``product`` favour short runs: compare runs of like length."""


def read_scores(text: str) -> list[float]:
    """Read step scores from a reply: a JSON list of numbers; empty where there is none."""
    try:
        said = json.loads(text)
        numbers = said if isinstance(said, list) else []
        if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
            return []
        scores = [float(number) for number in numbers]
    except (ValueError, OverflowError, RecursionError):
        return []
    return scores if all(map(math.isfinite, scores)) else []


def scored(aggregate: Aggregate = min, *, role: str = "scorer") -> Value:
    """Return the value of a step by a reward model: ``aggregate`` of the scores of the steps up to it.

    The role is asked with the conversation up to the step and replies with a JSON list of numbers, one per reply of the
    conversation: ``ferrule.policies.scorer.Scorer`` does, and so may any policy or script. A reply without one has the
    value minus infinity, which is never preferred. ``BestOf(pick=largest(scored(min)))`` takes the best of n.
    """

    def value(task: Task, node: Node) -> Flow[float]:
        assert node.parent is not None
        assert node.reply is not None
        request = Ask((*node.parent.messages, node.reply.message), tools=node.session.tools, role=role)
        (reply,) = yield from ask(request)
        scores = read_scores(plain_text(reply.message)) if reply.finish in ("stop", "answer") else []
        return aggregate(scores) if scores else -math.inf

    return value
