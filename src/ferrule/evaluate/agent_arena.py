"""Agents on equal footing: every one plays the same tasks with the same model, and may write as many tokens per task.

An agent that needs less than the budget stops earlier; what each wrote is in the table, and so is what it wrote while
it learned. A seed draws the tasks and the sampling; differences are paired by it. ``ferrule.evaluate.agent_page`` tells
the result.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from ferrule.agents.named import agent, searches, temperature_for
from ferrule.core.arrays import nearest
from ferrule.core.flows import Agent, World
from ferrule.core.records import Task
from ferrule.evaluate.evaluate import Evaluation, evaluate
from ferrule.evaluate.queue import Job, Show, address_of, work
from ferrule.evaluate.remembered import play_remembering
from ferrule.evaluate.scribe import Scribe
from ferrule.evaluate.standings import over_seeds
from ferrule.evaluate.stream import CONTROLS
from ferrule.evaluate.taught import TAUGHT, Cast, Teach, play_taught
from ferrule.policies.named import load, weights_digest
from ferrule.policies.scripted import Scripted
from ferrule.train.folder import versions
from ferrule.train.logs import write_json
from ferrule.worlds.named import world

__all__ = ["SCRIPT", "AgentArena", "agents_of", "play_agent", "play_agents", "play_taught_agent"]

_MEASURED = ("success", "tokens", "calls", "malformed", "seconds")
SCRIPT = "script"
"""The writer that is no model (``ferrule.evaluate.scribe``)."""


@dataclass(frozen=True)
class AgentArena:
    """What is equal for all agents; ``budget`` bounds the tokens that an agent writes per task.

    With ``memory`` every agent is played once under each of these controls (``off``, ``on``, ``frozen``, ``shuffled``),
    after it has learned a library of its own from ``learn_tasks`` training tasks. ``loop+draft`` is the agent ``loop``
    taught as ``draft`` says; where an agent is, those without a ``+`` learn nothing. ``writer`` is a model that takes
    all roles but the agent's own ("": the same model), or ``script``. Tasks are measured of ``split``: with ``train``,
    which holds tools that were met before, they are other ones than those that are learned from. Seeds begin at
    ``first_seed``.
    """

    agents: tuple[str, ...]
    worlds: tuple[str, ...] = ("arithmetic", "apis")
    model: str = "pocket"
    budget: int = 4000
    seeds: int = 5
    eval_tasks: int = 40
    max_completion_length: int = 256
    device: str = "auto"
    memory: tuple[str, ...] = ()
    learn_tasks: int = 40
    split: str = "test"
    writer: str = ""
    first_seed: int = 0

    @property
    def drawn(self) -> range:
        """The seeds."""
        return range(self.first_seed, self.first_seed + self.seeds)


def agents_of(text: str) -> tuple[str, ...]:
    """Split ``loop,beam:width=2,depth=4,mcts``: a part that only gives a field belongs to the one before."""
    names: list[str] = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        if names and ":" in names[-1] and "=" in part and ":" not in part.partition("=")[0]:
            names[-1] += f",{part}"
        else:
            names.append(part)
    return tuple(names)


def _player(arena: AgentArena, name: str) -> Agent:
    """Return an agent with the budget, if it searches."""
    name = _base(name)
    return agent(name, tokens=arena.budget if searches(name) else None, max_tokens=arena.max_completion_length)


def _base(name: str) -> str:
    return name.rpartition("+")[0] or name


def _tasks(arena: AgentArena, stage: World, seed: int) -> tuple[list[Task], list[Task]]:
    """Return the training tasks of a seed and those that are measured."""
    count = arena.learn_tasks
    if arena.split == "train":
        tasks = list(stage.tasks("train", count + arena.eval_tasks, seed=seed))
        return tasks[:count], tasks[count:]
    learn = list(stage.tasks("train", count, seed=seed)) if count else []
    return learn, list(stage.tasks(arena.split, arena.eval_tasks, seed=seed))


def play_taught_agent(arena: AgentArena, name: str, place: str, seed: int, teach: Teach) -> list[dict[str, Any]]:
    """Teach one agent once and measure it under every control of the arena; return a cell of JSON data for each.

    ``learning`` counts the tokens of all roles that it took to learn, in all.
    """
    options: dict[str, Any] = {} if arena.device == "auto" else {"device": arena.device}
    policy, stage = load(arena.model, **options), world(place)
    learn, tasks = _tasks(arena, stage, seed)
    if arena.writer == SCRIPT:
        cast = Cast(policy, Scripted(Scribe([task.prompt for task in learn])))
    else:
        cast = Cast(policy, load(arena.writer, **options) if arena.writer else policy)
    begun = time.perf_counter()
    how: dict[str, Any] = {"seed": seed, "temperature": temperature_for(_base(name)), "name": name}
    taught, measured = play_taught(teach, _player(arena, name), cast, stage, learn, tasks, _controls(arena), **how)
    seconds = (time.perf_counter() - begun) / len(tasks) / max(len(measured), 1)
    cells = []
    for control, one in measured.items():
        learning = {role: took.tokens for role, took in one.learning.items()}
        more = {"curve": list(taught.curve), "learning": sum(learning.values()), "learning_by_role": learning}
        cell = _cell(_label(name, control), place, seed, one.evaluation, seconds)
        cells.append({**cell, **more, "entries": taught.size})
    return cells


def _controls(arena: AgentArena) -> tuple[str, ...]:
    return tuple(control for control in arena.memory or TAUGHT if control in TAUGHT)


def _cell(label: str, place: str, seed: int, evaluation: Evaluation, seconds: float) -> dict[str, Any]:
    data = evaluation.as_dict()
    by_role = {role: took["tokens"] for role, took in data["by_role"].items()}
    return {
        "agent": label, "world": place, "seed": seed, "tasks": len(evaluation.rows), "success": evaluation.success,
        "tokens": sum(by_role.values()), "by_role": by_role, "calls": data["calls"] or 0.0,
        "malformed": data["malformed"] or 0.0, "seconds": seconds,
    }  # fmt: skip


def play_agent(arena: AgentArena, name: str, place: str, seed: int, control: str = "") -> dict[str, Any]:
    """Let one agent play the held-out tasks that a seed draws from one world; return JSON data.

    ``tokens`` are all that were written per task, discarded branches included, whoever wrote them (``by_role`` has each
    role's); ``seconds`` are per task. With a ``control`` of a memory ``curve`` is the success over the batches that the
    library was learned from, and ``learning`` the tokens that this took in all.
    """
    options: dict[str, Any] = {} if arena.device == "auto" else {"device": arena.device}
    policy, stage = load(arena.model, **options), world(place)
    player = _player(arena, name)
    learn, tasks = _tasks(arena, stage, seed)
    begun = time.perf_counter()
    how: dict[str, Any] = {"seed": seed, "temperature": temperature_for(name), "name": name}
    more: dict[str, Any] = {}
    if control:
        remembered = play_remembering(player, policy, stage, learn, tasks, control, **how)
        evaluation = remembered.evaluation
        written = remembered.learning * len(learn)
        more = {"curve": list(remembered.curve), "learning": written, "entries": remembered.entries}
    else:
        evaluation = evaluate(player, policy, stage, tasks, **how)
    seconds = (time.perf_counter() - begun) / len(tasks)
    return {**_cell(_label(name, control), place, seed, evaluation, seconds), **more}


def _label(name: str, control: str) -> str:
    if not control:
        return name
    return f"{name}, {control}" if _base(name) != name else f"{name}, memory {control}"


def _jobs(arena: AgentArena, known: Mapping[str, Teach], folder: Path, conditions: Mapping[str, Any]) -> list[Job]:
    """Return the jobs of an arena: one for each agent, control, world and seed; an agent is taught once for all."""
    jobs = []
    taught = any(_base(name) != name for name in arena.agents)
    for seed in arena.drawn:
        for place in arena.worlds:
            for name in arena.agents:
                teaches = _base(name) != name
                for control in ("",) if taught or not arena.memory else arena.memory:
                    label = _label(name, control)
                    more = {"controls": _controls(arena), "writer": arena.writer} if teaches else {}
                    call: Any = play_taught_agent if teaches else play_agent
                    last: Any = known[name.rpartition("+")[2]] if teaches else control
                    jobs.append(Job(
                        address_of(conditions=conditions, agent=label, world=place, seed=seed, **more),
                        folder.resolve() / "units.jsonl", call, (arena, name, place, seed, last),
                        f"{label} on {place}, seed {seed}",
                    ))  # fmt: skip
    return jobs


def _refuse(arena: AgentArena, known: Mapping[str, Teach]) -> None:
    """Refuse what is named twice, unknown, or would do nothing, before anything is played."""
    for kind, names in (("agent", arena.agents), ("world", arena.worlds)):
        if not names or len(set(names)) < len(names):
            raise ValueError(
                f"an arena needs at least one {kind}, each named once; given: {', '.join(names) or 'none'}"
            )
    for name in arena.agents:
        _player(arena, name)
        way = name.rpartition("+")[2]
        if _base(name) != name and way not in known:
            raise ValueError(f"unknown way to teach {way!r} in {name!r}; {nearest(way, list(known))}")
    for control in arena.memory:
        if control not in CONTROLS:
            raise ValueError(f"unknown control {control!r} of a memory; {nearest(control, list(CONTROLS))}")
    if arena.split not in ("train", "test"):
        raise ValueError(f"AgentArena.split is {arena.split!r}; {nearest(arena.split, ['train', 'test'])}")
    if arena.writer and not any(_base(name) != name for name in arena.agents):
        raise ValueError("a writer would do nothing: no agent is taught (such as loop+xskill)")
    for place in arena.worlds:
        world(place)


def play_agents(
    arena: AgentArena, folder: Path, *, known: Mapping[str, Teach] | None = None, overwrite: bool = False,
    workers: int = 1, ray: str | None = None, show: Show | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Play every agent on every world with every seed and return the comparison; what is finished is not played again.

    ``known`` are the ways to teach by name, importable ones. ``workers`` and ``ray`` are those of ``queue.work``;
    ``overwrite`` forgets what was finished. ``folder`` gets
    ``units.jsonl`` with a line per finished cell, and ``arena.json``. Raises ``ValueError`` for an unknown agent or
    world, and for one that is named twice, before anything is played.
    """
    _refuse(arena, known or {})
    taught = any(_base(name) != name for name in arena.agents)
    learns = bool(arena.memory) or taught or arena.split == "train"
    apart = ("agents", "worlds", "seeds", "first_seed", "memory", "writer", *(() if learns else ("learn_tasks",)))
    equal = {key: value for key, value in asdict(arena).items() if key not in apart}
    conditions = {**equal, "weights": weights_digest(arena.model)}
    folder.mkdir(parents=True, exist_ok=True)
    if overwrite:
        (folder / "units.jsonl").unlink(missing_ok=True)
    jobs = _jobs(arena, known or {}, folder, conditions)
    units = work(jobs, folder / "queue", workers=workers, ray=ray, show=show)
    found = [units[job.address] for job in jobs]
    cells = [cell for unit in found for cell in (unit if isinstance(unit, list) else [unit])]
    labels = list(dict.fromkeys(cell["agent"] for cell in cells))
    result: dict[str, Any] = {
        "about": {**asdict(arena), "seeds": list(arena.drawn), "against": labels[0],
                  "weights": weights_digest(arena.model), "command": _command(arena)},
        "rows": _rows(arena, labels, cells),
        "cells": cells,
        "versions": versions(),
    }  # fmt: skip
    write_json(folder / "arena.json", result)
    return result


_OPTIONAL = ("model", "device", "split", "writer", "first_seed")


def _command(arena: AgentArena) -> str:
    """Return the command line that plays an arena again."""
    taught = any(_base(name) != name for name in arena.agents)
    learns = (*(("memory",) if arena.memory else ()), *(("learn_tasks",) if arena.memory or taught else ()))
    given = [f"--world {','.join(arena.worlds)}"]
    changed = [name for name in _OPTIONAL if getattr(arena, name) != getattr(AgentArena, name)]
    for name in ("agents", "budget", "seeds", "eval_tasks", *learns, *changed):
        value = getattr(arena, name)
        flag = "eval-split" if name == "split" else name.replace("_", "-")
        given.append(f"--{flag} {','.join(value) if isinstance(value, tuple) else value}")
    return " ".join(["ferrule arena", *given])


def _rows(arena: AgentArena, names: Sequence[str], cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row per world and agent: means over seeds, and the difference to the first agent, paired by seed.

    ``in_all`` are the tokens per measured task, those of learning shared out among these tasks.
    """
    rows = []
    for place in arena.worlds:
        base = [cell["success"] for cell in cells if (cell["world"], cell["agent"]) == (place, names[0])]
        for name in names:
            group = [cell for cell in cells if (cell["world"], cell["agent"]) == (place, name)]
            success = [cell["success"] for cell in group]
            apart = [one - other for one, other in zip(success, base, strict=True)]
            first = name == names[0]
            learning = fmean(cell.get("learning", 0.0) for cell in group)
            measured = {key: fmean(cell[key] for cell in group) for key in _MEASURED}
            rows.append({
                "world": place, "agent": name, **measured, "learning": learning,
                "in_all": measured["tokens"] + learning / arena.eval_tasks,
                "success_interval": over_seeds(success), "difference": None if first else fmean(apart),
                "difference_interval": None if first else over_seeds(apart), "by_role": _by_role(group),
                "curve": [fmean(points) for points in zip(*(cell.get("curve", ()) for cell in group), strict=False)],
            })  # fmt: skip
    return rows


def _by_role(cells: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the tokens per task of each role, mean over cells."""
    roles = dict.fromkeys(role for cell in cells for role in cell["by_role"])
    return {role: fmean(cell["by_role"].get(role, 0.0) for cell in cells) for role in roles}
