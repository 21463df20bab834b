"""Starting interpreter processes: one warm zygote per group of settings, or one bubblewrap process per session."""

from __future__ import annotations

import atexit
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from ferrule.sandbox.settings import IsolationUnavailable, Mode, Settings, view

__all__ = ["End", "Process", "bubblewrap_command", "close_all", "launch", "zygote"]

# The zygote runs without site, in a package skeleton: only files of this folder and the standard library are loaded.
_BOOT = """
import sys, types
for name, path in (("ferrule", {root!r}), ("ferrule.sandbox", {here!r})):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [path]
sys.path = [p for p in sys.path if p] + {folders!r}
sys.dont_write_bytecode = True
from ferrule.sandbox import zygote
"""
_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",  # the same order of sets, and so the same output, in every run
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
_HERE = Path(__file__).resolve().parent
_INSIDE = "/run/ferrule/sandbox"  # where a bubblewrap session sees this folder
_START_LIMIT = 30.0  # seconds that a start may take on a loaded machine


@dataclass(frozen=True)
class End:
    """How a process ended: exit code (negative: signal) and whether it had to be killed."""

    code: int
    killed: bool


class Process(Protocol):
    """A running session."""

    def reap(self, grace: float) -> End:
        """Give it ``grace`` seconds to end, kill what is left, and tell how it ended."""
        ...


def _python(folders: Sequence[str], call: str, here: str) -> list[str]:
    boot = _BOOT.format(root=os.path.dirname(here), here=here, folders=list(folders))
    return [os.path.realpath(sys.executable), "-s", "-S", "-P", "-B", "-c", boot + call]


class _Zygote:
    """The parent's handle on a zygote process. Safe to use from several threads."""

    def __init__(self, mode: Mode, packages: bool, preload: tuple[str, ...]) -> None:
        binds, links, folders = view(packages)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        options = {"control": theirs.fileno(), "mode": mode, "binds": binds, "links": links, "preload": preload}
        self._control, self._lock, self._ids = ours, threading.Lock(), itertools.count(1)
        self.alive = True
        with theirs:
            self._popen = subprocess.Popen(
                [*_python(folders, "zygote.main(sys.argv[1])", str(_HERE)), json.dumps(options)],
                pass_fds=[theirs.fileno()],
                env=_ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
            )
        ours.settimeout(_START_LIMIT)
        try:
            self._answer()
        except OSError as problem:
            self.close()
            raise IsolationUnavailable(mode, str(problem)) from None

    def _answer(self) -> dict[str, Any]:
        body = self._control.recv(1 << 16)
        if not body:
            raise OSError(f"the zygote ended (exit code {self._popen.poll()})")
        answer: dict[str, Any] = json.loads(body)
        if "error" in answer:
            raise OSError(answer["error"])
        return answer

    def ask(self, request: dict[str, Any], fds: Sequence[int] = ()) -> dict[str, Any]:
        """Send one request and return the answer; ``OSError`` says what went wrong."""
        with self._lock:
            if not self.alive:
                raise OSError("the zygote is gone")
            try:
                socket.send_fds(self._control, [json.dumps(request).encode()], list(fds))
                return self._answer()
            except TimeoutError:
                self.alive = False
                self._popen.kill()
                raise
            except OSError:
                self.alive = self._popen.poll() is None
                raise

    def start(self, settings: dict[str, Any], fds: Sequence[int]) -> Process:
        number = next(self._ids)
        self.ask({"op": "start", "id": number, "settings": settings}, fds)
        return _Child(self, number)

    def close(self) -> None:
        self.alive = False
        self._control.close()
        try:
            self._popen.wait(2)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()


@dataclass
class _Child:
    """A session forked by a zygote."""

    zygote: _Zygote
    number: int

    def reap(self, grace: float) -> End:
        try:
            answer = self.zygote.ask({"op": "reap", "id": self.number, "grace": grace})
        except OSError:
            return End(-signal.SIGKILL, True)  # with the zygote its sessions are gone, too
        return End(int(answer["code"]), bool(answer["killed"]))


@dataclass
class _Wrapped:
    """A session in a bubblewrap process of its own."""

    popen: subprocess.Popen[bytes]

    def reap(self, grace: float) -> End:
        try:
            code, killed = self.popen.wait(grace or 0.001), False
        except subprocess.TimeoutExpired:
            self.popen.kill()
            code, killed = self.popen.wait(), True
        # bubblewrap reports a signal the way a shell does
        return End(128 - code if 128 < code < 193 else code, killed)


