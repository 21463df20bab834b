"""Memory of a run: handing it back to the operating system, and computing activations again to save it."""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Callable, Iterator
from typing import Any

from ferrule.train.policy import Trains

__all__ = ["checkpointed", "hand_back", "refuse_checkpointing"]

_LARGE = 1 << 28  # bytes of parameters from which freed activations are worth the time (a tenth of a second)


@functools.cache
def _trim() -> Callable[[int], int] | None:
    with contextlib.suppress(OSError, AttributeError):
        malloc_trim = ctypes.CDLL(None).malloc_trim
        return lambda pad: int(malloc_trim(pad))
    return None


def hand_back(parameters: list[Any]) -> None:
    """Give freed host memory back where large parameters lie on the CPU.

    The C library keeps what a backward pass freed, in pieces too small for the optimiser's temporaries, which then come
    on top. Does nothing elsewhere, for small models, and with C libraries that cannot.
    """
    large = sum(p.numel() * p.element_size() for p in parameters if p.device.type == "cpu") >= _LARGE
    trim = _trim() if large else None
    if trim is not None:
        trim(0)


def refuse_checkpointing(policy: Trains) -> None:
    """Raise ``ValueError`` for a model whose layers cannot be computed again in the backward pass."""
    if not getattr(policy.model, "supports_gradient_checkpointing", False):
        raise ValueError(f"gradient_checkpointing: {type(policy.model).__name__} cannot compute its layers again")


@contextlib.contextmanager
def checkpointed(policy: Trains, wanted: bool) -> Iterator[None]:
    """Let the blocks of a model compute their activations again in the backward pass, for the time of a block.

    Source: "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174.
    """
    if not wanted:
        yield
        return
    _called(policy, "enable")({"use_reentrant": False})
    try:
        yield
    finally:
        _called(policy, "disable")()  # of sharded runs the model is another object by now


def _called(policy: Trains, verb: str) -> Callable[..., None]:
    """Return a method of the model by its name in this release of transformers, which renamed it."""
    now, before = f"activation_checkpointing_{verb}", f"gradient_checkpointing_{verb}"
    method: Callable[..., None] = getattr(policy.model, now if hasattr(policy.model, now) else before)
    return method
