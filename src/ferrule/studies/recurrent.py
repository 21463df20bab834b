"""A recurrent language model so small that a study trains a dozen of them in minutes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from ferrule.core.arrays import by_name
from ferrule.core.recipe import Recipe
from ferrule.data.formats import Row, pad
from ferrule.objectives.reduce import token_mean, totals
from ferrule.objectives.supervised import nll
from ferrule.train.sample import Group, credit

__all__ = ["Recurrent", "descend", "fit_rows", "one_thread", "parameters", "step_on_groups"]


class Recurrent(nn.Module):
    """Embeddings of 16 numbers, one layer of ``width`` gated units, and a linear head of ``outputs`` per token.

    With ``outputs`` tokens that may be written (the first ones of the ``vocabulary``) it is a language model; with 1 it
    gives values or scores.
    """

    def __init__(self, vocabulary: int, outputs: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, 16)
        self.core = nn.GRU(16, width, batch_first=True)
        self.head = nn.Linear(width, outputs)

    def forward(self, ids_NT: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the head's outputs after every token, and the state; ids below 0 count as 0."""
        hidden, state = self.core(self.embed(ids_NT.clamp(min=0)), state)
        return self.head(hidden), state

    def logps(self, ids_NT: Tensor, turn_NT: Tensor) -> Tensor:
        """Log-prob of every token the model wrote (nats), 0 elsewhere."""
        outputs, _ = self(ids_NT[:, :-1])
        written = ids_NT[:, 1:].clamp(0, outputs.shape[-1] - 1)[..., None]
        logp_NT = outputs.log_softmax(-1).gather(2, written).squeeze(2)
        return torch.where(turn_NT >= 0, _shifted(logp_NT), torch.zeros(()))

    def values(self, ids_NT: Tensor) -> Tensor:
        """First output just before every token, which it has not read; the first column is 0."""
        outputs, _ = self(ids_NT[:, :-1])
        return _shifted(outputs[..., 0])


def _shifted(value_NT: Tensor) -> Tensor:
    """Put a column of zeros in front, so that what is said after a token stands at the next one."""
    return torch.cat([torch.zeros(len(value_NT), 1), value_NT], 1)


def parameters(model: nn.Module) -> int:
    """Number of weights."""
    return sum(weights.numel() for weights in model.parameters())


def descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of a loss, whose norm is clipped at 1."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], 1.0)
    optimiser.step()


def fit_rows(
    model: Recurrent,
    rows: Sequence[Row],
    *,
    tokens: int,
    learning_rate: float,
    seed: int,
    watch: Callable[[float], None] | None = None,
) -> None:
    """Train on random batches of 64 rows until ``tokens`` of the model's own tokens were seen.

    ``watch(loss)`` is called after each step with the mean ``-log p`` of its tokens (nats).
    """
    rng, spent = np.random.default_rng(seed), 0
    optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate)
    while spent < tokens:
        batch = [rows[int(i)] for i in rng.integers(0, len(rows), 64)]
        ids_NT, turn_NT = (torch.from_numpy(array) for array in pad(batch))
        loss = token_mean(nll(model.logps(ids_NT, turn_NT), turn_NT), turn_NT, totals(turn_NT))
        descend(optimiser, loss)
        spent += int((turn_NT >= 0).sum())
        if watch is not None:
            watch(float(loss.detach()))


def step_on_groups(
    model: Recurrent, recipe: Recipe, groups: Sequence[Group], optimiser: torch.optim.Optimizer, *, step: int = 0
) -> None:
    """Assign the recipe's credit to groups and take one step on its loss; nothing happens without rows.

    The recipe may ask for no reference, critic or arrays beside.
    """
    batch = credit(recipe, groups, None, step=step)
    if not len(batch.signals.reward_N):
        return
    arrays = {"turn_NT": batch.signals.turn_NT, "old_NT": batch.signals.logp_NT, "adv_NT": batch.adv}
    known = {name: torch.from_numpy(array) for name, array in arrays.items()}
    known["logp_NT"] = model.logps(torch.from_numpy(batch.signals.ids_NT), known["turn_NT"])
    loss_NT = by_name(recipe.objective, known)
    descend(optimiser, recipe.reduce(loss_NT, known["turn_NT"], totals(known["turn_NT"])))


@contextmanager
def one_thread() -> Iterator[None]:
    """Run PyTorch on one thread and put its random state back afterwards: the numbers of an arm then repeat."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_num_threads(threads)
