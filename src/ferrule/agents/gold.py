"""What each stage of an agent should do for a task, and stages that do it.

Source: "Tool Learning with Large Language Models: A Survey" (paper 30).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ferrule.agents.stages import Called, Ranking, StageRecord, Stages, Subtask, same_text
from ferrule.core.records import Answer, Call, Task, Tool
from ferrule.rewards.matching import equal_values

__all__ = ["Gold", "oracles"]


@dataclass(frozen=True)
class Gold:
    """What each stage should do for a task: the parts, the tools and the calls of each by its id, and the answer.

    Parts without a text are known by their calls alone (``of_calls``).
    """

    subtasks: tuple[Subtask, ...] = ()
    tools: Mapping[int, tuple[str, ...]] = field(default_factory=dict, hash=False)
    calls: Mapping[int, tuple[Call, ...]] = field(default_factory=dict, hash=False)
    answer: Answer = None

    @classmethod
    def of_calls(cls, calls: Sequence[Call], answer: Answer = None) -> Gold:
        """Return what is right by a reference solution: a part for each call, which nothing is said of."""
        numbered = dict(enumerate(calls, 1))
        parts = tuple(Subtask(number, "") for number in numbered)
        return cls(parts, {n: (c.name,) for n, c in numbered.items()}, {n: (c,) for n, c in numbered.items()}, answer)

    @property
    def worded(self) -> bool:
        """Whether it is known what the parts say."""
        return any(part.text for part in self.subtasks)

    def like(self, part: Subtask) -> Subtask | None:
        """Return the gold part that says the same as a part, of several that of its id; None where there is none."""
        same = [gold for gold in self.subtasks if same_text(gold.text, part.text)]
        return next((gold for gold in same if gold.id == part.id), same[0] if same else None)

    def ran(self, calls: Sequence[Called], subtask: int) -> bool:
        """Tell whether each right call of a part is among calls that went well, with equal arguments and no others."""
        done = [Call(each.name, each.arguments) for each in calls if each.status == "ok"]
        return all(any(_same(call, each) for each in done) for call in self.calls.get(subtask, ()))


def _same(first: Call, second: Call) -> bool:
    same = first.name == second.name and len(first.arguments) == len(second.arguments)
    return same and equal_values(first, second) == len(second.arguments)


def oracles(gold_of: Callable[[Task], Gold]) -> Stages:
    """Return stages that do what is right; ``replaced`` puts one of them among others.

    Each makes the best of what it is given: a part that the gold plan does not have gets no tools and no calls, only
    tools that were chosen are called, and the answer is the right one where all that it needs came back, else None.
    """

    def plan(record: StageRecord, tools: tuple[Tool, ...]) -> Sequence[Subtask]:
        gold = gold_of(record.task)
        return tuple(part for part in gold.subtasks if not record.done(part)) if record.calls else gold.subtasks

    def select(part: Subtask, record: StageRecord, tools: tuple[Tool, ...]) -> Ranking:
        gold = gold_of(record.task)
        same = gold.like(part)
        return tuple((name, 1.0) for name in (gold.tools.get(same.id, ()) if same is not None else ()))

    def call(part: Subtask, record: StageRecord, tools: tuple[Tool, ...]) -> Sequence[Call]:
        gold = gold_of(record.task)
        same = gold.like(part)
        chosen = {tool.name for tool in tools}
        return tuple(each for each in gold.calls.get(same.id, ()) if each.name in chosen) if same is not None else ()

    def respond(record: StageRecord) -> Answer:
        gold = gold_of(record.task)
        return gold.answer if all(gold.ran(record.calls, part.id) for part in gold.subtasks) else None

    return Stages(plan, select, call, respond)
