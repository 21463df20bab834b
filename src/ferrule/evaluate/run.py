"""A whole run from start to report: settings, evaluation before, training, evaluation after, weights, HTML page."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.table import Column, Table

from ferrule.core.flows import Agent, Policy, World
from ferrule.core.recipe import Method, Part
from ferrule.core.records import Task
from ferrule.evaluate.metrics import shown
from ferrule.rollout.drive import drive
from ferrule.rollout.record import Episode
from ferrule.train.check import check, parts_of, recipes_of, steps_of
from ferrule.train.folder import begin, report, to_resume
from ferrule.train.logs import write_json
from ferrule.train.loop import train
from ferrule.train.monitor import Health
from ferrule.train.policy import Trains
from ferrule.train.rollback import check_rollbacks
from ferrule.train.settings import Settings
from ferrule.train.suited import suited

__all__ = ["Plan", "execute", "table"]


@dataclass(frozen=True)
class Plan:
    """All that one run needs. ``about`` is written to ``settings.json`` beside the training settings.

    ``agent`` is what evaluations play; None takes that of the method's first recipe. ``world`` may be None for stages
    alone that are not evaluated on tasks. ``measure(policy)`` gives numbers on held-out rows, which stand beside the
    evaluations on tasks.
    """

    folder: Path
    policy: Trains
    world: World | None
    method: Method | Part
    settings: Settings
    eval_tasks: tuple[Task, ...] = ()
    eval_temperature: float = 1.0
    without_tools: bool = True
    stop_on_warning: bool = False
    rollbacks: int = 0
    play: Callable[..., list[Episode]] = drive
    agent: Agent | None = None
    measure: Callable[[Any], Mapping[str, float]] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse evaluations that nobody could play."""
        agents = [recipe.agent for part in parts_of(self.method) for recipe in recipes_of(part)]
        if self.eval_tasks and self.agent is None and not agents:
            raise ValueError("the method has no recipe and so no agent to evaluate with; set Plan.agent")
        if self.eval_tasks and self.world is None:
            raise ValueError("eval_tasks are played in a world; set Plan.world")
        if self.agent is None and agents:
            object.__setattr__(self, "agent", agents[0])

    @property
    def evaluates(self) -> bool:
        """Whether anything is measured before and after."""
        return bool(self.eval_tasks) or self.measure is not None


def _evaluate(plan: Plan, phase: str, show: Any) -> dict[str, Any]:
    """Measure the policy on held-out rows, with tools and, on the same tasks, without; episodes are kept."""
    from ferrule.evaluate.evaluate import evaluate
    from ferrule.rollout.record import append

    arms = {"with tools": plan.eval_tasks} if plan.eval_tasks else {}
    if plan.without_tools and arms:
        arms["without tools"] = tuple(replace(task, tools=()) for task in plan.eval_tasks)
    summary: dict[str, Any] = {"arms": {}, "temperature": plan.eval_temperature}
    if plan.measure is not None:
        summary["rows"] = dict(plan.measure(plan.policy))
        show(f"{phase}, held-out rows: " + ", ".join(f"{name} {value:.4g}" for name, value in summary["rows"].items()))
    for name, tasks in arms.items():
        evaluation = evaluate(
            cast(Agent, plan.agent),
            plan.policy,
            cast(World, plan.world),
            tasks,
            seed=plan.settings.seed + 1,
            temperature=plan.eval_temperature,
        )
        summary["arms"][name] = evaluation.as_dict()
        extras = [{"phase": f"{phase}, {name}", "scores": [{"value": v}]} for v in evaluation.values]
        append(plan.folder / "evaluation.jsonl", evaluation.episodes, extras)
        show(f"{phase}, {name}: success {evaluation.success:.1%}")
    return summary


