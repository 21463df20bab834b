"""Monte Carlo tree search over steps, or over fragments of replies.

Every iteration goes down from the beginning by an upper bound on what a step is worth, draws steps below the one it
reaches, looks a little further ahead from there, and adds what that is worth to all steps on the way.

Source: "Boosting Tool Use of Large Language Models via Iterative Reinforced Fine-Tuning" (paper 44), for fragments.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import TypeAlias

from ferrule.agents.search import Budget, Node, Search, Stuck, no_answer, refuse_below_one
from ferrule.agents.values import Value, probability, step_probability, worth
from ferrule.core.flows import Flow, Leaves, Session
from ferrule.core.records import Task

__all__ = ["SEPARATORS", "MonteCarlo", "NodeKey", "Split", "separated", "stops_of", "upper_bound"]

Split: TypeAlias = Callable[[str], Sequence[str]]
"""Cuts a text into fragments, which joined are the text again."""
NodeKey: TypeAlias = Callable[[Node, Node], Hashable]
"""What the state after a step is known by, from the step it follows and the step itself, which has been played."""

SEPARATORS = (". ", ", ", "=", "(")
"""Texts that end a piece of a reply."""


def separated(text: str, *, step_limit: int = 2, separators: Sequence[str] = SEPARATORS, joint: str = "") -> list[str]:
    """Cut a text behind every separator and put ``step_limit`` pieces at a time together, with ``joint`` between them.

    Without a ``joint`` the fragments are exact parts of the text. Raises ``ValueError`` for a ``step_limit`` below 1.
    """
    if step_limit < 1:
        raise ValueError(f"step_limit is {step_limit}; the least is 1")
    ends = [match.end() for match in re.finditer("|".join(map(re.escape, separators)), text)]
    places = [0, *ends, len(text)]
    pieces = [text[low:high] for low, high in pairwise(places) if high > low]
    return [joint.join(pieces[i : i + step_limit]) for i in range(0, len(pieces), step_limit)]


def stops_of(pieces: Sequence[str], fragments: Sequence[str]) -> list[int]:
    """Return after how many tokens each fragment of a reply but the last ends.

    ``pieces`` are the texts of its tokens. A token that a fragment ends in belongs to it as a whole; a fragment within
    one token, and one after which nothing is written, ends nowhere.
    """
    ends = list(accumulate(map(len, pieces)))
    stops = [
        next((i for i, end in enumerate(ends, 1) if end >= length), len(pieces))
        for length in list(accumulate(map(len, fragments)))[:-1]
    ]
    return [stop for stop in dict.fromkeys(stops) if stop < len(pieces) and ends[stop - 1] < ends[-1]]


def upper_bound(
    value: float, visits: int, prior: float, above: int, *, weight: float = 1.0, reference: bool = False
) -> float:
    """Return ``value / (visits + 1) + weight prior sqrt(ln(above + 1) / (visits + 1))``.

    ``value`` is the sum of what a step was worth, first by itself and then in each of its ``visits``; ``above`` counts
    those of the step before. ``reference`` has ``ln(above)``, not a number where there were none.
    """
    if reference and not above:
        return math.nan
    spread = math.log(above if reference else above + 1)
    return value / (visits + 1) + weight * prior * math.sqrt(spread / (visits + 1))


@dataclass(frozen=True)
class MonteCarlo:
    """Search in ``iterations``, each of which draws ``branch`` steps at the most promising place.

    From the beginning the search goes down to the following step with the largest ``upper_bound`` (with ``weight``),
    until one has fewer than ``least`` steps after it; that is expanded. A new step has a ``prior``, and begins with the
    value ``guess``. From the expanded step the best following ones are looked at, up to ``ahead`` steps, a fresh one
    being drawn where there is none; what is reached is worth ``value``, or 0 if it gave up. All steps on the way are
    visited once more and gain that value. Steps at ``depth`` are not gone on from. The answer with the largest mean
    value is the episode's.

    With ``split`` nodes are fragments of replies: what is drawn is cut where ``split`` says, into at most ``parts``
    from the beginning of a reply, the last of which is all that is left. The search may go on from a fragment, by the
    very ids that were sampled, and from a reply that was cut off at its limit; a fresh reply that was drawn to look
    ahead stays outside the tree. This needs a policy that goes on from ids and tells the text of each.

    ``node_key`` makes a graph of the tree: a step whose key is known is replaced by the first with this key. It
    sees steps that were played, with their results. With ``shares`` steps of one key stay apart, each in a state of its
    own, but have their visits and value in common, so that what followed a choice counts after other beginnings as well
    (paper 57; ``ferrule.agents.graph`` does so where choices are listed). ``system``, ``max_tokens`` and ``stop`` are
    as in ``ToolLoop``.
    """

    iterations: int = 8
    branch: int = 2
    least: int = 2
    depth: int = 6
    ahead: int = 2
    weight: float = 1.0
    value: Value = probability
    prior: Value = step_probability
    guess: Value = probability
    node_key: NodeKey | None = None
    shares: NodeKey | None = None
    split: Split | None = None
    parts: int = 3
    budget: Budget = field(default_factory=lambda: Budget(asks=200))
    stuck: Stuck = no_answer
    system: str = ""
    max_tokens: int = 256
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a search that draws nothing, a bound that orders nothing, and keys of fragments."""
        refuse_below_one(self, "iterations", "branch", "least", "depth", "parts")
        if self.ahead < 0:
            raise ValueError(f"MonteCarlo.ahead is {self.ahead}; the least is 0")
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"MonteCarlo.weight is {self.weight}; it is a number from 0 on")
        for name in ("node_key", "shares"):
            if self.split is not None and getattr(self, name) is not None:
                raise ValueError(f"MonteCarlo.{name} is for whole steps; leave split or {name} out")

    def __call__(self, task: Task, session: Session) -> Flow[Leaves]:
        """Play one search."""
        inside = self.split is not None
        search = Search(task, session, self, want=("pieces",) if inside else (), goes_on=inside)
        known, shared = dict[Hashable, Node](), _Shared(self.shares)
        try:
            for _ in range(self.iterations):
                path = self._selected(search.root)
                drawn = (yield from self._expanded(search, path[-1], known, shared)) if path else False
                if not drawn:
                    break
                yield from self._ahead(search, path, shared)
                reward = 0.0
                if path[-1].state in ("open", "answer"):
                    (reward,) = yield from worth(self.value, task, path[-1:])
                shared.gain(path, reward)
                if len(path) > 1 and path[-1] not in path[-2].children:
                    search.close(path[-1])
            answers = [node for node in search.nodes if node.state == "answer"]
            return search.leaves(max(answers, key=_mean, default=None))
        finally:
            search.close()

    def _done(self, node: Node) -> bool:
        """Tell whether nothing more is drawn at a step or below it."""
        deep = node.inside >= self.parts if node.begun else node.depth >= self.depth
        if node.state != "open" or deep:
            return True
        return len(node.children) >= self.least and all(map(self._done, node.children))

    def _selected(self, root: Node) -> list[Node]:
        """Return the way from the beginning to the step that is expanded; empty where there is none left."""
        path = [] if self._done(root) else [root]
        while path and len(path[-1].children) >= self.least:
            here = path[-1]
            path.append(max((child for child in here.children if not self._done(child)), key=self._bound(here)))
        return path

    def _bound(self, above: Node) -> Callable[[Node], float]:
        return lambda node: upper_bound(node.value, node.visits, node.prior, above.visits, weight=self.weight)

    def _expanded(self, search: Search, node: Node, known: dict[Hashable, Node], shared: _Shared) -> Flow[bool]:
        """Draw steps below a node and return whether the budget allowed any."""
        drawn = yield from search.grow([(node, self.branch)])
        yield from self._welcomed(search, [part for step in drawn for part in self._cut(search, step)], shared)
        if self.node_key is not None:
            for step in drawn:
                _merge(node, step, known.setdefault(self.node_key(node, step), step))
        return bool(drawn)

    def _welcomed(self, search: Search, nodes: Sequence[Node], shared: _Shared) -> Flow[None]:
        """Give new nodes their prior and the value they begin with."""
        priors = yield from worth(self.prior, search.task, nodes)
        guesses = yield from worth(self.guess, search.task, nodes)
        for node, prior, guess in zip(nodes, priors, guesses, strict=True):
            node.prior, node.value = prior, guess
            shared.join(node)

    def _cut(self, search: Search, step: Node) -> list[Node]:
        """Return the fragments of a new step, or the step itself."""
        if self.split is None or step.reply is None or step.parent is None:
            return [step]
        stops = stops_of(step.reply.extras.get("pieces", ()), self.split(step.piece))
        stops = stops[: self.parts - step.parent.inside - 1]
        return search.cut(step, stops) if stops else [step]

    def _ahead(self, search: Search, path: list[Node], shared: _Shared) -> Flow[None]:
        """Go on from an expanded step along what looks best, and put the steps that are reached on its way.

        A last one that was drawn from within a reply is no child of the one before.
        """
        for _ in range(self.ahead):
            here = path[-1]
            if here.children:
                path.append(max(here.children, key=_mean))
                continue
            if here.state != "open" or (not here.begun and here.depth >= self.depth):
                break
            drawn = yield from search.grow([(here, 1)])
            if not drawn:
                break
            yield from self._welcomed(search, drawn, shared)
            path += drawn
            if self.split is not None:
                drawn[0].more["ahead"] = True
                here.children.remove(drawn[0])
                break


