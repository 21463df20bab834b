"""Heads: small linear layers beside a model that read its hidden states, as values that are saved and loaded with it.

A critic (``VALUE``), a scalar reward model (``REWARD``), a probe on some layer and a gate that decides per token are
all heads; they differ in where they read and whether their gradients reach the model. What a head says of a reply is
asked for with ``Ask(want=("head:NAME",))``. A gate at an inner layer says where a model could leave early; the engines
compute all layers all the same, so it saves nothing by itself.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ferrule.core.arrays import nearest

__all__ = [
    "REWARD", "VALUE", "HasHeads", "Head", "head_values", "key_of", "linear", "load_heads", "save_heads", "turn_values",
]  # fmt: skip

_PLACES = ("before", "token", "row")


@dataclass(frozen=True)
class Head:
    """What a linear head reads and says.

    ``at`` is ``before`` (one number per token, from the state the token was drawn from: the critic), ``token`` (from
    the state at the token itself) or ``row`` (one per row, from the state at the last token the model wrote).
    ``layer`` counts hidden states as transformers does: 0 is the embedding, -1 the last. ``through`` lets gradients
    reach the model; without it the head learns alone. All weights start at zero.
    """

    name: str
    at: Literal["before", "token", "row"] = "row"
    layer: int = -1
    through: bool = False

    def __post_init__(self) -> None:
        """Refuse names that are not identifiers, unknown places, and layers that ``before`` cannot read."""
        if not self.name.isidentifier():
            raise ValueError(f"Head.name is {self.name!r}; it must be an identifier, as objectives read {self.name}_N")
        if self.at not in _PLACES:
            raise ValueError(f"Head.at is {self.at!r}; {nearest(self.at, _PLACES)}")
        critic = self.at == "before"
        if critic != (self.name == "value") or (critic and (self.layer != -1 or self.through)):
            raise ValueError(
                "only the critic reads before the token, as Head('value', 'before'): the last layer, alone"
            )


VALUE = Head("value", "before")
"""The critic: how much reward is still to come, read before each token (``value_NT``)."""
REWARD = Head("reward", "row", through=True)
"""A reward model: one number for a whole row (``reward_N``); the model learns with it."""


@runtime_checkable
class HasHeads(Protocol):
    """A policy that can carry heads."""

    heads: nn.ModuleDict
    head_kinds: dict[str, Head]

    def add_head(self, head: Head) -> None:
        """Add a head; a second call does nothing."""
        ...

    def values(self, ids_NT: Any, turn_NT: Any) -> Any:
        """Return the critic's values of all tokens, (N, T) numpy."""
        ...

    def hidden(self, ids_BT: Tensor, *, layer: int = -1) -> Tensor:
        """Return the hidden states of a layer at every token of right-padded rows, (B, T, D)."""
        ...

    def logps(self, ids_BT: Tensor, turn_BT: Tensor) -> dict[str, Tensor]:
        """Return log-probs, and ``value_NT`` where there is a critic, with gradients."""
        ...


def key_of(head: Head) -> str:
    """Return the name under which objectives read what a head says: ``NAME_N`` per row, ``NAME_NT`` per token."""
    return f"{head.name}_N" if head.at == "row" else f"{head.name}_NT"


def linear(width: int, device: torch.device) -> nn.Linear:
    """Return a layer from hidden states to one number, zero at the start."""
    layer = nn.Linear(width, 1).to(device)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def head_values(policy: HasHeads, name: str, ids_BT: Tensor, turn_BT: Tensor) -> Tensor:
    """Return the values of a head on right-padded rows, with gradients.

    (B,) for a head per row, 0 for a row without tokens of the model; (B, T) per token, 0 off the model's tokens.
    """
    head, mine_BT = _head(policy, name), turn_BT >= 0
    if head.at == "before":
        return policy.logps(ids_BT, turn_BT)[key_of(head)]
    layer, hidden = policy.heads[name], _read_by(policy, head, ids_BT)
    if head.at == "token":
        said_BT: Tensor = layer(hidden).squeeze(-1)
        return torch.where(mine_BT, said_BT, torch.zeros_like(said_BT))
    last_B = _last(mine_BT)
    said_B: Tensor = layer(hidden[torch.arange(len(hidden)), last_B.clamp(min=0)]).squeeze(-1)
    return torch.where(last_B >= 0, said_B, torch.zeros_like(said_B))


def turn_values(policy: HasHeads, name: str, ids_BT: Tensor, turn_BT: Tensor) -> Tensor:
    """Return what a head per row says at the end of every turn, (B, K), with gradients; nan where a row lacks a turn.

    It is what the head says of the row that ends there, all of them in one pass. Raises ``ValueError`` for a head that
    is not one per row.
    """
    head = _head(policy, name)
    if head.at != "row":
        raise ValueError(f"the head {name!r} reads {head.at!r}; only one per 'row' says something of a turn as a whole")
    hidden, rows = _read_by(policy, head, ids_BT), torch.arange(len(ids_BT))
    last_BK = torch.stack([_last(turn_BT == k) for k in range(int(turn_BT.max()) + 1)], dim=1)
    said_BK: Tensor = policy.heads[name](hidden[rows[:, None], last_BK.clamp(min=0)]).squeeze(-1)
    return torch.where(last_BK >= 0, said_BK, torch.full_like(said_BK, torch.nan))


def _head(policy: HasHeads, name: str) -> Head:
    if name not in policy.head_kinds:
        raise ValueError(f"the policy has no head {name!r}; {nearest(name, list(policy.head_kinds))}")
    return policy.head_kinds[name]


def _read_by(policy: HasHeads, head: Head, ids_BT: Tensor) -> Tensor:
    """Return the hidden states that a head reads, with gradients if they reach the model through it."""
    hidden = policy.hidden(ids_BT, layer=head.layer)
    dtype = next(policy.heads[head.name].parameters()).dtype
    return (hidden if head.through else hidden.detach()).to(dtype)


def _last(mine_BT: Tensor) -> Tensor:
    """Return the place of the last token of every row that is marked, -1 without any."""
    places = torch.arange(mine_BT.shape[1], device=mine_BT.device)
    return torch.where(mine_BT, places, -1).amax(1)


def save_heads(policy: HasHeads, folder: Path) -> None:
    """Write the heads beside the model: what they are as JSON, their weights as safetensors; nothing without heads."""
    if policy.head_kinds:
        kinds = [asdict(head) for head in policy.head_kinds.values()]
        (folder / "heads.json").write_text(json.dumps(kinds, indent=1), encoding="utf-8")
        weights = {name: p.detach().contiguous() for name, p in policy.heads.named_parameters()}
        save_file(weights, folder / "heads.safetensors")


@torch.no_grad()
def load_heads(policy: HasHeads, folder: Path) -> None:
    """Add the heads that lie beside a model in a folder, with their weights; nothing in a folder without heads."""
    if not (folder / "heads.json").is_file():
        return
    for row in json.loads((folder / "heads.json").read_text(encoding="utf-8")):
        policy.add_head(Head(**row))
    weights = load_file(folder / "heads.safetensors")
    for name, parameter in policy.heads.named_parameters():
        if name in weights:
            parameter.copy_(weights[name])
