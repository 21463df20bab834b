"""``ferrule prefer``: preference training on pairs, or on single answers that are labelled good or bad."""

from __future__ import annotations

import inspect
from dataclasses import replace
from functools import partial
from typing import Any

import click

from ferrule.cli.learning import Lessons, carry_out, learning_flags
from ferrule.cli.options import Command, guarded
from ferrule.cli.training import CHOSEN_RATE

__all__ = ["command"]

_METHODS = ("dpo", "ipo", "kto", "simpo", "orpo", "rpo")
_NUMBERS = {
    "beta": "How closely the model stays to the reference, or the weight of the preference [default: 0.1; simpo 2].",
    "label_smoothing": "Assumed share of pairs whose sides are swapped (dpo) [default: 0].",
    "gamma": "Margin by which the chosen answer should lead (simpo) [default: 0.5].",
    "alpha": "Weight of the likelihood of the chosen answer (rpo) [default: 1].",
}


def _numbers(command: Command) -> Command:
    for name, note in reversed(_NUMBERS.items()):
        command = click.option(f"--{name.replace('_', '-')}", type=float, default=None, help=note)(command)
    return command


@click.command("prefer")
@learning_flags("prefer", CHOSEN_RATE, "prompt", "chosen", "rejected", "completion", "label", "tools")
@click.option(
    "--method",
    default="dpo",
    show_default=True,
    type=click.Choice(_METHODS),
    help="How answers are compared; kto reads labelled answers, and pairs as one good and one bad answer.",
)
@_numbers
@guarded
def command(**given: Any) -> None:
    """Train a model to prefer the chosen answers of a data set to the rejected ones.

    \b
    ferrule prefer --dataset pairs.jsonl
    ferrule prefer --model Qwen/Qwen3-0.6B --use-peft --method simpo --dataset owner/name
    ferrule prefer --method kto --dataset labelled.jsonl
    """
    from ferrule.data.sets import unpaired
    from ferrule.train import stage

    method = given["method"]
    build = getattr(stage, method)
    takes = inspect.signature(build).parameters
    numbers = {name: given[name] for name in _NUMBERS if given[name] is not None}
    if idle := [f"--{name.replace('_', '-')}" for name in numbers if name not in takes]:
        raise click.UsageError(f"{', '.join(idle)} would do nothing with --method {method}")
    about = {"method": method, **{name: numbers.get(name, takes[name].default) for name in _NUMBERS if name in takes}}
    lessons = Lessons("prefer", ("preference",), partial(build, **numbers), about=about)
    if method == "kto":
        lessons = replace(lessons, formats=("labelled", "preference"), records=unpaired)
    carry_out(given, lessons)
