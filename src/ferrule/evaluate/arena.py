"""Recipes and methods on equal footing: every one is trained and measured under the same conditions.

Equal means: the same model, world, tasks and seeds, the same number of generated tokens (dropped groups and discarded
branches included; of rows that nobody generated the tokens learned from), the same evaluation by the same plain tool
loop, and no learning rate chosen per entry.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ferrule.core.recipe import Method, Part, Recipe
from ferrule.core.records import Policy, World
from ferrule.evaluate.evaluate import Evaluation, evaluate
from ferrule.evaluate.methods import entry
from ferrule.evaluate.recipes import Changes, Make
from ferrule.evaluate.run import versions
from ferrule.evaluate.standings import Cell, cell_of, summarise
from ferrule.policies.named import load
from ferrule.train import checkpoint
from ferrule.train.check import check, parts_of, recipes_of
from ferrule.train.grpo import grpo
from ferrule.train.logs import write_json
from ferrule.train.loop import train
from ferrule.train.policy import needs, refuse
from ferrule.train.settings import Settings
from ferrule.worlds.named import worlds

__all__ = ["Arena", "run", "tokens"]

UNTRAINED = "untrained"
EVAL_SEED = 1234
"""Seed of the held-out tasks and of their sampling, for every recipe and training seed."""


@dataclass(frozen=True)
class Arena:
    """What is equal for all recipes of an arena."""

    recipes: tuple[str, ...]
    worlds: tuple[str, ...] = ("arithmetic", "apis")
    model: str = "pocket"
    budget: int = 400_000
    seeds: int = 3
    groups: int = 16
    num_generations: int = 8
    learning_rate: float = 3e-4
    max_completion_length: int = 80
    levels: tuple[int, ...] = (1, 2, 3, 4, 5)
    eval_tasks: int = 200
    num_generations_eval: int = 4


def _settings(arena: Arena, method: Method | Part, seed: int) -> Settings:
    """The settings of one run: every step plays the same number of tasks, whatever the recipe's group size."""
    samples = [recipe.samples for part in parts_of(method) for recipe in recipes_of(part)]
    return Settings(
        max_steps=1_000_000,
        max_sampled_tokens=arena.budget,
        learning_rate=arena.learning_rate,
        per_device_train_batch_size=arena.groups,
        gradient_accumulation_steps=samples[0] if samples else 1,
        warmup_steps=3,
        adam_beta2=0.95,
        seed=seed,
        levels=arena.levels,
        save_steps=20,
        save_total_limit=1,
    )


def _base(arena: Arena) -> Recipe:
    return grpo(num_generations=arena.num_generations, max_completion_length=arena.max_completion_length)


def _measured(arena: Arena, policy: Policy, world: World, name: str) -> Evaluation:
    """Evaluate with the plain tool loop on the held-out tasks."""
    tasks = world.tasks("test", arena.eval_tasks, seed=EVAL_SEED, levels=arena.levels)
    return evaluate(
        _base(arena).agent,
        policy,
        world,
        tasks,
        samples=arena.num_generations_eval,
        seed=EVAL_SEED,
        temperature=1.0,
        name=name,
    )


def _entry(
    arena: Arena, world: World, name: str, seed: int, known: Mapping[str, Make]
) -> tuple[Method | Part, Changes]:
    return entry(
        name, _base(arena), world, known, tasks=arena.groups, levels=arena.levels, seed=seed, budget=arena.budget
    )


def _check(arena: Arena, world: World, known: Mapping[str, Make]) -> None:
    """Refuse what cannot run when it is named, before anything is played."""
    policy = load(arena.model)
    for name in arena.recipes:
        method, _ = _entry(arena, world, name, 0, known)
        settings = _settings(arena, method, 0)
        try:
            check(method, settings)
            for part in parts_of(method):
                refuse(policy, needs(part))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name!r} cannot run in this arena: {error}") from error


