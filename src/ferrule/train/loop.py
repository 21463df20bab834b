"""The outer loop: sample, update, log; with evaluation, health monitors and checkpoints around it."""

from __future__ import annotations

import contextlib
import inspect
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from ferrule.core.arrays import Signals, nearest
from ferrule.core.recipe import Recipe
from ferrule.core.records import Task, World
from ferrule.rollout.drive import Limits, drive, seed_of
from ferrule.rollout.record import Episode, append
from ferrule.train import checkpoint
from ferrule.train.ahead import Ahead
from ferrule.train.logs import Logs, write_json
from ferrule.train.monitor import Health, Monitor
from ferrule.train.optimiser import optimiser_of
from ferrule.train.sample import Batch, Group, sample, stats
from ferrule.train.settings import Settings, rate
from ferrule.train.shard import Shards
from ferrule.train.update import sequences, update

__all__ = ["Settings", "Stream", "check", "train"]

_LOGS = ("metrics.jsonl", "episodes.jsonl", "warnings.jsonl")


class Stream:
    """An endless, seeded stream of tasks whose position is one number, so that a resumed run goes on where it was."""

    def __init__(self, world: World, split: str, levels: Sequence[int], seed: int, position: int = 0) -> None:
        self.world, self.split, self.levels, self.seed, self.position = world, split, tuple(levels), seed, position
        self._block: tuple[int, list[Task]] = (-1, [])

    def _tasks(self, block: int) -> list[Task]:
        if self._block[0] != block:
            seed = seed_of(self.seed, "tasks", block)
            tasks = self.world.tasks(self.split, 240, seed=seed, levels=self.levels)
            tasks = list({task.id: task for task in tasks}.values())
            random.Random(seed).shuffle(tasks)
            self._block = (block, tasks)
        return self._block[1]

    def __call__(self, count: int) -> list[Task]:
        """Return the next ``count`` tasks."""
        out: list[Task] = []
        block, offset = divmod(self.position, 240)
        self.position += count
        while len(out) < count:
            tasks = self._tasks(block)
            if not tasks:
                raise ValueError(f"world {self.world.name!r} has no tasks in split {self.split!r}")
            out += [self._pick(tasks, block, i) for i in range(offset, min(240, offset + count - len(out)))]
            block, offset = block + 1, 0
        return out

    def _pick(self, tasks: list[Task], block: int, i: int) -> Task:
        """A data set smaller than a block is gone through again; ``meta["pass"]`` then sets the passes apart."""
        again = (block * 240 + i) // len(tasks) if len(tasks) < 240 else 0
        task = tasks[i % len(tasks)]
        return replace(task, meta={**task.meta, "pass": again}) if again else task


def check(recipe: Recipe, settings: Settings, *, evaluating: bool = False, processes: int = 1) -> int:
    """Refuse pieces and settings that do not fit together (``ValueError``); return the number of groups per step."""
    total = settings.samples(processes)
    if total % recipe.samples:
        raise ValueError(
            f"{total} samples per step (per_device_train_batch_size * gradient_accumulation_steps * processes) "
            f"cannot be cut into groups of num_generations={recipe.samples}; choose a multiple"
        )
    if settings.sample_ahead and (processes > 1 or settings.fsdp):
        raise ValueError("sample_ahead works with one process; set it to 0, or train with one")
    if settings.eval_steps and not evaluating:
        raise ValueError("eval_steps would do nothing: this run has no evaluation tasks")
    if settings.fsdp and processes < 2:
        raise ValueError(
            "fsdp would do nothing: this run has one process; start several, "
            "for example: torchrun --nproc-per-node 2 -m ferrule train --fsdp"
        )
    _check_pieces(recipe)
    return total // recipe.samples


_SCORES = ("logp_NT", "entropy_NT", "old_NT", "adv_NT", "turn_NT")
_OF_REFERENCE = ("ref_NT",)
_OF_CRITIC = ("value_NT", "old_value_NT", "target_NT")


