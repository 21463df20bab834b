"""Checkpoints that resume to the same numbers: weights, optimiser, random state, data position, file lengths.

Weights and optimiser state lie there by name (``ferrule.train.tensors``), so a run that was cut over some number of
processes goes on with any other number, or with one. All files are JSON and safetensors: reading them runs no code.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ferrule.train.policy import Trains
from ferrule.train.shard import is_sharded
from ferrule.train.tensors import index_of, read_tensors, write_tensors

__all__ = ["every", "latest", "read", "restore_files", "state_of", "weights", "whole_or_not", "write"]

_RANDOM, _RANDOM_CUDA = "random", "random.cuda"


def latest(run: Path) -> Path | None:
    """Return the newest whole checkpoint of a run folder, or None."""
    return max(every(run), key=_step, default=None)


def _step(folder: Path) -> int:
    return int(folder.name.split("-")[1])


def every(run: Path) -> list[Path]:
    """Return all whole checkpoints of a run folder, in no order."""
    return [p for p in run.glob("checkpoint-*") if p.is_dir() and p.name.removeprefix("checkpoint-").isdigit()]


def weights(policy: Trains) -> dict[str, torch.Tensor]:
    """Return the weights of the model that may change (all, or the adapters), by name."""
    return {name: p.detach() for name, p in policy.model.named_parameters() if p.requires_grad}


def _trained(policy: Trains, optimiser: Any) -> dict[str, nn.Parameter]:
    """Weights that may have changed (all, or the adapters), and those of the heads; of half precision the copies."""
    weights = {name: p for name, p in policy.model.named_parameters() if p.requires_grad}
    weights |= {f"heads.{name}": p for name, p in getattr(policy, "heads", nn.Module()).named_parameters()}
    masters = getattr(optimiser, "masters", {})
    return {name: masters.get(p, p) for name, p in weights.items()}


@contextlib.contextmanager
def whole_or_not(folder: Path) -> Iterator[Path]:
    """Give a folder to write into that gets the name ``folder`` when the block ends well, in one step."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    yield part
    for name in os.listdir(part):
        with (part / name).open("rb") as file:
            os.fsync(file.fileno())
    shutil.rmtree(folder, ignore_errors=True)
    part.replace(folder)


def _moving(weights: dict[str, nn.Parameter], optimiser: Any) -> dict[str, dict[str, torch.Tensor]]:
    """What the optimiser remembers of every weight that has had a gradient, by the weight's name."""
    return {name: dict(optimiser.state[p]) for name, p in weights.items() if optimiser.state.get(p)}


def write(
    run: Path,
    step: int,
    policy: Trains,
    optimiser: Any,
    state: dict[str, Any],
    *,
    keep: int = 2,
    logs: Sequence[str] = (),
    main: bool = True,
) -> Path:
    """Write ``checkpoint-STEP`` whole or not at all, drop the oldest beyond ``keep``, and return its folder.

    ``state`` is plain data of the loop; ``logs`` names files of the run whose length is remembered, so that a resumed
    run continues them without doubled lines. Of a sharded policy every process writes its part to the same folder:
    all call this, with ``main`` in the first of them only.
    """
    target, together = run / f"checkpoint-{step}", is_sharded(policy)
    with whole_or_not(target) if main else contextlib.nullcontext(run / f".{target.name}.part") as part:
        _meet(together)
        weights = _trained(policy, optimiser)
        tensors = {f"trained.{name}": p.detach() for name, p in weights.items()}
        for name, row in _moving(weights, optimiser).items():
            tensors |= {f"optimizer.{name}.{key}": tensor for key, tensor in row.items()}
        if main or together:
            write_tensors(part, {**tensors, **_random(policy)})
        _meet(together)
        if main:
            lengths = {name: (run / name).stat().st_size if (run / name).exists() else 0 for name in logs}
            kept = {"step": step, "lengths": lengths, **_computed(policy), **state}
            (part / "state.json").write_text(json.dumps(kept))
    if main:
        for old in sorted(every(run), key=_step)[:-keep]:
            shutil.rmtree(old, ignore_errors=True)
    _meet(together)
    return target


