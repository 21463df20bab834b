"""How promising a step of a search is: what agents that search rank steps by, and how they pick among answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeAlias

from ferrule.agents.flow import together
from ferrule.agents.search import Node
from ferrule.core.flows import Flow
from ferrule.core.records import Task

__all__ = [
    *("NAMED", "Pick", "Value", "calls_that_ran", "first", "largest", "likelihood", "majority", "most_likely"),
    "valued",
]

Value: TypeAlias = Callable[[Task, Node], "Flow[float] | float"]
"""The value of a step, larger for more promising ones; as a flow it may ask a model."""
Pick: TypeAlias = Callable[[Task, Sequence[Node]], "Flow[int] | int"]
"""The place of the answer that is taken, of at least one."""


def likelihood(task: Task, node: Node) -> float:
    """Return the mean log-prob (nats) of the tokens that the model wrote on the way to a step; 0 without log-probs."""
    logps = [logp for step in node.path() if step.reply is not None for logp in step.reply.logps]
    return sum(logps) / len(logps) if logps else 0.0


def calls_that_ran(task: Task, node: Node) -> float:
    """Return the share of calls on the way to a step that ended well; 1 without calls."""
    statuses = [observation.status == "ok" for step in node.path() for observation in step.observations]
    return sum(statuses) / len(statuses) if statuses else 1.0


def first(task: Task, nodes: Sequence[Node]) -> int:
    """Take the answer that was reached first."""
    return 0


def majority(task: Task, nodes: Sequence[Node]) -> int:
    """Take the answer that most give, whatever its case and spaces; among equals the one reached first.

    Source: "Self-Consistency Improves Chain of Thought Reasoning in Language Models" (arXiv 2203.11171).
    """
    answers = [" ".join((node.answer or "").lower().split()) for node in nodes]
    ((most, _),) = Counter(answers).most_common(1)
    return answers.index(most)


def largest(value: Value) -> Pick:
    """Take the answer with the largest value; among equals the one reached first."""

    def pick(task: Task, nodes: Sequence[Node]) -> Flow[int]:
        values = yield from valued(value, task, nodes)
        return max(range(len(nodes)), key=lambda place: (values[place], -place))

    return pick


def most_likely(task: Task, nodes: Sequence[Node]) -> int:
    """Take the answer whose way the model finds likeliest, by ``likelihood``; among equals the one reached first."""
    return max(range(len(nodes)), key=lambda place: (likelihood(task, nodes[place]), -place))


def valued(value: Value, task: Task, nodes: Sequence[Node]) -> Flow[list[float]]:
    """Return the values of steps and keep them in ``Node.value``; values that ask a model do so side by side."""
    given = [value(task, node) for node in nodes]
    flows = {place: one for place, one in enumerate(given) if not isinstance(one, (int, float))}
    if flows:
        answers = yield from together(*flows.values())
        given = [dict(zip(flows, answers, strict=True)).get(place, one) for place, one in enumerate(given)]
    for node, number in zip(nodes, given, strict=True):
        assert isinstance(number, (int, float))
        node.value = float(number)
    return [node.value for node in nodes]


NAMED = {
    "Value": ("calls_that_ran", "likelihood"),
    "Pick": ("first", "majority", "most_likely"),
}
"""Names of values and picks that can be given as text."""
