"""Tokens per second of rollout and update for a model on this host, beside the roofline of the host."""

from __future__ import annotations

import contextlib
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ferrule.objectives.reduce import token_mean
from ferrule.objectives.surrogate import surrogate
from ferrule.policies.devices import memory_of
from ferrule.policies.engine.rows import Row
from ferrule.policies.local import Local
from ferrule.speed.devices import Device
from ferrule.speed.plan import Fractions, Setup, Workload
from ferrule.speed.plan import update as update_work
from ferrule.speed.roofline import device_of, emulated, linear_seconds, rates, rollout_seconds
from ferrule.speed.shapes import Shape, from_config
from ferrule.train.optimiser import optimiser_of
from ferrule.train.policy import Trains
from ferrule.train.settings import Settings
from ferrule.train.update import Sequences, update

__all__ = ["Bench", "bench", "made_up", "timed_rollout", "timed_update"]


@dataclass(frozen=True)
class Bench:
    """What to measure: ``rows`` as (prompts, samples of each), tokens of a ``prompt`` and ``new`` ones per row.

    The update is measured on the first of ``rows``. ``threads`` of 0 leaves torch's own number. ``quick`` takes small
    buffers and one repeat: it shows that all works, its figures mean little.
    """

    rows: tuple[tuple[int, int], ...] = ((1, 8), (2, 8), (8, 8))
    prompt: int = 300
    new: int = 64
    repeats: int = 5
    threads: int = 0
    quick: bool = False

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be measured."""
        if not self.rows or any(len(pair) != 2 or min(pair) < 1 for pair in self.rows):
            raise ValueError(f"rows is {self.rows}; give prompts x samples, for example 1x8,2x8")
        for name, least in (("prompt", 1), ("new", 2), ("repeats", 1), ("threads", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; the least is {least}")


def made_up(policy: Trains, prompts: int, length: int) -> list[tuple[int, ...]]:
    """Return that many different prompts of random ids, always the same ones."""
    size = policy.model.get_input_embeddings().weight.shape[0]
    drawn = np.random.Generator(np.random.Philox(key=0)).integers(0, size, (prompts, length))
    return [tuple(int(i) for i in row) for row in drawn]


@contextlib.contextmanager
def _inference(policy: Local) -> Iterator[None]:
    was = policy.model.training
    policy.model.eval()
    try:
        with torch.autocast(policy.device.type, dtype=torch.bfloat16, enabled=policy.autocast):
            yield
    finally:
        policy.model.train(was)


def _now(policy: Trains) -> float:
    """Return the clock once the device has done all it was given."""
    if policy.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def timed_rollout(policy: Local, prompts: Sequence[tuple[int, ...]], rows: int, new: int) -> dict[str, float]:
    """Sample ``rows`` times ``new`` tokens for each prompt and return ``seconds``, ``first`` and ``later``.

    ``first`` are the seconds until every row has a token, ``later`` the tokens sampled after that (0 with an engine
    that does all in one step). No token ends a row early; ``RuntimeError`` when a row has another number of tokens.
    """
    batch = [Row(given, new, 1.0, seed, ignore_end=True) for given in prompts for seed in range(rows)]
    engine = policy.engine
    engine.forget()  # the prompts of the run before
    times: dict[str, float] = {}
    with _inference(policy):
        start = _now(policy)
        engine.submit(batch)
        while engine.busy:
            engine.step()
            if not times and all(row.sampled for row in batch):
                times["first"] = _now(policy) - start
                times["later"] = float(sum(new - len(row.sampled) for row in batch))
        times["seconds"] = _now(policy) - start
    wrong = [len(row.sampled) for row in batch if len(row.sampled) != new]
    if wrong:
        raise RuntimeError(f"{len(wrong)} rows do not have {new} tokens; the first has {wrong[0]}")
    return times


def timed_update(policy: Trains, prompts: Sequence[tuple[int, ...]], rows: int, new: int, optimiser: Any) -> float:
    """Return the seconds of one clipped-surrogate step (log-probs, gradients, optimiser) on made-up rows."""
    rng = np.random.Generator(np.random.Philox(key=1))
    size = policy.model.get_input_embeddings().weight.shape[0]
    seqs = Sequences([], [], {"old_NT": [], "adv": []})
    for given in prompts:
        for _ in range(rows):
            seqs.ids.append(np.concatenate([np.asarray(given), rng.integers(0, size, new)]))
            seqs.turn.append(np.concatenate([np.full(len(given), -1), np.zeros(new, dtype=np.int64)]))
            seqs.beside["old_NT"].append(np.full(len(given) + new, -np.log(size)))
            seqs.beside["adv"].append(np.full(len(given) + new, rng.normal()))
    start = _now(policy)
    update(policy, seqs, surrogate, token_mean, optimiser, rows=64)
    return _now(policy) - start


def bench(
    policy: Local, settings: Bench, *, name: str = "", progress: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Measure the roofline, rollouts and an update; return plain JSON data.

    Keys: ``model`` (``name``, else the policy's own), ``device``, ``engine``, ``dtype``, ``shape``, ``roofline``,
    ``rollout`` (a row per entry of ``rows``), ``update``, ``reached`` (shares of the roofline, which the planner
    takes), ``load``, ``versions``. The weights are changed: the policy is not to be used afterwards.
    """
    say = progress or (lambda line: None)
    shape = from_config(policy.model.config.to_dict(), name or policy.name)
    room = getattr(policy.model.config, "max_position_embeddings", None) or 10**9
    if settings.prompt + settings.new > room:
        raise ValueError(f"prompt {settings.prompt} + new {settings.new} tokens pass the model's {room} positions")
    settings = replace(settings, repeats=1) if settings.quick else settings
    engine = policy.engine
    dtype = policy.products
    was, before = torch.get_num_threads(), _load()
    torch.set_num_threads(settings.threads or was)
    try:
        say("roofline")
        floor, device = _roofline(policy, shape, settings, dtype)
        rollouts = [_rollout(policy, shape, device, pair, settings, floor, say) for pair in settings.rows]
        trained = _update(policy, shape, device, settings, floor, say)
        threads = torch.get_num_threads()
    finally:
        torch.set_num_threads(was)
    return {
        "model": shape.name,
        "device": device.name,
        "memory": device.memory,
        "threads": threads,
        "engine": " ".join(type(part).__name__ for part in (engine, getattr(engine, "forward", None)) if part),
        "dtype": str(dtype).removeprefix("torch."),
        "parameters": {"counted": shape.parameters, "model": sum(p.numel() for p in policy.model.parameters())},
        "shape": asdict(shape),
        "settings": asdict(settings),
        "roofline": floor,
        "rollout": rollouts,
        "update": trained,
        "reached": {
            "decode": statistics.median(row["decode_fraction"] for row in rollouts),
            "prefill": statistics.median(row["prefill_fraction"] for row in rollouts),
            "train": trained["matrix_fraction"],
        },
        "load": {"before": before, "after": _load()},
        "versions": _versions(),
    }


