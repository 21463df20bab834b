"""Invariant 10: isolation that is asked for and not available is an error, never a silent fallback."""

import os
import subprocess
import sys

import pytest

from ferrule.tools.python import PythonSession
from ferrule.worlds.arithmetic import Arithmetic

PROGRAM = """
from ferrule.sandbox import isolate
from ferrule.sandbox.settings import IsolationUnavailable
from ferrule.tools.python import PythonSession
from ferrule.worlds.arithmetic import Arithmetic
import sys

for make in (lambda: PythonSession(isolation=sys.argv[1]),
             lambda: Arithmetic(isolation=sys.argv[1]).start(Arithmetic().tasks("test", 1)[0])):
    try:
        made = make()
        seen = made.run("1") if hasattr(made, "run") else None
    except IsolationUnavailable as error:
        assert "ferrule doctor" in str(error), error
        continue
    raise SystemExit(f"no refusal: {made} {seen}")
print("refused")
"""


def test_a_missing_bubblewrap_is_refused() -> None:
    env = {**os.environ, "PATH": "/nowhere"}
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, "bubblewrap"], env=env, capture_output=True, text=True, check=False
    )
    assert found.stdout.strip() == "refused", found.stdout + found.stderr


def test_an_unknown_isolation_is_refused() -> None:
    with pytest.raises(ValueError, match="namespaces"):
        PythonSession(isolation="namespace")


def test_asked_for_isolation_really_holds_or_is_refused() -> None:
    session = Arithmetic(tools=("python",)).start(Arithmetic().tasks("test", 1)[0])
    from ferrule.core.records import Call

    seen = session.act(Call("python", {"code": "import os\nprint(os.path.exists('/etc/hostname'), os.listdir('/'))"}))
    assert seen.status == "ok"
    assert "home" not in seen.text
    blocked = session.act(Call("python", {"code": "import socket\nsocket.socket()"}))
    assert blocked.status == "error"
    session.close()
