"""What ``ferrule sft`` and ``ferrule prefer`` share: rows to learn from, rows and tasks held out, and the run."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from ferrule.cli.options import Command, emit, flags, interruptible, make_world, run_folder, tools_option
from ferrule.cli.training import kept_flags, model_flags, pool_of, run_flags, trained_policy
from ferrule.train.settings import Settings, read_settings

__all__ = ["Lessons", "carry_out", "learning_flags"]

_IDLE = ("levels", "split", "sample_ahead")
"""Settings of runs that play episodes."""
_SETTINGS = tuple(each.name for each in fields(Settings) if each.name not in _IDLE)
_BESIDE = ("num_train_epochs", "max_length")


@dataclass(frozen=True)
class Lessons:
    """What a command makes of rows: their formats, records of a record, rows of a row, and the stage that learns.

    ``least_rate`` is that of ``ferrule.train.suited.learning_rate_for``; ``about`` goes to the settings of the run.
    """

    command: str
    formats: tuple[str, ...]
    stage: Callable[[Sequence[Any]], Any]
    records: Callable[[Any], Sequence[Any]] = lambda record: (record,)
    row: Callable[[Any], Any] = lambda row: row
    least_rate: float = 0.0
    about: Mapping[str, Any] = field(default_factory=dict)


def learning_flags(default: str, rate: str, *meanings: str) -> Callable[[Command], Command]:
    """Return a decorator with the flags of model, data and run; ``meanings`` are those of columns that can be named."""
    several = (
        ("--max-length", click.IntRange(2), "Longest row in tokens; more is cut off [default: the model's context]."),
        ("--num-train-epochs", float, "How often every row is learned, where --max-steps is not given [default: 3]."),
        ("--eval-rows", click.IntRange(0), "Held-out rows to measure the loss on, at most [default: 100]."),
        ("--eval-tasks", int, "Held-out tasks of --world to measure before and after [default: 50]."),
    )

    def decorate(command: Command) -> Command:
        chosen = {
            "learning_rate": rate,
            "max_steps": "what --num-train-epochs take",
            "gradient_accumulation_steps": "1",
        }
        command = flags(Settings, only=_SETTINGS, chosen=chosen)(command)
        command = run_flags(default)(command)
        command = click.option(
            "--world", "worlds", multiple=True, help="World to measure the model in, before and after; may repeat."
        )(command)
        for name, kind, note in reversed(several):
            command = click.option(name, type=kind, default=None, help=note)(command)
        command = tools_option("Rows without tools of their own are laid out with these.")(command)
        for meaning in reversed(meanings):
            note = f"Column of the {meaning} [default: by name]."
            command = click.option(f"--{meaning}-field", default=None, help=note)(command)
        command = click.option(
            "--dataset",
            type=click.Path(path_type=Path),
            help="Rows to learn from: a JSONL, JSON, CSV or parquet file (also .gz), a folder, or a data set of the "
            "hub (owner/name, owner/name:config).",
        )(command)
        return model_flags(command)

    return decorate


def carry_out(given: Mapping[str, Any], lessons: Lessons) -> None:
    """Learn from rows as the flags say, and print the result."""
    from ferrule.evaluate.run import execute, table

    if given["dataset"] is None:
        raise click.UsageError("--dataset is missing: a file, a folder or a data set of the hub to learn from")
    chosen = {name: value for name, value in given.items() if value is not None}
    known = (*_SETTINGS, *_BESIDE)
    filed = read_settings(chosen["settings_file"], known) if "settings_file" in chosen else {}
    chosen |= {name: value for name, value in filed.items() if name not in chosen}
    pool, folder = pool_of(given["device"]), run_folder(given["name"], given["output_dir"], lessons.command)
    with interruptible(folder) as check_interrupted:
        plan = _plan(chosen, lessons, pool, folder)
        result = execute(plan, resume=given["resume"], overwrite=given["overwrite"], pool=pool)
        if result:
            emit(result, given["as_json"], lambda: table(result["evaluations"]))
            check_interrupted(result["summary"])


def _plan(chosen: Mapping[str, Any], lessons: Lessons, pool: Any, folder: Path) -> Any:
    from ferrule.agents.react import ToolLoop
    from ferrule.evaluate.run import Plan
    from ferrule.train.held_out import held_out

    data = _data(chosen, lessons)
    policy = trained_policy(chosen, folder, pool, chosen)
    train = _laid_out(chosen, lessons, data.train, policy, "rows")
    if not train:
        raise click.UsageError(f"no row of {chosen['dataset']} leaves anything to learn, for the reasons above")
    held = _laid_out(chosen, lessons, data.held_out, policy, "held-out rows")
    stage = lessons.stage(train)
    settings = _settings(chosen, lessons, stage, policy, len(train), 1 if pool is None else pool.num_processes)
    world, tasks = _tasks(chosen)
    measure = partial(held_out, stage=stage, items=held, size=settings.per_device_train_batch_size)
    line = _line(train, held, settings, policy, bool(chosen["worlds"]), stage.reference)
    if pool is None or pool.is_main_process:
        click.echo(line, err=True)
    return Plan(
        folder=folder,
        policy=policy,
        world=world,
        method=stage,
        settings=settings,
        eval_tasks=tuple(tasks),
        agent=ToolLoop(),
        measure=measure if held else None,
        stop_on_warning=chosen["stop_on_warning"],
        rollbacks=chosen["rollbacks"],
        about={
            "command": f"ferrule {lessons.command}",
            "dataset": str(chosen["dataset"]),
            **kept_flags(chosen),
            **{name: str(chosen[name]) for name in ("tools", *_BESIDE) if chosen.get(name)},
            "plan": line,
            **lessons.about,
            "rows": len(train),
            "eval_rows": len(held),
            "worlds": list(chosen["worlds"]),
            "eval_tasks": len(tasks),
        },
    )


def _data(chosen: Mapping[str, Any], lessons: Lessons) -> Any:
    """Read the data set, and say which of its columns are not used."""
    from ferrule.data.sets import read_records
    from ferrule.tools.sources import tool_source

    named = {name.removesuffix("_field"): value for name, value in chosen.items() if name.endswith("_field")}
    tools = tool_source(chosen["tools"]).offer() if "tools" in chosen else ()
    most = chosen.get("eval_rows", 100)
    data = read_records(chosen["dataset"], lessons.formats, tools=tools, fields=named, held_out=most)
    rows = [*data.train, *data.held_out]
    notes = [*data.notes]
    if unlisted := sum(map(_unlisted, rows)):
        told = "so the model learns calls of tools that its prompt does not name; a column tools or --tools lists them"
        notes.append(f"{unlisted} of {len(rows)} rows call tools and list none, {told}")
    for note in notes:
        click.echo(f"{chosen['dataset']}: {note}", err=True)
    return data


def _unlisted(record: Any) -> bool:
    """Say whether messages of a record call tools although none is on offer."""
    from ferrule.core.records import Message

    parts = [getattr(record, name, ()) for name in ("messages", "prompt", "completion", "chosen")]
    said = [message for part in parts if not isinstance(part, str) for message in part]
    return not getattr(record, "tools", ()) and any(isinstance(one, Message) and one.calls for one in said)


def _laid_out(chosen: Mapping[str, Any], lessons: Lessons, items: Sequence[Any], policy: Any, what: str) -> list[Any]:
    """Return records as rows or pairs of ids that fit, and say which were cut or left out."""
    from ferrule.data.layout import laid_out, shortened

    config = policy.model.config.get_text_config()
    most = chosen.get("max_length", getattr(config, "max_position_embeddings", None)) or sys.maxsize
    each = [part for item in items for part in lessons.records(item)]
    whole = [lessons.row(laid_out(part, policy.renderer, policy.encode)) for part in each]
    fitting = [shortened(item, most) for item in whole]
    kept = [item for item in fitting if item is not None]
    for note in _notes(whole, fitting, most, labelled="labelled" in lessons.formats):
        click.echo(f"{what}: {note}", err=True)
    return kept


def _notes(whole: Sequence[Any], fitting: Sequence[Any], most: int, *, labelled: bool) -> list[str]:
    """Say which rows teach nothing or lose their end, and which pairs or labels prefer nothing."""
    from ferrule.data.formats import Pair
    from ferrule.data.layout import shortened

    kept, notes = [item for item in fitting if item is not None], list[str]()
    idle = sum(shortened(item, sys.maxsize) is None for item in whole)
    left_out = len(whole) - len(kept) - idle
    cut = sum(after is not None and after != before for before, after in zip(whole, fitting, strict=True))
    if idle:
        notes.append(f"{idle} of {len(whole)} left out: no reply in them is to be learned (weight 0, or empty)")
    if cut or left_out:
        notes.append(
            f"of {len(whole)}, {cut} are cut to {most} tokens and {left_out} left out, whose first {most} tokens hold "
            "nothing to learn"
        )
    if same := sum(isinstance(item, Pair) and item.chosen.ids == item.rejected.ids for item in kept):
        notes.append(f"{same} of {len(kept)} pairs prefer an answer to itself, which says nothing")
    if labelled and len(kept) > 1 and len({item.label for item in kept}) == 1:
        notes.append(f"all {len(kept)} answers are labelled {'good' if kept[0].label else 'bad'}")
    return notes


def _settings(
    chosen: Mapping[str, Any], lessons: Lessons, stage: Any, policy: Any, count: int, processes: int
) -> Settings:
    """Return the settings of the run: the rate that suits, and as many steps as the epochs take."""
    from ferrule.train.suited import learning_rate_for, suited

    if "num_train_epochs" in chosen and "max_steps" in chosen:
        raise click.UsageError("give --max-steps or --num-train-epochs, not both")
    epochs = float(chosen.get("num_train_epochs", 3.0))
    if not 0 < epochs < math.inf:
        raise click.UsageError(f"--num-train-epochs is {epochs:g}; it must be above 0")
    given = {name: chosen[name] for name in _SETTINGS if name in chosen}
    given.setdefault("learning_rate", learning_rate_for(policy, least=lessons.least_rate))
    settings = suited(policy, stage, Settings(**given), processes=processes)
    if "max_steps" in chosen:
        return settings
    return replace(settings, max_steps=max(1, math.ceil(count * epochs / settings.samples(processes))))


def _tasks(chosen: Mapping[str, Any]) -> tuple[Any, Sequence[Any]]:
    """Return the world to measure in and its held-out tasks; None and none without ``--world``."""
    from ferrule.worlds.named import generated

    if not chosen["worlds"]:
        if "eval_tasks" in chosen:
            raise click.UsageError("--eval-tasks would do nothing without --world")
        return None, ()
    brings = all(name in generated() or ":" in name for name in chosen["worlds"])
    world = make_world(chosen["worlds"], tools=None if brings else chosen.get("tools"))
    return world, world.tasks("test", chosen.get("eval_tasks", 50), seed=1234)


def _line(
    train: Sequence[Any], held: Sequence[Any], settings: Settings, policy: Any, plays: bool, reference: bool
) -> str:
    """Say what is learned, in how many steps, and how it is computed."""
    from ferrule.cli.plan_line import training_line
    from ferrule.data.formats import Pair

    rows = [row for item in train for row in ((item.chosen, item.rejected) if isinstance(item, Pair) else (item,))]
    learned = sum(turn >= 0 for row in rows for turn in row.turn)
    what = (
        f"{len(train)} {'pairs' if isinstance(train[0], Pair) else 'rows'} ({len(held)} more held out), "
        f"{learned} of {sum(len(row.ids) for row in rows)} tokens learned, {settings.max_steps} steps, rate "
        f"{settings.learning_rate:g}"
    )
    longest = max(len(row.ids) for row in rows)
    return training_line(policy, settings, what=what, plays=plays, reference=reference, longest=longest)
