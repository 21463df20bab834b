"""How promising a step of a search is: what agents that search rank steps by, and how they pick among answers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from ferrule.agents.flow import together
from ferrule.agents.repair import passed
from ferrule.agents.search import Node
from ferrule.core.flows import Ask, Flow, ask
from ferrule.core.records import Message, Task

__all__ = [
    *("NAMED", "Pick", "Value", "calls_that_passed", "calls_that_ran", "first", "largest", "likelihood", "majority"),
    *("most_likely", "most_passed", "option_masses", "probability", "rated", "step_probability", "valued", "worth"),
]

Value: TypeAlias = Callable[[Task, Node], "Flow[float] | float"]
"""The value of a step, larger for more promising ones; as a flow it may ask a model."""
Pick: TypeAlias = Callable[[Task, Sequence[Node]], "Flow[int] | int"]
"""The place of the answer that is taken, of at least one."""


def likelihood(task: Task, node: Node) -> float:
    """Return the mean log-prob (nats) of the tokens that the model wrote on the way to a step; 0 without log-probs."""
    logps = [logp for step in node.path() for logp in step.logps]
    return sum(logps) / len(logps) if logps else 0.0


def probability(task: Task, node: Node) -> float:
    """Return e to the ``likelihood`` of a step, in 0 to 1: the geometric mean of the probabilities of its tokens."""
    return math.exp(likelihood(task, node))


def step_probability(task: Task, node: Node) -> float:
    """Return e to the mean log-prob of a step's own tokens, in 0 to 1; 1 without log-probs."""
    return math.exp(sum(node.logps) / len(node.logps)) if node.logps else 1.0


def calls_that_ran(task: Task, node: Node) -> float:
    """Return the share of calls on the way to a step that ended well; 1 without calls."""
    statuses = [observation.status == "ok" for step in node.path() for observation in step.observations]
    return sum(statuses) / len(statuses) if statuses else 1.0


def calls_that_passed(task: Task, node: Node) -> float:
    """Return the share of calls on the way to a step that ended well and with some output; 0 without calls.

    Source: "THOR: Tool-Integrated Hierarchical Optimization via RL for Mathematical Reasoning" (paper 39).
    """
    passes = [passed(observation) for step in node.path() for observation in step.observations]
    return sum(passes) / len(passes) if passes else 0.0


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


def most_passed(task: Task, nodes: Sequence[Node]) -> int:
    """Take the answer whose calls passed most, by ``calls_that_passed``; among equals the one reached first."""
    return max(range(len(nodes)), key=lambda place: (calls_that_passed(task, nodes[place]), -place))


def valued(value: Value, task: Task, nodes: Sequence[Node]) -> Flow[list[float]]:
    """Return the values of steps and keep them in ``Node.value``."""
    values = yield from worth(value, task, nodes)
    for node, number in zip(nodes, values, strict=True):
        node.value = number
    return values


def worth(value: Value, task: Task, nodes: Sequence[Node]) -> Flow[list[float]]:
    """Return the values of steps; those that ask a model do so side by side."""
    given = [value(task, node) for node in nodes]
    flows = {place: one for place, one in enumerate(given) if not isinstance(one, (int, float))}
    if flows:
        answers = yield from together(*flows.values())
        given = [dict(zip(flows, answers, strict=True)).get(place, one) for place, one in enumerate(given)]
    return [float(number) for number in given if isinstance(number, (int, float))]


def option_masses(
    tops: Sequence[Sequence[tuple[str, float]]], options: Sequence[str], *, positions: int = 7, reference: bool = False
) -> dict[str, float]:
    """Return the probability of every option by what a model found most probable at the beginning of its reply.

    ``tops`` are texts with log-probs per position (``Ask.want`` of ``top_texts``), the most probable first. Of the
    first ``positions`` the earliest counts that has an option among its texts; spaces around a text do not matter.
    With ``reference`` all of them count, each with the first option in it, as in the code of "iTool" (paper 44).
    """
    masses = dict.fromkeys(options, 0.0)
    for top in tops[:positions]:
        found = [(text.strip(), math.exp(logp)) for text, logp in top if text.strip() in masses]
        for option, chance in found[:1] if reference else found:
            masses[option] += chance
        if found and not reference:
            break
    return masses


def rated(
    question: Callable[[Task, Node], str], weights: Mapping[str, float], *, top: int = 4, positions: int = 7,
    role: str = "judge", reference: bool = False,
) -> Value:  # fmt: skip
    """Return the value that a model gives by choosing among options: the sum of ``weights`` times ``option_masses``.

    ``question`` words what is asked under ``role``; ``top`` is how many texts are looked at per position. Nothing of
    the reply is read but its probabilities, so that one question gives a graded answer. They are those at temperature
    1 along the most probable reply, at whatever temperature the steps are drawn.
    """

    def value(task: Task, node: Node) -> Flow[float]:
        messages, want = (Message("user", question(task, node)),), (f"top_texts:{top}",)
        (reply,) = yield from ask(Ask(messages, max_tokens=positions, temperature=0.0, role=role, want=want))
        tops = reply.extras.get("top_texts", ())
        masses = option_masses(tops, list(weights), positions=positions, reference=reference)
        return sum(weight * masses[option] for option, weight in weights.items())

    return value


NAMED = {
    "Value": ("calls_that_passed", "calls_that_ran", "likelihood", "probability", "step_probability"),
    "Pick": ("first", "majority", "most_likely", "most_passed"),
}
"""Names of values and picks that can be given as text."""
