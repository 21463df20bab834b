"""What is refused before the first step: pieces that do not fit together, and settings that would do nothing."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any

from ferrule.core.arrays import Signals, nearest
from ferrule.core.recipe import Method, Part, Recipe, Roles, Stage
from ferrule.policies.heads import key_of
from ferrule.train.settings import Settings, varied

_OF_A_STEP = ("num_iterations", "num_mini_batches", "mini_batch_size", "max_log_ratio")

TASKS = 8
"""Least tasks of a step where its size is left open: with fewer, one odd task moves all weights."""

__all__ = ["check", "groups_per_step", "parts_of", "recipes_of", "sized", "steps_of"]


def parts_of(method: Method | Part) -> tuple[Part, ...]:
    """Return the parts of one round of a method."""
    return method.stages if isinstance(method, Method) else (method,)


def steps_of(method: Method | Part, settings: Settings) -> int:
    """Return the most steps that a method takes, over all its parts and rounds."""
    rounds = method.rounds if isinstance(method, Method) else 1
    return rounds * sum(varied(settings, part.settings).max_steps for part in parts_of(method))


def check(method: Method | Part, settings: Settings, *, evaluating: bool = False, processes: int = 1) -> int:
    """Refuse pieces and settings that do not fit together (``ValueError``), whatever part of a method they are of.

    Return the number of groups that a step of the first part plays, 0 where it is a ``Stage``. A size that the settings
    leave open is that of ``sized``.
    """
    settings, parts = sized(method, settings, processes), parts_of(method)
    for place, part in enumerate(parts):
        try:
            _check_part(part, varied(settings, part.settings), evaluating, processes)
        except ValueError as error:
            if len(parts) == 1:
                raise
            raise ValueError(f"part {place} of the method ({type(part).__name__}): {error}") from error
    first = parts[0]
    return 0 if isinstance(first, Stage) else groups_per_step(first, varied(settings, first.settings), processes)


def sized(method: Method | Part, settings: Settings, processes: int = 1) -> Settings:
    """Return ``settings`` with ``gradient_accumulation_steps`` chosen where it is None.

    It is the least with which a step of every part that plays episodes holds whole groups, of at least 8 tasks, on so
    many processes, at the ``per_device_train_batch_size`` that is given or usual. It is 1 for stages alone.
    """
    if settings.gradient_accumulation_steps is not None:
        return settings
    whole, least = 1, 1
    for part in parts_of(method):
        if isinstance(part, Stage) or "gradient_accumulation_steps" in part.settings:
            continue
        rows = part.settings.get("per_device_train_batch_size", settings.per_device_train_batch_size)
        rows = max(1, rows) * processes  # what is out of range is refused with the part's name, by check
        samples = recipes_of(part)[0].num_generations
        whole = math.lcm(whole, samples // math.gcd(samples, rows))
        least = max(least, math.ceil(TASKS * samples / rows))
    return replace(settings, gradient_accumulation_steps=math.ceil(least / whole) * whole)


def groups_per_step(part: Recipe | Roles, settings: Settings, processes: int = 1) -> int:
    """Return the number of groups that one step plays; raises ``ValueError`` where samples leave a remainder."""
    total, samples = settings.samples(processes), recipes_of(part)[0].num_generations
    if total % samples:
        raise ValueError(
            f"{total} samples per step (per_device_train_batch_size * gradient_accumulation_steps * processes) "
            f"cannot be cut into groups of num_generations={samples}; choose a multiple"
        )
    return total // samples


def recipes_of(part: Part) -> tuple[Recipe, ...]:
    """Return the recipes that play episodes in a part of a method; the first says how large a step is."""
    if isinstance(part, Roles):
        return tuple(part.recipes.values())
    return (part,) if isinstance(part, Recipe) else ()


def _check_part(part: Part, settings: Settings, evaluating: bool, processes: int) -> None:
    if not isinstance(part, Stage):
        groups_per_step(part, settings, processes)
    if settings.sample_ahead and not isinstance(part, Recipe):
        raise ValueError("sample_ahead would do nothing: only a Recipe samples ahead; set it in Recipe.settings")
    if settings.sample_ahead and (processes > 1 or settings.fsdp):
        raise ValueError("sample_ahead works with one process; set it to 0, or train with one")
    if settings.eval_steps and not evaluating:
        raise ValueError("eval_steps would do nothing: this run has no evaluation tasks")
    if settings.fsdp and processes < 2:
        raise ValueError(
            "fsdp would do nothing: this run has one process; start several, "
            "for example: torchrun --nproc-per-node 2 -m ferrule train --fsdp"
        )
    if isinstance(part, Stage):
        _check_stage(part)
    elif isinstance(part, Roles):
        _check_roles(part)
    else:
        _check_pieces(part)


def _check_roles(roles: Roles) -> None:
    first = recipes_of(roles)[0]
    for name, recipe in roles.recipes.items():
        try:
            _check_pieces(recipe)
        except ValueError as error:
            raise ValueError(f"role {name!r}: {error}") from error
        if any(getattr(recipe, field) != getattr(first, field) for field in _OF_A_STEP):
            raise ValueError(f"role {name!r} has other epochs or minibatches than the first; steps are shared")
        if recipe.refill or recipe.oversample > 1 or recipe.retries:
            raise ValueError(
                f"role {name!r} sets refill, oversample or retries, which do nothing here: groups are played once"
            )


def _check_stage(stage: Stage) -> None:
    """Refuse an objective that reads what a stage does not have, and a reference that it does not read."""
    known = ["logp_NT", "entropy_NT", "turn_NT", "chosen_N", "pair_N", *(_OF_REFERENCE if stage.reference else ())]
    known += [key_of(head) for head in stage.heads]
    read = _read("objective", stage.objective, known, kind="Stage")
    if stage.reference and not read & {*_OF_REFERENCE}:
        raise ValueError("Stage.reference would do nothing: the objective reads no ref_NT")
    for head in stage.heads:
        if key_of(head) not in read:
            key = key_of(head)
            raise ValueError(f"Stage.heads names {head.name!r}, which would do nothing: the objective reads no {key}")


def _read(piece: str, function: Callable[..., Any], given: Sequence[str], *, kind: str = "Recipe") -> set[str]:
    """Return the names that a piece reads; refuse one that is not given."""
    read: set[str] = set()
    bound = set(function.keywords) if isinstance(function, partial) else set()
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or parameter.name in bound:
            continue
        read.add(parameter.name)
        if parameter.default is parameter.empty and parameter.name not in given:
            cure = f"; set {kind}.reference" if parameter.name in _OF_REFERENCE else ""
            cure = f"; set {kind}.critic" if parameter.name in _OF_CRITIC and kind == "Recipe" else cure
            raise ValueError(
                f"the {piece} reads {parameter.name!r}, which this {kind.lower()} does not provide{cure}; "
                f"{nearest(parameter.name, given)}"
            )
    return read


_SCORES = ("logp_NT", "entropy_NT", "old_NT", "adv_NT", "turn_NT")
_OF_REFERENCE = ("ref_NT",)
_OF_CRITIC = ("value_NT", "old_value_NT", "target_NT")


def _check_pieces(recipe: Recipe) -> None:
    """Refuse pieces that read what nobody provides, and a reference or critic that nobody reads."""
    read: set[str] = set()
    present = [f.name for f in fields(Signals) if f.name not in ("adv_NT", *_OF_REFERENCE, *_OF_CRITIC)]
    pieces: list[tuple[str, Callable[..., Any], Sequence[str]]] = [
        ("objective", recipe.objective, (*_SCORES, *recipe.beside)),
        ("credit", recipe.credit, (*present, "signals")),
    ]
    if recipe.mask is not None:
        pieces.append(("mask", recipe.mask, (*present, "signals")))
    pieces += [(f"rule for {name}", rule, (*present, "signals", "adv_NT")) for name, rule in recipe.beside.items()]
    for piece, function, known in pieces:
        given = [*known, *(_OF_REFERENCE if recipe.reference else ()), *(_OF_CRITIC if recipe.critic else ())]
        read |= _read(piece, function, given)
    for name in recipe.beside:
        if name in (*_SCORES, *_OF_REFERENCE, *_OF_CRITIC):
            raise ValueError(f"Recipe.beside names {name!r}, which objectives get in any case; choose another name")
        if name not in read:
            raise ValueError(f"Recipe.beside[{name!r}] would do nothing: the objective does not read it")
    if recipe.reference and not read & {*_OF_REFERENCE, "signals"}:
        raise ValueError("Recipe.reference would do nothing: neither objective nor credit reads ref_NT")
    if recipe.critic is not None and "target_NT" not in read:
        raise ValueError("Recipe.critic would do nothing: the objective reads no target_NT")
