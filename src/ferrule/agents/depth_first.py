"""Depth-first search with back-tracking: a step beside another is drawn only after everything below that one failed.

Source: "ToolLLM: Facilitating Large Language Models to Master 16000+ Real-world APIs" (paper 45), its DFSDT.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from ferrule.agents.search import Budget, Hint, Node, Search, Stuck, no_answer, other_than
from ferrule.core.flows import Flow, Leaves, Session
from ferrule.core.records import Task

__all__ = ["DepthFirst", "Order"]

Order: TypeAlias = Callable[[Task, Sequence[Node]], Flow[Sequence[float]]]
"""Scores steps that were drawn beside each other; the largest is gone on from first, ties in the order drawn."""


@dataclass(frozen=True)
class DepthFirst:
    """Search at most ``width`` steps beside each other, ``depth`` steps deep, and answer with the first answer reached.

    A step that answers or gives up ends its path; the search then goes on ``back`` levels above it, so that with 2 the
    other steps beside it are left out. A path that reached ``depth`` is gone back from by one level, and its last step
    is noted as ``pruned``. The search ends after ``answers`` answers, of which the first is the episode's, or with the
    budget. It starts anew from the beginning up to ``restarts`` times while there is no answer: with ``width`` 1 that
    is a chain tried again.

    ``hint`` words what the model is told of earlier steps beside the one it writes. With ``order`` all ``width`` steps
    are drawn at once, without hints, and gone on from by their scores. ``stuck`` says which steps give up.
    ``reference`` asks for what the published code does: a give-up right below the beginning ends the search, and an
    answer in the last ask of the budget is not taken. ``system``, ``max_tokens`` and ``stop`` are as in ``ToolLoop``.
    """

    width: int = 2
    depth: int = 4
    budget: Budget = field(default_factory=lambda: Budget(asks=200))
    answers: int = 1
    restarts: int = 0
    back: int = 2
    hint: Hint | None = other_than
    order: Order | None = None
    stuck: Stuck = no_answer
    reference: bool = False
    system: str = ""
    max_tokens: int = 256
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a search that takes no step."""
        for name, least in (("width", 1), ("depth", 1), ("answers", 1), ("restarts", 0), ("back", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"DepthFirst.{name} is {getattr(self, name)}; the least is {least}")

    def __call__(self, task: Task, session: Session) -> Flow[Leaves]:
        """Play one search."""
        search = Search(task, session, self)
        answers: list[Node] = []
        try:
            for _ in range(1 + self.restarts):
                for node in search.root.children:
                    search.close(node)
                search.root.children = []  # a new start is shown nothing of the ones before
                yield from self._visit(search, search.root, 0, answers)
                if answers or search.over:
                    break
            return search.leaves(answers[0] if answers else None)
        finally:
            search.close()

    def _visit(self, search: Search, node: Node, depth: int, answers: list[Node]) -> Flow[int]:
        """Search below a step and return how many levels to go back from it."""
        if node.state == "answer":
            answers.append(node)
        if node.state != "open":
            return self.back
        if depth == self.depth:
            node.more["pruned"] = True
            return 1
        drawn = list[Node]() if self.order is None else (yield from self._ordered(search, node))
        for place in range(self.width):
            if self.order is None:
                drawn += yield from search.grow([(node, 1)], hint=self.hint)
            if place >= len(drawn) or (search.over and (self.reference or drawn[place].state != "answer")):
                return 1
            levels = yield from self._visit(search, drawn[place], depth + 1, answers)
            search.close(drawn[place])
            if search.over or len(answers) >= self.answers:
                return 1
            if levels > 1 and (depth > 0 or self.reference):
                return levels - 1
        return 1

    def _ordered(self, search: Search, node: Node) -> Flow[list[Node]]:
        assert self.order is not None
        drawn = yield from search.grow([(node, self.width)])
        scores = yield from self.order(search.task, drawn)
        # With the budget spent only an answer is of use, whatever its score.
        places = sorted(range(len(drawn)), key=lambda at: (search.over and drawn[at].state != "answer", -scores[at]))
        return [drawn[place] for place in places]


AGENTS = {"dfsdt": DepthFirst}
