"""Agents on equal footing: every one plays the same tasks with the same model, and may write as many tokens per task.

An agent that needs less than the budget stops earlier; what each wrote is in the table. A seed draws the tasks and the
sampling; differences are paired by it.
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
from ferrule.core.flows import Agent
from ferrule.evaluate.evaluate import evaluate
from ferrule.evaluate.queue import Job, Show, address_of, work
from ferrule.evaluate.remembered import play_remembering
from ferrule.evaluate.standings import as_points, as_share, over_seeds
from ferrule.evaluate.stream import CONTROLS
from ferrule.policies.named import load, weights_digest
from ferrule.train.folder import versions
from ferrule.train.logs import write_json
from ferrule.worlds.named import world

__all__ = ["AgentArena", "agents_of", "agents_page", "play_agent", "play_agents"]

_MEASURED = ("success", "tokens", "calls", "malformed", "seconds")


@dataclass(frozen=True)
class AgentArena:
    """What is equal for all agents; ``budget`` bounds the tokens that an agent writes per task.

    With ``memory`` every agent is played once under each of these controls (``off``, ``on``, ``frozen``, ``shuffled``),
    after it has learned a library of its own from ``learn_tasks`` training tasks.
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


def agents_of(text: str) -> tuple[str, ...]:
    """Split ``loop,beam:width=2,depth=4,mcts``: a part that only gives a field belongs to the agent before."""
    names: list[str] = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        if names and ":" in names[-1] and "=" in part and ":" not in part.partition("=")[0]:
            names[-1] += f",{part}"
        else:
            names.append(part)
    return tuple(names)


def _player(arena: AgentArena, name: str) -> Agent:
    """Return an agent with the budget, if it searches."""
    return agent(name, tokens=arena.budget if searches(name) else None, max_tokens=arena.max_completion_length)


def play_agent(arena: AgentArena, name: str, place: str, seed: int, control: str = "") -> dict[str, Any]:
    """Let one agent play the held-out tasks that a seed draws from one world; return JSON data.

    ``tokens`` are all that were written per task, discarded branches included, whoever wrote them (``by_role`` has each
    role's); ``seconds`` are per task. With a ``control`` of a memory ``curve`` is the success over the batches that the
    library was learned from, and ``learning`` the tokens that this took.
    """
    options: dict[str, Any] = {} if arena.device == "auto" else {"device": arena.device}
    policy, stage = load(arena.model, **options), world(place)
    player = _player(arena, name)
    tasks = stage.tasks("test", arena.eval_tasks, seed=seed)
    begun = time.perf_counter()
    how: dict[str, Any] = {"seed": seed, "temperature": temperature_for(name), "name": name}
    more: dict[str, Any] = {}
    if control:
        learn = stage.tasks("train", arena.learn_tasks, seed=seed) if arena.learn_tasks else []
        remembered = play_remembering(player, policy, stage, learn, tasks, control, **how)
        evaluation = remembered.evaluation
        more = {"curve": list(remembered.curve), "learning": remembered.learning, "entries": remembered.entries}
    else:
        evaluation = evaluate(player, policy, stage, tasks, **how)
    seconds = time.perf_counter() - begun
    data = evaluation.as_dict()
    by_role = {role: took["tokens"] for role, took in data["by_role"].items()}
    return {
        "agent": _label(name, control), "world": place, "seed": seed, "tasks": len(tasks),
        "success": evaluation.success, "tokens": sum(by_role.values()), "by_role": by_role,
        "calls": data["calls"] or 0.0, "malformed": data["malformed"] or 0.0, "seconds": seconds / len(tasks), **more,
    }  # fmt: skip


def _label(name: str, control: str) -> str:
    return f"{name}, memory {control}" if control else name


def _cast(arena: AgentArena) -> list[tuple[str, str]]:
    """Return every agent with every control; without controls each agent once."""
    return [(name, control) for name in arena.agents for control in arena.memory or ("",)]


