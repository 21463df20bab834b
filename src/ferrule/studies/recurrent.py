"""A recurrent language model so small that a study trains a dozen of them in minutes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["Recurrent", "descend", "one_thread", "parameters"]


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
