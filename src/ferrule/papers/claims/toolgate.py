"""ToolGate: chains of faulty look-ups under three kinds of contracts, and tables that a slipping hand may spoil."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean
from typing import Any

from ferrule.agents.gate import ToolGate
from ferrule.agents.react import ToolLoop
from ferrule.core.flows import Ask, Policy, Session
from ferrule.core.records import Call, Message, Observation, Task, Tool, plain_text
from ferrule.policies.scripted import Scripted
from ferrule.rewards.outcome import outcome
from ferrule.rollout.drive import drive
from ferrule.rollout.record import Episode
from ferrule.studies.conditions import Condition, Rows, Value, at_least, less, of
from ferrule.studies.paper import Verdict
from ferrule.studies.standins.lookups import ARMS, Chains, chain_contracts, chooser, named, rows_of
from ferrule.studies.study import Study
from ferrule.tools.contracts import State
from ferrule.worlds.apis import Apis
from ferrule.worlds.apis_contracts import api_contracts
from ferrule.worlds.gated import Gated, Mode, unaccounted
from ferrule.worlds.wrap import Wrapped

__all__ = ["STUDY", "look_ups", "slips", "tables_by_pocket", "tables_by_slips"]

RATES = (0.0, 0.15, 0.30)
MODES: tuple[Mode, ...] = ("off", "schema", "full")


def _trace(episode: Episode) -> Sequence[Mapping[str, Any]]:
    trace: Sequence[Mapping[str, Any]] = episode.trajectories[0].final["gate"]["trace"]
    return trace


def _wrong_facts(episode: Episode) -> int:
    """Count facts in the final state that are not true of the task, and facts that no verified result accounts for."""
    gate, truth = episode.trajectories[0].final["gate"], rows_of(episode.task.id)[0]
    wrong = [name for name, value in gate["facts"].items() if truth[name] != value]
    return len(wrong) + len(unaccounted(gate))


def look_ups(*, seed: int, episodes: int, kind: str, errs: float, **size: Any) -> dict[str, float]:
    """Return accuracy, share of final states with a wrong fact, calls per task, and share without an answer.

    ``believed`` are the results per task that passed for verified.
    Look-ups go wrong with probability ``errs``; ``kind`` names the contracts, which have so many ``conditions`` each.
    """
    contracts, world = chain_contracts(kind), Chains(errs)

    def behind(session: Session, task: Task, seed: int) -> Session:
        return Gated(session, contracts, State.of(task.meta["entities"]))

    tasks = world.tasks("test", episodes, seed=seed)
    agent = ToolGate(retrieve=named, missing="null")
    played = drive(agent, tasks, Wrapped(world, behind), chooser(), seed=seed)
    if problems := [episode.problem for episode in played if episode.problem]:
        raise RuntimeError(f"{len(problems)} episodes broke down, the first by: {problems[0]}")
    answers = [episode.trajectories[0].answer for episode in played]
    return {
        "accuracy": fmean(answer == task.answer for answer, task in zip(answers, tasks, strict=True)),
        "corrupted": fmean(_wrong_facts(episode) > 0 for episode in played),
        "calls": fmean(sum(entry["outcome"] != "refused" for entry in _trace(episode)) for episode in played),
        "believed": fmean(sum(entry["outcome"] == "committed" for entry in _trace(episode)) for episode in played),
        "abstained": fmean(answer is None for answer in answers),
        "conditions": fmean(len(contract.pre) + len(contract.post) for contract in contracts.values()),
    }


def slips(tasks: Sequence[Task], right: float = 0.8) -> Scripted:
    """Return a policy that makes the expert's calls, with probability 1 - ``right`` a made-up call before the next.

    Half of those are changes, the others of any tool. An argument is a word or a number that was seen before, a value
    in half of all cases a random number.
    """
    rounds = {task.prompt: Apis().demonstrate(task).rounds for task in tasks}

    def speak(request: Ask, sample: int) -> str | Message:
        texts = [plain_text(message) for message in request.messages if message.role != "assistant"]
        todo = list(rounds[texts[0]])
        for message in request.messages:
            if todo and _said(message.calls) == _said(todo[0]):
                del todo[0]
        if not todo:
            return texts[-1]
        rng = random.Random(request.seed)
        if rng.random() < right:
            return Message("assistant", "", todo[0])
        changes = [tool for tool in request.tools if tool.name.startswith("set_")]
        tool = rng.choice(changes if rng.random() < 0.5 else request.tools)
        return Message("assistant", "", (Call(tool.name, _made_up(tool, " ".join(texts), rng)),))

    return Scripted(speak)


def _said(calls: Sequence[Call]) -> list[tuple[str, Any]]:
    return [(call.name, call.arguments) for call in calls]


def _made_up(tool: Tool, seen: str, rng: random.Random) -> dict[str, Any]:
    numbers = [int(number) for number in re.findall(r"\b\d+\b", seen)] or [0]
    made_up: dict[str, Any] = {}
    for name, kind in tool.parameters["properties"].items():
        if kind["type"] != "integer":
            made_up[name] = rng.choice(re.findall(r"\w+", seen))
        else:
            share = 0.5 if name == "value" else 0.9
            made_up[name] = rng.choice(numbers) if rng.random() < share else rng.randint(10, 999)
    return made_up


@dataclass
class _Erring:
    """``session`` whose tools answer with a text of no use, with chance ``errs``, after doing what they were asked."""

    session: Session
    errs: float
    rng: random.Random

    @property
    def tools(self) -> tuple[Tool, ...]:
        return self.session.tools

    def act(self, call: Call) -> Observation:
        observation = self.session.act(call)
        return replace(observation, text="busy", data=None) if self.rng.random() < self.errs else observation

    def fork(self) -> _Erring:
        return _Erring(self.session.fork(), self.errs, random.Random(self.rng.random()))

    def final(self) -> Mapping[str, Any]:
        return self.session.final()

    def close(self) -> None:
        self.session.close()


def _tables(drawn: Sequence[Task], world: Wrapped, policy: Policy, seed: int) -> dict[str, float]:
    """Return what a policy does to the tables of ``Apis`` behind a gate, per task.

    ``invalid`` counts changes of cells that were not asked for or to other values, ``valid`` those asked for,
    ``refused`` calls that the gate refused and ``recorded`` those whose results it verified; ``success`` is right
    answer and right tables.
    """
    agent = ToolLoop(turns=6, max_tokens=64)
    played = drive(agent, drawn, world, policy, seed=seed, temperature=1.0)
    valid, invalid = [], []
    for episode in played:
        changes = episode.trajectories[0].final["changes"]
        wanted = episode.task.meta["state"]["changes"]
        valid.append(sum(pair in wanted.items() for pair in changes.items()))
        invalid.append(len(changes) - valid[-1])
    outcomes = [[entry["outcome"] for entry in _trace(episode)] for episode in played]
    return {
        "invalid": fmean(invalid),
        "valid": fmean(valid),
        "refused": fmean(row.count("refused") for row in outcomes),
        "recorded": fmean(row.count("committed") for row in outcomes),
        "success": fmean(outcome(episode.task, episode.trajectories[:1])[0].value for episode in played),
    }


def _behind_a_gate(mode: Mode, tables: int, seed: int, errs: float = 0.0) -> tuple[list[Task], Wrapped]:
    def behind(session: Session, task: Task, seed: int) -> Session:
        inner: Session = _Erring(session, errs, random.Random(f"{task.id}/{seed}")) if errs else session
        return Gated(inner, *api_contracts(task), mode=mode)

    world = Wrapped(Apis(), behind)
    return world.tasks("test", tables, seed=20_000 + seed, levels=(4, 5)), world


def tables_by_slips(
    *, seed: int, tables: int, mode: Mode, right: float = 0.8, errs: float = 0.0, times: int = 1, **size: Any
) -> dict[str, float]:
    """Let the slipping expert change ``times`` as many tables behind a gate.

    It slips with chance 1 - ``right``, and the answer of a tool is of no use with chance ``errs``.
    """
    drawn, world = _behind_a_gate(mode, times * tables, seed, errs)
    return _tables(drawn, world, slips(drawn, right), seed)


def tables_by_pocket(*, seed: int, tables: int, mode: Mode, **size: Any) -> dict[str, float]:
    """Let the pocket model change tables behind a gate."""
    from ferrule.policies.local import load
    from ferrule.policies.pocket import WEIGHTS

    drawn, world = _behind_a_gate(mode, tables, seed)
    return _tables(drawn, world, load(WEIGHTS, device="cpu"), seed)


def _right_facts(rows: Rows) -> float:
    """Share of final states without a wrong fact under full contracts, over all fault rates."""
    return 1.0 - fmean(float(rows[f"full {errs:.0%}"]["corrupted"]) for errs in RATES)


def _without_exception(interval: tuple[float, float], threshold: float) -> Verdict:
    """Judge a share that must be 1 for every seed: one failure refutes it, whatever the interval says."""
    return "held" if interval[0] >= threshold else "not held"


def _always(name: str, value: Value) -> Condition:
    return Condition(name, value, 1.0, judge=_without_exception)


STUDY = Study(
    paper="toolgate",
    statement="Gating keeps wrong facts out of the state and makes answers from faulty tools right more often.",
    falsifier="Full contracts let a wrong fact into a final state, or gain less than 30 points with 15 % faults.",
    trained="nothing: a scripted chooser, a slipping expert and the pocket model as shipped act behind gates",
    arms={
        **{f"{kind} {errs:.0%}": partial(look_ups, kind=kind, errs=errs) for kind in ARMS for errs in RATES},
        **{f"slips {mode}": partial(tables_by_slips, mode=mode) for mode in MODES},
        **{f"slips {mode}, tools err": partial(tables_by_slips, mode=mode, errs=0.15) for mode in MODES[1:]},
        **{f"pocket {mode}": partial(tables_by_pocket, mode=mode) for mode in ("off", "full")},
    },
    asks=(
        at_least("accuracy with 15 % faults, full minus no contracts", less("accuracy", "full 15%", "none 15%"), 0.3),
        _always("share of final states without a wrong fact, full contracts", _right_facts),
        _always(
            "1 less invalid changes per task, slips at the full gate", of("slips full", "invalid", factor=-1, plus=1)
        ),
        _always(
            "1 less invalid changes per task, pocket model at the full gate",
            of("pocket full", "invalid", factor=-1, plus=1),
        ),
    ),
    sizes={"small": {"episodes": 400, "tables": 120}, "tiny": {"episodes": 30, "tables": 20, "right": 0.5, "times": 8}},
    setup={"chooser": 0.8, "steps": 10, "rates": RATES},
    models=("pocket",),
)
