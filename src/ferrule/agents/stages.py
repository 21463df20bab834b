"""An agent in four stages that can be replaced one by one (plan, select, call, respond), and a record of each.

Sources: "Tool Learning with Large Language Models: A Survey" (paper 30), for the stages and their record; "Tool
Learning with Foundation Models" (paper 03), for plans that are made at once (``OneStep``, introspective) or go on from
what came back (``Iterative``, extrospective). Stages that ask a model or a retriever: ``ferrule.agents.stage_parts``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeAlias

from ferrule.agents.flow import ended, returned
from ferrule.agents.search import refuse_below_one
from ferrule.core.arrays import nearest
from ferrule.core.flows import Ask, Flow, Leaf, Leaves, Session, Use, use
from ferrule.core.records import Answer, Call, Observation, Reply, Status, Task, Tool, Trajectory
from ferrule.tools.schema import violations

__all__ = [
    "STAGES", "Called", "Iterative", "OneStep", "Ranking", "Selected", "StageRecord", "Stages", "Subtask", "alone",
    "record_of", "replaced", "same_text",
]  # fmt: skip

STAGES = ("plan", "select", "call", "respond")
"""The stages, in their order."""


@dataclass(frozen=True)
class Subtask:
    """One part of a task: its ``id``, what is to be done, and the ids of the parts that it needs the results of."""

    id: int
    text: str
    after: tuple[int, ...] = ()


@dataclass(frozen=True)
class Selected:
    """The tools that were ranked for a part, with their scores, and the first of them, whose documents it is shown."""

    subtask: int
    ranking: tuple[str, ...]
    scores: tuple[float, ...]
    chosen: tuple[str, ...]


@dataclass(frozen=True)
class Called:
    """A call for a part and what came back. ``problem`` says how it breaks the tool's schema, "" where it fits.

    Arguments that are no object stand under the name "".
    """

    subtask: int
    name: str
    arguments: Mapping[str, Any] = field(hash=False)
    problem: str
    status: Status
    text: str


@dataclass(frozen=True)
class StageRecord:
    """What the stages of one run have done so far. A run without parts holds that no tool is needed."""

    task: Task
    subtasks: tuple[Subtask, ...] = ()
    selections: tuple[Selected, ...] = ()
    calls: tuple[Called, ...] = ()
    response: Answer = None

    @property
    def needs_tool(self) -> bool:
        """Whether the plan holds that a tool is needed."""
        return bool(self.subtasks)

    def calls_of(self, subtask: int) -> tuple[Called, ...]:
        """Return the calls of a part, in order."""
        return tuple(each for each in self.calls if each.subtask == subtask)

    def done(self, subtask: Subtask) -> bool:
        """Tell whether the last call of a part went well."""
        calls = self.calls_of(subtask.id)
        return bool(calls) and calls[-1].status == "ok"

    def as_dict(self) -> dict[str, Any]:
        """Return the record as plain values: query, needs_tool, subtasks, selection, calls, response."""
        return {
            "query": self.task.prompt,
            "needs_tool": self.needs_tool,
            "subtasks": [{**asdict(each), "after": list(each.after)} for each in self.subtasks],
            "selection": [
                {
                    "subtask": each.subtask,
                    "ranking": list(each.ranking),
                    "scores": list(each.scores),
                    "chosen": list(each.chosen),
                }
                for each in self.selections
            ],
            "calls": [asdict(each) for each in self.calls],
            "response": self.response,
        }


def record_of(trajectory: Trajectory) -> StageRecord | None:
    """Return what the stages of a trajectory did, None where it was not played in stages."""
    held = trajectory.final.get("stages")
    if not isinstance(held, Mapping):
        return None
    return StageRecord(
        trajectory.task,
        tuple(Subtask(each["id"], each["text"], tuple(each["after"])) for each in held["subtasks"]),
        tuple(
            Selected(each["subtask"], tuple(each["ranking"]), tuple(each["scores"]), tuple(each["chosen"]))
            for each in held["selection"]
        ),
        tuple(Called(**each) for each in held["calls"]),
        held["response"],
    )


Ranking: TypeAlias = Sequence[tuple[str, float]]
"""Names of tools with their scores, the best first."""
Plan: TypeAlias = Callable[[StageRecord, tuple[Tool, ...]], "Flow[Sequence[Subtask]] | Sequence[Subtask]"]
Select: TypeAlias = Callable[[Subtask, StageRecord, tuple[Tool, ...]], "Flow[Ranking] | Ranking"]
Write: TypeAlias = Callable[[Subtask, StageRecord, tuple[Tool, ...]], "Flow[Sequence[Call]] | Sequence[Call]"]
Respond: TypeAlias = Callable[[StageRecord], "Flow[Answer] | Answer"]


@dataclass(frozen=True)
class Stages:
    """The four stages, each a value or a flow that may ask models.

    ``plan(record, tools)`` returns the parts that are left to do, ``select(part, record, tools)`` ranks tools for one,
    ``call(part, record, chosen)`` writes its calls, given the tools whose documents it is shown, and
    ``respond(record)`` the answer.
    """

    plan: Plan
    select: Select
    call: Write
    respond: Respond


def replaced(stages: Stages, stage: str, by: Stages) -> Stages:
    """Return ``stages`` with one of another set (``ferrule.agents.gold.oracles``), to see what it would change."""
    if stage not in STAGES:
        raise ValueError(f"unknown stage {stage!r}; {nearest(stage, STAGES)}")
    return replace(stages, **{stage: getattr(by, stage)})


def alone(stages: Stages, stage: str, others: Stages) -> Stages:
    """Return one stage of ``stages`` among those of another set (``oracles``), to measure it on right inputs."""
    return replaced(others, stage, stages)


# ---------------------------------------------------------------------------------------------------- controllers


def _next(parts: Sequence[Subtask], over: Callable[[Subtask], bool]) -> Subtask | None:
    """Return the first part that is not over and waits for none that is not; the first of a circle where all wait."""
    left = [part for part in parts if not over(part)]
    waiting = {part.id for part in left}
    return next((part for part in left if not waiting & set(part.after)), left[0] if left else None)


def _distinct(parts: Sequence[Subtask]) -> tuple[Subtask, ...]:
    """Return the parts of a plan; raises ``ValueError`` for two of one id, of which one would never be done."""
    ids = [part.id for part in parts]
    if twice := next((id for id in ids if ids.count(id) > 1), None):
        raise ValueError(f"the plan has two parts with the id {twice}; give each an id of its own")
    return tuple(parts)


def _select(stages: Stages, part: Subtask, record: StageRecord, session: Session, k: int) -> Flow[StageRecord]:
    """Rank tools for a part and choose the first ``k``."""
    ranking = yield from returned(stages.select(part, record, session.tools))
    names = tuple(name for name, _ in ranking)
    selected = Selected(part.id, names, tuple(float(score) for _, score in ranking), names[:k])
    return replace(record, selections=(*record.selections, selected))


def _called(part: Subtask, call: Call, observation: Observation, tools: Mapping[str, Tool]) -> Called:
    tool = tools.get(call.name)
    broken = violations(call.arguments, tool.parameters) if tool is not None else {}
    problem = call.problem or "; ".join(f"{name}: {what}".removeprefix(": ") for name, what in broken.items())
    arguments = dict(call.arguments) if isinstance(call.arguments, Mapping) else {"": call.arguments}
    return Called(part.id, call.name, arguments, problem, observation.status, observation.text)


def _call(stages: Stages, part: Subtask, record: StageRecord, session: Session) -> Flow[tuple[StageRecord, Answer]]:
    """Write and run the calls of a part; the answer is that of a call that ended the episode, None without one."""
    tools = {tool.name: tool for tool in session.tools}
    chosen = next((each.chosen for each in reversed(record.selections) if each.subtask == part.id), ())
    shown = tuple(tools[name] for name in chosen if name in tools)
    calls = yield from returned(stages.call(part, record, shown))
    observations = yield from use(*calls)
    called = [_called(part, call, seen, tools) for call, seen in zip(calls, observations, strict=True)]
    return replace(record, calls=(*record.calls, *called)), ended(observations)


@dataclass(frozen=True)
class OneStep:
    """Plan and select once, then call in the order of the plan, without correction.

    ``k`` tools are shown per part. ``Trajectory.final["stages"]`` holds the record (``record_of``) of an episode in
    which a model was asked at least once. Parts that wait for each other in a circle are done in the plan's order.
    """

    stages: Stages
    k: int = 5

    def __post_init__(self) -> None:
        """Refuse an agent that is shown no tools."""
        refuse_below_one(self, "k")

    def __call__(self, task: Task, session: Session) -> Flow[Any]:
        """Play one episode."""
        return _recorded(self._run(StageRecord(task), session), session)

    def _run(self, record: StageRecord, session: Session) -> Flow[StageRecord]:
        parts = yield from returned(self.stages.plan(record, session.tools))
        record = replace(record, subtasks=_distinct(parts))
        for part in parts:
            record = yield from _select(self.stages, part, record, session, self.k)
        over: set[int] = set()
        while (ready := _next(parts, lambda each: each.id in over)) is not None:
            record, answer = yield from _call(self.stages, ready, record, session)
            if answer is not None:
                return replace(record, response=answer)
            over.add(ready.id)
        return replace(record, response=(yield from returned(self.stages.respond(record))))


@dataclass(frozen=True)
class Iterative:
    """Plan, do one part, look at what came back, and plan anew, at most ``steps`` times.

    The plan is asked for the parts that are left: an empty one ends the work, and so does a part without any call. A
    part whose calls fail is called ``retries`` times more, with the failure in the record. ``k`` and the record are
    those of ``OneStep``.
    """

    stages: Stages
    k: int = 5
    steps: int = 8
    retries: int = 1

    def __post_init__(self) -> None:
        """Refuse an agent that is shown no tools, may do nothing, or tries less than once."""
        refuse_below_one(self, "k", "steps")
        if self.retries < 0:
            raise ValueError(f"Iterative.retries is {self.retries}; the least is 0")

    def __call__(self, task: Task, session: Session) -> Flow[Any]:
        """Play one episode."""
        return _recorded(self._run(StageRecord(task), session), session)

    def _run(self, record: StageRecord, session: Session) -> Flow[StageRecord]:
        for _ in range(self.steps):
            parts = yield from returned(self.stages.plan(record, session.tools))
            begun = tuple(part for part in record.subtasks if record.calls_of(part.id))
            ids = {part.id for part in _distinct(parts)}
            record = replace(record, subtasks=(*(part for part in begun if part.id not in ids), *parts))
            part = _next(parts, record.done)
            if part is None:
                break
            record = yield from _select(self.stages, part, record, session, self.k)
            before = len(record.calls)
            for _ in range(1 + self.retries):
                record, answer = yield from _call(self.stages, part, record, session)
                if answer is not None:
                    return replace(record, response=answer)
                if record.done(part):
                    break
            if len(record.calls) == before:
                break  # nothing was called, so that a new plan would know no more
        return replace(record, response=(yield from returned(self.stages.respond(record))))


def _recorded(flow: Flow[StageRecord], session: Session) -> Flow[Any]:
    """Run a flow and return its answer, with the record where a reply can carry it."""
    value: Any = None
    last: Reply | None = None
    try:
        while True:
            wanted: Ask | Use | tuple[Ask | Use, ...] = flow.send(value)
            value = yield wanted
            for answers in value if isinstance(wanted, tuple) else (value,):
                last = next((each for each in reversed(tuple(answers)) if isinstance(each, Reply)), last)
    except StopIteration as stop:
        record: StageRecord = stop.value
    finally:
        flow.close()
    if last is None:
        return record.response
    final = {**session.final(), "stages": record.as_dict()}
    return Leaves((Leaf(last.message, record.response, final=final),))


def same_text(first: str, second: str) -> bool:
    """Tell whether two texts have the same words, whatever their case."""
    return first.lower().split() == second.lower().split()
