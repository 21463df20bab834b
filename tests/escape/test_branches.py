"""Hostile code around branches: the one moment in which a process may fork gives it nothing else."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.limits import LATE

from ferrule.sandbox import pool
from ferrule.sandbox.branches import unconfined
from ferrule.sandbox.handles import children
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


RACES = int(os.environ.get("FERRULE_RACES", "12"))  # of each kind
SWAP = """
import ctypes, os, sys, threading
libc = ctypes.CDLL(None)
sys.setswitchinterval(1e-4)
def swap():
    while True:
        for n in range(40):
            libc.renameat2(-100, b'a%d' % n, -100, b'b%d' % n, 2)
for n in range(40):
    os.makedirs('b%d/c' % n) if FOLDERS else open('b%d' % n, 'w').write('own')
    MAKE('a%d' % n)
threading.Thread(target=swap, daemon=True).start()
"""
SWAPPED = {
    "a pipe for a file": "FOLDERS, MAKE = False, os.mkfifo",
    "a link for a file": "FOLDERS, MAKE = False, lambda name: os.symlink(SECRET, name)",
    "a link for a folder": "FOLDERS, MAKE = True, lambda name: os.symlink(os.path.dirname(SECRET), name)",
}
READ = """
import os
texts = set()
for at, _, names in os.walk('.'):
    for name in names:
        path = os.path.join(at, name)
        if os.path.isfile(path) and not os.path.islink(path):
            texts.add(open(path).read()[:20])
