"""The loop around every kind of training step, and methods run through it part by part."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from ferrule.core.flows import World
from ferrule.core.recipe import Drawn, Method, Part, Roles, Stage
from ferrule.rollout.drive import Limits, drive, seed_of
from ferrule.rollout.record import Episode
from ferrule.train import checkpoint
from ferrule.train.check import check, parts_of
from ferrule.train.folder import begin, facts, finish, to_resume
from ferrule.train.kept import keep, kept
from ferrule.train.memory import checkpointed, refuse_checkpointing
from ferrule.train.monitor import Health, Monitor
from ferrule.train.on_data import on_data
from ferrule.train.on_policy import on_policy, on_roles
from ferrule.train.optimiser import optimiser_of
from ferrule.train.policy import HasHeads, Refers, Trains, heads_of, needs, refuse
from ferrule.train.rollback import check_rollbacks, go_back, way_back
from ferrule.train.run import Run, interruptible
from ferrule.train.settings import Settings, varied
from ferrule.train.shard import Shards
from ferrule.train.step import Equipment, Step
from ferrule.train.stream import Stream
from ferrule.train.suited import suited
from ferrule.train.tensors import read_tensors, write_tensors

__all__ = ["Settings", "Stream", "check", "loop", "train"]

_ENDS_THE_RUN = ("health", "max_minutes", "interrupted")


def loop(step: Step, equipment: Equipment, run: Run) -> str:
    """Take steps until the part is over, and return why: the name of the setting that ended it, or what happened.

    Everything around a step happens here: evaluation, logs, health, checkpoints, limits.
    """
    settings, course = equipment.settings, run.course
    while not (over := _over(settings, run)):
        began = time.perf_counter()
        taken = step(course.part_steps)
        course.spend(taken.spent, steps=1)
        run.measure(equipment)
        run.record(taken)
        seconds = time.perf_counter() - run.began
        run.tell({"step": course.steps, "phase": "train", "seconds": seconds, **taken.metrics})
        due = bool(settings.save_steps and course.part_steps % settings.save_steps == 0)
        if due:
            step.settle()  # a resumed run starts from what the checkpoint holds
        warnings = run.monitor.check(taken.metrics)
        for text in warnings:
            run.warn(text)
        run.longest = max(run.longest, time.perf_counter() - began)
        over = _over(settings, run)
        ending = _ending(run, bool(warnings), over)
        if ending == "rollback":
            return ending
        if ending == "interrupted":
            step.settle()
        if due or (settings.save_steps and (over or ending == "interrupted" or (ending and step.settled))):
            run.save(step, equipment)
        if over or ending:
            return ending or over
    return over


def _over(settings: Settings, run: Run) -> str:
    """Name the setting by which a part is over."""
    if run.course.part_steps >= settings.max_steps:
        return "max_steps"
    most = settings.max_sampled_tokens
    return "max_sampled_tokens" if run.spent or (most is not None and run.course.part_tokens >= most) else ""


def _ending(run: Run, warned: bool, over: str) -> str:
    """Say what ends the whole run after this step."""
    if warned and run.health.rollbacks:
        run.back = way_back(run)
        return "rollback" if run.back is not None else "health"
    if warned and run.health.stop:
        return "health"
    if run.interrupted:
        return "interrupted"
    return "max_minutes" if not over and run.out_of_time() else ""


@dataclass(frozen=True)
class _Underway:
    """A method on its way: what stays the same for all its parts."""

    parts: tuple[Part, ...]
    rounds: int
    world: World | None
    policy: Trains
    run: Run
    limits: Limits | None
    play: Callable[..., list[Episode]]

    def settings(self, number: int) -> Settings:
        """Settings of a part; every part but the first has a seed of its own."""
        part, run = self.parts[number % len(self.parts)], self.run.settings
        part_settings = varied(run, part.settings)
        if not number or "seed" in part.settings:
            return part_settings
        return replace(part_settings, seed=seed_of(run.seed, "part", number))


def _played(
    underway: _Underway, last: tuple[Path, Mapping[str, Any]] | None, stop: Callable[[Any, int], bool] | None
) -> str:
    """Play the parts, from that of the ``last`` checkpoint and its state on, and say what ended them."""
    first, why = int(last[1]["course"]["part"]) if last else 0, ""
    for number in range(first, underway.rounds * len(underway.parts)):
        saved = last[0] if last and number == first else None
        lap, index = divmod(number, len(underway.parts))
        if stop is not None and lap and not index and not saved and stop(underway.policy, lap - 1):
            return "stop"
        why = _part(underway, number, saved)
        if why in _ENDS_THE_RUN or underway.run.spent:
            break
    return why


def train(
    method: Method | Part,
    world: World | None,
    policy: Trains,
    settings: Settings,
    folder: str | Path | None,
    *,
    evaluate: Callable[[Any, int], Mapping[str, float]] | None = None,
    show: Callable[[Mapping[str, Any]], None] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    limits: Limits | None = None,
    health: Health | None = None,
    pool: Any = None,
    play: Callable[..., list[Episode]] = drive,
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train ``policy`` in place by a method and return a summary; all is recorded under ``folder`` as it happens.

    What ``settings`` leave open suits the model and the method (``ferrule.train.suited``): at least 8 tasks a step. The
    folder is the same as that of ``ferrule train``: settings (with what ``about`` adds to them), recipe, logs,
    checkpoints, weights and report. One that holds a run is refused (``FileExistsError``) unless ``overwrite``, or
    ``resume``, which goes on from the last checkpoint to the same numbers as an uninterrupted run, and says so and
    begins from the start where the run was ended before its first. A first Ctrl-C ends the run after the present step
    with a checkpoint. ``folder`` None keeps nothing, and Ctrl-C ends such a run at once.

    ``evaluate(policy, step)`` returns numbers to log every ``eval_steps``. ``show`` is given every logged row. ``pool``
    is an ``accelerate.Accelerator`` when several processes train together; they equal one process with the same batch.
    ``play`` is the driver of the rollouts, for example ``RayWorkers.drive``. ``world`` may be None for stages alone.
    """
    folder = None if folder is None else Path(folder)
    processes = 1 if pool is None else pool.num_processes
    check(method, settings, evaluating=evaluate is not None, processes=processes)
    parts = parts_of(method)
    health = health or Health()
    check_rollbacks(health, method, settings, folder)
    _check_run(parts, world, policy, settings, folder)
    settings = suited(policy, method, settings, processes=processes)
    run = Run(settings, folder, health, evaluate, show, pool)
    place = to_resume(folder) if resume else None
    last = (place, checkpoint.state_of(place)) if place else None
    rounds, stop = (method.rounds, method.stop) if isinstance(method, Method) else (1, None)
    underway = _Underway(parts, rounds, world, policy, run, limits, play)
    if run.main and folder is not None:
        begin(folder, method, settings, {"policy": facts(policy), **(about or {})}, resume=resume, overwrite=overwrite)
    if resume and last is None:
        run.begin_again()
    run.open()
    with contextlib.closing(run), interruptible(run), checkpointed(policy, settings.gradient_checkpointing):
        why = _played(underway, last, stop)
    summary = {"steps": run.course.steps, "stopped_by": why, "seconds": round(time.perf_counter() - run.began, 1),
               "sampled_tokens": run.course.tokens}  # fmt: skip
    if run.main and folder is not None:
        finish(folder, policy, summary)
    return summary