_zygotes: dict[tuple[Any, ...], _Zygote] = {}
_zygotes_lock = threading.Lock()


def zygote(mode: Mode, packages: bool = True, preload: tuple[str, ...] = ()) -> _Zygote:
    """Return the warm zygote of these settings, starting it when there is none; raises ``IsolationUnavailable``."""
    key = (os.getpid(), mode, packages, preload)  # a forked copy of this process needs zygotes of its own
    with _zygotes_lock:
        found = _zygotes.get(key)
        if found is None or not found.alive:
            if found is not None:
                found.close()
            found = _zygotes[key] = _Zygote(mode, packages, preload)
        return found


def close_all() -> None:
    """End every zygote of this process, and with them every session."""
    with _zygotes_lock:
        for key in [key for key in _zygotes if key[0] == os.getpid()]:
            _zygotes.pop(key).close()


atexit.register(close_all)


def launch(mode: Mode, settings: Settings, folder: str, fds: Sequence[int]) -> Process:
    """Start one session that owns the descriptors ``fds`` (protocol, stdout, stderr) and works in ``folder``.

    Raises ``OSError`` or ``IsolationUnavailable`` with the reason when it cannot be started.
    """
    wire = {
        "memory_mb": settings.memory_mb,
        "disk_mb": settings.disk_mb,
        "cpu_seconds": settings.cpu_seconds,
        "tasks": settings.tasks,
        "allow_processes": settings.allow_processes,
        "isolated": mode != "none",
        "bubblewrap": mode == "bubblewrap",
        "folder": folder,
    }
    if mode == "bubblewrap":
        return _spawner().submit(_wrapped, settings, wire, fds).result()
    return zygote(mode, settings.packages, settings.preload).start(wire, fds)


@lru_cache(maxsize=1)
def _spawner() -> ThreadPoolExecutor:
    """One lasting thread that starts bubblewrap: its --die-with-parent is tied to the thread that forked it."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="bubblewrap")


def bubblewrap_command(packages: bool, disk_mb: int) -> list[str]:
    """Return the command line up to the program; raises ``IsolationUnavailable`` when bubblewrap is not installed."""
    program = shutil.which("bwrap")
    if program is None:
        raise IsolationUnavailable("bubblewrap", "no program bwrap on PATH (Debian and Fedora: package bubblewrap)")
    binds, links, _ = view(packages)
    command = [program, "--unshare-all", "--die-with-parent", "--new-session", "--uid", "1000", "--gid", "1000"]
    for path in binds:
        command += ["--ro-bind", path, path]
    for path, target in links.items():
        command += ["--symlink", target, path]
    size = ["--size", str(disk_mb << 20)] if "--size" in _help(program) else []
    below = any(f"{path}/".startswith("/tmp/") for path in (*binds, *links))  # Python itself may lie there
    short = [] if below else ["--symlink", "/box/tmp", "/tmp"]
    command += ["--dev", "/dev", *size, "--tmpfs", "/box", *short, "--chdir", "/box"]
    return [*command, "--remount-ro", "/", "--cap-drop", "ALL", "--"]


@lru_cache(maxsize=4)
def _help(program: str) -> str:
    return subprocess.run([program, "--help"], capture_output=True, text=True, check=False).stdout


def _wrapped(settings: Settings, wire: dict[str, Any], fds: Sequence[int]) -> Process:
    if settings.allow_processes and os.geteuid() == 0:
        raise IsolationUnavailable(
            "bubblewrap", "the number of processes cannot be limited for root under bubblewrap (allow_processes)"
        )
    command = bubblewrap_command(settings.packages, settings.disk_mb)
    at = command.index("--dev")
    command[at:at] = ["--ro-bind", str(_HERE), _INSIDE]
    call = f"import json; zygote.become(json.loads(sys.argv[1]), {list(fds)!r}, None, None)"
    python = _python(view(settings.packages)[2], call, _INSIDE)
    popen = subprocess.Popen(
        [*command, *python, json.dumps({**wire, "preload": settings.preload})],
        pass_fds=list(fds),
        env=_ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=fds[2],
    )
    return _Wrapped(popen)
