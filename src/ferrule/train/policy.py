"""What a policy can do beyond answering asks, one protocol per power, and the refusal of policies that cannot."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ferrule.core.recipe import Part, Stage
from ferrule.policies.heads import VALUE, HasHeads, Head
from ferrule.train.check import recipes_of

__all__ = ["Copies", "GivesHidden", "HasHeads", "Refers", "Trains", "heads_of", "needs", "refuse"]


@runtime_checkable
class Trains(Protocol):
    """A policy with weights: it generates, scores ids with gradients, and can be saved."""

    model: Any

    def generate(self, asks: Any) -> Any:
        """Answer all asks."""
        ...

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        ...

    def parameters(self) -> list[torch.nn.Parameter]:
        """Return the parameters that train, those of heads included."""
        ...

    def logps(
        self, ids_BT: Tensor, turn_BT: Tensor, *, temperature: float = 1.0, model: Any = None
    ) -> dict[str, Tensor]:
        """Return ``logp_NT`` and ``entropy_NT`` (and what heads say) with gradients, (B, T)."""
        ...

    def scores(self, ids_NT: Any, turn_NT: Any, *, temperature: float = 1.0) -> Any:
        """Return log-probs under the present weights, (N, T) numpy."""
        ...

    def save(self, folder: Path) -> None:
        """Write everything that loading needs to a folder."""
        ...


@runtime_checkable
class Refers(Protocol):
    """A policy that remembers weights as a reference and scores ids under them."""

    def keep_reference(self, anew: bool = False) -> None:
        """Remember the present weights, unless some are remembered already and this is not ``anew``."""
        ...

    def reference_logps(self, ids_BT: Tensor, turn_BT: Tensor, *, temperature: float = 1.0) -> Tensor:
        """Return log-probs under the reference weights, (B, T)."""
        ...

    def references(self, ids_NT: Any, turn_NT: Any, *, temperature: float = 1.0) -> Any:
        """Return log-probs under the reference weights, (N, T) numpy."""
        ...


@runtime_checkable
class GivesHidden(Protocol):
    """A policy that shows its hidden states."""

    def hidden(self, ids_BT: Tensor, *, layer: int = -1) -> Tensor:
        """Return the hidden states of a layer at every token of right-padded rows, (B, T, D)."""
        ...


@runtime_checkable
class Copies(Trains, Protocol):
    """A policy that copies itself, to sample with older weights while it learns."""

    def frozen(self) -> Any:
        """Return a copy whose weights stay as they are."""
        ...

    def follow(self, other: Any) -> None:
        """Take over the weights of another policy of the same shape."""
        ...


_POWERS: dict[type, str] = {
    Trains: "train",
    Refers: "keep a reference",
    HasHeads: "carry heads",
    GivesHidden: "show hidden states",
    Copies: "copy itself for sample_ahead",
}


def heads_of(part: Part) -> tuple[Head, ...]:
    """Return the heads that a part of a method asks of a policy: those of a stage, the critic of a recipe."""
    if isinstance(part, Stage):
        return part.heads
    return (VALUE,) if any(recipe.critic is not None for recipe in recipes_of(part)) else ()


def needs(part: Part, *, ahead: bool = False) -> tuple[type, ...]:
    """Return the powers that a part of a method asks of a policy; ``ahead`` when it samples ahead of the update."""
    asked = {Trains: True, Refers: part.reference, HasHeads: bool(heads_of(part)), Copies: ahead}
    return tuple(power for power, wanted in asked.items() if wanted)


def refuse(policy: object, powers: Iterable[type]) -> None:
    """Raise ``TypeError`` when a policy lacks a power, naming the power and what is missing."""
    for power in powers:
        members = [name for name in (*vars(power), *vars(power).get("__annotations__", ())) if not name.startswith("_")]
        missing = sorted(name for name in members if not hasattr(policy, name))
        if missing:
            raise TypeError(
                f"this method needs a policy that can {_POWERS[power]}; {type(policy).__name__} lacks "
                f"{', '.join(missing)} (ferrule.policies.local.Local has all powers)"
            )
