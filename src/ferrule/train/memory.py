"""Handing memory back to the operating system."""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Callable
from typing import Any

__all__ = ["hand_back"]

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
