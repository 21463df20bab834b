"""Capability cards: what a model can do per world and level, with and without tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ferrule.agents.react import ToolLoop
from ferrule.core.flows import Agent, Policy, World
from ferrule.evaluate.evaluate import WITH, WITHOUT, arms, evaluate
from ferrule.evaluate.metrics import wilson

__all__ = ["measure", "mixed_groups", "page", "skills_table", "table"]


def measure(
    policy: Policy,
    worlds: Mapping[str, World],
    count: int,
    *,
    agent: Agent | None = None,
    levels: Sequence[int] = (1, 2, 3, 4, 5),
    seed: int = 0,
    temperature: float = 0.0,
) -> dict[str, Any]:
    """Return the card as plain JSON data: ``count`` held-out tasks per world and level, the same for both arms.

    ``agent`` is the plain tool loop unless given, ``temperature`` 0 is greedy. Each world holds ``arms`` with the
    measures of ``Evaluation.as_dict``.
    """
    agent = agent or ToolLoop()
    card: dict[str, Any] = {"tasks_per_level": count, "seed": seed, "temperature": temperature, "worlds": {}}
    for name, world in worlds.items():
        tasks = world.tasks("test", count * len(levels), seed=seed, levels=levels)
        evaluations = arms(agent, policy, world, tasks, seed=seed, temperature=temperature, name=name)
        card["worlds"][name] = {"arms": {arm: evaluation.as_dict() for arm, evaluation in evaluations.items()}}
    return card


def _share(evaluation: Mapping[str, Any]) -> str:
    low, high = evaluation["interval"]
    if low is None:
        return f"{100 * evaluation['success']:.0f}%"
    return f"{100 * evaluation['success']:.0f}% [{100 * low:.0f}, {100 * high:.0f}]"


def _rate(value: float | None, percent: bool) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.1f}%" if percent else f"{value:.2f}"


def table(card: Mapping[str, Any]) -> str:
    """Return the card as text: one line per world and level; calls per episode and malformed share with tools."""
    rows = [("world", "level", WITH, WITHOUT, "calls", "malformed")]
    for name, world in card["worlds"].items():
        first, second = world["arms"][WITH], world["arms"][WITHOUT]
        rates = (_rate(first["calls"], False), _rate(first["malformed"], True))
        rows.append((name, "all", _share(first), _share(second), *rates))
        for level, evaluation in first["by_level"].items():
            rows.append((name, level, _share(evaluation), _share(second["by_level"][level]), "", ""))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def mixed_groups(
    policy: Policy,
    world: World,
    count: int,
    *,
    num_generations: int = 8,
    levels: Sequence[int] = (1, 2, 3, 4, 5),
    seed: int = 0,
    temperature: float = 1.0,
) -> dict[str, Any]:
    """Return how many groups of ``num_generations`` samples of a task hold both successes and failures.

    Only those give a group-relative method something to learn from. ``count`` training tasks are played.
    """
    tasks = world.tasks("train", count, seed=seed, levels=levels)
    played = evaluate(
        ToolLoop(), policy, world, tasks, num_generations=num_generations, seed=seed, temperature=temperature
    )
    shares = played.scores().values()
    mixed = sum(0 < share < 1 for share in shares)
    return {"world": world.name, "mixed": mixed, "groups": len(shares), "num_generations": num_generations}


def skills_table(skills: Mapping[str, Mapping[str, int]]) -> str:
    """Return successes per skill as text, with 95 % intervals."""
    width = max(map(len, skills))
    lines = []
    for name, row in skills.items():
        rate = wilson(row["right"], row["tasks"])
        lines.append(f"{name.ljust(width)}  {100 * rate.value:.0f}% [{100 * rate.low:.0f}, {100 * rate.high:.0f}]")
    return "\n".join(lines)


def page(card: Mapping[str, Any]) -> str:
    """Return a card with ``mixed_groups``, and ``skills`` where it has them, as text."""
    mixed = card["mixed_groups"]
    parts = [
        table(card),
        f"{mixed['mixed']} of {mixed['groups']} groups of {mixed['num_generations']} samples are mixed",
    ]
    return "\n\n".join([*parts, *([skills_table(card["skills"])] if "skills" in card else [])])