def _roofline(policy: Trains, shape: Shape, settings: Bench, dtype: torch.dtype) -> tuple[dict[str, Any], Device]:
    """Measure the rates in the policy's number format, and the matrix rate of the others that are not emulated."""
    kind = str(policy.device)
    measured = rates(shape, dtype=dtype, device=kind, quick=settings.quick)
    others: dict[str, Any] = {}
    for other in (torch.float32, torch.bfloat16):
        slow = other is not torch.float32 and emulated(other, kind)
        more = None if slow else rates(shape, dtype=other, device=kind, quick=True) if other is not dtype else measured
        others[str(other).removeprefix("torch.")] = "emulated" if more is None else {"flops": more["flops"]}
    options: dict[str, Any] = {"dtype": dtype, "device": kind, "repeats": 1 if settings.quick else 3}
    linear: dict[str, Any] = {"decode": {}}
    for rows in sorted({prompts * samples for prompts, samples in settings.rows}):
        linear["decode"][str(rows)] = linear_seconds(shape, rows, **options)
    prompts, samples = settings.rows[0]
    tokens = prompts * (settings.prompt + samples * settings.new)
    linear["train_tokens"] = tokens
    linear["train"] = linear_seconds(shape, tokens, backward=True, **options)
    return {"rates": measured, "formats": others, "linear_seconds": linear}, device_of(
        measured, _name(policy.device), memory_of(policy.device), dtype
    )


