"""What the commands that train share: flags on model and run, the policy, and several processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from ferrule.cli.options import Command, chat_flags, chat_options, load_policy, runs

__all__ = ["CHOSEN_RATE", "model_flags", "pool_of", "run_flags", "trained_policy"]

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
        click.option("--dtype", default="float32", show_default=True, help="float32, bfloat16 or auto (measured)."),
        click.option("--lora-r", default=None, type=int, help="Rank of the adapters [default: 16]."),
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


def pool_of() -> Any:
    """Return an accelerator when several processes were launched together, else None."""
    import os

    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return None
    import torch
    from accelerate import Accelerator

    return Accelerator(cpu=not torch.cuda.is_available())


def trained_policy(chosen: Mapping[str, Any], folder: Path, pool: Any, seed: int) -> Any:
    """Return the policy that the flags of ``model_flags`` name, with adapters where they are asked for.

    A run that goes on keeps the date that its prompts hold (``folder`` is that of the run).
    """
    from ferrule.train.folder import prompt_date

    if "lora_r" in chosen and not chosen["use_peft"]:
        raise click.UsageError("--lora-r would do nothing without --use-peft")
    options = chat_options(chosen)
    if chosen["resume"] and (date := prompt_date(folder)):
        options["date"] = date
    if pool is not None:
        options["device"] = str(pool.device)
    policy = load_policy(chosen["model"], weights=True, dtype=chosen["dtype"], **options)
    if chosen["use_peft"]:
        policy.add_adapter(lora_r=chosen.get("lora_r", 16), seed=seed)
    return policy
