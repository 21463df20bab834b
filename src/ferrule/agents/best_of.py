"""Several attempts side by side, of which one is taken: best of n, and self-consistency."""

from __future__ import annotations

from dataclasses import dataclass, field

from ferrule.agents.search import Budget, Node, Search, Stuck, no_answer, refuse_below_one
from ferrule.agents.values import Pick, majority
from ferrule.core.flows import Flow, Leaves, Session
from ferrule.core.records import Task

__all__ = ["BestOf"]


@dataclass(frozen=True)
class BestOf:
    """Play ``samples`` tool loops of at most ``turns`` replies at the same time and take one of their answers.

    ``pick`` chooses among the answers, in the order in which they were reached; ``majority`` is self-consistency and
    ``ferrule.agents.values.largest`` takes the best by a value. Each loop acts in a branch of the world of its own. The
    budget counts what all of them take; once it is spent the answers that are there are chosen from. ``system``,
    ``max_tokens`` and ``stop`` are as in ``ToolLoop``.
    """

    samples: int = 8
    turns: int = 6
    pick: Pick = majority
    budget: Budget = field(default_factory=Budget)
    stuck: Stuck = no_answer
    system: str = ""
    max_tokens: int = 256
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse no attempts, and attempts without a reply."""
        refuse_below_one(self, "samples", "turns")

    def __call__(self, task: Task, session: Session) -> Flow[Leaves]:
        """Play all attempts."""
        search = Search(task, session, self)
        answers: list[Node] = []
        try:
            places = [(search.root, self.samples)]
            for _ in range(self.turns):
                drawn = yield from search.grow(places)
                answers += [node for node in drawn if node.state == "answer"]
                places = [(node, 1) for node in drawn if node.state == "open"]
                if not places:
                    break
            picked = self.pick(task, answers) if answers else -1
            place = picked if isinstance(picked, int) else (yield from picked)
            return search.leaves(answers[place] if answers else None)
        finally:
            search.close()


AGENTS = {"best-of-n": BestOf}
