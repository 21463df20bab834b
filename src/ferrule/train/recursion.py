"""Training a recursive network by supervision at every step of a carried state.

Source: "ARC Prize 2025: Technical Report" (16), its tiny recursive models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ferrule.data.canvas import PAD, CanvasRows, rows_of
from ferrule.objectives.stablemax import log_stablemax
from ferrule.policies.recursion import carried, detached, halt_loss, halts
from ferrule.policies.recursive import Recursive, Shape
from ferrule.policies.solver import GridSolver
from ferrule.worlds.puzzles import Puzzle

__all__ = ["Supervision", "fit_puzzles", "loss_of", "supervise"]


@dataclass(frozen=True)
class Supervision:
    """How a recursive network learns; the defaults are the published ones.

    A row is supervised at up to ``most`` steps of its state and then replaced, earlier where the network says that it
    is right; with a chance of ``explore`` it must first take 2 to ``most`` steps. ``id_rate`` is the rate of the task
    tokens, which have an optimiser of their own. ``average`` is the share that the moving average of the weights keeps
    at an update. ``weight`` is that of the loss of halting. With ``pads`` the cells beyond the grid count as well.
    Raises ``ValueError`` for fewer than one step.
    """

    batch: int = 768
    learning_rate: float = 1e-4
    warm_up: int = 2000
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    id_rate: float = 1e-2
    most: int = 16
    explore: float = 0.1
    average: float = 0.999
    weight: float = 0.5
    pads: bool = False

    def __post_init__(self) -> None:
        """Refuse training without a step."""
        if self.most < 1:
            raise ValueError(f"Supervision.most is {self.most}; the least is 1 step")


def loss_of(
    logits_NTV: Tensor, halt_N: Tensor, output_NT: Tensor, *, weight: float = 0.5, pads: bool = False
) -> Tensor:
    """Return the loss: stablemax cross-entropy, a mean per row, plus ``weight`` times that of the halting logit.

    The halting logit should tell whether the whole answer is right. Cells of ``PAD`` count only with ``pads``.
    """
    counted_NT = torch.ones_like(output_NT, dtype=torch.bool) if pads else output_NT != PAD
    logp_NT = log_stablemax(logits_NTV).gather(-1, output_NT[..., None]).squeeze(-1)
    answer_N = -torch.where(counted_NT, logp_NT, 0.0).sum(1) / counted_NT.sum(1).clamp(min=1)
    right_N = ((logits_NTV.argmax(-1) == output_NT) | ~counted_NT).all(1)
    return (answer_N + weight * halt_loss(halt_N, right_N)).mean()


def supervise(
    model: Recursive, rows: CanvasRows, settings: Supervision, *, updates: int, seed: int = 0,
    watch: Callable[[float], None] | None = None,
) -> Recursive:  # fmt: skip
    """Train ``model`` for ``updates`` updates, a step of the carried state each, and return the average of its weights.

    Rows are drawn at random by ``seed``; where a row halts, another takes its place with a fresh state. ``watch(loss)``
    is called after every update. Settings of torch's random state do not matter.
    """
    rng = np.random.default_rng(seed)
    inputs, outputs, tasks = (torch.from_numpy(part) for part in (rows.input_NT, rows.output_NT, rows.task_N))
    dense = [weights for name, weights in model.named_parameters() if not name.startswith("tasks.")]
    optimiser = torch.optim.AdamW(
        dense, lr=settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay
    )
    of_ids = torch.optim.SparseAdam(list(model.tasks.parameters()), lr=settings.id_rate)
    kept = get_ema_multi_avg_fn(settings.average)  # type: ignore[no-untyped-call]
    average: Any = AveragedModel(model, multi_avg_fn=kept)
    size = min(settings.batch, len(inputs))
    fresh = model.begin(size)
    state, steps_N = fresh, torch.zeros(size, dtype=torch.long)
    halted_N, row_N = torch.ones(size, dtype=torch.bool), torch.zeros(size, dtype=torch.long)
    for update in range(updates):
        state = carried(detached(state), fresh, halted_N)
        row_N = torch.where(halted_N, torch.from_numpy(rng.integers(0, len(inputs), size)), row_N)
        steps_N = torch.where(halted_N, 0, steps_N) + 1
        for group in (*optimiser.param_groups, *of_ids.param_groups):
            full = settings.id_rate if group in of_ids.param_groups else settings.learning_rate
            group["lr"] = full * min(1.0, (update + 1) / max(settings.warm_up, 1))
        state, logits_NTV, halt_N = model(state, inputs[row_N], tasks[row_N])
        loss = loss_of(logits_NTV, halt_N, outputs[row_N], weight=settings.weight, pads=settings.pads)
        optimiser.zero_grad()
        of_ids.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        of_ids.step()  # type: ignore[no-untyped-call]
        average.update_parameters(model)
        halted_N = halts(halt_N.detach(), steps_N, most=settings.most, least_N=_least(rng, size, settings))
        if watch is not None:
            watch(float(loss.detach()))
    averaged: Recursive = average.module
    return averaged.eval()


def _least(rng: np.random.Generator, size: int, settings: Supervision) -> Tensor:
    """Return the fewest steps of every row at this update: 1, or with the chance of exploration 2 to ``most``."""
    explores_N, drawn_N = rng.random(size) < settings.explore, rng.integers(2, max(settings.most, 2) + 1, size)
    return torch.from_numpy(np.where(explores_N, drawn_N, 1))


def fit_puzzles(
    puzzles: Sequence[Puzzle], *, side: int, updates: int, copies: int = 1000, shape: Shape | None = None,
    settings: Supervision | None = None, seed: int = 0,
) -> GridSolver:  # fmt: skip
    """Train a network on the demonstrations of puzzles under ``copies`` variants each, and return it as a policy.

    The puzzles are those that it will be asked about: their demonstrations are learned, their test outputs never read.
    ``side`` is that of the canvas; cells and ids of ``shape`` follow from it and from the variants.
    """
    rows, known = rows_of(puzzles, side, copies=copies, seed=seed)
    sized = replace(shape or Shape(), cells=side * side, ids=copies * len(puzzles))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Recursive(sized)
    learned = settings or Supervision()
    trained = supervise(model, rows, learned, updates=updates, seed=seed)
    of = {puzzle.train: variants for puzzle, variants in zip(puzzles, known, strict=True)}
    return GridSolver(trained, side, of, steps=learned.most)
