"""Families of hostile programs, each with the wall that stops it, in every isolated mode.

A program ends with an expression that is True when it got nothing. Afterwards the same episode and a second one must
still work.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ferrule.sandbox.interpreter import Interpreter
from ferrule.sandbox.isolate import probe
from ferrule.sandbox.settings import IsolationUnavailable, Settings

TRIED = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def denied(f):
    try:
        result = f()
    except (OSError, PermissionError, ValueError, RuntimeError, ImportError):
        return True
    return isinstance(result, int) and result < 0
"""

PROGRAMS = {
    # family: {reason: program}
    "/proc and /sys": {
        "not mounted": "denied(lambda: os.listdir('/proc')) and denied(lambda: os.listdir('/sys'))",
        "no way to another process": "all(denied(lambda p=p: open(f'/proc/{p}/mem', 'rb')) for p in (1, 2, os.getppid()))",
        "kernel settings out of reach": "denied(lambda: open('/proc/sys/kernel/core_pattern', 'w').write('|/x'))",
        "control groups out of reach": "denied(lambda: open('/sys/fs/cgroup/cgroup.procs', 'w').write('1'))",
        "cannot be mounted either": "libc.mount(b'proc', b'/box/home', b'proc', 0, None) < 0",
    },
    "ptrace": {
        "attach": "all(libc.ptrace(16, p, 0, 0) < 0 for p in range(1, 20))",
        "seize": "all(libc.ptrace(0x4206, p, 0, 0) < 0 for p in range(1, 20))",
        "trace me": "libc.ptrace(0, 0, 0, 0) < 0",
        "read memory of others": "libc.process_vm_readv(1, None, 0, None, 0, 0) < 0",
        "take descriptors of others": "libc.syscall(438, 3, 0, 0) < 0",
    },
    "mounts": {
        "tmpfs": "libc.mount(b'tmpfs', b'/usr', b'tmpfs', 0, None) < 0",
        "remount writable": "libc.mount(None, b'/', None, 32, None) < 0",
        "unmount": "all(libc.umount2(p, 2) < 0 for p in (b'/', b'/usr', b'/box/home'))",
        "pivot": "libc.syscall(155, b'/', b'/') < 0",
        "chroot": "denied(lambda: os.chroot('/usr'))",
        "new mount calls": "all(libc.syscall(n, 0, 0, 0, 0, 0) < 0 for n in range(428, 434))",
        "namespaces": "all(libc.unshare(f) < 0 for f in (0x10000000, 0x20000, 0x40000000, 0x8000000, 0x4000000))",
    },
    "parent's descriptors and environment": {
        "environment is ours": "not any('FERRULE_TEST_SECRET' in k or 'gold' in v for k, v in os.environ.items())",
        "few descriptors": "sum(not denied(lambda fd=fd: os.fstat(fd).st_mode) for fd in range(256)) <= 5",
        "no directory is open": (
            "import stat\n"
            "def folder(fd):\n"
            "    try: return stat.S_ISDIR(os.fstat(fd).st_mode)\n"
            "    except OSError: return False\n"
            "not any(folder(fd) for fd in range(256))"
        ),
        "no parent to see": "os.getppid() in (0, 1)",
    },
    "time": {
        "the clock stays": "denied(lambda: __import__('time').clock_settime(0, 0.0))",
        "timers are one's own": "__import__('signal').setitimer(0, 100) == (0.0, 0.0)",
        "limits cannot be raised": (
            "import resource\n"
            "all(denied(lambda w=w: resource.setrlimit(w, (resource.RLIM_INFINITY,) * 2))\n"
            "    for w in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE))"
        ),
        "priority": "libc.setpriority(0, 0, -20) < 0",
    },
    "kernel": {
        "bpf": "libc.syscall(321, 0, 0, 0) < 0",
        "perf": "libc.syscall(298, 0, 0, 0, 0, 0) < 0",
        "io_uring": "libc.syscall(425, 1, 0) < 0",
        "userfaultfd": "libc.syscall(323, 0) < 0",
        "modules": "libc.syscall(175, 0, 0, b'') < 0 and libc.syscall(313, 0, b'', 0) < 0",
        "keys": "libc.syscall(250, 0, 0, 0) < 0",
        "reboot": "libc.syscall(169, 0xfee1dead, 672274793, 0x1234567, 0) < 0",
        "32-bit calls": "libc.syscall(0x40000000 + 41, 2, 1, 0) < 0",
    },
    "network": {
        "tcp": "import socket\ndenied(lambda: socket.create_connection(('127.0.0.1', 80), 1))",
        "unix": "import socket\ndenied(lambda: socket.socket(socket.AF_UNIX))",
        "raw": "import socket\ndenied(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))",
        "names": "import socket\ndenied(lambda: socket.gethostbyname('localhost.invalid'))",
        "netlink": "import socket\ndenied(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))",
    },
    "pickled and shown results": {
        "a value is text": "class A:\n    def __repr__(self): return 'x' * 10**7\nlen(repr(A())) == 10**7",
        "nobody unpickles": (
            "import pickle\nclass A:\n    def __reduce__(self): return (os._exit, (3,))\nlen(pickle.dumps(A())) > 0"
        ),
    },
    "symlinks": {
        "out of the folder": (
            "os.path.lexists('e') or os.symlink('/etc/shadow', 'e')\n"
            "denied(lambda: open('e').read()) and denied(lambda: open('e', 'a'))"
        ),
        "as a name of a file": "os.path.lexists('n') or os.symlink('/usr/new', 'n')\ndenied(lambda: open('n', 'w'))",
    },
}
CASES = [(family, reason) for family, programs in PROGRAMS.items() for reason in programs]


