"""``ferrule train``: GRPO, or any recipe by import path, on a world or on the user's own tools and tasks."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click

from ferrule.cli.options import (
    Command,
    emit,
    flags,
    guarded,
    interruptible,
    make_world,
    own_tasks,
    row_options,
    run_folder,
    tools_option,
)
from ferrule.cli.remembered import memory_flag, with_memory
from ferrule.cli.training import CHOSEN_RATE, kept_flags, model_flags, pool_of, run_flags, trained_policy
from ferrule.core.paths import by_path
from ferrule.train.settings import Settings, read_settings
from ferrule.worlds.named import world_names

__all__ = ["command"]

_RECIPE = {
    "num_generations": (int, "Samples per task (the group)."),
    "temperature": (float, "Sampling temperature while training."),
    "beta": (float, "Weight of the divergence from the starting weights."),
    "epsilon": (float, "Lower clip range of the ratio (and upper, unless --epsilon-high)."),
    "epsilon_high": (float, "Upper clip range."),
    "scale_rewards": (str, "group or none."),
    "format_weight": (
        float,
        "Weight of the form of calls and replies beside the outcome.",
    ),
    "loss_type": (str, "dapo, grpo or dr_grpo."),
    "num_iterations": (int, "Passes over each batch."),
    "max_completion_length": (int, "Longest reply in tokens."),
    "max_tool_calling_iterations": (int, "Most replies of one episode."),
    "retries": (int, "Further tries of a task whose samples all failed."),
}
_FORM = 0.2
"""Weight of the form in the reward of the command, where no recipe brings a reward of its own."""
_WORLDS = f"{', '.join(world_names())}, openenv:URL, verifiers:NAME or module:Class"
_CHOSEN = {
    "learning_rate": CHOSEN_RATE,
    "gradient_accumulation_steps": "what at least 8 tasks a step take",
}


def _recipe_flags(function: Command) -> Command:
    from ferrule.train.grpo import grpo

    defaults = {p.name: p.default for p in inspect.signature(grpo).parameters.values()}
    defaults["format_weight"] = f"{_FORM}, with --recipe 0"
    for name, (kind, note) in reversed(_RECIPE.items()):
        shown = f"{note} [default: {defaults[name]}]"
        function = click.option(f"--{name.replace('_', '-')}", name, type=kind, default=None, help=shown)(function)
    return function


@click.command("train")
@model_flags
@click.option(
    "--world",
    "worlds",
    multiple=True,
    help=f"World, may repeat: {', '.join(world_names())}, openenv:URL, verifiers:NAME or module:Class.",
)
@own_tasks
@tools_option()
@click.option(
    "--recipe",
    default=None,
    help="Import path of recipe(base), for example ferrule.papers.otc:recipe; may stack with commas.",
)
@click.option(
    "--engine",
    default="local",
    show_default=True,
    type=click.Choice(["local", "vllm"]),
    help="What samples: this process, or a vLLM child of it ($FERRULE_VLLM_PYTHON).",
)
@click.option("--warm-up", default=None, type=click.IntRange(1), help="Supervised steps before the recipe.")
@click.option(
    "--warm-up-on",
    default=None,
    type=click.Choice(["successes", "demonstrations"]),
    help="What these imitate: the model's own successes, or the reference solutions of the world [default: successes].",
)
@click.option("--eval-tasks", default=None, type=int, help="Held-out tasks to measure before and after [default: 50].")
@run_flags("train")
@click.option(
    "--ray", default=None, metavar="ADDRESS", help="Play episodes on Ray workers: a cluster's address, auto or local."
)
@click.option("--ray-workers", default=None, type=int, help="Ray workers per process [default: one per free core].")
@memory_flag
@_recipe_flags
@flags(Settings, chosen=_CHOSEN)
@guarded
def command(**given: Any) -> None:
    """Train a model to use tools.

    \b
    ferrule train --model pocket --world arithmetic --max-steps 20
    ferrule train --tools tools.py --dataset tasks.jsonl
    torchrun --nproc-per-node 2 -m ferrule train --fsdp
    """
    from ferrule.evaluate.run import execute, table

    chosen = {name: value for name, value in given.items() if value is not None}
    known = [*_RECIPE, *(f.name for f in fields(Settings))]
    filed = read_settings(chosen["settings_file"], known) if "settings_file" in chosen else {}
    settings = {**filed, **{name: chosen[name] for name in known if name in chosen}}
    pool = pool_of(given["device"])
    folder = run_folder(given["name"], given["output_dir"], "train")

    def text() -> None:
        if result.get("evaluations"):
            table(result["evaluations"])

    with interruptible(folder) as check_interrupted, _ray_workers(chosen, pool) as workers:
        plan = _plan(chosen, settings, pool, folder)
        plan = plan if workers is None else replace(plan, play=workers.drive)
        result = execute(plan, resume=given["resume"], overwrite=given["overwrite"], pool=pool)
        if result:
            emit(result, given["as_json"], text)
            check_interrupted(result["summary"])


def _plan(chosen: dict[str, Any], settings: dict[str, Any], pool: Any, folder: Path) -> Any:
    from ferrule.evaluate.run import Plan
    from ferrule.train.grpo import grpo
    from ferrule.train.suited import suited

    if "tools" in chosen and not chosen["worlds"] and "tasks" not in chosen:
        raise click.UsageError("--tools needs --dataset (rows with prompt and answer) or a known data set")
    names = chosen["worlds"] or (() if "tasks" in chosen else ("arithmetic",))
    world = make_world(names, chosen.get("tasks"), chosen.get("tools"), **row_options(chosen))
    if "recipe" not in chosen:
        settings.setdefault("format_weight", _FORM)
    recipe = grpo(**{name: settings[name] for name in _RECIPE if name in settings})
    for path in (chosen.get("recipe") or "").split(","):
        recipe = by_path(path.strip())(recipe) if path.strip() else recipe
    recipe = with_memory(recipe, chosen.get("memory"))
    given = {name: value for name, value in settings.items() if name not in _RECIPE}
    levels = given.get("levels", Settings.levels)
    held_out = world.tasks("test", chosen.get("eval_tasks", 50), seed=1234, levels=levels)
    policy = trained_policy(chosen, folder, pool, given)
    if chosen["engine"] == "vllm":
        from ferrule.policies.vllm.vllm import Vllm

        policy = Vllm(policy)
    loop = suited(policy, recipe, Settings(**given), processes=1 if pool is None else pool.num_processes)
    kept = (
        "tasks", "tools", "recipe", "engine", "ray", "ray_workers", "warm_up", "warm_up_on", "memory", "prompt_field",
        "answer_field", "verifier",
    )  # fmt: skip
    line = _line(policy, recipe, loop, world, pool)
    about = {
        "command": "ferrule train",
        "worlds": list(names) or [str(chosen["tasks"])],
        **kept_flags(chosen),
        **{k: str(chosen[k]) for k in kept if chosen.get(k)},
        "plan": line,
        **_of_recipe(settings),
        "eval_tasks": len(held_out),
    }
    return Plan(
        folder=folder,
        policy=policy,
        world=world,
        method=_warmed(recipe, world, chosen, loop),
        settings=loop,
        eval_tasks=tuple(held_out),
        eval_temperature=recipe.temperature,
        stop_on_warning=chosen["stop_on_warning"],
        rollbacks=chosen["rollbacks"],
        about=about,
    )


def _line(policy: Any, recipe: Any, settings: Settings, world: Any, pool: Any) -> str:
    """Say and return what will happen."""
    from ferrule.cli.plan_line import training_line
    from ferrule.train.check import parts_of

    samples = settings.samples(1 if pool is None else pool.num_processes)
    what = f"{world.name}, {settings.max_steps} steps of {samples} episodes, rate {settings.learning_rate:g}"
    reference = any(part.reference for part in parts_of(recipe))
    line = training_line(policy, settings, what=what, plays=True, reference=reference)
    if pool is None or pool.is_main_process:
        click.echo(line, err=True)
    return line


def _of_recipe(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the base recipe in effect, defaults included."""
    from ferrule.train.grpo import grpo

    defaults = {p.name: p.default for p in inspect.signature(grpo).parameters.values()}
    return {name: settings.get(name, defaults[name]) for name in _RECIPE}


