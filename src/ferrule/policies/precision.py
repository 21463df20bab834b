"""The floating-point type in which a machine multiplies matrices fastest."""

from __future__ import annotations

import time
from functools import cache

import torch

__all__ = ["fast_dtype"]


@cache
def fast_dtype(device: str = "cpu") -> torch.dtype:
    """Measure a matrix product in bf16 and fp32 and return the faster type; bf16 wins with AMX and on GPUs."""

    def seconds(dtype: torch.dtype) -> float:
        a = torch.randn(256, 256, device=device).to(dtype)
        a @ a
        start, best = time.perf_counter(), float("inf")
        for _ in range(20):
            began = time.perf_counter()
            (a @ a).sum().item()
            ended = time.perf_counter()
            best = min(best, ended - began)
            if ended - start > 0.2:  # a type that is emulated takes seconds
                break
        return best

    return torch.bfloat16 if seconds(torch.bfloat16) < 0.7 * seconds(torch.float32) else torch.float32
