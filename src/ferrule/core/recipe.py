"""A recipe is a value: which agent, reward, credit rule, objective and reduction make one training method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ferrule.core.arrays import nearest
from ferrule.core.records import Agent, Reward, Score, Trajectory

__all__ = ["Keep", "Recipe", "vary"]

Keep = Callable[[Sequence[Trajectory], Sequence[Score]], bool]


@dataclass(frozen=True)
class Recipe:
    """The pieces of one method; a paper is written as the difference it makes to another recipe.

    ``agent`` plays one episode; ``reward`` scores a whole group; ``credit`` names the signals it reads and returns
    ``adv_NT`` (or ``adv_CNT`` for one loss per channel); ``objective`` maps log-probs to ``loss_NT``; ``reduce`` maps
    that to a scalar with the token count of the whole batch. ``keep`` decides whether a group trains (None keeps all)
    and ``refill`` how many further draws may replace dropped groups; every draw takes ``oversample`` times what is
    missing, and what is kept beyond the batch waits for the next step. ``mask`` says which of the model's own tokens
    carry loss (a boolean per row or token, from the signals it names; None: all). ``beside`` maps names that end in
    ``_NT`` to rules (a number per row or token, from the signals they name, ``adv_NT`` included): arrays that the
    objective may read by name. ``samples`` is the group size and ``temperature`` the sampling temperature. ``epochs``
    and ``minibatches`` split one batch into optimiser steps.
    ``reference`` asks for log-probs of the starting weights (``ref_NT``). ``critic`` is the rule that turns signals
    into value targets (``target_NT``); it asks for a value head, whose values are ``value_NT``.
    """

    agent: Agent
    reward: Reward
    credit: Callable[..., Any]
    objective: Callable[..., Any]
    reduce: Callable[..., Any]
    keep: Keep | None = None
    refill: int = 0
    oversample: float = 1.0
    mask: Callable[..., Any] | None = None
    beside: Mapping[str, Callable[..., Any]] = field(default_factory=dict, hash=False)
    samples: int = 8
    temperature: float = 1.0
    epochs: int = 1
    minibatches: int = 1
    reference: bool = False
    critic: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        """Refuse values that no run could use, naming the field."""
        for name, least in (("samples", 1), ("epochs", 1), ("minibatches", 1), ("refill", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"Recipe.{name} is {getattr(self, name)}; the least is {least}")
        if self.temperature <= 0:
            raise ValueError(f"Recipe.temperature is {self.temperature}; training samples need a value above 0")
        if self.refill and self.keep is None:
            raise ValueError("Recipe.refill would do nothing without Recipe.keep")
        for name in self.beside:
            if not name.endswith("_NT"):
                raise ValueError(f"Recipe.beside names {name!r}; the name of an array per token ends in '_NT'")
        if self.oversample < 1:
            raise ValueError(f"Recipe.oversample is {self.oversample}; the least is 1")
        if self.oversample > 1 and not self.refill:
            raise ValueError("Recipe.oversample would do nothing without Recipe.refill")


def vary(recipe: Recipe, **changes: Any) -> Recipe:
    """Return ``replace(recipe, **changes)``; an unknown field is refused with the nearest valid name."""
    known = [f.name for f in fields(Recipe)]
    for name in changes:
        if name not in known:
            raise TypeError(f"Recipe has no field {name!r}; {nearest(name, known)}")
    return replace(recipe, **changes)
