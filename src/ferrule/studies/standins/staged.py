"""Requests for none to three of a hundred tools, and stages that fail as often as they are told.

A tool turns a number into another; it is called ``mill_corn``, a part of a request says it in other words ("grind the
maize at 7"). Whether a stage fails on a request is drawn from the seed, the request and the stage alone, so that runs
with one stage replaced meet the same luck in the others.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ferrule.agents.gold import Gold, oracles
from ferrule.agents.stages import Ranking, StageRecord, Stages, Subtask
from ferrule.core.flows import Ask, Flow, Session, ask
from ferrule.core.records import Answer, Call, Message, Observation, Task, Tool, plain_text
from ferrule.policies.scripted import Scripted
from ferrule.worlds.session import ToolSession

__all__ = ["StagedTools", "echo", "erring", "gold_of"]

_VERBS = {
    "mill": "grind", "wash": "clean", "dry": "parch", "press": "squeeze", "sort": "order", "count": "tally",
    "pack": "wrap", "ship": "send", "weigh": "scale", "paint": "colour",
}  # fmt: skip
_THINGS = {
    "corn": "maize", "wool": "fleece", "clay": "loam", "grape": "vine fruit", "nail": "tack", "coin": "penny",
    "cloth": "fabric", "stone": "rock", "oil": "fat", "plank": "board",
}  # fmt: skip
_TOOLS = {f"{verb}_{thing}": (place + 3, place * 7 + 1) for place, (verb, thing) in enumerate(
    (verb, thing) for verb in _VERBS for thing in _THINGS
)}  # fmt: skip
"""Factor and summand of each tool, by its name."""
_SCHEMA = {"type": "object", "properties": {"at": {"type": "integer"}}, "required": ["at"]}


def _drawn(*what: object) -> random.Random:
    return random.Random("/".join(map(str, what)))


def _said(name: str, at: int) -> str:
    verb, _, thing = name.partition("_")
    return f"{_VERBS[verb]} the {_THINGS[thing]} at {at}"


@dataclass(frozen=True)
class StagedTools:
    """Requests that need 0 to 3 tools in equal shares; a tool fails with the chance ``busy`` at each call.

    The answer is the results in the order of the request, or ``nothing`` where no tool is needed. ``seed`` draws when
    tools are busy.
    """

    busy: float = 0.0
    seed: int = 0
    name: str = "staged"

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (0, 1, 2, 3)) -> list[Task]:
        """Return requests whose numbers of needed tools take turns."""
        return [self._task(split, seed, place, levels[place % len(levels)]) for place in range(count)]

    def _task(self, split: str, seed: int, place: int, needed: int) -> Task:
        rng = _drawn(self.name, split, seed, place)
        calls = [(name, rng.randint(2, 99)) for name in rng.sample(list(_TOOLS), needed)]
        results = [str(_TOOLS[name][0] * at + _TOOLS[name][1]) for name, at in calls]
        asked = "; ".join(_said(name, at) for name, at in calls) or f"say hello to number {rng.randint(2, 99)}"
        answer = ", ".join(results) or "nothing"
        id = f"{self.name}/{split}/{seed}/{place}"
        return Task(id, f"Please {asked}.", answer, self.name, meta={"calls": calls})

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session with all tools."""
        rng = _drawn("busy", self.seed, task.id)

        def run(name: str) -> Callable[..., Any]:
            def called(at: int) -> Any:
                if rng.random() < self.busy:
                    return Observation("busy: call again", "error")
                return _TOOLS[name][0] * at + _TOOLS[name][1]

            return called

        tools = tuple(
            Tool(name, f"{name.replace('_', ' the ')} at some number", _SCHEMA, run(name), effects="write")
            for name in _TOOLS
        )
        return ToolSession(task, lambda state: tools)


def gold_of(task: Task) -> Gold:
    """Return what each stage should do for a request."""
    calls = dict(enumerate(task.meta["calls"], 1))
    return Gold(
        tuple(Subtask(number, _said(*call)) for number, call in calls.items()),
        {number: (name,) for number, (name, _) in calls.items()},
        {number: (Call(name, {"at": at}),) for number, (name, at) in calls.items()},
        str(task.answer),
    )


def echo() -> Scripted:
    """Return a policy that says what it is shown last: the answer of a respond stage."""
    return Scripted(lambda request, sample: plain_text(request.messages[-1]))


def spoken(answer: Answer) -> Flow[Answer]:
    """Say an answer by way of the policy, so that the run leaves a turn."""
    (reply,) = yield from ask(Ask((Message("user", str(answer)),)))
    return plain_text(reply.message)


@dataclass(frozen=True)
class _Luck:
    """Which stages fail on a request: drawn once for every request and stage."""

    rates: Mapping[str, float] = field(hash=False)
    seed: int

    def fails(self, stage: str, task: Task) -> bool:
        return _drawn("luck", self.seed, stage, task.id).random() < self.rates.get(stage, 0.0)


def erring(rates: Mapping[str, float], seed: int) -> Stages:
    """Return stages each of which fails on a share of the requests: ``rates`` by the name of the stage.

    A plan then says the first part wrong (or sees one where there is none), a selection leaves out the tool of the
    first part, its call has a wrong number, and the answer misses its end. Results are told as they came back.
    """
    right, luck = oracles(gold_of), _Luck(dict(rates), seed)

    def plan(record: StageRecord, tools: tuple[Tool, ...]) -> Sequence[Subtask]:
        parts = [part for part in gold_of(record.task).subtasks if not record.done(part)]
        if not luck.fails("plan", record.task):
            return parts
        wrong = Subtask(1, "do something else")
        return [wrong if part.id == 1 else part for part in parts] if parts or record.calls else [wrong]

    def select(part: Subtask, record: StageRecord, tools: tuple[Tool, ...]) -> Ranking:
        ranking = right.select(part, record, tools)
        assert isinstance(ranking, Sequence)
        return () if part.id == 1 and luck.fails("select", record.task) else ranking

    def call(part: Subtask, record: StageRecord, tools: tuple[Tool, ...]) -> Sequence[Call]:
        number = re.search(r"\d+", part.text)
        shift = int(part.id == 1 and luck.fails("call", record.task))
        return [Call(tools[0].name, {"at": int(number[0]) + shift})] if tools and number else []

    def respond(record: StageRecord) -> Flow[Answer]:
        results = {each.subtask: each.text for each in record.calls if each.status == "ok"}
        said = ", ".join(results[id] for id in sorted(results)) or "nothing"
        return spoken(f"{said} or so" if luck.fails("respond", record.task) else said)

    return Stages(plan, select, call, respond)
