"""Write a copying circuit into fresh weights: two heads that look back and one that copies what followed before.

Copying (find the last place where these two tokens stood, and say what followed) takes small transformers most of
their training to discover. Here it is put into the first two layers before training starts, which then refines it:

* the embedding holds a constant, a random code per token (slot A), and three empty slots B, C and D;
* two heads of layer 0 attend one and two positions back (query and key come from the constant alone, turned by the
  rotary angle of one or two steps) and write the codes of those tokens into B and C;
* a head of layer 1 matches its own A and B against B and C, so it attends to what followed the same two tokens, and
  writes that token's code into D;
* the output layer reads D.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ferrule.policies.pocket.net import Net

__all__ = ["wire"]

BACK = 6.0
"""Score, per rotary pair, by which a look-back head prefers its distance."""
MATCH = 14.0
"""Score of an exact match in the copying head, half of it for each of the two tokens."""
SLOW = 0.004
"""Largest angle per position of the rotary pairs that match: they hardly turn over a prompt's length."""
OUT = 0.8
"""Size of the codes in the output layer."""
QUIET = 0.3
"""Factor of what every other head and the layers in between write at the start, so that it does not drown the codes."""


def wire(net: Net, *, slot: int = 48, seed: int = 0) -> None:
    """Set the weights in place; ``slot`` is the width of a code.

    Raises ``ValueError`` where ``4 * slot`` is not below the model's width, or ``slot`` above a head's, and for models
    of less than two layers or heads.
    """
    shape = net.shape
    width, size = shape.hidden_size, shape.hidden_size // shape.num_attention_heads
    if 4 * slot >= width or slot > size:
        raise ValueError(f"slot is {slot}; 4 * slot must be below the width {width} and slot at most a head's {size}")
    if min(shape.num_hidden_layers, shape.num_attention_heads) < 2:
        raise ValueError("copying takes two layers of two heads at least")
    generator = torch.Generator().manual_seed(seed)
    half = size // 2
    angles = [shape.rope_theta ** (-i / half) for i in range(half)]
    slots = [slice(1 + i * slot, 1 + (i + 1) * slot) for i in range(4)]
    code = torch.randn(shape.vocab_size, slot, generator=generator)
    code = code / code.norm(dim=1, keepdim=True)
    layers: Any = net.model.layers
    with torch.no_grad():
        table, head = net.model.embed_tokens.weight, net.lm_head.weight
        table.zero_()
        free = table[:, 1 + 4 * slot :]
        free.copy_(0.05 * torch.randn(free.shape, generator=generator))
        table[:, 0] = 1.0
        table[:, slots[0]] = code
        head.copy_(0.02 * torch.randn(head.shape, generator=generator))
        head[:, slots[3]] = OUT * code
        for index, layer in enumerate(layers):
            layer.mlp.down_proj.weight *= QUIET
            layer.self_attn.o_proj.weight[:, size * max(0, 2 - index) :] *= QUIET
        # The root mean square of an embedding is sqrt(2 / width): a constant 1 and a code of length 1.
        for back in (1, 2):
            _look_back(layers[0].self_attn, back, angles, size, slots, math.sqrt(width / 2))
        _copy(layers[1].self_attn, angles, size, slots, math.sqrt(width / 4), generator)


def _quiet(attention: Any, first: int, size: int) -> None:
    """Turn the random start of one head down, so that what is written into it stands out."""
    for part in (attention.q_proj, attention.k_proj, attention.v_proj):
        part.weight[first : first + size] *= 0.1


def _look_back(attention: Any, back: int, angles: list[float], size: int, slots: list[slice], norm: float) -> None:
    """Make head ``back - 1`` attend ``back`` positions back and write the code there into slot ``back``."""
    first, half = (back - 1) * size, size // 2
    _quiet(attention, first, size)
    gain = math.sqrt(BACK * math.sqrt(size)) / norm
    for i in range(min(8, half)):
        attention.q_proj.weight[first + i, 0] = gain
        attention.k_proj.weight[first + i, 0] = gain * math.cos(back * angles[i])
        attention.k_proj.weight[first + i + half, 0] = gain * math.sin(back * angles[i])
    for j in range(slots[0].stop - slots[0].start):
        attention.v_proj.weight[first + j, slots[0].start + j] = 1 / norm
        attention.o_proj.weight[slots[back].start + j, first + j] = 1.0


def _copy(
    attention: Any, angles: list[float], size: int, slots: list[slice], norm: float, generator: torch.Generator
) -> None:
    """Make head 0 match slots A and B of the query against B and C of the keys, and write A of what it finds into D."""
    _quiet(attention, 0, size)
    half, slot = size // 2, slots[0].stop - slots[0].start
    slow = [i for i in range(half) if angles[i] <= SLOW]
    dims = [*slow, *(i + half for i in slow)]
    for part in (0, 1):
        used = dims[part::2]
        basis: Tensor = torch.linalg.qr(torch.randn(slot, slot, generator=generator))[0][: len(used)]
        gain = math.sqrt(MATCH * math.sqrt(size) / (norm * norm * len(basis) / slot))
        for row, dim in zip(basis, used, strict=False):
            attention.q_proj.weight[dim, slots[part]] = gain * row
            attention.k_proj.weight[dim, slots[part + 1]] = gain * row
    for j in range(slot):
        attention.v_proj.weight[j, slots[0].start + j] = 2 / norm
        attention.o_proj.weight[slots[3].start + j, j] = 1.0
