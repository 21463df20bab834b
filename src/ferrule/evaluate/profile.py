"""An arena with a profile: every run trains on one mixture of worlds and is measured on each of them by itself.

Every recipe gets the best of several learning rates, tried at a quarter of the budget on a development seed and on
tasks that nothing is measured on; then it is trained with each measuring seed. What is finished is one line of
``units.jsonl`` with the machine it was made on, and counts as finished wherever that file is.
"""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from ferrule.core.flows import World
from ferrule.core.records import Task
from ferrule.evaluate.arena import (
    EVAL_SEED,
    UNTRAINED,
    Arena,
    Offer,
    base_of,
    entry_of,
    model_of,
    refuse_entries,
    settings_of,
)  # fmt: skip
from ferrule.evaluate.columns import COLUMNS, Column, mixture
from ferrule.evaluate.evaluate import evaluate
from ferrule.evaluate.profile_standings import leading_of, profile_result
from ferrule.evaluate.queue import Job, Show, address_of, work
from ferrule.policies.named import weights_digest
from ferrule.train import checkpoint
from ferrule.train.folder import versions
from ferrule.train.logs import write_json
from ferrule.train.loop import train

__all__ = ["TRIAL_SEED", "Profile", "best_rate", "held_out", "play_profile", "play_run", "play_trial"]

TRIAL_SEED = 4321
"""Seed of the tasks that learning rates are chosen by; none of them is measured (``EVAL_SEED``)."""
QUARTERS = (1, 2, 3, 4)


@dataclass(frozen=True)
class Profile:
    """What is equal for all recipes, and which columns they are measured on.

    ``rates`` are tried with ``rate_seed``; measured are ``seeds`` seeds from ``first_seed`` on, and ``leading_seeds``
    of them for the first recipe and the ``leading`` ones that do best over all columns with ``seeds``. A column has
    ``eval_tasks`` held-out tasks with ``num_generations_eval`` samples each, and ``curve_tasks`` of them with one
    sample after each quarter of the budget.
    """

    recipes: tuple[str, ...]
    columns: tuple[Column, ...]
    model: str = "pocket"
    budget: int = 120_000
    rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3)
    rate_seed: int = 0
    first_seed: int = 100
    seeds: int = 5
    leading: int = 0
    leading_seeds: int = 8
    groups: int = 8
    num_generations: int = 8
    max_completion_length: int = 80
    max_tool_calling_iterations: int = 10
    eval_tasks: int = 40
    num_generations_eval: int = 2
    curve_tasks: int = 16
    device: str = "auto"

    def __post_init__(self) -> None:
        """Refuse what could not be measured."""
        if not self.recipes or not self.columns or not self.rates or self.seeds < 1:
            raise ValueError("a profile needs recipes, columns, learning rates and at least one seed")
        if self.rate_seed in range(self.first_seed, self.first_seed + max(self.seeds, self.leading_seeds)):
            raise ValueError(
                f"rates are tried with seed {self.rate_seed}, which is one of the measuring seeds; choose another "
                "first_seed (--first-seed)"
            )
        for what in ("recipes", "rates"):
            listed = getattr(self, what)
            if twice := [one for one in dict.fromkeys(listed) if listed.count(one) > 1]:
                raise ValueError(f"{what} name {', '.join(map(str, twice))} more than once; its runs would count twice")
        if self.leading and self.leading_seeds <= self.seeds:
            raise ValueError(
                f"leading_seeds is {self.leading_seeds} and every recipe has {self.seeds} seeds; the leading ones need "
                "more than that (--leading-seeds)"
            )
        if self.curve_tasks > self.eval_tasks:
            raise ValueError(
                f"eval_tasks is {self.eval_tasks}; the least is {self.curve_tasks}, the tasks after each quarter"
            )
        if self.budget < 4:
            raise ValueError(f"a budget of {self.budget} tokens has no quarters; the least is 4")
        if UNTRAINED in self.recipes:
            raise ValueError(f"{UNTRAINED!r} has a row in every arena; leave it out of the recipes")

    def arena(self, rate: float, budget: int) -> Arena:
        """Return the conditions of a single run."""
        return Arena(
            self.recipes, tuple(column.world for column in self.columns), self.model, budget, groups=self.groups,
            num_generations=self.num_generations, learning_rate=rate, device=self.device,
            max_completion_length=self.max_completion_length,
            max_tool_calling_iterations=self.max_tool_calling_iterations,
        )  # fmt: skip

    def conditions(self) -> dict[str, Any]:
        """Return all that a unit depends on beside recipe, rate and seed, as JSON data; the machine is none of it."""
        apart = ("recipes", "rates", "rate_seed", "first_seed", "seeds", "leading", "leading_seeds", "device")
        settings = {key: value for key, value in asdict(self).items() if key not in apart}
        return json.loads(json.dumps({**settings, "weights": weights_digest(self.model)}))  # type: ignore[no-any-return]


