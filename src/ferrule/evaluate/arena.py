"""Recipes and methods on equal footing: every one is trained and measured under the same conditions.

Equal means: the same model, world, tasks and seeds, the same number of generated tokens (dropped groups and discarded
branches included; of rows that nobody generated the tokens learned from), the same evaluation by the same plain tool
loop, and no learning rate chosen per entry.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ferrule.core.flows import Policy, World
from ferrule.core.recipe import Method, Part, Recipe
from ferrule.evaluate.evaluate import Evaluation, evaluate
from ferrule.evaluate.methods import Known, entry
from ferrule.evaluate.queue import Job, Show, address_of, results, work
from ferrule.evaluate.recipes import Changes
from ferrule.evaluate.standings import cell_from, cell_of, summarise
from ferrule.policies.named import load, weights_digest
from ferrule.train import checkpoint
from ferrule.train.check import check, parts_of, recipes_of
from ferrule.train.folder import versions
from ferrule.train.grpo import grpo
from ferrule.train.logs import write_json
from ferrule.train.loop import train
from ferrule.train.policy import needs, refuse
from ferrule.train.settings import Settings
from ferrule.worlds.named import worlds

__all__ = [
    "EVAL_SEED", "UNTRAINED", "Arena", "Offer", "base_of", "entry_of", "model_of", "play_arena", "play_cell",
    "refuse_entries", "settings_of", "tokens",
]  # fmt: skip

Offer = Callable[[], Known]
"""Returns what an arena may name; importable by its own name, so that worker processes find it."""
UNTRAINED = "untrained"
EVAL_SEED = 1234
"""Seed of the held-out tasks and of their sampling, for every recipe and training seed."""


@dataclass(frozen=True)
class Arena:
    """What is equal for all recipes of an arena; ``device`` is that of ``policies.named.load``."""

    recipes: tuple[str, ...]
    worlds: tuple[str, ...] = ("arithmetic", "apis")
    model: str = "pocket"
    budget: int = 400_000
    seeds: int = 3
    groups: int = 16
    num_generations: int = 8
    learning_rate: float = 3e-4
    max_completion_length: int = 80
    max_tool_calling_iterations: int = 6
    levels: tuple[int, ...] = (1, 2, 3, 4, 5)
    eval_tasks: int = 200
    num_generations_eval: int = 4
    device: str = "auto"


def settings_of(arena: Arena, method: Method | Part, seed: int) -> Settings:
    """Return the settings of one run: every step plays the same number of tasks, whatever the recipe's group size."""
    samples = [recipe.num_generations for part in parts_of(method) for recipe in recipes_of(part)]
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


def base_of(arena: Arena) -> Recipe:
    """Return what recipes change: plain GRPO on the tool loop, with which everything is evaluated."""
    return grpo(
        num_generations=arena.num_generations, max_completion_length=arena.max_completion_length,
        max_tool_calling_iterations=arena.max_tool_calling_iterations,
    )  # fmt: skip


def model_of(arena: Arena) -> Any:
    """Return the model that every run starts from."""
    options: dict[str, Any] = {} if arena.device == "auto" else {"device": arena.device}
    return load(arena.model, **options)


def _measured(arena: Arena, policy: Policy, world: World, name: str) -> Evaluation:
    """Evaluate with the plain tool loop on the held-out tasks."""
    tasks = world.tasks("test", arena.eval_tasks, seed=EVAL_SEED, levels=arena.levels)
    return evaluate(
        base_of(arena).agent,
        policy,
        world,
        tasks,
        num_generations=arena.num_generations_eval,
        seed=EVAL_SEED,
        temperature=1.0,
        name=name,
    )


def entry_of(arena: Arena, world: World, name: str, seed: int, known: Known) -> tuple[Method | Part, Changes]:
    """Return what a name stands for under the arena's conditions, and which recipe set which field."""
    return entry(
        name, base_of(arena), world, known, tasks=arena.groups, levels=arena.levels, seed=seed, budget=arena.budget
    )


def refuse_entries(arena: Arena, world: World, known: Known) -> None:
    """Refuse what cannot run when it is named, before anything is played."""
    policy = model_of(arena)
    for name in arena.recipes:
        method, _ = entry_of(arena, world, name, 0, known)
        settings = settings_of(arena, method, 0)
        try:
            check(method, settings)
            for part in parts_of(method):
                refuse(policy, needs(part))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name!r} cannot run in this arena: {error}") from error


def play_cell(arena: Arena, name: str, seed: int, folder: Path, offer: Offer) -> dict[str, Any]:
    """Train one recipe or method with one seed, and measure it; a run that was killed goes on from its checkpoint.

    ``folder`` holds the run. Return JSON data: ``cell`` (a ``Cell``), and ``curve``, the success on the training tasks
    against generated tokens.
    """
    world, policy = worlds(arena.worlds), model_of(arena)
    if name == UNTRAINED:
        return {"cell": asdict(cell_of(name, seed, _measured(arena, policy, world, name))), "curve": []}
    method, changes = entry_of(arena, world, name, seed, offer())
    resume = checkpoint.latest(folder) is not None  # without one, the run was killed before its first checkpoint
    about = {"command": "ferrule arena", "model": arena.model, "world": world.name, "recipe": name}
    summary = train(
        method,
        world,
        policy,
        settings_of(arena, method, seed),
        folder,
        resume=resume,
        overwrite=not resume,
        about=about,
    )
    if summary["stopped_by"] == "interrupted":
        raise KeyboardInterrupt
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    seconds = sum(row.get("seconds/sample", 0.0) + row.get("seconds/update", 0.0) for row in rows)
    seconds += sum(row["seconds"] for row in rows if row["phase"] == "data")
    cell = cell_of(
        name, seed, _measured(arena, policy, world, name), steps=summary["steps"], sampled=summary["sampled_tokens"],
        seconds=seconds, changes=changes,
    )  # fmt: skip
    return {"cell": asdict(cell), "curve": _curve(rows)}