def _rollout(
    policy: Local, shape: Shape, device: Device, pair: tuple[int, int], settings: Bench, floor: Any, say: Any
) -> dict[str, Any]:
    """Time one batch: all of it, until every row has a token, and the rest, which is decoding."""
    count, rows = pair
    prompts = made_up(policy, count, settings.prompt)
    timed_rollout(policy, prompts, rows, 2)
    runs = []
    for turn in range(settings.repeats):
        say(f"rollout {count} x {rows}: {turn + 1} of {settings.repeats}")
        runs.append(timed_rollout(policy, prompts, rows, settings.new))
    whole = [run["seconds"] for run in runs]
    total = count * rows
    spent, first = statistics.median(whole), statistics.median(run["first"] for run in runs)
    ideal = rollout_seconds(shape, device, prompts=count, rows=rows, prompt=settings.prompt, new=settings.new)
    least, later = ideal["prefill"] + ideal["decode"], runs[0]["later"]
    # Decoding may begin for some rows while others wait for their prompt, and in one step all of it is done at once.
    decoding = statistics.median(run["seconds"] - run["first"] for run in runs) if later else spent
    share = later / (total * (settings.new - 1))
    cached = (count * settings.prompt + total * settings.new / 2) * shape.cache_bytes(device.width)
    linear = sum(floor["linear_seconds"]["decode"][str(total)].values()) + cached / device.bandwidth
    return {
        "prompts": count,
        "samples": rows,
        "seconds": {"median": spent, "min": min(whole), "max": max(whole), "count": len(whole)},
        "tokens_per_second": total * settings.new / spent,
        "ideal_tokens_per_second": total * settings.new / least,
        "fraction": least / spent,
        "decode_tokens_per_second": (later or total * settings.new) / decoding,
        "decode_ideal_tokens_per_second": total * (settings.new - 1) / ideal["decode"],
        "decode_linear_tokens_per_second": total / linear,
        "decode_fraction": ideal["decode"] * share / decoding if later else least / spent,
        "decode_bound": ideal["bound"],
        "prefill_tokens_per_second": count * settings.prompt / first,
        "prefill_fraction": ideal["prefill"] / first if later else least / spent,
    }


def _update(policy: Trains, shape: Shape, device: Device, settings: Bench, floor: Any, say: Any) -> dict[str, Any]:
    """Time optimiser steps; row tokens count a shared prompt in every row, as trainers without packing do."""
    count, rows = settings.rows[0]
    prompts = made_up(policy, count, settings.prompt)
    optimiser = optimiser_of(policy, Settings())
    timed_update(policy, prompts, rows, settings.new, optimiser)  # makes the optimiser's moments
    spent = []
    for turn in range(settings.repeats):
        say(f"update {count} x {rows}: {turn + 1} of {settings.repeats}")
        spent.append(timed_update(policy, prompts, rows, settings.new, optimiser))
    middle = statistics.median(spent)
    load = Workload(count * rows, rows, settings.prompt, settings.new, 0, 1, 0.0)
    single = Setup(gpus=1, gradient_checkpointing=False, fractions=Fractions(train=1.0))
    work = update_work(shape, device, load, single)
    products_least = work["flops"] / device.flops
    adam = work["seconds"] - products_least  # the planner adds the optimiser's own least seconds
    tokens, linear = count * rows * (settings.prompt + settings.new), floor["linear_seconds"]
    # The head runs on written tokens alone.
    share = load.sampled / linear["train_tokens"]
    products = sum(spent * (share if name == "head" else 1.0) for name, spent in linear["train"].items())
    return {
        "prompts": count,
        "samples": rows,
        "row_tokens": tokens,
        "packed_tokens": load.tokens,
        "seconds": {"median": middle, "min": min(spent), "max": max(spent), "count": len(spent)},
        "row_tokens_per_second": tokens / middle,
        "ideal_row_tokens_per_second": tokens / work["seconds"],
        "linear_row_tokens_per_second": tokens / products,
        "fraction": work["seconds"] / middle,
        "matrix_fraction": products_least / max(middle - adam, products_least),
    }


def _name(device: torch.device) -> str:
    """Return what the device calls itself."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _load() -> float:
    return round(os.getloadavg()[0], 2)


def _versions() -> dict[str, str]:
    names = ("ferrule", "torch", "transformers", "numpy")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}
