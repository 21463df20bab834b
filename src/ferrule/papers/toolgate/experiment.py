"""The experiment on ToolGate: chains of faulty tools under three kinds of contracts, and the pocket model at a gate."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any

from ferrule.agents.react import ToolLoop
from ferrule.core.arrays import nearest
from ferrule.core.paper import Claim, Verdict
from ferrule.core.records import Ask, Call, Message, Policy, Session, Task, Tool, plain_text
from ferrule.online.trials import Condition, at_least, conclude, describe, student_interval
from ferrule.papers.toolgate.agent import CALL, CALL_END, ToolGate
from ferrule.policies.scripted import Scripted
from ferrule.rewards.outcome import outcome
from ferrule.rollout.drive import drive
from ferrule.rollout.record import Episode
from ferrule.tools.budget import Budget
from ferrule.tools.contracts import Contract, State
from ferrule.worlds.apis import Apis, demonstrate
from ferrule.worlds.gated import Gated, Mode, unaccounted
from ferrule.worlds.session import ToolSession
from ferrule.worlds.splits import check_split
from ferrule.worlds.wrap import Wrapped

__all__ = [
    "Chains",
    "api_contracts",
    "chain_contracts",
    "chooser",
    "claim",
    "named",
    "play_chains",
    "play_tables",
    "slips",
]

KINDS = ("order", "customer", "city", "depot", "courier")
ARMS = ("none", "schema", "full")
RATES = (0.0, 0.15, 0.30)
MODES: tuple[Mode, ...] = ("off", "schema", "full")
SCALES = {"small": {"episodes": 400, "tables": 120}, "tiny": {"episodes": 30, "tables": 6}}
"""Episodes per arm and seed on chains, and tasks per arm and seed on tables, by scale."""


def _rows(key: str) -> list[dict[str, str]]:
    """Return six chains of entities, the task's own first; no value occurs twice."""
    rng = random.Random(key)
    taken: set[str] = set()

    def fresh(kind: str) -> str:
        while True:
            number = 2 * rng.randint(500, 4999) + (kind == "order" and "/test/" in key)
            if f"{kind}-{number}" not in taken:
                taken.add(f"{kind}-{number}")
                return f"{kind}-{number}"

    return [{kind: fresh(kind) for kind in KINDS} for _ in range(6)]


class _Desk:
    """The look-ups of one episode; ``errs`` is the chance that one goes wrong, drawn in the order of the calls."""

    def __init__(self, rows: Sequence[Mapping[str, str]], errs: float, seed: int) -> None:
        self.rows, self.errs, self.rng = rows, errs, random.Random(seed)

    def look(self, kind: str, wanted: str, value: str | None) -> dict[str, Any]:
        """Return ``wanted`` of the row whose ``kind`` is ``value``; without a value, of any row."""
        known = [row for row in self.rows if value in (None, row[kind])]
        if not known:
            raise KeyError(f"no {kind} {value}")
        row = known[0] if value is not None else self.rng.choice(known)
        fault = self.rng.choice(("missing", "null", "other")) if self.rng.random() < self.errs else ""
        if fault == "other":
            row = self.rng.choice([other for other in self.rows if other is not row])
        found: dict[str, Any] = {kind: row[kind]}
        return found if fault == "missing" else {**found, wanted: None if fault == "null" else row[wanted]}


@dataclass(frozen=True)
class Chains:
    """Questions that four look-ups in a row answer: order, customer, city, depot, courier.

    A look-up echoes what it was asked about. With probability ``errs`` it leaves its field out, returns null, or speaks
    of another entity; asked with null it answers about any entity. ``calls`` caps the calls of an episode.
    """

    errs: float = 0.15
    calls: int = 32
    name: str = "chains"

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return ``count`` tasks; order numbers of the test split are odd. There is one level of difficulty."""
        check_split(split, levels)
        out = []
        for key in (f"{self.name}/{split}/{seed}/{i}" for i in range(count)):
            own = _rows(key)[0]
            prompt = f"Which courier serves {own['order']}?"
            out.append(Task(key, prompt, own["courier"], self.name, meta={"entities": {"order": own["order"]}}))
        return out

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session with the four look-ups."""
        return ToolSession(task, _look_ups, _Desk(_rows(task.id), self.errs, seed), budget=Budget(total=self.calls))


