"""``ferrule refine``: propose, check, and propose again, on the tasks of a world or on one's own slow functions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ferrule.cli.model_options import chat_flags, chat_options, computing_flags, computing_options, load_policy
from ferrule.cli.options import emit, guarded

__all__ = ["command"]

_SETTINGS = (
    "world", "functions", "model", "critic", "rounds", "patience", "eval_tasks", "temperature", "max_completion_length",
    "seed",
)  # fmt: skip


@click.command("refine")
@click.option(
    "--world", default="pyopt", show_default=True, help="A world whose tasks name a tool that checks answers."
)
@click.option(
    "--functions",
    type=click.Path(path_type=Path),
    help="Your own slow functions for pyopt: a Python file with INPUTS, which is read and not run.",
)
@click.option(
    "--model",
    default="scripted",
    show_default=True,
    help="Who proposes: scripted (the world's own pool of proposals), pocket, a folder, a hub name or a URL.",
)
@click.option(
    "--critic",
    default="none",
    show_default=True,
    help="Who says what to try next: none, scripted (the world's own expert), person (you), or a model.",
)
@click.option("--rounds", default=8, show_default=True, help="Most proposals per task.")
@click.option("--patience", default=3, show_default=True, help="Most proposals in a row that gain nothing; 0: any.")
@click.option("--eval-tasks", default=8, show_default=True, help="Tasks.")
@click.option(
    "--temperature", default=None, type=float, help="Sampling temperature [default: 0.2, and 0.8 after a failure]."
)
@click.option("--max-completion-length", default=1024, show_default=True, help="Longest proposal in tokens.")
@click.option("--seed", default=0, show_default=True, help="Seed of tasks and proposals.")
@computing_flags
@chat_flags
@click.option("--output", type=click.Path(path_type=Path), default=None, help="Write the episodes here (JSONL).")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@guarded
def command(**given: Any) -> None:
    """Refine answers under a budget: each proposal is checked, and what the check said is asked with the next one.

    Answers that were kept are checked once more in the end, on fresh cases; exit code 1 where one is wrong or
    an episode failed.
    """
    from ferrule.agents.refiner import Refiner
    from ferrule.evaluate.refined import refine_tasks
    from ferrule.rollout.record import save

    world = _world(given)
    policy, critic = _players(world, given)
    agent = Refiner(
        rounds=given["rounds"],
        patience=given["patience"],
        max_tokens=given["max_completion_length"],
        temperatures=(0.2, 0.8) if given["temperature"] is None else None,
        critic=critic,
    )
    tasks = world.tasks("test", given["eval_tasks"], seed=given["seed"])
    if not tasks:
        raise click.UsageError(f"the world {given['world']!r} has no tasks to refine")
    how = {"seed": given["seed"], "temperature": given["temperature"]}
    rows = refine_tasks(
        agent, policy, world, tasks, **how, done=lambda row: click.echo(_line(row), err=given["as_json"])
    )
    if given["output"] is not None:
        save(given["output"], [row.episode for row in rows])
    wrong = sum(bool(row.audit and row.audit["wrong"]) for row in rows)
    failed = sum(bool(row.episode.problem) for row in rows)
    kept = ("task", "answer", "proposals", "outcome", "final", "audit")
    data = {
        "solved": sum(row.outcome > 0.5 for row in rows),
        "wrong": wrong,
        "failed": failed,
        "tasks": [{name: getattr(row, name) for name in kept} for row in rows],
        "settings": {name: given[name] for name in _SETTINGS},
    }
    emit(data, given["as_json"], lambda: click.echo(_summary(data)))
    if wrong or failed:
        click.get_current_context().exit(1)


def _world(given: dict[str, Any]) -> Any:
    from ferrule.worlds.named import world

    if given["functions"] is None:
        return world(given["world"])
    from ferrule.worlds.pyopt import Pyopt
    from ferrule.worlds.pyopt.functions import read_functions

    if given["world"] != "pyopt":
        raise click.UsageError(f"--functions would do nothing with --world {given['world']}")
    if given["model"] == "scripted" or given["critic"] == "scripted":
        raise click.UsageError("what is scripted knows the functions of the bank alone; for your own name a --model")
    return Pyopt(functions=read_functions(given["functions"]))


def _players(world: Any, given: dict[str, Any]) -> tuple[Any, Any]:
    """Return who proposes, by role, and the critic."""
    from ferrule.agents.refiner import advised
    from ferrule.policies.scripted import Scripted

    options = {**chat_options(given), **computing_options(given)}
    for flag, power in (("model", "proposer"), ("critic", "expert")):
        if given[flag] == "scripted" and not hasattr(world, power):
            raise click.UsageError(f"the world {world.name!r} has nothing scripted for --{flag}; name a model")
    scripted = given["model"] == "scripted"
    solver = Scripted(world.proposer(given["seed"])) if scripted else load_policy(given["model"], **options)
    if given["critic"] == "none":
        return solver, None
    if given["critic"] == "scripted":
        return solver, lambda task, candidates: world.expert(task, [one.text for one in candidates])
    if given["critic"] == "person":
        return solver, _person
    same = given["critic"] == given["model"]
    return {"solver": solver, "critic": solver if same else load_policy(given["critic"], **options)}, advised()


def _person(task: Any, candidates: Sequence[Any]) -> str:
    """Show the last proposal and what was said of it, and ask what to try next."""
    last = candidates[-1]
    click.echo(f"\n{last.text}\n\n{last.checked.feedback}\n", err=True)
    return str(click.prompt("What should be tried next? (empty: nothing)", default="", show_default=False, err=True))


def _line(row: Any) -> str:
    """Say in a line what became of a task."""
    if row.episode.problem:
        return f"{row.task}: FAILED: {row.episode.problem}"
    audit = row.audit or {}
    if audit.get("wrong"):
        return f"{row.task}: WRONG: {audit['wrong']}"
    count = f"proposals: {row.proposals}"
    if "speedup" not in audit:
        return f"{row.task}: {row.outcome:.2f}, {count}"
    low, high = audit["interval"]
    fast = f"{audit['speedup']:.3g} times as fast (95 % interval {low:.3g} to {high:.3g})"
    return f"{row.task}: {fast}, {count}, of them wrong: {row.final['wrong']}"


def _summary(data: dict[str, Any]) -> str:
    failed = f", failed: {data['failed']}" if data["failed"] else ""
    return f"solved: {data['solved']} of {len(data['tasks'])}, wrong answers kept: {data['wrong']}{failed}"
