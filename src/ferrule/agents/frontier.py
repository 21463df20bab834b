"""Beam search and best-first search over steps: what is gone on from next is decided by a value."""

from __future__ import annotations

from dataclasses import dataclass, field

from ferrule.agents.search import Budget, Node, Search, Stuck, no_answer, refuse_below_one
from ferrule.agents.values import Value, likelihood, valued
from ferrule.core.flows import Flow, Leaves, Session
from ferrule.core.records import Task

__all__ = ["Beam", "BestFirst"]


def _best(nodes: list[Node]) -> Node | None:
    """Return the step with the largest value; of equals the one drawn first."""
    return max(nodes, key=lambda node: node.value, default=None)


@dataclass(frozen=True)
class Beam:
    """Keep the ``width`` best steps of every depth, each gone on from ``branch`` times, down to ``depth``.

    All steps of a depth are drawn in one batch and compared by ``value``, answers among them; a kept answer leaves the
    beam. The best answer is the episode's. ``system``, ``max_tokens`` and ``stop`` are as in ``ToolLoop``.
    """

    width: int = 4
    branch: int = 2
    depth: int = 6
    value: Value = likelihood
    budget: Budget = field(default_factory=Budget)
    stuck: Stuck = no_answer
    system: str = ""
    max_tokens: int = 256
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a beam that keeps or draws nothing."""
        refuse_below_one(self, "width", "branch", "depth")

    def __call__(self, task: Task, session: Session) -> Flow[Leaves]:
        """Play one search."""
        search = Search(task, session, self)
        answers: list[Node] = []
        try:
            places = [(search.root, max(self.width, self.branch))]
            for _ in range(self.depth):
                drawn = yield from search.grow(places)
                alive = [node for node in drawn if node.state in ("open", "answer")]
                yield from valued(self.value, task, alive)
                kept = sorted(alive, key=lambda node: -node.value)[: self.width]
                for node in drawn:
                    if node not in kept:
                        search.close(node)
                answers += [node for node in kept if node.state == "answer"]
                places = [(node, self.branch) for node in kept if node.state == "open"]
                if not places:
                    break
            return search.leaves(_best(answers))
        finally:
            search.close()


@dataclass(frozen=True)
class BestFirst:
    """Go on from the most valuable step that is open, wherever it stands, until ``answers`` answers are reached.

    Every step is gone on from once, by ``branch`` steps drawn together. The best of the answers is the episode's. Steps
    at ``depth`` are not gone on from. ``system``, ``max_tokens`` and ``stop`` are as in ``ToolLoop``.
    """

    branch: int = 2
    depth: int = 6
    answers: int = 1
    value: Value = likelihood
    budget: Budget = field(default_factory=lambda: Budget(asks=200))
    stuck: Stuck = no_answer
    system: str = ""
    max_tokens: int = 256
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a search that draws nothing."""
        refuse_below_one(self, "branch", "depth", "answers")

    def __call__(self, task: Task, session: Session) -> Flow[Leaves]:
        """Play one search."""
        search = Search(task, session, self)
        waiting, answers = [search.root], list[Node]()
        try:
            while waiting and len(answers) < self.answers:
                node = _best(waiting)
                assert node is not None
                waiting.remove(node)
                drawn = yield from search.grow([(node, self.branch)])
                if not drawn:
                    break
                yield from valued(self.value, task, drawn)
                answers += [child for child in drawn if child.state == "answer"]
                waiting += [child for child in drawn if child.state == "open" and child.depth < self.depth]
            return search.leaves(_best(answers))
        finally:
            search.close()


AGENTS = {"beam": Beam, "best-first": BestFirst}