def _look_ups(desk: _Desk) -> tuple[Tool, ...]:
    def one(kind: str, wanted: str) -> Tool:
        entry = {"anyOf": [{"type": "string"}, {"type": "null"}]}
        parameters = {"type": "object", "properties": {kind: entry}, "required": [kind]}
        output = {"type": "object", "properties": {wanted: {"type": "string"}}}
        return Tool(
            f"find_{wanted}",
            f"the {wanted} of a {kind}",
            parameters,
            lambda **v: desk.look(kind, wanted, v[kind]),
            output=output,
        )

    return tuple(one(kind, wanted) for kind, wanted in pairwise(KINDS))


def chain_contracts(arm: str) -> dict[str, Contract]:
    """Return the contracts of the look-ups.

    ``none`` believes everything, ``schema`` asks for the argument and for a field that is not null, ``full`` also for
    the echo of what was asked about.
    """
    if arm not in ARMS:
        raise ValueError(f"arm is {arm!r}; {nearest(arm, ARMS)}")
    out = {}
    for kind, wanted in pairwise(KINDS):
        post = (f'has_field("{wanted}")', f"result.{wanted} != None")
        echo = (f"result.{kind} == args.{kind}",) if arm == "full" else ()
        updates = {wanted: f"result.{wanted}"}
        gated = Contract(pre=(f"exists({kind})",), post=(*post, *echo), updates=updates)
        out[f"find_{wanted}"] = Contract(updates=updates) if arm == "none" else gated
    return out


def chooser(right: float = 0.8) -> Scripted:
    """Return a policy that reads the known facts and names the next look-up, with probability 1 - ``right`` any."""

    def speak(request: Ask, sample: int) -> str:
        known = dict(re.findall(r"^(\w+)\(string\): (.*)$", plain_text(request.messages[-1]), re.MULTILINE))
        missing = [kind for kind in KINDS[1:] if kind not in known]
        if not missing:
            return str(known[KINDS[-1]])
        rng = random.Random(request.seed)
        named = missing[0] if rng.random() < right else rng.choice(KINDS[1:])
        return f"{CALL} find_{named} {CALL_END}"

    return Scripted(speak)


def named(query: str, tools: Sequence[Tool], contracts: Mapping[str, Contract]) -> list[Tool]:
    """Return the tool whose name the query begins with: retrieval that never errs, so that the chooser alone does."""
    return [tool for tool in tools if query.split()[:1] == [tool.name]]


def _executed(episode: Episode) -> list[Mapping[str, Any]]:
    trace: list[Mapping[str, Any]] = episode.trajectories[0].final["gate"]["trace"]
    return [entry for entry in trace if entry["outcome"] != "refused"]


def _wrong_facts(episode: Episode) -> int:
    """Count facts in the final state that are not true of the task, and facts that no verified result accounts for."""
    gate, truth = episode.trajectories[0].final["gate"], _rows(episode.task.id)[0]
    wrong = [name for name, value in gate["facts"].items() if truth[name] != value]
    return len(wrong) + len(unaccounted(gate))


def play_chains(arm: str, errs: float, *, seed: int, episodes: int) -> dict[str, float]:
    """Return accuracy, share of final states with a wrong fact, calls per task, and share without an answer."""
    contracts = chain_contracts(arm)

    def behind(session: Session, task: Task, seed: int) -> Session:
        return Gated(session, contracts, State.of(task.meta["entities"]))

    world = Chains(errs)
    tasks = world.tasks("test", episodes, seed=seed)
    agent = ToolGate(retrieve=named, missing="null")
    played = drive(agent, tasks, Wrapped(world, behind), chooser(), seed=seed)
    problems = [episode.problem for episode in played if episode.problem]
    if problems:
        raise RuntimeError(f"{len(problems)} episodes broke down, the first by: {problems[0]}")
    answers = [episode.trajectories[0].answer for episode in played]
    return {
        "accuracy": fmean(answer == task.answer for answer, task in zip(answers, tasks, strict=True)),
        "corrupted": fmean(_wrong_facts(episode) > 0 for episode in played),
        "calls": fmean(len(_executed(episode)) for episode in played),
        "abstained": fmean(answer is None for answer in answers),
    }