def held_out(profile: Profile, column: Column, seed: int, count: int) -> list[Task]:
    """Return tasks of a column's test split: those that are measured, or with another seed than ``EVAL_SEED`` others.

    Small worlds give the same task under several seeds. Raises ``ValueError`` where all tasks are measured.
    """
    world = column.tasks_from()
    if seed == EVAL_SEED:
        return world.tasks("test", count, seed=seed)
    measured = {(task.prompt, str(task.answer)) for task in world.tasks("test", profile.eval_tasks, seed=EVAL_SEED)}
    drawn = world.tasks("test", count + profile.eval_tasks, seed=seed)
    others = [task for task in drawn if (task.prompt, str(task.answer)) not in measured][:count]
    if not others:
        raise ValueError(
            f"column {column.name!r} has no test tasks beside the {len(measured)} that are measured; rates need some "
            "(fewer --eval-tasks, or a single rate)"
        )
    return others


def _column(profile: Profile, column: Column, policy: Any, seed: int, tasks: int, samples: int) -> dict[str, Any]:
    """Measure one column with the plain tool loop."""
    found = evaluate(
        base_of(profile.arena(0.0, profile.budget)).agent, policy, column.tasks_from(),
        held_out(profile, column, seed, tasks), num_generations=samples, seed=seed, temperature=1.0, name=column.name,
    )  # fmt: skip
    data = found.as_dict()
    scores = list(found.scores().values())
    return {
        "success": found.success,
        "first": fmean(scores[: profile.curve_tasks]),
        "calls": data["calls"] or 0.0,
        "tokens": data["tokens"] or 0.0,
        "by_level": {level: row["success"] for level, row in data["by_level"].items()},
    }


def _measured(profile: Profile, policy: Any, *, seed: int = EVAL_SEED, quarter: bool = False) -> dict[str, Any]:
    """Measure all columns: whole, or the few tasks of a quarter, as success alone."""
    tasks, samples = (profile.curve_tasks, 1) if quarter else (profile.eval_tasks, profile.num_generations_eval)
    found = {column.name: _column(profile, column, policy, seed, tasks, samples) for column in profile.columns}
    return {name: row["success"] for name, row in found.items()} if quarter else found


def _machine(policy: Any) -> dict[str, str]:
    """Say what kind of machine a unit was made on."""
    return {"machine": platform.machine(), "processor": _processor(), "device": str(getattr(policy, "device", "cpu"))}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _trained(
    profile: Profile, arena: Arena, name: str, seed: int, folder: Path, offer: Offer, tokens: int
) -> tuple[Any, dict[str, Any], Any]:
    """Train until so many tokens are spent, from the last checkpoint on where there is one."""
    world: World = mixture(profile.columns)
    policy = model_of(arena)  # a fresh one each time: a part's reference is what the policy was at its beginning
    method, changes = entry_of(arena, world, name, seed, offer())
    resume = checkpoint.latest(folder) is not None
    settings = replace(settings_of(arena, method, seed), max_sampled_tokens=tokens)
    about = {"command": "ferrule arena", "model": profile.model, "world": world.name, "recipe": name}
    summary = train(method, world, policy, settings, folder, resume=resume, overwrite=not resume, about=about)
    if summary["stopped_by"] == "interrupted":
        raise KeyboardInterrupt
    return policy, summary, changes