def play_agents(
    arena: AgentArena, folder: Path, *, overwrite: bool = False, workers: int = 1, ray: str | None = None,
    show: Show | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Play every agent on every world with every seed and return the comparison; what is finished is not played again.

    ``workers`` and ``ray`` are those of ``queue.work``; ``overwrite`` forgets what was finished. ``folder`` gets
    ``units.jsonl`` with a line per finished cell, and ``arena.json``. Raises ``ValueError`` for an unknown agent or
    world, and for one that is named twice, before anything is played.
    """
    for kind, names in (("agent", arena.agents), ("world", arena.worlds)):
        if not names or len(set(names)) < len(names):
            raise ValueError(
                f"an arena needs at least one {kind}, each named once; given: {', '.join(names) or 'none'}"
            )
    for name in arena.agents:
        _player(arena, name)
    for control in arena.memory:
        if control not in CONTROLS:
            raise ValueError(f"unknown control {control!r} of a memory; {nearest(control, list(CONTROLS))}")
    for place in arena.worlds:
        world(place)
    apart = ("agents", "worlds", "seeds", "memory", *(() if arena.memory else ("learn_tasks",)))
    equal = {key: value for key, value in asdict(arena).items() if key not in apart}
    conditions = {**equal, "weights": weights_digest(arena.model)}
    folder.mkdir(parents=True, exist_ok=True)
    if overwrite:
        (folder / "units.jsonl").unlink(missing_ok=True)
    jobs = [
        Job(
            address_of(conditions=conditions, agent=_label(name, control), world=place, seed=seed),
            folder.resolve() / "units.jsonl", play_agent, (arena, name, place, seed, control),
            f"{_label(name, control)} on {place}, seed {seed}",
        )
        for seed in range(arena.seeds) for place in arena.worlds for name, control in _cast(arena)
    ]  # fmt: skip
    units = work(jobs, folder / "queue", workers=workers, ray=ray, show=show)
    cells = [units[job.address] for job in jobs]
    result: dict[str, Any] = {
        "about": {**asdict(arena), "seeds": list(range(arena.seeds)), "against": _label(*_cast(arena)[0]),
                  "weights": weights_digest(arena.model), "command": _command(arena)},
        "rows": _rows(arena, cells),
        "cells": cells,
        "versions": versions(),
    }  # fmt: skip
    write_json(folder / "arena.json", result)
    return result


def _command(arena: AgentArena) -> str:
    """Return the command line that plays an arena again."""
    always = ("agents", "budget", "seeds", "eval_tasks", *(("memory", "learn_tasks") if arena.memory else ()))
    given = [f"--world {','.join(arena.worlds)}"]
    for name in (*always, *(name for name in ("model", "device") if getattr(arena, name) != getattr(AgentArena, name))):
        value = getattr(arena, name)
        given.append(f"--{name.replace('_', '-')} {','.join(value) if isinstance(value, tuple) else value}")
    return " ".join(["ferrule arena", *given])


def _rows(arena: AgentArena, cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row per world and agent: means over seeds, and the difference to the first agent, paired by seed."""
    rows = []
    names = [_label(name, control) for name, control in _cast(arena)]
    for place in arena.worlds:
        base = [cell["success"] for cell in cells if (cell["world"], cell["agent"]) == (place, names[0])]
        for name in names:
            group = [cell for cell in cells if (cell["world"], cell["agent"]) == (place, name)]
            success = [cell["success"] for cell in group]
            apart = [one - other for one, other in zip(success, base, strict=True)]
            first = name == names[0]
            rows.append({
                "world": place, "agent": name, **{key: fmean(cell[key] for cell in group) for key in _MEASURED},
                "success_interval": over_seeds(success), "difference": None if first else fmean(apart),
                "difference_interval": None if first else over_seeds(apart), "by_role": _by_role(group),
                "curve": [fmean(points) for points in zip(*(cell.get("curve", ()) for cell in group), strict=False)],
            })  # fmt: skip
    return rows


def _by_role(cells: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the tokens per task of each role, mean over cells."""
    roles = dict.fromkeys(role for cell in cells for role in cell["by_role"])
    return {role: fmean(cell["by_role"].get(role, 0.0) for cell in cells) for role in roles}


def _more(rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> list[str]:
    """Return what each role wrote, where there are several, and the learning curves, where something was learned."""
    lines = []
    if any(len(row["by_role"]) > 1 for row in rows):
        lines.append("\nTokens per task by role:\n\n| world | agent | role | tokens |\n| --- | --- | --- | ---: |\n")
        for row in rows:
            lines += [
                f"| {row['world']} | `{row['agent']}` | {role} | {n:.0f} |\n" for role, n in row["by_role"].items()
            ]
    curves = [row for row in rows if row["curve"]]
    if curves:
        lines.append(
            f"\nEach agent learned a library from {about['learn_tasks']} training tasks before; success in each batch "
            "of 8 of them, mean over seeds:\n\n| world | agent | learning curve |\n| --- | --- | --- |\n"
        )
        for row in curves:
            curve = ", ".join(f"{value:.1%}" for value in row["curve"])
            lines.append(f"| {row['world']} | `{row['agent']}` | {curve} |\n")
    return lines


def agents_page(data: Mapping[str, Any]) -> str:
    """Return the result of ``play_agents`` as a Markdown page."""
    about = data["about"]
    lines = [
        "# Agents at equal budgets\n\n",
        f"Model `{about['model']}`, at most {about['budget']:,} written tokens per task, {about['eval_tasks']} "
        f"held-out tasks per world and seed, seeds {about['seeds']}. The plain loop is greedy; agents that draw "
        "several steps sample at temperature 1. Success is the mean over seeds with 95% Student intervals, differences "
        f"are points against `{about['against']}`, paired by seed. Tokens, calls and seconds are per task.\n\n",
        "| world | agent | success | difference | tokens | calls | malformed | seconds |\n",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    ]
    for row in data["rows"]:
        success = as_share(row["success"], row["success_interval"])
        apart = "" if row["difference"] is None else as_points(row["difference"], row["difference_interval"])
        lines.append(
            f"| {row['world']} | `{row['agent']}` | {success} | {apart} | {row['tokens']:.0f} | {row['calls']:.2f} "
            f"| {row['malformed']:.1%} | {row['seconds']:.2f} |\n"
        )
    lines += _more(data["rows"], about)
    names = ", ".join(f"{name} {value}" for name, value in data["versions"].items())
    return "".join([*lines, f"\nMeasured on: {names}. Play it again: `{about['command']}`.\n"])