_CHANGE = re.compile(r"Set the (\w+) of (\w+) (\d+) to (\d+)\.")
_COPY = re.compile(r"Set the (\w+) of the (\w+) (\w+) to that of (\w+)\.")


def api_contracts(task: Task) -> tuple[dict[str, Contract], State]:
    """Return contracts and initial facts of a task of ``Apis`` that changes a cell (levels 4 and 5), from its prompt.

    Only the change that the prompt asks for satisfies them: the cell it names, and the value it names or that was read
    from the cell it names. Raises ``ValueError`` for a prompt of another level.
    """
    if found := _CHANGE.match(task.prompt):
        column, noun, number, value = found.groups()
        change = Contract(
            pre=("exists(id)", "exists(value)", "args.id == id", "args.value == value"),
            post=('result == "done"',),
            updates={f"new_{column}": "args.value"},
        )
        state = State.of({"id": int(number), "value": int(value)})
        return {f"set_{noun}_{column}": change}, state
    if not (found := _COPY.match(task.prompt)):
        raise ValueError(f"task {task.id!r} asks for no change; take levels 4 and 5")
    column, noun, target, source = found.groups()
    number_wanted = ("type(result) == integer",)
    ids = Contract(
        pre=("args.name == target or args.name == source",),
        post=number_wanted,
        updates=lambda old, result, arguments: {
            f"{role}_id": result for role in ("target", "source") if old[role] == arguments["name"]
        },
    )
    cell = Contract(
        pre=("exists(source_id)", "args.id == source_id or args.id == target_id"),
        post=number_wanted,
        updates=lambda old, result, arguments: {"wanted": result} if arguments["id"] == old["source_id"] else {},
    )
    change = Contract(
        pre=("exists(target_id)", "exists(wanted)", "args.id == target_id", "args.value == wanted"),
        post=('result == "done"',),
        updates={f"new_{column}": "args.value"},
    )
    contracts = {f"find_{noun}": ids, f"{noun}_{column}": cell, f"set_{noun}_{column}": change}
    return contracts, State.of({"target": target, "source": source})


def slips(tasks: Sequence[Task], right: float = 0.8) -> Scripted:
    """Return a policy that makes the expert's calls, with probability 1 - ``right`` a made-up change in their place.

    The change takes a number that was seen before as id, and a random value.
    """
    rounds = {task.prompt: demonstrate(task) for task in tasks}

    def speak(request: Ask, sample: int) -> str | Message:
        said = [plain_text(message) for message in request.messages if message.role != "assistant"]
        made = sum(message.role == "assistant" for message in request.messages)
        if made >= len(rounds[said[0]]):
            return said[-1]
        rng = random.Random(request.seed)
        if rng.random() < right:
            return Message("assistant", "", rounds[said[0]][made])
        change = next(tool.name for tool in request.tools if tool.name.startswith("set_"))
        seen = re.findall(r"\b\d+\b", " ".join(said)) or ["0"]
        return Message("assistant", "", (Call(change, {"id": int(rng.choice(seen)), "value": rng.randint(10, 999)}),))

    return Scripted(speak)


def play_tables(mode: Mode, *, seed: int, tasks: int, policy: Policy | None = None) -> dict[str, float]:
    """Return what a policy (None is ``slips``) does to the tables of ``Apis`` behind a gate, per task.

    ``invalid`` counts changes of cells that were not asked for or to other values, ``valid`` those asked for,
    ``refused`` calls that the gate refused; ``success`` is right answer and right tables.
    """

    def behind(session: Session, task: Task, seed: int) -> Session:
        return Gated(session, *api_contracts(task), mode=mode)

    world = Wrapped(Apis(), behind)
    drawn = world.tasks("test", tasks, seed=20_000 + seed, levels=(4, 5))
    agent = ToolLoop(turns=6, max_tokens=64)
    played = drive(agent, drawn, world, policy or slips(drawn), seed=seed, temperature=1.0)
    valid, invalid = [], []
    for episode in played:
        changes = episode.trajectories[0].final["changes"]
        wanted = episode.task.meta["state"]["changes"]
        valid.append(sum(pair in wanted.items() for pair in changes.items()))
        invalid.append(len(changes) - valid[-1])
    traces = [episode.trajectories[0].final["gate"]["trace"] for episode in played]
    return {
        "invalid": fmean(invalid),
        "valid": fmean(valid),
        "refused": fmean(sum(entry["outcome"] == "refused" for entry in trace) for trace in traces),
        "success": fmean(outcome(episode.task, episode.trajectories[:1])[0].value for episode in played),
    }