@pytest.fixture(params=["namespaces", "bubblewrap"])
def episodes(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Interpreter, Interpreter] | None]:
    monkeypatch.setenv("FERRULE_TEST_SECRET", "gold")
    settings = Settings(isolation=request.param, seconds=20, memory_mb=512)
    if not probe()[request.param].available:
        with pytest.raises(IsolationUnavailable, match=request.param):
            Interpreter(settings)
        yield None
        return
    with Interpreter(settings) as one, Interpreter(settings) as other:
        yield one, other


@pytest.mark.parametrize(("family", "reason"), CASES, ids=[f"{family}: {reason}" for family, reason in CASES])
def test_nothing_is_to_be_had(episodes: tuple[Interpreter, Interpreter] | None, family: str, reason: str) -> None:
    if episodes is None:
        return
    one, other = episodes
    assert other.run("x = 20").status == "ok"
    seen = one.run(TRIED + PROGRAMS[family][reason])
    assert (seen.status, seen.data["value"]) == ("ok", "True"), (family, reason, seen.text)
    assert one.run("6 * 7").data["value"] == "42"
    assert other.run("x + 1").text == "21"


VANDALS = {
    "builtins": "import builtins\nbuiltins.print = builtins.len = builtins.repr = None",
    "json": "import json\njson.dumps = json.loads = lambda *a, **k: 'broken'",
    "modules": "import sys\nfor name in list(sys.modules): sys.modules[name] = None",
    "streams": "import sys\nsys.stdout = sys.stderr = sys.stdin = None",
    "descriptors": "import os\nos.write = os.read = None",
    "tracing": "import sys\nsys.settrace(lambda *a: 1 / 0)",
    "recursion": "import sys\nsys.setrecursionlimit(60)",
    "collector": "import gc\ngc.collect = None; gc.disable()",
    "ast": "import ast\nast.parse = None",
    "main": "import sys\nsys.modules['__main__'].__dict__.clear()",
    "exceptions": "class E(BaseException):\n    def __str__(self): raise self\nraise E()",
    "exit hooks": "import atexit, sys\natexit.register(lambda: 1 / 0)\nsys.exit(7)",
}


@pytest.mark.parametrize("name", VANDALS)
def test_vandalism_harms_its_own_episode_only(episodes: tuple[Interpreter, Interpreter] | None, name: str) -> None:
    if episodes is None:
        return
    one, other = episodes
    other.run("x = 20")
    assert one.run(VANDALS[name]).status in ("ok", "error")
    # It may have broken its own interpreter, which then ends and is replaced; it never hangs or lies about others.
    for _ in range(3):
        again = one.run("6 * 7")
        if again.data["value"] == "42":
            break
    else:
        one.close()
    assert again.status in ("ok", "error")
    assert other.run("x + 1; print(x)\nx + 1").text == "20\n21"
