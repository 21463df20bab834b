"""The floating-point type in which a machine multiplies matrices fastest."""

from __future__ import annotations

import time
from functools import cache

import torch

__all__ = ["fast_dtype"]

SIDE = 1024
"""Side of the matrices; with smaller ones the start of threads decides, not the arithmetic."""


@cache
def fast_dtype(device: str = "cpu") -> torch.dtype:
    """Measure a matrix product in bf16 and fp32 and return the faster type; bf16 wins with AMX and on GPUs."""

    types = torch.float32, torch.bfloat16
    matrices = [torch.randn(SIDE, SIDE, device=device).to(dtype) for dtype in types]
    best, began = [float("inf")] * 2, time.perf_counter()
    # In turn, so that what else the machine does meets both alike; the first round only warms up.
    for turn in range(9):
        for place, a in enumerate(matrices):
            start = time.perf_counter()
            (a @ a).sum().item()
            if turn:
                best[place] = min(best[place], time.perf_counter() - start)
        if turn and time.perf_counter() - began > 0.2:  # a type that is emulated takes seconds
            break
    return torch.bfloat16 if best[1] < 0.7 * best[0] else torch.float32