def _check_run(
    parts: tuple[Part, ...], world: World | None, policy: Trains, settings: Settings, folder: Path | None
) -> None:
    """Refuse a policy that lacks a power, a missing world, and checkpoints without a folder."""
    if settings.gradient_checkpointing:
        refuse_checkpointing(policy)
    for part in parts:
        part_settings = varied(settings, part.settings)
        refuse(policy, needs(part, ahead=bool(part_settings.sample_ahead)))
        if world is None and not isinstance(part, Stage):
            raise ValueError(f"a {type(part).__name__} plays episodes and needs a world; world is None")
        if folder is None and part_settings.save_steps not in (0, Settings.save_steps):
            raise ValueError("save_steps would do nothing: this run has no folder")


def _part(underway: _Underway, number: int, saved: Path | None) -> str:
    """Train one part of a method, from its beginning or from the checkpoint ``saved`` in it; return why it ended."""
    run, policy, settings = underway.run, underway.policy, underway.settings(number)
    part = underway.parts[number % len(underway.parts)]
    if underway.rounds * len(underway.parts) > 1:
        run.label = dict(zip(("round", "part"), divmod(number, len(underway.parts)), strict=True))
    if saved is None:
        run.course.enter(number)
        run.monitor = Monitor(run.health, run.monitor.given)
    drawn = _data(underway, part, number, settings, saved) if isinstance(part, Stage) else Drawn(())
    if drawn.sampled and not drawn.items:
        run.warn(f"part {number} is left out: nothing to learn from came of {drawn.sampled} generated tokens.")
        return "empty"
    _prepare(underway, part, number, settings, saved)
    shards = Shards(policy, run.pool) if settings.fsdp else None
    whole = shards.whole if shards else contextlib.nullcontext
    optimiser = optimiser_of(policy, settings)
    equipment = Equipment(policy, optimiser, settings, run.pool, underway.limits, underway.play, whole)
    moving: Mapping[str, Any] | None = None
    if saved is not None:
        state = checkpoint.read(saved, policy, optimiser)
        run.restore(state)
        moving = state["moving"]
    why = "rollback"
    while why == "rollback":
        step = _step(part, underway.world, drawn, equipment)
        with contextlib.closing(step):
            why = _taken(step, equipment, run, moving)
        moving = step.state()  # what was sampled ahead is given up
    if shards:
        shards.restore()
    return why


