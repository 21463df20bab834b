"""Checkpoints that resume to the same numbers: weights, optimiser, random state, data position, file lengths."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

__all__ = ["latest", "read", "restore_files", "write"]


def latest(run: Path) -> Path | None:
    """Return the newest whole checkpoint of a run folder, or None."""
    return max(_all(run), key=_step, default=None)


def _step(folder: Path) -> int:
    return int(folder.name.split("-")[1])


def _all(run: Path) -> list[Path]:
    return [p for p in run.glob("checkpoint-*") if p.is_dir() and p.name.removeprefix("checkpoint-").isdigit()]


def _trained(policy: Any) -> dict[str, torch.Tensor]:
    """Weights that may have changed (all, or the adapters), and the value head's."""
    state = {n: p.detach().clone() for n, p in policy.model.named_parameters() if p.requires_grad}
    if policy.value_head is not None:
        state |= {f"value_head.{n}": p.detach().clone() for n, p in policy.value_head.named_parameters()}
    return state


def write(
    run: Path, step: int, policy: Any, optimiser: Any, state: dict[str, Any], *, keep: int = 2, logs: Sequence[str] = ()
) -> Path:
    """Write ``checkpoint-STEP`` whole or not at all, drop the oldest beyond ``keep``, and return its folder.

    ``state`` is plain data of the loop; ``logs`` names files of the run whose length is remembered, so that a resumed
    run continues them without doubled lines.
    """
    from safetensors.torch import save_file

    part, target = run / f".checkpoint-{step}.part", run / f"checkpoint-{step}"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    save_file(_trained(policy), part / "trained.safetensors")
    torch.save({"optimizer": optimiser.state_dict(), "rng": torch.get_rng_state()}, part / "optimizer.pt")
    lengths = {name: (run / name).stat().st_size if (run / name).exists() else 0 for name in logs}
    (part / "state.json").write_text(json.dumps({"step": step, "lengths": lengths, **state}))
    for name in os.listdir(part):
        with (part / name).open("rb") as file:
            os.fsync(file.fileno())
    shutil.rmtree(target, ignore_errors=True)
    part.replace(target)
    for old in sorted(_all(run), key=_step)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def read(folder: Path, policy: Any, optimiser: Any) -> dict[str, Any]:
    """Put weights, optimiser and random state back and return the loop's state."""
    from safetensors.torch import load_file

    saved = load_file(folder / "trained.safetensors")
    own = {n: p for n, p in policy.model.named_parameters() if p.requires_grad}
    if policy.value_head is not None:
        own |= {f"value_head.{n}": p for n, p in policy.value_head.named_parameters()}
    ours, theirs = ({(n, tuple(p.shape)) for n, p in state.items()} for state in (own, saved))
    if ours != theirs:
        odd = sorted({name for name, _ in ours ^ theirs})[:3]
        raise ValueError(f"{folder} does not fit this model or these settings: weights differ, for example {odd}")
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(saved[name])
    extra = torch.load(folder / "optimizer.pt", weights_only=True)
    optimiser.load_state_dict(extra["optimizer"])
    torch.set_rng_state(extra["rng"])
    state: dict[str, Any] = json.loads((folder / "state.json").read_text())
    return state


def restore_files(run: Path, state: dict[str, Any]) -> None:
    """Cut the run's logs back to where they were at the checkpoint."""
    for name, length in state["lengths"].items():
        path = run / name
        if path.exists():
            os.truncate(path, min(length, path.stat().st_size))
