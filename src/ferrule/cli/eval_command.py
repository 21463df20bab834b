"""``ferrule eval``: measure a model on a suite or on the user's own tasks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ferrule.cli.model_options import (
    chat_flags,
    chat_options,
    computing_flags,
    computing_options,
    hint_small,
    load_policy,
)
from ferrule.cli.options import (
    agent_options,
    emit,
    guarded,
    in_words,
    open_cassette,
    own_tasks,
    row_options,
    say_note,
    tool_docs_option,
    tools_option,
)
from ferrule.cli.paired import check_paired, paired_flags, paired_text, play_paired
from ferrule.cli.remembered import check_memory, memory_flags, memory_text, play_memory
from ferrule.worlds.named import world_names

__all__ = ["command"]


_SETTINGS = (
    "agent", "budget", "tools", "tool_docs", "eval_tasks", "num_generations", "temperature", "max_completion_length",
    "seed", "codec", "tool_role", "renderer", "date", "no_tools", "tasks", "verifier", "judge", "memory_control",
    "memory_batch", "memory_writer", "memory_by",
)  # fmt: skip
"""Flags that decide what is measured; the result names them with their values."""


@click.command(
    "eval",
    help="Measure a model on SUITE, on --dataset, or on SUITE with the rows of --dataset. SUITE is "
    f"{', '.join(world_names())}, openenv:URL, verifiers:NAME or module:Class.",
)
@click.argument("suite", required=False)
@click.option(
    "--model", default="pocket", show_default=True, help="pocket, smollm2-135m, a folder, a hub name or a URL."
)
@own_tasks
@tools_option()
@tool_docs_option
@click.option("--eval-tasks", default=100, show_default=True, help="Held-out tasks.")
@click.option("--num-generations", default=1, show_default=True, help="Episodes per task.")
@agent_options
@click.option("--max-completion-length", default=256, show_default=True, help="Longest reply in tokens.")
@click.option("--seed", default=0, show_default=True, help="Seed of tasks and sampling.")
@click.option(
    "--codec",
    default=None,
    help="How calls are written (NAME or NAME:STYLE); for servers, plain text instead of their tool calls.",
)
@chat_flags
@computing_flags
@click.option("--no-tools", is_flag=True, help="The same tasks without tools.")
@paired_flags
@memory_flags
@click.option("--output", type=click.Path(path_type=Path), default=None, help="Write the episodes here (JSONL).")
@click.option("--record", type=click.Path(path_type=Path), help="Keep every reply and tool result in this cassette.")
@click.option("--replay", type=click.Path(path_type=Path), help="Play a cassette; no model and no tool is run.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@guarded
def command(suite: str | None, **given: Any) -> None:
    """Measure a model on a world by name, or on the user's own tasks."""
    from dataclasses import replace

    from ferrule.agents.named import agent as agent_by_name
    from ferrule.agents.named import temperature_for
    from ferrule.evaluate.evaluate import evaluate
    from ferrule.evaluate.stages import stage_profile
    from ferrule.policies.recorded import recorded as recorded_policy
    from ferrule.worlds.recorded import recorded

    if suite is None and given["tasks"] is None:
        raise click.UsageError("give a suite, --dataset, or both where the suite is a benchmark: ferrule eval --help")
    check_paired(given)
    check_memory(given)
    world, tasks = _tasks(suite, given)
    world, tasks = in_words(world, tasks, given["tool_docs"])
    if given["no_tools"]:
        tasks = [replace(task, tools=()) for task in tasks]
    options = {**chat_options(given), **computing_options(given)}
    cassette = open_cassette(given["record"], given["replay"])
    loaded = None if given["replay"] else load_policy(given["model"], **options)
    policy = recorded_policy(loaded, cassette)
    home, world = world, recorded(world, cassette)
    agent = agent_by_name(given["agent"], tokens=given["budget"], max_tokens=given["max_completion_length"])
    if given["temperature"] is None:
        given["temperature"] = temperature_for(given["agent"])
    how = {name: given[name] for name in ("num_generations", "seed", "temperature")}
    if given["paired"]:
        measured, played = play_paired(agent, policy, world, tasks, judge=given["judge"], loads=options, **how)
    elif given["memory"] is not None:
        measured, evaluation = play_memory(agent, policy, world, tasks, given, loads=options, **how)
        played = {"": evaluation}
    else:
        evaluation = evaluate(agent, policy, world, tasks, **how)
        stages = stage_profile(evaluation, home)
        measured, played = {**evaluation.as_dict(), **({"stages": stages} if stages else {})}, {"": evaluation}
    cassette.close()
    if cassette.misses:
        click.echo(f"{len(cassette.misses)} calls or states were not recorded, first: {cassette.misses[0]}", err=True)
    if given["output"] is not None:
        _save(given["output"], played)
    data = {
        "suite": suite or str(given["tasks"]),
        "model": given["model"],
        **measured,
        "settings": {**{name: given[name] for name in _SETTINGS}, "policy": _facts(loaded)},
    }
    emit(data, given["as_json"], lambda: (paired_text if given["paired"] else _text)(data))


