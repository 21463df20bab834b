"""The floor under a model's speed on this host: measured memory bandwidth and matrix products at its own sizes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from ferrule.speed.devices import Device
from ferrule.speed.plan import decode_seconds
from ferrule.speed.shapes import Shape

__all__ = ["device_of", "emulated", "linear_seconds", "rates", "rollout_seconds", "seconds"]

_STREAM = 256 << 20  # bytes that no cache holds


def seconds(work: Callable[[], object], *, device: str = "cpu", repeats: int = 5, least: float = 0.02) -> float:
    """Return the least seconds of one call over the repeats, as a floor wants; a repeat lasts ``least`` at least."""
    on_gpu = torch.device(device).type == "cuda"

    def once(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            work()
        if on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter() - start

    first = once(1)
    if first > 1.0:  # what takes that long has warmed up on the way
        return min(first, once(1))
    calls = max(1, int(least / max(once(1), 1e-9)))
    return min(once(calls) / calls for _ in range(repeats))


def emulated(dtype: torch.dtype, device: str = "cpu") -> bool:
    """Return whether products of a number format take more than twice as long as in fp32, as emulated ones do."""

    def product(kind: torch.dtype) -> float:
        a = torch.ones(256, 256, device=device, dtype=kind)
        return seconds(lambda: a @ a, device=device, repeats=3, least=0.0)

    return product(dtype) > 2 * product(torch.float32)


def rates(shape: Shape, *, dtype: torch.dtype, device: str = "cpu", quick: bool = False) -> dict[str, float]:
    """Return bytes and operations per second: ``read`` and ``copy`` of memory, ``flops`` of a large square product.

    ``read`` goes over as many bytes as the weights have (256 MiB at most), so that a model that stays in the cache is
    held against the cache.
    """
    width, most = torch.finfo(dtype).bits // 8, (8 << 20) if quick else _STREAM
    repeats = 2 if quick else 5
    stream = torch.zeros(min(most, max(shape.read * width, 1 << 16)) // 4, device=device)
    read = stream.numel() * 4 / seconds(lambda: stream.sum(), device=device, repeats=repeats)
    source = torch.zeros(most // 4, device=device)
    target = torch.zeros_like(source)
    copy = 2 * source.numel() * 4 / seconds(lambda: target.copy_(source), device=device, repeats=repeats)
    size = 256 if quick else 8192 if torch.device(device).type == "cuda" else 2048
    a = torch.randn(size, size, device=device).to(dtype)
    flops = 2 * size**3 / seconds(lambda: a @ a, device=device, repeats=repeats)
    return {"read": read, "copy": copy, "flops": flops}


def linear_seconds(
    shape: Shape, tokens: int, *, dtype: torch.dtype, device: str = "cpu", backward: bool = False, repeats: int = 3
) -> dict[str, float]:
    """Return the seconds that each kind of matrix of the model takes over all blocks, and ``head``.

    ``backward`` adds both products of the backward pass. Every block has weights of its own, as in the model; past
    512 MiB of them the rest is scaled up.
    """
    kinds = {name: (*sizes, shape.layers) for name, sizes in shape.linears().items()}
    times = {}
    for name, (inputs, outputs, count) in {**kinds, "head": (shape.hidden, shape.vocab, 1)}.items():
        width = torch.finfo(dtype).bits // 8
        kept = max(1, min(count, (512 << 20) // (inputs * outputs * width)))
        weights = [torch.randn(outputs, inputs, device=device).to(dtype) for _ in range(kept)]
        x = torch.randn(tokens, inputs, device=device).to(dtype)
        g = torch.randn(tokens, outputs, device=device).to(dtype) if backward else x

        def work(weights: list[torch.Tensor] = weights, x: torch.Tensor = x, g: torch.Tensor = g) -> None:
            for weight in weights:
                functional.linear(x, weight)
                if backward:
                    g @ weight
                    g.T @ x

        times[name] = seconds(work, device=device, repeats=repeats) * count / kept
    return times


def device_of(rates: dict[str, float], name: str, memory: float, dtype: torch.dtype) -> Device:
    """Return measured rates as a device of the planner, alone and without a host beside it."""
    far = float("inf")
    width = torch.finfo(dtype).bits // 8
    return Device(name, rates["flops"], rates["read"], memory, far, far, width)


def rollout_seconds(shape: Shape, device: Device, *, prompts: int, rows: int, prompt: int, new: int) -> dict[str, Any]:
    """Return the least seconds of ``prefill`` (with the first token) and ``decode`` (the others), and its ``bound``.

    ``rows`` samples of each of ``prompts`` prompts decode together; a prompt is computed, kept and read once.
    """
    fresh, total = prompts * prompt, prompts * rows
    work = shape.block_flops(fresh, prompt / 2) + shape.head_flops(prompts)
    prefill = max(work / device.flops, shape.read * device.width / device.bandwidth)
    steps = [decode_seconds(shape, device, total, prompt + i, fresh + total * i) for i in range(1, new)]
    free = Device(device.name, device.flops, float("inf"), 0.0, 0.0, 0.0, device.width)
    compute = decode_seconds(shape, free, total, prompt + new / 2, fresh + total * new / 2)
    middle = decode_seconds(shape, device, total, prompt + new / 2, fresh + total * new / 2)
    return {"prefill": prefill, "decode": sum(steps), "bound": "compute" if compute >= middle else "memory"}