def _check_pieces(recipe: Recipe) -> None:
    """Refuse pieces that read what nobody provides, and a reference or critic that nobody reads."""
    read: set[str] = set()
    present = [f.name for f in fields(Signals) if f.name not in ("adv_NT", *_OF_REFERENCE, *_OF_CRITIC)]
    pieces: list[tuple[str, Callable[..., Any], Sequence[str]]] = [
        ("objective", recipe.objective, (*_SCORES, *recipe.beside)),
        ("credit", recipe.credit, (*present, "signals")),
    ]
    if recipe.mask is not None:
        pieces.append(("mask", recipe.mask, (*present, "signals")))
    pieces += [(f"rule for {name}", rule, (*present, "signals", "adv_NT")) for name, rule in recipe.beside.items()]
    for piece, function, known in pieces:
        given = [*known, *(_OF_REFERENCE if recipe.reference else ()), *(_OF_CRITIC if recipe.critic else ())]
        bound = set(function.keywords) if isinstance(function, partial) else set()
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or parameter.name in bound:
                continue
            read.add(parameter.name)
            if parameter.default is parameter.empty and parameter.name not in given:
                cure = "; set Recipe.reference" if parameter.name in _OF_REFERENCE else ""
                cure = "; set Recipe.critic" if parameter.name in _OF_CRITIC else cure
                raise ValueError(
                    f"the {piece} reads {parameter.name!r}, which this recipe does not provide{cure}; "
                    f"{nearest(parameter.name, given)}"
                )
    for name in recipe.beside:
        if name in (*_SCORES, *_OF_REFERENCE, *_OF_CRITIC):
            raise ValueError(f"Recipe.beside names {name!r}, which objectives get in any case; choose another name")
        if name not in read:
            raise ValueError(f"Recipe.beside[{name!r}] would do nothing: the objective does not read it")
    if recipe.reference and not read & {*_OF_REFERENCE, "signals"}:
        raise ValueError("Recipe.reference would do nothing: neither objective nor credit reads ref_NT")
    if recipe.critic is not None and "target_NT" not in read:
        raise ValueError("Recipe.critic would do nothing: the objective reads no target_NT")


def _step(recipe: Recipe, played: Callable[[int], tuple[Batch, dict[str, float]]], policy: Any, optimiser: Any,
          settings: Settings, step: int, pool: Any) -> tuple[Batch, dict[str, float]]:  # fmt: skip
    """Run one sampling step and one update step and return the batch with its metrics."""
    began = time.perf_counter()
    batch, stale = played(step)
    sampled = time.perf_counter()
    for group in optimiser.param_groups:
        group["lr"] = rate(settings, step)
    metrics = update(
        policy,
        sequences(batch),
        recipe.objective,
        recipe.reduce,
        optimiser,
        rows=settings.per_device_train_batch_size,
        epochs=recipe.epochs,
        minibatches=recipe.minibatches,
        temperature=recipe.temperature,
        max_grad_norm=settings.max_grad_norm,
        reference=recipe.reference,
        seed=seed_of(settings.seed, "update", step),
        pool=pool,
    )
    times = {"seconds/sample": sampled - began, "seconds/update": time.perf_counter() - sampled}
    return batch, {
        **stats(batch),
        **metrics,
        **stale,
        **getattr(policy, "metrics", {}),
        "learning_rate": rate(settings, step),
        **times,
    }


def _extras(batch: Batch, step: int) -> list[dict[str, Any]]:
    out = []
    for group in batch.groups:
        for j in range(len(group.episodes)):
            scores = [s for s, owner in zip(group.scores, group.owners, strict=True) if owner == j]
            listed = [{"value": s.value, "parts": dict(s.parts)} for s in scores]
            out.append({"step": step, "phase": "train", "scores": listed})
    return out