def play_trial(profile: Profile, name: str, rate: float, folder: Path, offer: Offer) -> dict[str, Any]:
    """Train a quarter of the budget at one rate, and return ``success``, the mean over columns, as JSON data."""
    budget = profile.budget // 4
    policy, summary, _ = _trained(profile, profile.arena(rate, budget), name, profile.rate_seed, folder, offer, budget)
    columns = _measured(profile, policy, seed=TRIAL_SEED)
    _removed(folder)
    success = {column: row["success"] for column, row in columns.items()}
    return {
        "success": fmean(success.values()), "columns": success, "sampled": summary["sampled_tokens"],
        "machine": _machine(policy),
    }  # fmt: skip


def _removed(folder: Path) -> None:
    """Remove the folder of a finished run, in one stroke: what is left of one must not be taken for one to go on."""
    gone = folder.with_name(f".{folder.name}.over")
    shutil.rmtree(gone, ignore_errors=True)
    folder.rename(gone)
    shutil.rmtree(gone)


def play_run(
    profile: Profile, name: str, seed: int, rate: float, folder: Path, offer: Offer, tasks_seed: int = EVAL_SEED
) -> dict[str, Any]:
    """Train one recipe with one seed and measure every column, after each quarter and at the end; as JSON data.

    A run that was killed goes on from its checkpoint. What its folder holds is removed in the end. ``tasks_seed`` is
    that of the tasks that are measured.
    """
    if name == UNTRAINED:
        policy = model_of(profile.arena(0.0, profile.budget))
        columns = _measured(profile, policy, seed=tasks_seed)
        first = {column: row.pop("first") for column, row in columns.items()}
        return {
            "columns": columns, "curve": [[0, first]], "sampled": 0, "steps": 0, "changes": {},
            "machine": _machine(policy),
        }  # fmt: skip
    arena, place = profile.arena(rate, profile.budget), folder / "curve.json"
    curve: list[Any] = json.loads(place.read_text(encoding="utf-8")) if place.is_file() else []
    for quarter in QUARTERS[len(curve) :]:
        last = quarter == QUARTERS[-1]
        tokens = profile.budget * quarter // len(QUARTERS)
        policy, summary, changes = _trained(profile, arena, name, seed, folder, offer, tokens)
        columns = _measured(profile, policy, seed=tasks_seed, quarter=not last)
        if not last:
            curve.append([summary["sampled_tokens"], columns])
            write_json(place, curve)
    curve.append([summary["sampled_tokens"], {column: row.pop("first") for column, row in columns.items()}])
    _removed(folder)
    return {
        "columns": columns, "curve": curve, "sampled": summary["sampled_tokens"], "steps": summary["steps"],
        "changes": {field: list(by) for field, by in changes.items()}, "machine": _machine(policy),
    }  # fmt: skip


def _place(folder: Path, name: str, what: str, address: str) -> Path:
    """Return the folder of a unit: one under other settings has another, so that no run goes on from its checkpoint."""
    return folder / name / f"{what}-{address[:8]}"


def _trials(profile: Profile, folder: Path, record: Path, offer: Offer) -> list[Job]:
    """Return a job per recipe and rate; none where there is a single rate."""
    if len(profile.rates) < 2:
        return []
    conditions, jobs = profile.conditions(), []
    for name in profile.recipes:
        for rate in profile.rates:
            address = address_of(conditions=conditions, recipe=name, rate=rate, rate_seed=profile.rate_seed)
            about = {"recipe": name, "rate": rate, "rate_seed": profile.rate_seed}
            arguments = (profile, name, rate, _place(folder, name, f"rate-{rate:g}", address), offer)
            jobs.append(Job(address, record, play_trial, arguments, f"{name}, rate {rate:g}", about))
    return jobs


def best_rate(rates: Sequence[float], success: Mapping[float, float]) -> float:
    """Return the rate with the largest success; ties go to the one that is named first."""
    return max(rates, key=lambda rate: success[rate])