def _random(policy: Trains) -> dict[str, torch.Tensor]:
    """The random state of this process, and that of its GPU where the weights lie there."""
    states = {_RANDOM: torch.get_rng_state()}
    on_gpu = policy.device.type == "cuda"
    return {**states, _RANDOM_CUDA: torch.cuda.get_rng_state(policy.device)} if on_gpu else states


def _computed(policy: Trains) -> dict[str, Any]:
    """What the numbers of a run depend on beside its settings: who shares a sum, and half precision."""
    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    return {
        "processes": torch.distributed.get_world_size() if together else 1,
        "threads": torch.get_num_threads(),
        "dtype": str(next(policy.model.parameters()).dtype).removeprefix("torch."),
        "bf16": bool(getattr(policy, "autocast", False)),
    }


def _meet(together: bool) -> None:
    if together:
        torch.distributed.barrier()


def read(folder: Path, policy: Trains, optimiser: Any) -> dict[str, Any]:
    """Put weights, optimiser, random state and the number of threads back and return the loop's state.

    The policy may be sharded in any way, or not at all; of a sharded one all processes call this. Raises ``ValueError``
    when the checkpoint is of another model, or of one whose products were computed in another precision.
    """
    weights = _trained(policy, optimiser)
    state = state_of(folder)
    present = _computed(policy)
    then, now = (f"dtype={about['dtype']!r}, bf16={about['bf16']}" for about in (state, present))
    if then != now:
        raise ValueError(f"{folder} was computed with {then} and this policy with {now}; load it with {then}")
    sizes = {name: entry.shape for name, entry in index_of(folder).items()}
    theirs = {(n.removeprefix("trained."), size) for n, size in sizes.items() if n.startswith("trained.")}
    ours = {(name, tuple(p.shape)) for name, p in weights.items()}
    if ours != theirs:
        odd = sorted({name for name, _ in ours ^ theirs})[:3]
        raise ValueError(f"{folder} does not fit this model or these settings: weights differ, for example {odd}")
    moving, random = _room(weights, sizes), {name: r for name, r in _random(policy).items() if name in sizes}
    into = {f"trained.{name}": p.detach() for name, p in weights.items()}
    into |= {f"optimizer.{name}.{key}": t for name, row in moving.items() for key, t in row.items()}
    read_tensors(folder, {**into, **random})
    optimiser.state.clear()
    optimiser.state.update((weights[name], state) for name, state in moving.items())
    if hasattr(optimiser, "publish"):
        optimiser.publish()
    torch.set_rng_state(random[_RANDOM])
    if _RANDOM_CUDA in random:
        torch.cuda.set_rng_state(random[_RANDOM_CUDA], policy.device)
    if state["processes"] == present["processes"]:  # with others, sums are cut otherwise in any case
        torch.set_num_threads(state["threads"])
    return state


def _room(weights: dict[str, nn.Parameter], sizes: dict[str, tuple[int, ...]]) -> dict[str, dict[str, torch.Tensor]]:
    """Make room for what the optimiser remembered; what has the shape of a weight is sharded like the weight."""
    room: dict[str, dict[str, torch.Tensor]] = {}
    for full, size in sizes.items():
        name, _, key = full.removeprefix("optimizer.").rpartition(".")
        if full.startswith("optimizer.") and name in weights:
            like = weights[name].detach() if size == tuple(weights[name].shape) else torch.zeros(size)
            room.setdefault(name, {})[key] = torch.zeros_like(like)
    return room


def state_of(folder: Path) -> dict[str, Any]:
    """Return the state of the loop that a checkpoint holds."""
    state: dict[str, Any] = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    return state


def restore_files(run: Path, state: Mapping[str, Any]) -> None:
    """Cut the run's logs back to where they were at the checkpoint.

    Raises ``ValueError`` where the state names anything but a file in the run folder: it may come from somebody else.
    """
    for name, length in state["lengths"].items():
        path = run / name
        if Path(name).name != name or path.is_symlink():
            raise ValueError(f"the checkpoint names the log {name!r}, which is no file of its own in {run}")
        if path.exists():
            os.truncate(path, min(length, path.stat().st_size))