def train(
    recipe: Recipe,
    world: World,
    policy: Any,
    settings: Settings,
    folder: Path,
    *,
    evaluate: Callable[[Any, int], Mapping[str, float]] | None = None,
    show: Callable[[Mapping[str, Any]], None] | None = None,
    resume: bool = False,
    limits: Limits | None = None,
    health: Health | None = None,
    pool: Any = None,
    play: Callable[..., list[Episode]] = drive,
) -> dict[str, Any]:
    """Train ``policy`` in place and return a summary; everything is recorded under ``folder`` as it happens.

    ``resume`` goes on from the last checkpoint to the same numbers as an uninterrupted run. ``evaluate(policy, step)``
    returns numbers to log every ``eval_steps``. ``show`` is given every logged row. ``pool`` is an
    ``accelerate.Accelerator`` when several processes train together; they equal one process with the same batch.
    ``play`` is the driver of the rollouts, for example ``RayWorkers.drive``.
    """
    processes = 1 if pool is None else pool.num_processes
    groups = check(recipe, settings, evaluating=evaluate is not None, processes=processes)
    if recipe.reference:
        policy.keep_reference()
    if recipe.critic is not None:
        policy.add_value_head()
    shards = Shards(policy, pool) if settings.fsdp else None
    whole = shards.whole if shards else contextlib.nullcontext
    optimiser = optimiser_of(policy, settings)
    main = pool is None or pool.is_main_process
    stream = Stream(world, settings.split, settings.levels, settings.seed)
    monitor, start, spent_tokens = Monitor(health or Health()), 0, 0
    if resume:
        start, spent_tokens = _resume(folder, policy, optimiser, stream, monitor)

    def sampled(step: int, asked: Any) -> Batch:
        seed = seed_of(settings.seed, "sample")
        with whole():
            return sample(
                recipe, stream, groups, world, asked, seed=seed, step=step, limits=limits, pool=pool, play=play,
                carry=carry,
            )  # fmt: skip

    carry: list[Group] = []
    ahead = Ahead(sampled, policy, partial(_starts_anew, settings)) if settings.sample_ahead else None

    def played(step: int) -> tuple[Batch, dict[str, float]]:
        return ahead(step, recipe.temperature) if ahead else (sampled(step, policy), {})

    logs = Logs(folder, {**vars(settings)}, settings.report_to) if main else None
    began, stopped = time.perf_counter(), "max_steps"
    step, longest = start, 0.0
    while step < settings.max_steps and not _used_up(settings, spent_tokens):
        step_began = time.perf_counter()
        batch, row = _step(recipe, played, policy, optimiser, settings, step, pool)
        step += 1
        spent_tokens += batch.sampled
        record: dict[str, Any] = {"step": step, "phase": "train", "seconds": time.perf_counter() - began, **row}
        if evaluate is not None and settings.eval_steps and step % settings.eval_steps == 0:
            with whole():
                found = {"step": step, "phase": "eval", **evaluate(policy, step)}
            _tell(logs, show, found)
        if logs:
            append(folder / "episodes.jsonl", [e for g in batch.groups for e in g.episodes], _extras(batch, step))
        _tell(logs, show, record)
        if settings.save_steps and step % settings.save_steps == 0:
            carry.clear()  # a resumed run starts from what the checkpoint holds
        warned = monitor.check(row)
        for text in warned:
            _warn(folder if main else None, show, step, text)
        if (main or shards) and settings.save_steps and (step % settings.save_steps == 0 or step == settings.max_steps):
            state = {
                "position": stream.position,
                "sampled_tokens": spent_tokens,
                "given": sorted(monitor.given),
                "rows": [dict(r) for r in monitor.rows],
                "first_calls": monitor.first_calls,
            }
            checkpoint.write(
                folder, step, policy, optimiser, state, keep=settings.save_total_limit, logs=_LOGS, main=main
            )
        if warned and monitor.health.stop:
            stopped = "health"
            break
        longest = max(longest, time.perf_counter() - step_began)
        spent = time.perf_counter() - began
        limit = settings.max_minutes
        if limit is not None and step < settings.max_steps and _agreed(spent + longest > limit * 60, pool):
            stopped = "max_minutes"
            break
    if stopped == "max_steps" and step < settings.max_steps:
        stopped = "max_sampled_tokens"
    if ahead:
        ahead.close()
    if shards:
        shards.restore()
    if logs:
        logs.close()
    summary = {"steps": step, "stopped_by": stopped, "seconds": round(time.perf_counter() - began, 1),
               "sampled_tokens": spent_tokens}  # fmt: skip
    if main:
        write_json(folder / "summary.json", summary)
    return summary


def _used_up(settings: Settings, sampled: int) -> bool:
    """Tell whether the run has generated as many tokens as it may."""
    return settings.max_sampled_tokens is not None and sampled >= settings.max_sampled_tokens


def _starts_anew(settings: Settings, step: int) -> bool:
    """Tell whether the batch of a step (0-based) may not be begun early: it follows a checkpoint, or the end."""
    return step >= settings.max_steps or bool(settings.save_steps and step % settings.save_steps == 0)


def _agreed(mine: bool, pool: Any) -> bool:
    """Return what the first process says: clocks differ, and processes must go on or stop together."""
    if pool is None:
        return mine
    from accelerate.utils import broadcast_object_list

    return bool(broadcast_object_list([mine])[0])


def _tell(logs: Logs | None, show: Callable[[Mapping[str, Any]], None] | None, row: Mapping[str, Any]) -> None:
    if logs:
        logs.write(row)
        if show:
            show(row)


def _warn(folder: Path | None, show: Callable[[Mapping[str, Any]], None] | None, step: int, text: str) -> None:
    if folder is None:
        return
    import json

    row = {"step": step, "phase": "warning", "text": text}
    with (folder / "warnings.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    if show:
        show(row)


def _resume(folder: Path, policy: Any, optimiser: Any, stream: Stream, monitor: Monitor) -> tuple[int, int]:
    """Load the last checkpoint into everything that moves and return its step and the tokens sampled so far."""
    found = checkpoint.latest(folder)
    if found is None:
        raise FileNotFoundError(f"nothing to resume: {folder} has no checkpoint (set save_steps when starting a run)")
    state = checkpoint.read(found, policy, optimiser)
    checkpoint.restore_files(folder, state)
    stream.position = state["position"]
    monitor.given, monitor.first_calls = set(state["given"]), state["first_calls"]
    monitor.rows.extend(state["rows"])
    return int(state["step"]), int(state["sampled_tokens"])