class _Shared:
    """Visits and values that steps of one key have in common."""

    def __init__(self, key: NodeKey | None) -> None:
        self._key = key
        self._groups: dict[Hashable, list[Node]] = {}
        self._of: dict[Node, list[Node]] = {}

    def join(self, node: Node) -> None:
        """Give a new step what is known of its key."""
        if self._key is None or node.parent is None:
            return
        group = self._groups.setdefault(self._key(node.parent, node), [])
        if group:
            node.value, node.visits = group[0].value, group[0].visits
        group.append(node)
        self._of[node] = group

    def gain(self, path: Sequence[Node], reward: float) -> None:
        """Count a visit that was worth ``reward`` for all steps of a way, and those that share with them."""
        for node in path:
            for twin in self._of.get(node, (node,)):
                twin.visits += 1
                twin.value += reward


def _mean(node: Node) -> float:
    """Return the mean of what a node was worth."""
    return node.value / (node.visits + 1)


def _merge(above: Node, step: Node, known: Node) -> None:
    """Put the step that is known by the same key in the place of a new one, unless that would close a circle."""
    if known is step or _leads(known, above):
        return
    above.children[above.children.index(step)] = known  # twice if need be: as many were drawn
    if step.session is not above.session:
        step.session.close()


def _leads(node: Node, to: Node) -> bool:
    """Return whether a step is another one or leads there."""
    waiting, passed = [node], set[int]()
    while waiting:
        here = waiting.pop()
        if here is to:
            return True
        if id(here) not in passed:
            passed.add(id(here))
            waiting += here.children
    return False


AGENTS = {"mcts": MonteCarlo}