def _none_ever(name: str, rates: Sequence[float]) -> Condition:
    """Judge that something never happened: one occurrence refutes it, whatever an interval says."""
    values = tuple(1.0 - rate for rate in rates)
    verdict: Verdict = "held" if all(rate == 0 for rate in rates) else "not held"
    return Condition(name, values, fmean(values), student_interval(values), 1.0, verdict)


def claim(scale: str = "small", *, seeds: Sequence[int] = (0, 1, 2, 3, 4)) -> Claim:
    """Measure whether gating keeps wrong facts out of the state and raises accuracy when tools are faulty.

    Held when all of these hold: with 15 % faults the full contracts are right at least 30 points more often than none,
    by the 95 % interval over seeds; no episode under full contracts ends with a wrong fact, at any fault rate; behind
    the full gate neither a slipping expert nor the pocket model changes a cell that it was not asked to change.
    ``scale`` is ``"small"`` (2,000 episodes per arm) or ``"tiny"`` (to try the machinery).
    """
    if scale not in SCALES:
        raise ValueError(f"scale is {scale!r}; known: {', '.join(sorted(SCALES))}")
    size = SCALES[scale]
    chains = {
        f"{arm} {errs:.0%}": [play_chains(arm, errs, seed=seed, episodes=size["episodes"]) for seed in seeds]
        for arm in ARMS
        for errs in RATES
    }
    from ferrule.policies.local import load
    from ferrule.policies.pocket import WEIGHTS

    pocket = load(WEIGHTS)
    tables = {
        f"{who} {mode}": [play_tables(mode, seed=seed, tasks=size["tables"], policy=policy) for seed in seeds]
        for who, policy in (("slips", None), ("pocket", pocket))
        for mode in MODES
    }

    def gains(name: str, high: str, low: str) -> list[float]:
        return [a[name] - b[name] for a, b in zip(chains[high], chains[low], strict=True)]

    corrupted = [fmean(chains[f"full {errs:.0%}"][i]["corrupted"] for errs in RATES) for i in range(len(seeds))]
    conditions = [
        at_least("accuracy with 15 % faults, full minus no contracts", gains("accuracy", "full 15%", "none 15%"), 0.3),
        _none_ever("share of final states without a wrong fact, full contracts", corrupted),
        *(
            _none_ever(f"1 less invalid changes per task, {who} at the full gate", [row["invalid"] for row in rows])
            for who, rows in (("slips", tables["slips full"]), ("pocket model", tables["pocket full"]))
        ),
    ]
    extra = gains("calls", "full 15%", "none 15%")
    low, high = student_interval(extra)
    arms = {**chains, **tables}
    return Claim(
        paper="toolgate",
        statement="Gating keeps wrong facts out of the state and makes answers from faulty tools right more often.",
        measured=conditions[0].name,
        arms={arm: {name: [row[name] for row in rows] for name in rows[0]} for arm, rows in arms.items()},
        effect=conditions[0].effect,
        interval=conditions[0].interval,
        threshold=conditions[0].threshold,
        falsifier="Full contracts let a wrong fact into a final state, or gain less than 30 points with 15 % faults.",
        verdict=conclude(conditions),
        seeds=tuple(seeds),
        scale=scale,
        notes=(
            *(describe(condition) for condition in conditions),
            f"further calls per task with 15 % faults, full minus none: {fmean(extra):.2f} [{low:.2f}, {high:.2f}]",
            *(
                f"invalid changes per task without a gate, {who}: {fmean(row['invalid'] for row in rows):.4f}"
                for who, rows in (("slips", tables["slips off"]), ("pocket model", tables["pocket off"]))
            ),
        ),
        setup={
            **size,
            "chooser": 0.8,
            "steps": 10,
            "rates": list(RATES),
            "conditions": [condition.as_dict() for condition in conditions],
        },
    )