sorted(texts)
"""


@pytest.fixture
def secret() -> Iterator[Path]:
    """A file that isolated code can see and not read: for root's tests root's, otherwise closed to its owner."""
    folder = Path(pytest.__file__).parent  # installed packages are shown
    if not os.access(folder, os.W_OK):
        yield Path("/etc/shadow")
        return
    path = folder / f"closed-{os.getpid()}"
    path.write_text("gold", encoding="ascii")
    path.chmod(0o600 if os.geteuid() == 0 else 0)
    yield path
    path.unlink()


@pytest.mark.timeout(240 + 5 * RACES)
@pytest.mark.parametrize("kind", SWAPPED)
def test_a_folder_is_copied_while_it_is_changed(python: Interpreter, kind: str, secret: Path) -> None:
    if not walled(python):
        return
    with Interpreter(Settings(isolation="namespaces", seconds=20)) as bystander:
        bystander.run("x = 20")
        assert python.run(f"open({str(secret)!r}).read()").status == "error"
        made = python.run(f"import os\nSECRET = {str(secret)!r}\n{SWAPPED[kind]}\n{SWAP}", seconds=30)
        assert made.status == "ok", made.text
        for _ in range(RACES):
            began = time.monotonic()
            twin = python.fork()
            assert time.monotonic() - began < LATE
            read = twin.run(READ, seconds=20)
            assert read.data["value"] in ("[]", "['own']"), read.text
            assert twin.run("os.path.isdir('tmp')").data["value"] == "True"
            twin.close()
        assert bystander.run("x + 1").text == "21"


def patched(body: str) -> str:
    """A program that puts ``body`` in place of the function in which a branch gives up its rights."""
    return (
        "import sys\n"
        f"def other():\n    import ctypes\n    libc = ctypes.CDLL(None)\n{body}\n"
        "frame = sys._getframe()\n"
        "while '_enter_branch' not in frame.f_globals: frame = frame.f_back\n"
        "frame.f_globals['_enter_branch'].__code__ = other.__code__\n"
        "x = 3"
    )


KEPT = {
    "all rights": "    libc.unshare(0x10020000)",
    "no namespaces of its own": "    pass",
    "rights that come back": (
        "    libc.unshare(0x10020000)\n"
        "    h, d = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()\n"
        "    libc.capget(h, d)\n    d[0] = d[3] = 0\n    libc.capset(h, d)"
    ),
    "a thread with rights": (
        "    libc.unshare(0x10020000)\n"
        "    import threading, time\n"
        "    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "    libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())"
    ),
}


@pytest.mark.parametrize("what", KEPT)
def test_a_branch_that_keeps_rights_gets_nothing(python: Interpreter, what: str) -> None:
    if not walled(python):
        return
    assert python.run(patched(KEPT[what])).status == "ok"
    twin = python.fork()
    assert not twin.alive  # both repeat the calls in a fresh process instead
    assert twin.run("x").text == "3"
    assert python.run("x").text == "3"
    twin.close()


def test_nobody_has_rights_as_the_kernel_sees_it(python: Interpreter) -> None:
    if not walled(python):
        return
    python.run("x = 1")
    chain = [python]
    for _ in range(3):
        chain.append(chain[-1].fork())
    for one in chain:
        one.run("x")
        assert one.pid is not None
        assert unconfined(one.pid) == ""
        assert all(unconfined(pid) == "" for pid in children(one.pid))
    assert "CapEff" in unconfined(os.getpid()) or os.geteuid() != 0
    assert "Seccomp" in unconfined(os.getpid())
    for one in chain[1:]:
        one.close()


def test_a_branch_does_not_reach_another_by_signals(python: Interpreter) -> None:
    python.run("import fcntl, os, signal\nx = 5")
    one, two = python.fork(), python.fork()
    for each in (one, two, python):
        each.run("x")
    if walled(python):
        attack = (
            "sent = []\n"
            "for pid in range(1, 20):\n"
            "    r, w = os.pipe()\n"
            "    try:\n"
            "        fcntl.fcntl(r, fcntl.F_SETOWN, pid); fcntl.fcntl(r, fcntl.F_SETSIG, signal.SIGKILL)\n"
            "        fcntl.fcntl(r, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)\n"
            "        os.write(w, b'x'); sent.append(pid)\n"
            "    except OSError: pass\n"
            "    os.close(r); os.close(w)\n"
            "    try: os.kill(pid, signal.SIGCONT); sent.append(pid)\n"  # sets the stopped first process going
            "    except OSError: pass\n"
            "sent"
        )
        assert one.run(attack).data["value"] == "[]"
        time.sleep(0.2)
    assert [each.run("x").text for each in (one, two, python)] == ["5", "5", "5"]
    one.close()
    two.close()


def test_a_branch_that_wants_the_namespaces_of_another(python: Interpreter) -> None:
    python.run("import ctypes, threading\nlibc = ctypes.CDLL(None)\nx = 6")
    thief = python.fork()
    if walled(python):
        thief.run(
            "def grab():\n    while True: libc.unshare(0x10020000)\nthreading.Thread(target=grab, daemon=True).start()"
        )
        # It is neither the process that is branched nor a child of it, so it is not even considered.
        twin = python.fork()
        assert twin.alive
        assert twin.run("x").text == "6"
        assert thief.run("x").text == "6"
        twin.close()
    thief.close()


def test_names_holes_and_modes_are_copied(python: Interpreter) -> None:
    python.run(
        "import os\n"
        "os.makedirs('a/b'); open('a/b/f', 'w').write('text'); os.link('a/b/f', 'g')\n"
        "open('holes', 'wb').truncate(30 * 2**20)\n"
        "with open('holes', 'r+b') as file: file.seek(20 * 2**20); file.write(b'x' * 5000)\n"
        "os.chmod('a/b/f', 0o400); os.utime('a/b/f', (5, 7)); os.chmod('a/b', 0o500)"
    )
    twin = python.fork()
    assert twin.run("open('g').read(), oct(os.stat('a/b').st_mode)").text == "('text', '0o40500')"
    assert twin.run("oct(os.stat('g').st_mode), os.stat('g').st_mtime").text == "('0o100400', 7.0)"
    if walled(python):
        assert twin.run("os.path.samefile('g', 'a/b/f')").text == "True"
        # 5,000 bytes lie across two or three pages of 4 KiB; a block has 512 bytes.
        assert int(twin.run("os.stat('holes').st_blocks").text) <= 24
    assert twin.run("open('holes', 'rb').read().strip(bytes(1)) == b'x' * 5000").text == "True"
    twin.close()


def test_a_folder_without_bottom_costs_the_copy_only(python: Interpreter) -> None:
    if not walled(python):
        return
    python.run("import os\nx = 1\nfor _ in range(1000):\n    os.mkdir('d'); os.chdir('d')\nos.chdir('/box/home')")
    twin = python.fork()
    assert not twin.alive
    assert twin.run("x").text == "1"
    assert python.run("x").text == "1"
    twin.close()


def own_zygote(interpreter: Interpreter) -> int:
    """The zygote of an interpreter: the parent of its process."""
    with open(f"/proc/{interpreter.pid}/stat", encoding="ascii") as file:
        return int(file.read().rpartition(")")[2].split()[1])


def waiting_helpers(zygote: int, sessions: set[int | None]) -> list[int]:
    """The helper that waits for the next branch, once it is there."""
    helpers: list[int] = []
    end = time.monotonic() + 10
    while not helpers and time.monotonic() < end:
        time.sleep(0.3)  # the last one ends, the next one is forked
        helpers = [pid for pid in children(zygote) if pid not in sessions and _running(pid)]
    return helpers


def left_behind(python: Interpreter) -> list[int]:
    """Set x to 20 and fork once; return the helper that waits for the next branch."""
    python.run("x = 20")
    zygote, first = own_zygote(python), python.pid
    python.fork().close()
    helpers = waiting_helpers(zygote, {first})
    assert helpers
    return helpers


def test_a_dead_helper_is_replaced(python: Interpreter) -> None:
    if not walled(python):
        return
    for pid in left_behind(python):
        os.kill(pid, signal.SIGKILL)
    twin = python.fork()
    assert twin.alive  # the process itself was forked; nothing is repeated
    assert twin.run("x + 1").text == "21"
    twin.close()


def test_a_helper_that_dies_with_its_orders_unread_is_replaced(python: Interpreter) -> None:
    if not walled(python):
        return
    helpers = left_behind(python)
    for pid in helpers:
        os.kill(pid, signal.SIGSTOP)
    killing = threading.Timer(1.0, lambda: [os.kill(pid, signal.SIGKILL) for pid in helpers])
    killing.start()
    twin = python.fork()
    killing.join()
    assert twin.alive
    assert twin.run("x + 1").text == "21"
    twin.close()


def test_a_stuck_helper_ends_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ferrule.sandbox.interpreter._BRANCH_SECONDS", 2.0)
    settings = Settings(isolation="namespaces", seconds=20, preload=("json",))
    if not probe()["namespaces"].available:
        with pytest.raises(IsolationUnavailable):
            Interpreter(settings)
        return
    with Interpreter(settings) as one, Interpreter(settings) as other:
        one.run("x = 1")
        other.run("x = 20")
        one.fork().close()  # leaves a helper for the next one behind
        helpers = waiting_helpers(own_zygote(other), {one.pid, other.pid})
        for pid in helpers:
            os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        twin = one.fork()
        assert time.monotonic() - began < 2 + LATE
        assert helpers
        assert not twin.alive
        assert twin.run("x").text == "1"
        assert other.run("x + 1").text == "21"
        again = other.fork()
        assert again.alive
        assert again.run("x").text == "20"
        again.close()
        twin.close()
        for pid in helpers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_a_stuck_zygote_is_replaced_and_its_sessions_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_START_LIMIT", 3.0)
    settings = Settings(isolation="namespaces", seconds=30, preload=("json", "ast"))
    if not probe()["namespaces"].available:
        with pytest.raises(IsolationUnavailable):
            Interpreter(settings)
        return
    with Interpreter(settings) as one, Interpreter(settings) as late:
        one.run("x = 20")
        stuck = own_zygote(one)
        os.kill(stuck, signal.SIGSTOP)
        assert "could not be started" in late.run("1").text  # this one asked and got no answer
        assert late.run("6 * 7").text == "42"
        assert own_zygote(late) != stuck
        assert one.run("x + 1").text == "21"
        one.close()
        end = time.monotonic() + 10
        while _running(stuck) and time.monotonic() < end:
            time.sleep(0.02)
        assert not _running(stuck)  # it held nothing else
        assert late.run("6 * 7").text == "42"