def _taken(step: Step, equipment: Equipment, run: Run, moving: Mapping[str, Any] | None) -> str:
    """Take the steps of a part from where it stands, or from an earlier checkpoint; return why they ended."""
    if moving is not None:
        step.load(moving)
    if run.back is None:
        return loop(step, equipment, run)
    go_back(run, run.back, equipment.policy, equipment.optimiser)
    run.back = None
    run.save(step, equipment)
    return _ending(run, False, _over(equipment.settings, run)) or loop(step, equipment, run)


def _step(part: Part, world: World | None, drawn: Drawn, equipment: Equipment) -> Step:
    if isinstance(part, Stage):
        return on_data(part, drawn, equipment)
    assert world is not None
    return on_roles(part, world, equipment) if isinstance(part, Roles) else on_policy(part, world, equipment)


def _data(underway: _Underway, stage: Stage, number: int, settings: Settings, saved: Path | None) -> Drawn:
    """Ask a stage for its data, and keep them in the run folder; a part that is resumed learns from what was kept."""
    run = underway.run
    path = (
        run.folder / "data" / f"part-{number}.safetensors" if run.folder is not None and settings.save_steps else None
    )
    if saved is not None:
        assert path is not None
        return kept(path)
    began = time.perf_counter()
    data = stage.data(underway.policy, number // len(underway.parts))
    drawn = data if isinstance(data, Drawn) else Drawn(data)
    if run.pool is not None:  # all learn from what the first process drew
        from accelerate.utils import broadcast_object_list

        drawn = broadcast_object_list([drawn])[0]
    if path is not None and run.main:
        keep(path, drawn)
    run.course.spend(drawn.sampled)
    run.tell({"step": run.course.steps, "phase": "data", "rows": float(len(drawn.items)),
              "tokens/sampled": float(drawn.sampled), "seconds": time.perf_counter() - began})  # fmt: skip
    return drawn


def _prepare(underway: _Underway, part: Part, number: int, settings: Settings, saved: Path | None) -> None:
    """Give the policy the heads and the reference that a part needs.

    A part's reference is what the policy was when the part began; a resumed run reads these weights from its folder.
    """
    policy, count = underway.policy, len(underway.parts)
    for before in underway.parts if number >= count else underway.parts[: number + 1]:
        for head in heads_of(before):
            cast(HasHeads, policy).add_head(head)
    if not part.reference:
        return
    folder = underway.run.folder
    if number and folder is not None and settings.save_steps:
        place, weights = folder / "starts" / f"part-{number}", checkpoint.weights(policy)
        if saved is not None:
            read_tensors(place, weights)
        elif underway.run.main:
            with checkpoint.whole_or_not(place) as written:
                write_tensors(written, weights)
    cast(Refers, policy).keep_reference(anew=number > 0)
