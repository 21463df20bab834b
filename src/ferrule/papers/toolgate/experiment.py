"""The experiment on ToolGate: chains of faulty tools under three kinds of contracts, and the pocket model at a gate."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from ferrule.agents.react import ToolLoop
from ferrule.core.records import Ask, Call, Message, Policy, Session, Task, plain_text
from ferrule.evaluate.metrics import student_interval
from ferrule.papers.toolgate.agent import ToolGate
from ferrule.papers.toolgate.chains import ARMS, Chains, chain_contracts, chooser, named, rows_of
from ferrule.policies.scripted import Scripted
from ferrule.rewards.outcome import outcome
from ferrule.rollout.drive import drive
from ferrule.rollout.record import Episode
from ferrule.studies.old import Condition, at_least, judged, over_seeds, scale_of
from ferrule.studies.paper import Claim, Verdict
from ferrule.tools.contracts import Contract, State
from ferrule.worlds.apis import Apis
from ferrule.worlds.gated import Gated, Mode, unaccounted
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

RATES = (0.0, 0.15, 0.30)
MODES: tuple[Mode, ...] = ("off", "schema", "full")
SCALES = {"small": {"episodes": 400, "tables": 120}, "tiny": {"episodes": 30, "tables": 6}}
"""Episodes per arm and seed on chains, and tasks per arm and seed on tables, by scale."""


def _executed(episode: Episode) -> list[Mapping[str, Any]]:
    trace: list[Mapping[str, Any]] = episode.trajectories[0].final["gate"]["trace"]
    return [entry for entry in trace if entry["outcome"] != "refused"]


def _wrong_facts(episode: Episode) -> int:
    """Count facts in the final state that are not true of the task, and facts that no verified result accounts for."""
    gate, truth = episode.trajectories[0].final["gate"], rows_of(episode.task.id)[0]
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
    rounds = {task.prompt: Apis().demonstrate(task).rounds for task in tasks}

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
    size = scale_of(SCALES, scale)
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
    return judged(
        conditions,
        paper="toolgate",
        statement="Gating keeps wrong facts out of the state and makes answers from faulty tools right more often.",
        arms=over_seeds(arms),
        falsifier="Full contracts let a wrong fact into a final state, or gain less than 30 points with 15 % faults.",
        seeds=tuple(seeds),
        scale=scale,
        notes=(
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
        },
    )