def _runs(
    profile: Profile, chosen: Mapping[str, float], seeds: Mapping[str, int], folder: Path, record: Path, offer: Offer
) -> list[Job]:
    """Return a job per recipe and measuring seed, all recipes with a seed before the next."""
    conditions = profile.conditions()
    jobs = [
        Job(
            address_of(conditions=conditions, recipe=UNTRAINED), record, play_run,
            (profile, UNTRAINED, 0, 0.0, folder / UNTRAINED, offer), UNTRAINED, {"recipe": UNTRAINED},
        )
    ]  # fmt: skip
    for place in range(max(seeds.values())):
        for name in (name for name in profile.recipes if place < seeds[name]):
            seed, rate = profile.first_seed + place, chosen[name]
            address = address_of(conditions=conditions, recipe=name, rate=rate, seed=seed)
            about = {"recipe": name, "rate": rate, "seed": seed}
            arguments = (profile, name, seed, rate, _place(folder, name, f"seed-{seed}", address), offer)
            jobs.append(Job(address, record, play_run, arguments, f"{name}, seed {seed}", about))
    return jobs


def play_profile(
    profile: Profile,
    offer: Offer,
    folder: Path,
    *,
    units: Path | None = None,
    overwrite: bool = False,
    workers: int = 1,
    ray: str | None = None,
    show: Show | None = None,
) -> dict[str, Any]:
    """Choose rates, play every recipe with every seed, and return the comparison; what is finished is not played again.

    ``offer``, ``workers`` and ``ray`` are those of ``play_arena``; what cannot run is refused (``ValueError``) before
    anything is played. Lines of finished units are read from and appended to ``units``, by default ``units.jsonl`` in
    the folder; those made on other machines count as finished. ``overwrite`` throws away what the folder holds.
    """
    refuse_entries(profile.arena(profile.rates[0], profile.budget), mixture(profile.columns), offer())
    place, record = folder.resolve(), (units or folder / "units.jsonl").resolve()
    queue = {"workers": workers, "ray": ray, "show": show}
    if overwrite and (place / "queue").is_dir():  # a folder that holds no arena is left as it is
        shutil.rmtree(place)
    place.mkdir(parents=True, exist_ok=True)
    trials = _trials(profile, place, record, offer)
    tried = work(trials, place / "queue", **queue) if trials else {}  # type: ignore[arg-type]
    found: dict[str, dict[float, float]] = {name: {} for name in profile.recipes}
    for job in trials:
        found[job.about["recipe"]][job.about["rate"]] = tried[job.address]["success"]
    chosen = {
        name: best_rate(profile.rates, found[name]) if found[name] else profile.rates[0] for name in profile.recipes
    }
    seeds = dict.fromkeys(profile.recipes, profile.seeds)
    jobs = _runs(profile, chosen, seeds, place, record, offer)
    done = work(jobs, place / "queue", **queue)  # type: ignore[arg-type]
    if profile.leading:
        ahead = leading_of(_rows(jobs, done), profile.recipes[0], profile.leading)
        seeds |= dict.fromkeys(ahead, profile.leading_seeds)
        jobs = _runs(profile, chosen, seeds, place, record, offer)
        done = work(jobs, place / "queue", **queue)  # type: ignore[arg-type]
    about = {
        **asdict(profile), "weights": weights_digest(profile.model), "against": profile.recipes[0],
        "by_rule": all(COLUMNS.get(column.name) == column for column in profile.columns),
        "command": command_of(profile),
    }  # fmt: skip
    result = {**profile_result(about, _rows(jobs, done), chosen, found), "versions": versions()}
    write_json(place / "arena.json", result)
    return result


def _rows(jobs: Sequence[Job], done: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{**job.about, **done[job.address]} for job in jobs]


def command_of(profile: Profile) -> str:
    """Return the command line that plays a profile again."""
    rates = ",".join(f"{rate:g}" for rate in profile.rates)
    columns = ",".join(column.name for column in profile.columns)
    line = (
        f"ferrule arena --recipes {','.join(profile.recipes)} --columns {columns} --rates {rates} "
        f"--first-seed {profile.first_seed} --seeds {profile.seeds} --budget {profile.budget}"
    )
    names = ("leading", "leading_seeds", "model", "eval_tasks", "num_generations_eval", "device")
    changed = [name for name in names if getattr(profile, name) != getattr(Profile, name)]
    return " ".join([line, *(f"--{name.replace('_', '-')} {getattr(profile, name)}" for name in changed)])
