"""``ferrule sft``: supervised fine-tuning on a data set of conversations, completions or texts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from ferrule.cli.learning import Lessons, carry_out, learning_flags
from ferrule.cli.options import guarded

__all__ = ["command"]

_LEAST_RATE = 1e-5
_RATE = "3e-4 below 30M parameters, 1e-5 above; ten times that for adapters"


@click.command("sft")
@learning_flags("sft", _RATE, "messages", "prompt", "completion", "text", "tools")
@click.option(
    "--loss-on",
    default="model",
    show_default=True,
    type=click.Choice(["model", "all"]),
    help="Learn what the model writes (replies, calls, completions), or every token of a row.",
)
@guarded
def command(**given: Any) -> None:
    """Fine-tune a model on conversations, prompts with completions, or texts.

    \b
    ferrule sft --dataset talks.jsonl
    ferrule sft --model Qwen/Qwen3-0.6B --use-peft --dataset owner/name --num-train-epochs 1
    torchrun --nproc-per-node 2 -m ferrule sft --dataset talks.jsonl --fsdp
    """
    from ferrule.data.layout import whole
    from ferrule.train.stage import sft

    formats, about = ("messages", "completion", "text"), {"loss_on": given["loss_on"]}
    lessons = Lessons("sft", formats, sft, least_rate=_LEAST_RATE, about=about)
    carry_out(given, replace(lessons, row=whole) if given["loss_on"] == "all" else lessons)