def execute(
    plan: Plan, *, resume: bool = False, overwrite: bool = False, quiet: bool = False, pool: Any = None
) -> dict[str, Any]:
    """Carry the plan out and return its result: evaluations before and after, the summary, and where things lie.

    A run that is interrupted (``summary["stopped_by"]``) is not measured again: its checkpoint, weights and report lie
    in the folder, and ``resume`` goes on with it.
    """
    from ferrule.train.display import Display

    console = Console(stderr=True, quiet=quiet or (pool is not None and not pool.is_main_process))
    main = pool is None or pool.is_main_process
    # Before anything is measured, written or overwritten: a run that cannot start must leave no trace.
    processes = 1 if pool is None else pool.num_processes
    check(plan.method, plan.settings, evaluating=plan.evaluates, processes=processes)
    health = Health(stop=plan.stop_on_warning, rollbacks=plan.rollbacks)
    check_rollbacks(health, plan.method, plan.settings, plan.folder)
    if resume:
        to_resume(plan.folder)
    plan = replace(plan, settings=suited(plan.policy, plan.method, plan.settings, processes=processes))
    if main:
        begin(plan.folder, plan.method, plan.settings, plan.about, resume=resume, overwrite=overwrite)

    def show(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    evaluations = _before(plan, resume, show) if main else {}
    with Display(steps_of(plan.method, plan.settings), title=plan.folder.name, console=console) as display:
        summary = train(
            plan.method, plan.world, plan.policy, plan.settings, plan.folder, show=display.show, resume=resume,
            pool=pool, health=health, play=plan.play,
            evaluate=_between(plan) if plan.evaluates else None, about=plan.about,
        )  # fmt: skip
    if not main:
        return {}
    page = plan.folder / "report.html"
    if plan.evaluates and summary["stopped_by"] != "interrupted":
        evaluations["after"] = _evaluate(plan, "after", show)
        write_json(plan.folder / "evaluations.json", evaluations)
        report(plan.folder)
    show(f"report: {page}" if page.exists() else 'no report: it needs pip install "ferrule[view]"')
    written = str(page) if page.exists() else None
    return {"folder": str(plan.folder), "summary": summary, "evaluations": evaluations, "report": written}


def _before(plan: Plan, resume: bool, show: Any) -> dict[str, Any]:
    """Return the evaluation before training: measured, or that of the run that is resumed."""
    path = plan.folder / "evaluations.json"
    if resume and path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if "before" in kept:
            return {"before": kept["before"]}
    if not plan.evaluates:
        return {}
    (plan.folder / "evaluation.jsonl").unlink(missing_ok=True)  # of a start that was given up while it was measured
    evaluations = {"before": _evaluate(plan, "before", show)}
    write_json(path, evaluations)
    return evaluations


def _between(plan: Plan) -> Any:
    """Return the evaluation that runs every ``eval_steps``: held-out rows, and tasks with tools only."""

    def measure(policy: Policy, step: int) -> dict[str, float]:
        from ferrule.evaluate.evaluate import evaluate

        numbers = dict(plan.measure(policy)) if plan.measure is not None else {}
        if not plan.eval_tasks:
            return numbers
        evaluation = evaluate(
            cast(Agent, plan.agent), policy, cast(World, plan.world), plan.eval_tasks, seed=plan.settings.seed + 1,
            temperature=plan.eval_temperature,
        )  # fmt: skip
        return {"success": evaluation.success, **numbers}

    return measure


def table(evaluations: Mapping[str, Any], console: Console | None = None) -> None:
    """Print success before and after with 95 % intervals, and the numbers on held-out rows."""
    phases = [phase for phase in ("before", "after") if phase in evaluations]
    console = console or Console(file=sys.stdout)
    for title, first, key, form in (
        ("held-out tasks, share solved [95 % interval]", "arm", "arms", shown),
        ("held-out rows", "number", "rows", "{:.4g}".format),
    ):
        names = list(evaluations[phases[0]].get(key, ())) if phases else []
        if not names:
            continue
        grid = Table(first, *(Column(phase, justify="right") for phase in phases), title=title)
        for name in names:
            grid.add_row(name, *(form(evaluations[phase][key][name]) for phase in phases))
        console.print(grid)
