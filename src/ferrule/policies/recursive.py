"""A tiny recursive network over cells: two layers that refine an answer and a latent state again and again.

Source: "ARC Prize 2025: Technical Report" (16), its tiny recursive models.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ferrule.core.arrays import FloatArray, IntArray
from ferrule.policies.recursion import State, halt_head, recur

__all__ = ["SEVEN_MILLION", "Recursive", "Shape", "answers_of"]


@dataclass(frozen=True)
class Shape:
    """The size of a recursive network, and how often it recurs; the defaults are those for puzzles of 4 by 4 cells.

    ``cells`` are the positions of a row, ``symbols`` what may stand there, ``ids`` the tasks (with ``id_tokens``
    learned tokens each, in front of the cells). One step of supervision is ``cycles`` cycles, the last with gradient;
    a cycle changes the latent state ``inner`` times and then the answer once. Raises ``ValueError`` for a width that
    does not divide into heads of an even size.
    """

    cells: int = 16
    symbols: int = 12
    ids: int = 1
    id_tokens: int = 1
    width: int = 64
    heads: int = 4
    layers: int = 2
    expansion: float = 4.0
    cycles: int = 3
    inner: int = 6

    def __post_init__(self) -> None:
        """Refuse a width that heads cannot share."""
        if self.width % (2 * self.heads):
            raise ValueError(f"a width of {self.width} does not divide into {self.heads} heads of an even size")

    @property
    def between(self) -> int:
        """Width inside the gated layer: 2/3 of ``expansion`` widths, rounded up to a multiple of half a width."""
        half = self.width // 2
        return half * math.ceil(round(self.expansion * self.width * 2 / 3) / half)


SEVEN_MILLION = Shape(cells=900, id_tokens=16, width=512, heads=8, inner=4)
"""The published size, for canvases of 30 by 30 cells."""


class _Layer(nn.Module):
    """Attention of every cell to all, and a gated layer, each followed by a norm (after the sum)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.mixed = nn.Linear(shape.width, 3 * shape.width, bias=False)
        self.joined = nn.Linear(shape.width, shape.width, bias=False)
        self.opened = nn.Linear(shape.width, 2 * shape.between, bias=False)
        self.closed = nn.Linear(shape.between, shape.width, bias=False)

    def forward(self, hidden_NTD: Tensor, turning: tuple[Tensor, Tensor]) -> Tensor:
        rows, length, width = hidden_NTD.shape
        parts = self.mixed(hidden_NTD).view(rows, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(_turned(query, turning), _turned(key, turning), value)
        hidden_NTD = _normed(hidden_NTD + self.joined(attended.transpose(1, 2).reshape(rows, length, width)))
        gate, up = self.opened(hidden_NTD).chunk(2, -1)
        return _normed(hidden_NTD + self.closed(functional.silu(gate) * up))


def _normed(hidden: Tensor) -> Tensor:
    return functional.rms_norm(hidden, hidden.shape[-1:], eps=1e-5)


def _turned(heads: Tensor, turning: tuple[Tensor, Tensor]) -> Tensor:
    """Turn queries or keys by their position (rotary embedding)."""
    cos, sin = turning
    first, second = heads.chunk(2, -1)
    return heads * cos + torch.cat([-second, first], -1) * sin


def _turning(length: int, size: int) -> tuple[Tensor, Tensor]:
    angle = torch.arange(length)[:, None] * 10_000.0 ** (-torch.arange(0, size, 2) / size)
    doubled = torch.cat([angle, angle], -1)
    return doubled.cos(), doubled.sin()


class Recursive(nn.Module):
    """The network: ``begin`` gives the first state of rows, calling it takes one step of supervision.

    The states are the answer ``y`` and the latent ``z``, both of shape (N, id_tokens + cells, width); they begin with
    fixed random vectors. Weights depend on torch's seed.
    """

    cos: Tensor
    sin: Tensor
    first: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.symbols = nn.Embedding(shape.symbols, shape.width)
        nn.init.normal_(self.symbols.weight, std=1.0)
        self.tasks = nn.Embedding(shape.ids, shape.id_tokens * shape.width, sparse=True)
        nn.init.zeros_(self.tasks.weight)
        self.layers = nn.ModuleList(_Layer(shape) for _ in range(shape.layers))
        self.head = nn.Linear(shape.width, shape.symbols, bias=False)
        self.halt = halt_head(shape.width)
        cos, sin = _turning(shape.id_tokens + shape.cells, shape.width // shape.heads)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.register_buffer("first", torch.randn(2, shape.width))

    def begin(self, rows: int) -> State:
        """Return the state before the first step, the same for every row."""
        length = self.shape.id_tokens + self.shape.cells
        return tuple(start.expand(rows, length, -1) for start in self.first)

    def forward(self, state: State, symbol_NT: Tensor, task_N: Tensor) -> tuple[State, Tensor, Tensor]:
        """Take one step: return the state, the logits of every cell (N, T, symbols), and the logit to halt (N).

        ``symbol_NT`` are the inputs, of T = ``cells`` symbols, and ``task_N`` the ids of their tasks.
        """
        front = self.tasks(task_N).view(len(task_N), self.shape.id_tokens, self.shape.width)
        given = torch.cat([front, self.symbols(symbol_NT)], 1)

        def cycle(state: State) -> State:
            answer, latent = state
            for _ in range(self.shape.inner):
                latent = self._refined(latent + answer + given)
            return self._refined(answer + latent), latent

        answer, latent = recur(cycle, state, self.shape.cycles)
        logits_NTV = self.head(answer[:, self.shape.id_tokens :])
        return (answer, latent), logits_NTV, self.halt(answer[:, 0]).squeeze(-1)

    def _refined(self, hidden_NTD: Tensor) -> Tensor:
        for layer in self.layers:
            hidden_NTD = layer(hidden_NTD, (self.cos, self.sin))
        return hidden_NTD


@torch.no_grad()
def answers_of(
    model: Recursive, input_NT: IntArray, task_N: IntArray, *, steps: int = 16, batch: int = 512
) -> tuple[IntArray, FloatArray]:
    """Return the symbols (N, T) that the network answers after ``steps`` steps, and its chance to be right (N)."""
    symbols, chances = [], []
    for begin in range(0, len(input_NT), batch):
        part = torch.from_numpy(input_NT[begin : begin + batch])
        ids, state = torch.from_numpy(task_N[begin : begin + batch]), model.begin(len(part))
        for _ in range(steps):
            state, logits_NTV, halt_N = model(state, part, ids)
        symbols.append(logits_NTV.argmax(-1).numpy())
        chances.append(halt_N.sigmoid().numpy().astype(np.float64))
    return np.concatenate(symbols), np.concatenate(chances)