def _curve(rows: Sequence[Mapping[str, Any]]) -> list[tuple[int, float]]:
    """Success on the training tasks against generated tokens."""
    total, points = 0.0, []
    for row in rows:
        total += row.get("tokens/sampled", 0.0)
        if row.get("success") is not None and row.get("phase") == "train":
            points.append((int(total), float(row["success"])))
    return points


def _jobs(arena: Arena, folder: Path, offer: Offer) -> list[Job]:
    """Return one job per cell; all append to one record."""
    conditions, place, jobs = _conditions(arena), folder.resolve(), []
    for seed in range(arena.seeds):
        # Without training a seed changes nothing.
        for name in dict.fromkeys((UNTRAINED, *arena.recipes) if seed == 0 else arena.recipes):
            address = address_of(conditions=conditions, recipe=name, seed=seed)
            arguments = (arena, name, seed, place / name / f"seed-{seed}", offer)
            about = {"recipe": name, "seed": seed}
            jobs.append(Job(address, place / "units.jsonl", play_cell, arguments, f"{name}, seed {seed}", about))
    return jobs


def play_arena(
    arena: Arena,
    offer: Offer,
    folder: Path,
    *,
    overwrite: bool = False,
    workers: int = 1,
    ray: str | None = None,
    show: Show | None = None,
) -> dict[str, Any]:
    """Play every recipe or method with every seed and return the comparison; what is finished is not played again.

    ``offer()`` returns what may be named, such as ``known_of(papers)``. What cannot run is refused (``ValueError``)
    before anything is played. ``workers`` and ``ray`` are those of ``queue.work``: results do not depend on them, since
    every worker computes with one thread.

    Everything lies under ``folder``: one run per recipe and seed, ``units.jsonl`` with a line per finished cell, and
    ``arena.json``. Workers on other machines need to see the same folder. One that holds an arena under other
    conditions is refused unless ``overwrite``; further recipes and seeds are added to what it holds.
    """
    refuse_entries(arena, worlds(arena.worlds), offer())
    conditions = _conditions(arena)
    settings = folder / "settings.json"
    if overwrite and (folder / "queue").is_dir():  # a folder that holds no arena is left as it is
        shutil.rmtree(folder)
    if settings.exists() and json.loads(settings.read_text(encoding="utf-8")) != conditions:
        raise FileExistsError(
            f"{folder} holds an arena with other settings or another model; choose another --name, or --overwrite it"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(settings, conditions)
    jobs = _jobs(arena, folder, offer)
    units = work(jobs, folder / "queue", workers=workers, ray=ray, show=_telling(jobs, show))
    cells = [cell_from(units[job.address]["cell"]) for job in jobs]
    curves = {f"{job.about['recipe']}/{job.about['seed']}": units[job.address]["curve"] for job in jobs}
    result = {
        "about": {**asdict(arena), "seeds": list(range(arena.seeds)), "against": arena.recipes[0],
                  "weights": weights_digest(arena.model), "command": _command(arena)},
        "rows": summarise(cells, against=arena.recipes[0]),
        "cells": [asdict(cell) for cell in cells],
        "curves": {name: curve for name, curve in curves.items() if not name.startswith(f"{UNTRAINED}/")},
        "versions": versions(),
    }  # fmt: skip
    write_json(folder / "arena.json", result)
    return result


def _telling(jobs: Sequence[Job], show: Show | None) -> Show | None:
    """Return ``show`` that also tells what the cells reached that were finished since it was called last."""
    if show is None:
        return None
    reported = set(results(jobs))

    def tell(line: str) -> None:
        for address, unit in results(jobs).items():
            if address not in reported:
                reported.add(address)
                cell = unit["result"]["cell"]
                name = f"{cell['recipe']}, seed {cell['seed']}"
                show(f"{name}: success {cell['success']:.1%}, {cell['sampled']:,} tokens")
        show(line)

    return tell


def _conditions(arena: Arena) -> dict[str, Any]:
    """All that a cell depends on beside its recipe and seed, as JSON data."""
    settings = {key: value for key, value in asdict(arena).items() if key not in ("recipes", "seeds")}
    if arena.device == "auto":
        del settings["device"]
    return json.loads(json.dumps({**settings, "weights": weights_digest(arena.model)}))  # type: ignore[no-any-return]


def _command(arena: Arena) -> str:
    """The command line that plays an arena again: its options that are not the defaults, and always what matters."""
    always = (f"--recipes {','.join(arena.recipes)}", f"--world {','.join(arena.worlds)}", f"--budget {arena.budget}",
              f"--seeds {arena.seeds}")  # fmt: skip
    names = ("model", "device", "eval_tasks", "num_generations_eval", "learning_rate")
    chosen = {name: getattr(arena, name) for name in names if getattr(arena, name) != getattr(Arena, name)}
    return " ".join(["ferrule arena", *always, *(f"--{k.replace('_', '-')} {v}" for k, v in chosen.items())])


def tokens(text: str) -> int:
    """Read a number of tokens such as ``400k``, ``1.5M`` or ``20000``; raises ``ValueError`` on anything else."""
    scale = {"k": 1_000, "m": 1_000_000}.get(text[-1:].lower(), 1)
    try:
        count = int(float(text[:-1] if scale > 1 else text) * scale)
    except ValueError:
        raise ValueError(f"{text!r} is not a number of tokens; write 20000, 400k or 1.5M") from None
    if count < 1:
        raise ValueError(f"a budget of {text!r} tokens trains nothing; the least is 1")
    return count
