"""Hostile code around branches: the one moment in which a process may fork gives it nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from tests.limits import LATE

from ferrule.sandbox.interpreter import Interpreter
from ferrule.sandbox.isolate import probe
from ferrule.sandbox.settings import IsolationUnavailable, Settings


@pytest.fixture
def python() -> Iterator[Interpreter]:
    settings = Settings(isolation="namespaces", seconds=3)
    if not probe()["namespaces"].available:
        with pytest.raises(IsolationUnavailable, match="namespaces"):
            Interpreter(settings)
        settings = Settings(isolation="none", seconds=3)
    with Interpreter(settings) as interpreter:
        yield interpreter


def walled(python: Interpreter) -> bool:
    return python.mode == "namespaces"


def test_forks_outside_of_a_branch_are_refused(python: Interpreter) -> None:
    python.run("import os\nx = 1")
    twin = python.fork()
    for one in (python, twin):
        if walled(one):
            assert "Operation not permitted" in one.run("os.fork()").text
    assert twin.run("x").text == "1"
    twin.close()


def test_new_namespaces_outside_of_a_branch_are_refused(python: Interpreter) -> None:
    python.run("import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)")
    twin = python.fork()
    if walled(python):
        for one in (python, twin):
            for flags in ("0x10020000", "0x10000000", "0x20000000", "0x40000000", "0x00020000"):
                assert one.run(f"libc.unshare({flags}), ctypes.get_errno()").text == "(-1, 1)"
    twin.close()


def test_a_branch_has_no_more_rights_than_its_original(python: Interpreter) -> None:
    python.run("import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)")
    twin = python.fork()
    if walled(python):
        tries = {
            "mount": "libc.mount(b'tmpfs', b'/box/home', b'tmpfs', 0, None)",
            "umount": "libc.umount2(b'/box/home', 2)",
            "chroot": "libc.chroot(b'/')",
            "setns": "libc.setns(0, 0)",
            "ptrace": "libc.ptrace(16, 1, 0, 0)",
            "socket": "libc.socket(1, 1, 0)",
        }
        for name, code in tries.items():
            assert twin.run(code).text == "-1", name
        for path in ("/etc/passwd", "/proc/1/environ", "/root/new", "/usr/new", "/new", "/box/new"):
            assert twin.run(f"open({path!r}, 'w')").data["kind"] in ("PermissionError", "OSError", "FileNotFoundError")
        caps = "h = (ctypes.c_uint32 * 2)(0x20080522, 0); d = (ctypes.c_uint32 * 6)()\nlibc.capget(h, d), list(d)"
        assert twin.run(caps).text == "(0, [0, 0, 0, 0, 0, 0])"
        assert twin.run("os.getuid(), os.getgid()").text == "(1000, 1000)"
    twin.close()


def test_branches_cannot_signal_each_other(python: Interpreter) -> None:
    python.run("import os, signal")
    one, two = python.fork(), python.fork()
    if walled(python):
        attack = (
            "said = []\n"
            "for pid in [*range(1, 40), -1, 0]:\n"
            "    try:\n"
            "        os.kill(pid, signal.SIGKILL)\n"
            "        said.append(pid)\n"
            "    except OSError: pass\n"
            "said"
        )
        # Process 1 is the stopped first one, which no signal from inside can end.
        assert one.run(attack).data["value"] in ("[]", "[1]")
        tries = "libc = __import__('ctypes').CDLL(None)\n[libc.setpriority(1, 0, 19), libc.sched_setaffinity(2, 8, b'\\1' * 8)]"
        assert one.run(tries).text == "[-1, -1]"
    assert two.run("6 * 7").text == "42"
    assert python.run("6 * 7").text == "42"
    one.close()
    two.close()


def test_a_hook_that_hangs_the_fork_costs_the_state_only(python: Interpreter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ferrule.sandbox.interpreter._BRANCH_SECONDS", 1.0)
    python.run("x = 1")
    python.run("import os, time\nos.register_at_fork(after_in_child=lambda: time.sleep(60))")
    began = time.monotonic()
    twin = python.fork()
    assert time.monotonic() - began < 1.0 + LATE
    # Both start again from the calls that were made.
    assert twin.run("x").text.endswith("1")
    assert python.run("x").text.endswith("1")
    twin.close()


def test_a_hook_that_forges_the_introduction(python: Interpreter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ferrule.sandbox.interpreter._BRANCH_SECONDS", 1.0)
    python.run(
        "import os\n"
        "x = 7\n"
        "def child():\n"
        "    for fd in range(3, 256):\n"
        "        try: os.write(fd, b'\\0\\0\\0\\2{}')\n"
        "        except OSError: pass\n"
        "os.register_at_fork(after_in_child=child)"
    )
    twin = python.fork()
    assert twin.run("x").text.endswith("7")
    assert python.run("x").text.endswith("7")
    twin.close()


def test_a_thread_that_wants_the_fork_for_itself(python: Interpreter, monkeypatch: pytest.MonkeyPatch) -> None:
    if not walled(python):
        return
    monkeypatch.setattr("ferrule.sandbox.interpreter._BRANCH_SECONDS", 2.0)
    python.run(
        "import os, threading, time\n"
        "x = 9\n"
        "def grab():\n"
        "    while True:\n"
        "        try:\n"
        "            if os.fork() == 0:\n"
        "                while True: time.sleep(1)\n"
        "        except OSError: pass\n"
        "threading.Thread(target=grab, daemon=True).start()"
    )
    twin = python.fork()
    for one in (twin, python):
        # The thief may have cost its own episode the state; that is said, and the next call works.
        first = one.run("1 + 1", seconds=10)
        assert first.text.endswith("2") or first.status in ("error", "timeout")
        assert first.text.endswith("2") or one.run("1 + 1", seconds=10).data["restarted"]
    twin.close()


def test_files_of_a_branch_are_its_own_by_every_path(python: Interpreter) -> None:
    python.run("import os\nopen('f', 'w').write('base')\nhome = os.getcwd()")
    twin = python.fork()
    twin.run("open('f', 'w').write('twin'); open(os.path.join(os.getcwd(), 'g'), 'w').write('twin')")
    assert python.run("open('f').read(), sorted(set(os.listdir('.')) - {'tmp'})").text == "('base', ['f'])"
    assert twin.run("open('f').read()").text == "'twin'"
    twin.close()


def test_special_files_and_loops_in_the_folder_are_copied_or_left_out(python: Interpreter) -> None:
    python.run(
        "import os\nos.mkfifo('pipe'); os.symlink('.', 'loop'); os.symlink('/etc', 'etc')\nopen('f', 'w').write('1')"
    )
    twin = python.fork()
    assert twin.alive
    assert twin.run("open('f').read(), os.readlink('loop')").text == "('1', '.')"
    twin.close()


def test_a_full_folder_is_copied(python: Interpreter) -> None:
    python.run("open('big', 'wb').write(bytes(20 * 2**20))")
    twin = python.fork()
    assert twin.run("import os\nos.path.getsize('big')").text == str(20 * 2**20)
    twin.close()


def test_nothing_stays_behind(python: Interpreter) -> None:
    python.run("x = 1")
    twins = [python.fork() for _ in range(5)]
    pids = [one.pid for one in [python, *twins]]
    for one in twins:
        one.close()
    python.close()
    end = time.monotonic() + 10
    left: list[int | None] = pids
    while left and time.monotonic() < end:
        left = [pid for pid in left if _running(pid)]
        time.sleep(0.02)
    assert left == []


def _running(pid: int | None) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False