def _save(path: Path, played: Mapping[str, Any]) -> None:
    """Write the episodes of evaluations to a new file, each with its score and the condition it was played under."""
    from ferrule.rollout.record import append

    path.unlink(missing_ok=True)
    for condition, evaluation in played.items():
        about = {"phase": f", {condition}"} if condition else {}
        append(path, evaluation.episodes, [{**about, "scores": [{"value": v}]} for v in evaluation.values])


def _facts(policy: Any) -> dict[str, Any] | None:
    """Return what a model is as it ran, where its weights are here."""
    if not hasattr(policy, "parameters"):
        return None
    from ferrule.train.folder import facts

    return facts(policy)


def _tasks(name: str | None, given: dict[str, Any]) -> tuple[Any, Any]:
    from ferrule.evaluate.suites import suite
    from ferrule.worlds.user import UserWorld

    how = {"count": given["eval_tasks"], "seed": given["seed"], "tools": given["tools"]}
    world, tasks = suite(name or given["tasks"], **how, data=given["tasks"] if name else None, **row_options(given))
    say_note(world)
    if len(tasks) < given["eval_tasks"]:
        parts = world.sizes if isinstance(world, UserWorld) else {}
        rows = f" among {sum(parts.values())} rows; {parts['train']} are for training" if parts else ""
        asked = f"{given['eval_tasks']} were asked for"
        click.echo(f"{world.name} holds {len(tasks)} test tasks{rows}; {asked}", err=True)
    return world, tasks


def _text(data: dict[str, Any]) -> None:
    from ferrule.evaluate.metrics import shown

    click.echo(f"{data['suite']} with {data['model']}: {shown(data)}, tasks: {data['count']}")
    click.echo(f"{_calls(data)}, ended by {data['finish']}")
    for name, row in data.get("also", {}).items():
        click.echo(f"  {name}: {shown(row, 'value')}")
    for level, row in data["by_level"].items():
        click.echo(f"  level {level}: {shown(row)}")
    if "memory" in data:
        memory_text(data)
    if "stages" in data:
        click.echo("stages: " + ", ".join(f"{name} {value:.3g}" for name, value in data["stages"].items()))
    wrong = data["malformed"] or data["unknown_tool"] or data["failed"] == 1
    hint_small(data["model"], data["settings"]["tools"], wrong, not data["answered"])


def _calls(data: dict[str, Any]) -> str:
    """Say how many calls a task took; where some were not run, how many were tried and what became of them."""
    if not data["attempts"]:
        return "no calls"
    shares = {"malformed": data["malformed"], "of unknown tools": data["unknown_tool"]}
    lost = ", ".join(f"{share:.1%} {what}" for what, share in shares.items() if share)
    text = f"{data['attempts']:.2f} calls tried per task, {data['calls']:.2f} run"
    return f"{text} ({lost})" if lost else text
