"""What this host offers: isolation (tried out), processor and dtypes, versions, optional packages."""

from __future__ import annotations

import importlib
import os
import platform
import sys
import time
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from ferrule.sandbox.isolate import probe

__all__ = ["EXTRAS", "doctor"]

EXTRAS: dict[str, tuple[str, ...]] = {
    "train": ("torch", "transformers", "accelerate", "peft", "safetensors", "tokenizers", "tensorboardX"),
    "data": ("datasets", "math-verify"),
    "view": ("matplotlib", "jinja2"),
    "charts": ("altair", "vl-convert-python", "lightgbm"),
}
_BASE = ("ferrule", "numpy", "pydantic", "docstring-parser", "json-repair", "httpx", "click", "rich")


def doctor() -> dict[str, Any]:
    """Return everything as plain JSON data; takes about a second, and longer where torch has to be loaded.

    Keys: ``platform``, ``python``, ``versions``, ``isolation`` (``auto``: the mode that is taken, None when code is
    refused;
    ``features`` with how each was found), ``cpu`` (``cores`` usable here, ``flags``, ``dtypes`` with milliseconds
    of one 512x512 product) and ``extras`` (package versions, None where missing).
    """
    report = probe()
    return {
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _BASE},
        "isolation": {"auto": report.auto, "features": [asdict(feature) for feature in report.features]},
        "cpu": {"cores": _cores(), "flags": _flags(), "dtypes": _dtypes()},
        "extras": {extra: {name: _version(name) for name in names} for extra, names in EXTRAS.items()},
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform.startswith("linux") else os.cpu_count() or 1


def _flags() -> list[str]:
    """The processor features that decide how fast matrix products are."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    line = next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
    wanted = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8", "bf16", "asimd")
    return [flag for flag in wanted if flag in line.split()]


def _dtypes() -> dict[str, Any]:
    """Milliseconds of a 512x512 matrix product per dtype, the reason where one fails, empty without torch."""
    if _version("torch") is None:
        return {}
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError as problem:
        return {"torch": f"cannot be imported: {problem}"}
    milliseconds: dict[str, Any] = {}
    for name in ("float32", "bfloat16", "float16"):
        try:
            matrix = torch.ones(512, 512, dtype=getattr(torch, name))
            times = []
            for _ in range(5):
                start = time.perf_counter()
                matrix @ matrix
                times.append(time.perf_counter() - start)
            milliseconds[name] = round(1000 * min(times), 3)
        except RuntimeError as problem:
            milliseconds[name] = str(problem).splitlines()[0]
    return milliseconds