def _cell(arena: Arena, world: World, name: str, seed: int, folder: Path, known: Mapping[str, Make]) -> Cell:
    """Train one recipe with one seed, or go on where a killed run stopped, and measure it."""
    policy = load(arena.model)
    if name == UNTRAINED:
        return cell_of(name, seed, _measured(arena, policy, world, name))
    method, changes = _entry(arena, world, name, seed, known)
    resume = checkpoint.latest(folder) is not None
    if not resume and folder.exists():
        shutil.rmtree(folder)  # killed before its first checkpoint
    summary = train(method, world, policy, _settings(arena, method, seed), folder, resume=resume)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    seconds = sum(row.get("seconds/sample", 0.0) + row.get("seconds/update", 0.0) for row in rows)
    seconds += sum(row["seconds"] for row in rows if row["phase"] == "data")
    return cell_of(
        name, seed, _measured(arena, policy, world, name), steps=summary["steps"], sampled=summary["sampled_tokens"],
        seconds=seconds, changes=changes,
    )  # fmt: skip


def _curve(folder: Path) -> list[tuple[int, float]]:
    """Success on the training tasks against generated tokens."""
    total, out = 0.0, []
    for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        total += row.get("tokens/sampled", 0.0)
        if "success" in row and row.get("phase") == "train":
            out.append((int(total), float(row["success"])))
    return out


def run(
    arena: Arena,
    known: Mapping[str, Make],
    folder: Path,
    *,
    overwrite: bool = False,
    show: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Play every recipe or method with every seed and return the comparison; what is finished is not played again.

    ``known`` maps names to recipes, such as those of ``recipes_of``; the methods of ``evaluate.methods`` are known as
    well. What cannot run is refused (``ValueError``) before anything is played. Everything lies under ``folder``: one
    run per recipe and seed, and ``arena.json``. A folder that holds an arena with other settings is refused unless
    ``overwrite``.
    """
    world = worlds(arena.worlds)
    _check(arena, world, known)
    shared = {key: value for key, value in json.loads(json.dumps(asdict(arena))).items() if key not in _MAY_GROW}
    settings = folder / "settings.json"
    if overwrite and folder.exists():
        shutil.rmtree(folder)
    if settings.exists() and json.loads(settings.read_text(encoding="utf-8")) != shared:
        raise FileExistsError(f"{folder} holds an arena with other settings; choose another --name, or --overwrite it")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(settings, shared)
    cells, curves = [], {}
    for seed in range(arena.seeds):
        # Without training a seed changes nothing.
        for name in (UNTRAINED, *arena.recipes) if seed == 0 else arena.recipes:
            place = folder / name / f"seed-{seed}"
            done = place / "cell.json"
            if not done.exists():
                write_json(done, asdict(_cell(arena, world, name, seed, place / "run", known)))
                cell = json.loads(done.read_text(encoding="utf-8"))
                show(f"{name}, seed {seed}: success {cell['success']:.1%}, {cell['sampled']:,} tokens")
            data = json.loads(done.read_text(encoding="utf-8"))
            cells.append(Cell(**{**data, "task_scores": tuple(data["task_scores"])}))
            if name != UNTRAINED:
                curves[f"{name}/{seed}"] = _curve(place / "run")
    result = {
        "about": {**asdict(arena), "seeds": list(range(arena.seeds)), "against": arena.recipes[0],
                  "command": _command(arena)},
        "rows": summarise(cells, against=arena.recipes[0]),
        "cells": [asdict(cell) for cell in cells],
        "curves": curves,
        "versions": versions(),
    }  # fmt: skip
    write_json(folder / "arena.json", result)
    return result


_MAY_GROW = ("recipes", "seeds")


def _command(arena: Arena) -> str:
    """The command line that plays an arena again: its options that are not the defaults, and always what matters."""
    always = (f"--recipes {','.join(arena.recipes)}", f"--world {','.join(arena.worlds)}", f"--budget {arena.budget}",
              f"--seeds {arena.seeds}")  # fmt: skip
    names = ("model", "eval_tasks", "num_generations_eval", "learning_rate")
    chosen = {name: getattr(arena, name) for name in names if getattr(arena, name) != getattr(Arena, name)}
    return " ".join(["ferrule arena", *always, *(f"--{k.replace('_', '-')} {v}" for k, v in chosen.items())])


def tokens(text: str) -> int:
    """Read a number of tokens such as ``400k``, ``1.5M`` or ``20000``; raises ``ValueError`` on anything else."""
    scale = {"k": 1_000, "m": 1_000_000}.get(text[-1:].lower(), 1)
    try:
        count = int(float(text[:-1] if scale > 1 else text) * scale)
    except ValueError:
        raise ValueError(f"{text!r} is no number of tokens; write 20000, 400k or 1.5M") from None
    if count < 1:
        raise ValueError(f"a budget of {text!r} tokens trains nothing; the least is 1")
    return count
