"""The folder of a run, beside logs and checkpoints: settings, recipe, versions, weights and the page."""

from __future__ import annotations

import importlib.metadata
import inspect
import json
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ferrule.core.recipe import Method, Part
from ferrule.policies.layouts import kept_renderer
from ferrule.train.checkpoint import latest
from ferrule.train.logs import write_json
from ferrule.train.policy import Trains
from ferrule.train.settings import Settings

__all__ = ["begin", "described", "facts", "finish", "prompt_date", "report", "to_resume", "versions"]

# All that a run may leave; nothing else in the folder is touched when a run is overwritten.
_FILES = (
    "settings.json", "recipe.json", "versions.json", "metrics.jsonl", "episodes.jsonl", "warnings.jsonl",
    "evaluation.jsonl", "evaluations.json", "summary.json", "report.html", "figures", "tensorboard", "model", "data",
    "starts", "checkpoint-*", ".checkpoint-*.part",
)  # fmt: skip


def versions() -> dict[str, Any]:
    """Return the versions and the machine that figures were taken on."""
    packages: dict[str, Any] = {
        "python": platform.python_version(),
        "system": platform.system(),
        "cores": os.cpu_count(),
    }
    for name in ("ferrule", "torch", "transformers", "numpy", "accelerate", "peft"):
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    packages["machine"] = platform.machine()
    return packages


def described(piece: Any, within: tuple[int, ...] = ()) -> Any:
    """Return what a method is made of as JSON data: records by field, functions by import path with their settings.

    A function's settings are the values bound to it, the variables it was made with, and the defaults of its
    parameters. ``within`` holds the pieces around this one, so that one which contains itself ends.
    """
    if id(piece) in within:
        return f"this {type(piece).__name__} again"
    inner = partial(described, within=(*within, id(piece)))
    if isinstance(piece, partial):
        bound = {**{str(place): value for place, value in enumerate(piece.args)}, **piece.keywords}
        function = inner(piece.func)
        known = function if isinstance(function, dict) else {"function": function}
        return {**known, **{name: inner(value) for name, value in bound.items()}}
    if is_dataclass(piece) and not isinstance(piece, type):
        kind = type(piece)
        values = {field.name: inner(getattr(piece, field.name)) for field in fields(piece)}
        return {"kind": f"{kind.__module__}:{kind.__qualname__}", **values}
    if isinstance(piece, Mapping):
        return f"{len(piece)} entries" if len(piece) > 50 else {str(key): inner(value) for key, value in piece.items()}
    if isinstance(piece, list | tuple):  # rows and pairs lie elsewhere; settings are short
        return f"{len(piece)} values" if len(piece) > 20 else [inner(value) for value in piece]
    if inspect.isfunction(piece):
        variables = {**inspect.getclosurevars(piece).nonlocals, **_defaults(piece)}
        path = f"{piece.__module__}:{piece.__qualname__}"
        return {"function": path, **{name: inner(value) for name, value in variables.items()}} if variables else path
    if callable(piece) and hasattr(piece, "__qualname__"):
        return f"{piece.__module__}:{piece.__qualname__}"
    return piece if isinstance(piece, str | int | float | bool | None) else f"a {type(piece).__name__}"


def _defaults(function: Any) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def facts(policy: Trains) -> dict[str, Any]:
    """Return what a policy is as it runs: its kind and size, how it computes and where, and how it writes calls."""
    weights = list(policy.model.parameters())
    renderer = getattr(policy, "renderer", None)
    exact = str(weights[0].dtype).removeprefix("torch.") if weights else None
    chat = kept_renderer(renderer)
    if not getattr(renderer, "dated", False):
        chat.get("template", {}).pop("date", None)  # no prompt holds it, so a run that goes on needs none
    return {
        "kind": type(policy).__name__,
        "name": getattr(policy, "name", None),
        "parameters": sum(weight.numel() for weight in weights),
        "trained": sum(weight.numel() for weight in policy.parameters()),
        "dtype": exact,
        "bf16": bool(getattr(policy, "autocast", False)),
        "device": str(policy.device),
        "codec": described(getattr(renderer, "codec", None)),
        "chat": chat,
    }


def prompt_date(folder: Path) -> str:
    """Return the date that the prompts of a run hold, by its settings; empty where there is none."""
    path = folder / "settings.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    chat = (kept.get("policy") or {}).get("chat") or {}
    return str(chat.get("template", {}).get("date", ""))


def to_resume(folder: Path | None) -> Path | None:
    """Return the checkpoint that a run goes on from; None where it was ended before its first.

    Raises ``FileNotFoundError`` where there is nothing to go on with: no run, or one that never wrote a checkpoint.
    """
    place = latest(folder) if folder is not None else None
    if place is not None:
        return place
    kept = folder / "settings.json" if folder is not None else None
    if folder is None or kept is None or not kept.is_file():
        raise FileNotFoundError(f"nothing to resume: {folder} holds no run; begin one without --resume")
    if (folder / "summary.json").exists() or not json.loads(kept.read_text(encoding="utf-8")).get("save_steps"):
        raise FileNotFoundError(
            f"nothing to resume: {folder} has no checkpoint (save_steps of a run says how often one is written); "
            "begin again with --overwrite, in Python overwrite=True"
        )
    return None


def begin(
    folder: Path,
    method: Method | Part,
    settings: Settings,
    about: Mapping[str, Any],
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> None:
    """Make the folder of a run and write ``settings.json``, ``recipe.json`` and ``versions.json``.

    A folder that holds a run is refused (``FileExistsError``) unless it is resumed or overwritten; overwriting removes
    the files of the run and no others.
    """
    used = (folder / "metrics.jsonl").exists()
    if used and not resume and not overwrite:
        raise FileExistsError(
            f"{folder} holds a run: go on with it (--resume, in Python resume=True), replace it (--overwrite, in "
            "Python overwrite=True), or choose another folder"
        )
    if used and not resume:
        for path in (path for pattern in _FILES for path in folder.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "settings.json", {**about, **asdict(settings)})
    write_json(folder / "recipe.json", described(method))
    write_json(folder / "versions.json", versions())


def finish(folder: Path, policy: Trains, summary: Mapping[str, Any]) -> None:
    """Write ``summary.json``, the weights (``model/``) and the page of a run that has ended, however it did."""
    write_json(folder / "summary.json", summary)
    policy.save(folder / "model")
    report(folder)


def report(folder: Path) -> Path | None:
    """Write ``report.html``, and return its path; None where the extra ``view`` is missing."""
    from ferrule.view.report import write_report

    try:
        return write_report(folder)
    except ImportError:
        return None
