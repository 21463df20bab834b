"""One vocabulary: a setting that Hugging Face's libraries have a name for has that name in every flag and in Python."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import fields

import click
import pytest

import ferrule as fe
from ferrule.cli import main
from ferrule.core.recipe import Recipe
from ferrule.evaluate.arena import Arena
from ferrule.evaluate.demo import demo
from ferrule.objectives import preference
from ferrule.policies.local import Local
from ferrule.policies.pocket.build import Build
from ferrule.rollout.drive import drive
from ferrule.speed.plan import Setup, Workload
from ferrule.train.settings import Settings
from ferrule.train.update import update

OTHER_WORDS = {
    "max_steps": ("steps", "num_steps", "iterations"),
    "learning_rate": ("lr", "rate"),
    "warmup_steps": ("warmup",),
    "num_generations": ("samples", "group", "group_size"),
    "num_generations_eval": ("eval_samples",),
    "num_iterations": ("epochs", "passes"),
    "num_mini_batches": ("minibatches",),
    "label_smoothing": ("smoothing",),
    "max_completion_length": ("max_tokens", "max_new_tokens", "max_length"),
    "max_tool_calling_iterations": ("max_turns", "turns"),
    "use_peft": ("adapter", "lora"),
    "lora_r": ("rank", "lora"),
    "gradient_checkpointing": ("checkpointing",),
    "output_dir": ("out", "out_dir"),
    "vocab_size": ("vocabulary",),
    "hidden_size": ("hidden", "width"),
    "num_hidden_layers": ("layers", "depth"),
    "num_attention_heads": ("heads",),
    "intermediate_size": ("inner",),
    "eval_tasks": ("limit",),
}
"""The name of a setting, and words for it that nothing may use beside; ``eval_tasks`` is this project's own."""
_LENGTH = {"max_length"}
MEANT_OTHERWISE = {
    "plan": {"turns"}, "Workload": {"turns"}, "sft": _LENGTH, "prefer": _LENGTH, "forge": {"out"},
    "memory prune": {"limit"},
}  # fmt: skip
"""``plan`` calculates with the mean number of replies, which is not their limit; rows have a length, prompt included;
``forge`` writes one file, not a run's folder; a library has a limit of entries."""


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        yield " ".join((*path, name)), command


def settings() -> Iterator[tuple[str, set[str]]]:
    """Yield everything that takes settings, and the names it takes."""
    for name, command in commands(main):
        flags = {flag for p in command.params for flag in p.opts if flag.startswith("--")}
        yield name, {flag.removeprefix("--").replace("-", "_") for flag in flags}
    for kind in (Settings, Arena, Build, Setup, Workload, Recipe):
        yield kind.__name__, {field.name for field in fields(kind)}
    for function in (
        fe.grpo,
        fe.dpo,
        fe.run,
        fe.rollout,
        fe.evaluate,
        demo,
        drive,
        update,
        preference.dpo,
        Local.add_adapter,
    ):
        yield function.__name__, set(inspect.signature(function).parameters)


@pytest.mark.parametrize(("where", "names"), list(settings()), ids=[where for where, _ in settings()])
def test_a_setting_has_one_name(where: str, names: set[str]) -> None:
    meant = MEANT_OTHERWISE.get(where, set())
    taken = {word: name for name, words in OTHER_WORDS.items() for word in words}
    assert {word: taken[word] for word in names & set(taken) - meant} == {}


def test_the_names_are_in_use() -> None:
    """The table above speaks of settings that exist, else it would guard nothing."""
    assert set(OTHER_WORDS) <= set().union(*(names for _, names in settings()))
