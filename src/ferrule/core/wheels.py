"""Wheels from PyPI, downloaded for the files that they carry; nothing of them is installed or run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["downloaded"]


@contextmanager
def downloaded(wanted: str, scratch: Path) -> Iterator[Path]:
    """Download the wheel of a distribution (``name`` or ``name==version``) by pip and give it up afterwards.

    What it depends on is left out. Raises ``RuntimeError`` with pip's own words when there is no wheel to be had.
    """
    into = scratch / "wheel"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(into), wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    wheels = list(into.glob("*.whl")) if into.is_dir() else []
    if done.returncode or len(wheels) != 1:
        if "No module named pip" in done.stderr:
            raise RuntimeError(
                f"{sys.executable} has no pip, so {wanted} cannot be fetched; run 'python -m ensurepip', or install "
                f"{wanted} without its dependencies by the tool you use and try again"
            )
        trouble = done.stderr.strip().splitlines()[-3:] or ["pip wrote no wheel"]
        raise RuntimeError(f"pip could not download {wanted}: {' | '.join(trouble)}")
    try:
        yield wheels[0]
    finally:
        shutil.rmtree(into, ignore_errors=True)
