"""Environments of other projects' packages, set up on first use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def peer_python(*names: str) -> dict[str, Path]:
    """Return the interpreters of the named environments, or of all, after they were set up."""
    done = subprocess.run(
        ["bash", str(ROOT / "scripts" / "peers.sh"), *names],
        env=os.environ | {"PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=1000,
    )
    assert done.returncode == 0, done.stderr
    known = names or [path.stem.removeprefix("peers-") for path in (ROOT / "requirements").glob("peers-*.txt")]
    return {name: ROOT / ".venv-peers" / name / "bin" / "python" for name in known}