def _warmed(recipe: Any, world: Any, chosen: Mapping[str, Any], loop: Settings) -> Any:
    """Put the supervised stage that ``--warm-up`` asks for before the recipe."""
    if "warm_up" not in chosen:
        if "warm_up_on" in chosen:
            raise click.UsageError("--warm-up-on would do nothing without --warm-up STEPS")
        return recipe
    from ferrule.core.recipe import Method
    from ferrule.train.stage import demonstrations, sft, successes

    shared: dict[str, Any] = {"split": loop.split, "levels": loop.levels, "seed": loop.seed}
    shown = chosen.get("warm_up_on") == "demonstrations"
    assert loop.learning_rate is not None  # suited chose one
    data = demonstrations(world, **shared) if shown else successes(recipe, world, **shared)
    return Method((sft(data, max_steps=chosen["warm_up"], learning_rate=3 * loop.learning_rate), recipe))


def _ray_workers(chosen: dict[str, Any], pool: Any) -> Any:
    """Return the Ray workers that are asked for as a context, or one of nothing."""
    if "ray" not in chosen:
        if "ray_workers" in chosen:
            raise click.UsageError("--ray-workers would do nothing without --ray")
        return contextlib.nullcontext()
    from ferrule.rollout.cluster import RayWorkers

    if pool is not None and "ray_workers" not in chosen:
        raise click.UsageError("several processes share the Ray cluster: say with --ray-workers how many each may take")
    return RayWorkers(count=chosen.get("ray_workers"), address=chosen["ray"])
