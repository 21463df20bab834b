"""What the commands that train share: flags on model and run, the policy, and several processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from ferrule.cli.model_options import (
    chat_flags,
    chat_options,
    computing_flags,
    computing_options,
    fitting,
    load_policy,
)
from ferrule.cli.options import Command, runs
from ferrule.train.settings import Settings

__all__ = ["CHOSEN_RATE", "kept_flags", "model_flags", "pool_of", "run_flags", "trained_policy"]

_LORA = ("lora_r", "lora_alpha", "lora_dropout", "target_modules")
_KEPT = (
    "model", "use_peft", *_LORA, "device", "dtype", "bf16", "load_in_4bit", "codec", "tool_role", "renderer", "date",
    "trust_remote_code",
)  # fmt: skip
CHOSEN_RATE = "3e-4 below 30M parameters, 1e-5 below 1B, 1e-6 above; ten times that for adapters"
"""The learning rate where none is given, in words (``ferrule.train.suited.learning_rate_for``)."""


def model_flags(command: Command) -> Command:
    """Add what says which weights train, how they are computed and how conversations are laid out."""
    for option in (
        chat_flags,
        click.option(
            "--codec",
            default=None,
            help="How calls are written: NAME or NAME:STYLE [default: hermes, or the model's own].",
        ),
        computing_flags,
        click.option(
            "--target-modules",
            "--lora-target-modules",
            "target_modules",
            default=None,
            help="Layers that get adapters: all-linear, or ends of names such as q_proj,v_proj [default: all-linear].",
        ),
        click.option("--lora-dropout", default=None, type=float, help="Dropout before the adapters [default: 0]."),
        click.option("--lora-alpha", default=None, type=float, help="Scale of the adapters [default: twice the rank]."),
        click.option("--lora-r", default=None, type=click.IntRange(1), help="Rank of the adapters [default: 16]."),
        click.option("--use-peft", is_flag=True, help="Train LoRA adapters instead of all weights."),
        click.option(
            "--model", default="pocket", show_default=True, help="pocket, smollm2-135m, a folder, or a hub name."
        ),
    ):
        command = option(command)
    return command


def run_flags(default: str) -> Callable[[Command], Command]:
    """Return a decorator that adds what every run has: settings file, folder, ``--resume``, ``--overwrite``, health."""

    def decorate(command: Command) -> Command:
        for option in (
            click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
            click.option(
                "--rollbacks",
                default=0,
                show_default=True,
                help="How often a warning takes the run back to an earlier checkpoint; the next one ends it.",
            ),
            click.option("--stop-on-warning", is_flag=True, help="End the run at the first health warning."),
            click.option("--overwrite", is_flag=True, help="Replace a run of the same name."),
            click.option("--resume", is_flag=True, help="Go on from the last checkpoint of the run."),
            runs(default),
            click.option(
                "--settings",
                "settings_file",
                type=click.Path(path_type=Path),
                help="JSON file of settings; flags win over it.",
            ),
        ):
            command = option(command)
        return command

    return decorate


def pool_of(device: str | None = None) -> Any:
    """Return an accelerator when several processes were launched together, else None; each has a device of its own."""
    import os

    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return None
    if device not in (None, "auto", "cpu", "cuda"):
        raise click.UsageError(f"--device {device}: several processes take a GPU each; give auto, cuda or cpu")
    import torch
    from accelerate import Accelerator

    return Accelerator(cpu=device == "cpu" or not torch.cuda.is_available())


def trained_policy(chosen: Mapping[str, Any], folder: Path, pool: Any, settings: Mapping[str, Any]) -> Any:
    """Return the policy that the flags of ``model_flags`` name, with adapters where they are asked for.

    A model that was saved as adapters goes on with these. A run that goes on keeps the date that its prompts hold
    (``folder`` is that of the run). ``settings`` are those given of the run.
    """
    lora = _lora(chosen)
    options = {**chat_options(chosen), **computing_options(chosen), **_dated(chosen, folder)}
    if pool is not None:
        options["device"] = str(pool.device)
    again = bool(settings.get("gradient_checkpointing"))
    lora_r = lora.get("lora_r", 16) if chosen["use_peft"] else 0
    options |= fitting(chosen["model"], options, lora_r=lora_r, gradient_checkpointing=again)
    policy = load_policy(chosen["model"], weights=True, **options)
    if policy.has_adapter and lora:
        raise click.UsageError(
            f"{_flags(lora)} would do nothing: {chosen['model']} has adapters, which go on training; for others merge "
            f"them first: ferrule models merge {chosen['model']}"
        )
    if chosen["use_peft"] and not policy.has_adapter:
        policy.add_adapter(seed=settings.get("seed", Settings.seed), **lora)
    if chosen["load_in_4bit"] and not policy.has_adapter:
        raise click.UsageError("weights in 4 bits do not train; give --use-peft as well")
    return policy


def _lora(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the flags say of fresh adapters, as options of ``add_adapter``."""
    lora = {name: chosen[name] for name in _LORA if name in chosen}
    if lora and not chosen["use_peft"]:
        raise click.UsageError(f"{_flags(lora)} would do nothing without --use-peft")
    if "target_modules" in lora:
        lora["target_modules"] = [name.strip() for name in lora["target_modules"].split(",") if name.strip()]
    return lora


def _dated(chosen: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Return the date that the prompts of a run that goes on hold, as an option of ``load``."""
    from ferrule.train.folder import prompt_date

    date = prompt_date(folder) if chosen["resume"] else ""
    if date and chosen.get("date") not in (None, date):
        raise click.UsageError(f"--date {chosen['date']}: the prompts of this run are dated {date}; leave it out")
    return {"date": date} if date else {}


def _flags(names: Iterable[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


def kept_flags(chosen: Mapping[str, Any]) -> dict[str, str]:
    """Return what the flags of ``model_flags`` say, as it stands in the settings of a run."""
    return {name: str(chosen[name]) for name in _KEPT if chosen.get(name)}
