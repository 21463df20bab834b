"""Starting interpreter processes: one warm zygote per group of settings, or one bubblewrap process per session."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import json
import os
import select
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

from ferrule.sandbox.confinement import BOX
from ferrule.sandbox.settings import IsolationUnavailable, Mode, Settings, view

__all__ = ["End", "Process", "adopt", "branch", "bubblewrap_command", "close_all", "launch", "zygote"]

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
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
_HERE = Path(__file__).resolve().parent
_INSIDE = "/run/ferrule/sandbox"  # where a bubblewrap session sees this folder
_START_LIMIT = 30.0  # seconds that a start may take on a loaded machine


@dataclass(frozen=True)
class End:
    """How a process ended: exit code (negative: signal, None: not known) and whether it had to be killed."""

    code: int | None
    killed: bool


class Process(Protocol):
    """A running session."""

    def reap(self, grace: float) -> End:
        """Give it ``grace`` seconds to end, kill what is left, and tell how it ended."""
        ...

    def drop(self) -> None:
        """Kill it without waiting for its end."""
        ...

    def pause(self, stopped: bool) -> None:
        """Stop it or let it go on."""
        ...

    @property
    def pid(self) -> int:
        """Its process id, as this process counts."""
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

    def _answer(self) -> tuple[dict[str, Any], list[int]]:
        body, fds, _, _ = socket.recv_fds(self._control, 1 << 16, 1)
        if not body:
            raise OSError(f"the zygote ended (exit code {self._popen.poll()})")
        answer: dict[str, Any] = json.loads(body)
        if "error" in answer:
            raise OSError(answer["error"])
        return answer, fds

    def ask(self, request: dict[str, Any], fds: Sequence[int] = ()) -> tuple[dict[str, Any], list[int]]:
        """Send one request and return the answer with its descriptors; ``OSError`` says what went wrong."""
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

    def tell(self, request: dict[str, Any]) -> None:
        """Send one request that has no answer."""
        with self._lock, contextlib.suppress(OSError):
            self._control.send(json.dumps(request).encode())

    def start(self, settings: dict[str, Any], fds: Sequence[int]) -> Process:
        number = next(self._ids)
        _, handles = self.ask({"op": "start", "id": number, "settings": settings}, fds)
        return _Child(self, number, handles[0])

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
    """A session forked by a zygote; ``handle`` is its pid descriptor."""

    zygote: _Zygote
    number: int
    handle: int

    @property
    def pid(self) -> int:
        return _pid_behind(self.handle)

    def pause(self, stopped: bool) -> None:
        _signal(self.handle, signal.SIGSTOP if stopped else signal.SIGCONT)

    def drop(self) -> None:
        if self.handle >= 0:
            self.zygote.tell({"op": "drop", "id": self.number})
            self._release()

    def reap(self, grace: float) -> End:
        if self.handle < 0:
            return End(None, True)
        ended = _ended(self.handle, grace)
        try:
            answer, _ = self.zygote.ask({"op": "reap", "id": self.number})
        except OSError:
            answer = {"code": -signal.SIGKILL}  # with the zygote its sessions are gone, too
        self._release()
        return End(int(answer["code"]), not ended)

    def _release(self) -> None:
        handle, self.handle = self.handle, -1
        os.close(handle)


@dataclass
class _Branch:
    """A session forked by another one. Its parent is not ours, so nobody tells us its exit code."""

    pid: int
    handle: int
    group: bool

    def pause(self, stopped: bool) -> None:
        _signal(self.handle, signal.SIGSTOP if stopped else signal.SIGCONT)

    def drop(self) -> None:
        if self.handle >= 0:
            if self.group:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self.pid, signal.SIGKILL)
            _signal(self.handle, signal.SIGKILL)
            handle, self.handle = self.handle, -1
            os.close(handle)

    def reap(self, grace: float) -> End:
        ended = self.handle >= 0 and _ended(self.handle, grace)
        self.drop()
        return End(None, not ended)


def branch(pid: int, handle: int, *, group: bool) -> Process:
    """Return the process that ``handle``, a pid descriptor, stands for; ``group``: its whole group dies with it."""
    return _Branch(pid, handle, group)


def _signal(handle: int, number: int) -> None:
    with contextlib.suppress(OSError):  # it has ended
        signal.pidfd_send_signal(handle, number)


def _ended(handle: int, grace: float) -> bool:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(1000 * grace))


def _pid_behind(handle: int) -> int:
    with open(f"/proc/self/fdinfo/{handle}", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pid:"))


@dataclass
class _Wrapped:
    """A session in a bubblewrap process of its own."""

    popen: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self.popen.pid

    def pause(self, stopped: bool) -> None:
        """Do nothing: a signal to bubblewrap does not reach the session."""

    def drop(self) -> None:
        self.reap(0.0)

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
        warm = _zygotes.get(key)
        if warm is None or not warm.alive:
            if warm is not None:
                warm.close()
            warm = _zygotes[key] = _Zygote(mode, packages, preload)
        return warm


def close_all() -> None:
    """End every zygote of this process, and with them every session."""
    with _zygotes_lock:
        for key in [key for key in _zygotes if key[0] == os.getpid()]:
            _zygotes.pop(key).close()


atexit.register(close_all)


def launch(
    mode: Mode,
    settings: Settings,
    folder: str,
    fds: Sequence[int],
    preload: tuple[str, ...] = (),
    functions: Sequence[str] = (),
) -> Process:
    """Start one session that owns the descriptors ``fds`` (protocol, stdout, stderr) and works in ``folder``.

    It is forked with the modules ``preload`` and may call the ``functions``. Raises ``OSError`` or
    ``IsolationUnavailable`` with the reason when it cannot be started.
    """
    wire = {
        "memory_mb": settings.memory_mb,
        "disk_mb": settings.disk_mb,
        "cpu_seconds": settings.cpu_seconds,
        "tasks": settings.tasks,
        "branches": settings.branches,
        "allow_processes": settings.allow_processes,
        "isolated": mode != "none",
        "bubblewrap": mode == "bubblewrap",
        "folder": folder,
        "functions": list(functions),
    }
    if mode == "bubblewrap":
        return _spawner().submit(_wrapped, settings, wire, fds, preload).result()
    return zygote(mode, settings.packages, preload).start(wire, fds)


def adopt(settings: Settings, pid: int, preload: tuple[str, ...] = (), *, folder: bool = False) -> None:
    """Set up the namespaces of the branch ``pid``, with ``folder`` a working folder of its own; raises ``OSError``."""
    request = {"op": "adopt", "pid": pid, "disk_mb": settings.disk_mb if folder else 0}
    zygote("namespaces", settings.packages, preload).ask(request)


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
    short = [] if below else ["--symlink", f"{BOX}/tmp", "/tmp"]
    command += ["--dev", "/dev", *size, "--tmpfs", BOX, *short, "--chdir", BOX]
    return [*command, "--remount-ro", "/", "--cap-drop", "ALL", "--"]


@lru_cache(maxsize=4)
def _help(program: str) -> str:
    return subprocess.run([program, "--help"], capture_output=True, text=True, check=False).stdout


def _wrapped(settings: Settings, wire: dict[str, Any], fds: Sequence[int], preload: tuple[str, ...]) -> Process:
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
        [*command, *python, json.dumps({**wire, "preload": preload})],
        pass_fds=list(fds),
        env=_ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=fds[2],
    )
    return _Wrapped(popen)
