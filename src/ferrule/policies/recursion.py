"""Recursion on a latent state with supervision on the way: the parts that recursive models share.

A state is carried from one supervised step to the next without its gradient; a head says when to stop. Sources: "ARC
Prize 2025: Technical Report" (16), its tiny recursive models; "LoopUS" (25) recurs with layers of a language model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["State", "carried", "detached", "halt_head", "halt_loss", "halts", "recur"]

State: TypeAlias = tuple[Tensor, ...]
"""Latent arrays whose first axis are the rows of a batch."""


def recur(advance: Callable[[State], State], state: State, times: int, *, traced: int = 1) -> State:
    """Advance a state ``times`` times, the last ``traced`` of them with gradient, and return it.

    Memory is that of ``traced`` times alone. Raises ``ValueError`` when there are fewer times than traced ones.
    """
    if not 0 <= traced <= times:
        raise ValueError(f"traced is {traced}; of {times} times 0 to {times} can be")
    with torch.no_grad():
        for _ in range(times - traced):
            state = advance(state)
    for _ in range(traced):
        state = advance(state)
    return state


def detached(state: State) -> State:
    """Return a state that gradients do not pass."""
    return tuple(part.detach() for part in state)


def carried(state: State, fresh: State, halted_N: Tensor) -> State:
    """Return the state of the next step: ``fresh`` in the rows that ``halted_N`` names (bool), ``state`` in others."""
    return tuple(
        torch.where(halted_N.reshape(-1, *[1] * (old.dim() - 1)), new, old)
        for old, new in zip(state, fresh, strict=True)
    )


def halt_head(width: int, *, bias: float = -5.0) -> nn.Linear:
    """Return a linear head of one logit that begins by never halting: weights 0, and ``bias``."""
    head = nn.Linear(width, 1)
    nn.init.zeros_(head.weight)
    nn.init.constant_(head.bias, bias)
    return head


def halts(logit_N: Tensor, steps_N: Tensor, *, most: int, least_N: Tensor | int = 1) -> Tensor:
    """Tell which rows stop after ``steps_N`` steps: with a logit above 0 after ``least_N``, and all after ``most``."""
    return ((logit_N > 0) & (steps_N >= least_N)) | (steps_N >= most)


def halt_loss(logit_N: Tensor, right_N: Tensor) -> Tensor:
    """Binary cross-entropy per row (nats) of the chance to be right; ``right_N`` is 0 to 1 and gets no gradient."""
    return functional.binary_cross_entropy_with_logits(logit_N, right_N.detach().to(logit_N), reduction="none")
