"""Settings of a training run and the learning-rate schedule."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ferrule.core.arrays import nearest

__all__ = ["SCHEDULES", "Settings", "rate", "read_settings", "varied"]

SCHEDULES = ("constant", "linear", "cosine")


@dataclass(frozen=True)
class Settings:
    """Settings of a training run; names mean what they mean in Hugging Face's trainers.

    One step uses ``per_device_train_batch_size * gradient_accumulation_steps`` samples per process, in groups of the
    recipe's size. ``learning_rate`` and ``gradient_accumulation_steps`` of None leave the choice to
    ``ferrule.train.suited``, which ``train`` asks: a rate that suits the model, and as many batches as at least 8 tasks
    a step take. ``eval_steps`` and ``save_steps`` of 0 switch evaluation in between and checkpoints off; the last
    ``save_total_limit`` checkpoints are kept, each about three times the size of the weights that train.
    ``max_minutes`` ends the run before the step that would pass it (None: never), ``max_sampled_tokens`` after the step
    with which so many tokens were generated, dropped and discarded ones included; for rows that come from elsewhere,
    tokens that were learned from count. ``levels`` are those to train on. In a method of several parts ``max_steps``
    holds for each of them.
    ``sample_ahead`` is how many steps old the weights that sampled a batch may be: 0, or 1 to sample the next batch
    while the present one is learned from (on a second copy of the weights), with importance weights.
    ``fsdp`` cuts weights, gradients and optimiser state over the processes of the run. ``gradient_checkpointing``
    computes activations again in the backward pass instead of keeping them.
    """

    max_steps: int = 100
    learning_rate: float | None = None
    per_device_train_batch_size: int = 8
    gradient_accumulation_steps: int | None = None
    warmup_steps: int = 0
    lr_scheduler_type: str = "constant"
    weight_decay: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    max_grad_norm: float = 1.0
    eval_steps: int = 0
    save_steps: int = 20
    save_total_limit: int = 2
    seed: int = 0
    max_minutes: float | None = None
    max_sampled_tokens: int | None = None
    levels: tuple[int, ...] = (1, 2, 3, 4, 5)
    split: str = "train"
    report_to: tuple[str, ...] = ()
    fsdp: bool = False
    gradient_checkpointing: bool = False
    sample_ahead: int = 0

    def __post_init__(self) -> None:
        """Refuse values that no run could use, naming the field and what is valid."""
        ones = ("max_steps", "per_device_train_batch_size", "gradient_accumulation_steps", "save_total_limit")
        least = dict.fromkeys(ones, 1)
        for name in (f.name for f in fields(self)):
            value = getattr(self, name)
            if isinstance(value, (int, float)) and value < least.get(name, 0):
                raise ValueError(f"{name} is {value}; the least is {least.get(name, 0)}")
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{name} is {value}; it must be a finite number")
        for name in ("adam_beta1", "adam_beta2"):
            if getattr(self, name) >= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie below 1")
        if self.sample_ahead > 1:
            raise ValueError(f"sample_ahead is {self.sample_ahead}; valid: 0, 1")
        if self.lr_scheduler_type not in SCHEDULES:
            raise ValueError(
                f"lr_scheduler_type is {self.lr_scheduler_type!r}; {nearest(self.lr_scheduler_type, SCHEDULES)}"
            )

    def samples(self, processes: int = 1) -> int:
        """Samples of one step over all processes; raises ``ValueError`` where their number is left open."""
        if self.gradient_accumulation_steps is None:
            raise ValueError("gradient_accumulation_steps is left open; give it, or call ferrule.train.suited.suited")
        return self.per_device_train_batch_size * self.gradient_accumulation_steps * processes


_OF_THE_RUN = ("fsdp", "gradient_checkpointing", "max_minutes", "report_to", "save_total_limit")


def varied(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """Return the settings of a part of a method: those of the run with the part's ``changes``.

    Unknown names, and settings that hold for a whole run only, are refused (``ValueError``).
    """
    known = [f.name for f in fields(Settings) if f.name not in _OF_THE_RUN]
    for name in changes:
        if name in _OF_THE_RUN:
            raise ValueError(f"{name!r} holds for a whole run; set it in the settings of the run, not of a part")
        if name not in known:
            raise ValueError(f"unknown setting {name!r}; {nearest(name, known)}")
    return replace(settings, **changes)


def rate(settings: Settings, step: int) -> float:
    """Return the learning rate of a step (0-based): linear warm-up, then the schedule down to zero.

    Raises ``ValueError`` where the rate is left open.
    """
    if settings.learning_rate is None:
        raise ValueError("learning_rate is left open; give it, or call ferrule.train.suited.suited")
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    left = 1 - (step - settings.warmup_steps) / max(settings.max_steps - settings.warmup_steps, 1)
    if settings.lr_scheduler_type == "linear":
        return settings.learning_rate * left
    if settings.lr_scheduler_type == "cosine":
        return settings.learning_rate * 0.5 * (1 - math.cos(left * math.pi))
    return settings.learning_rate


def read_settings(path: str | Path, known: Sequence[str]) -> dict[str, Any]:
    """Read a JSON file of settings; lists become tuples.

    Raises ``ValueError`` for a file that cannot be read, does not hold one object, or has a field outside ``known``.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path} must hold one JSON object")
    for name in data:
        if name not in known:
            raise ValueError(f"{path}: unknown field {name!r}; {nearest(name, known)}")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
