"""The same programs once more, started by an ordinary user: walls do not rest on who builds them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tests.escape import as_user

HERE = Path(__file__).parent
FILES = sorted(path.name for path in HERE.glob("test_*.py") if path.name != Path(__file__).name)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", FILES)
def test_every_program_as_an_ordinary_user(name: str) -> None:
    if os.geteuid() != 0:  # then all of them run as one already
        assert os.getuid() == os.geteuid()
        return
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, as_user.__file__, home, "-q", "-x", str(HERE / name)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE.parents[1])
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
    assert " passed" in ended.stdout
