"""Starting interpreter processes: one warm zygote per group of settings, or one bubblewrap process per session."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

from ferrule.sandbox import handles
from ferrule.sandbox.confinement import BOX, DEVICES, NOBODY
from ferrule.sandbox.settings import IsolationUnavailable, Mode, Settings, view

__all__ = ["bubblewrap_command", "close_all", "launch", "zygote"]

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
    # Two heaps are enough for all threads: each takes 64 MiB of address space.
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=2",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
_HERE = Path(__file__).resolve().parent
_INSIDE = "/run/ferrule/sandbox"  # where a bubblewrap session sees this folder
_START_LIMIT = 30.0  # seconds that a start may take on a loaded machine


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
        self._held = set[int]()
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
            raise ConnectionError(f"the zygote ended (exit code {self._popen.poll()})")
        answer: dict[str, Any] = json.loads(body)
        if "error" in answer:
            raise OSError(answer["error"])
        return answer, fds

    def ask(self, request: dict[str, Any], fds: Sequence[int] = ()) -> tuple[dict[str, Any], list[int]]:
        """Send one request and return the answer with its descriptors; ``OSError`` says what went wrong."""
        with self._lock:
            if not self.alive:
                raise ConnectionError("the zygote is gone")
            try:
                socket.send_fds(self._control, [json.dumps(request).encode()], list(fds))
                return self._answer()
            except TimeoutError:
                self.alive = False  # its sessions live on: they talk to us directly, and new ones get another zygote
                raise
            except ConnectionError:
                self.alive = False  # it has ended
                raise

    def tell(self, request: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Send one request that has no answer; waits for nobody."""
        with contextlib.suppress(OSError):
            socket.send_fds(self._control, [json.dumps(request).encode()], list(fds), socket.MSG_DONTWAIT)

    def start(self, settings: dict[str, Any], fds: Sequence[int]) -> handles.Process:
        number = next(self._ids)
        _, received = self.ask({"op": "start", "id": number, "settings": settings}, fds)
        self._held.add(number)
        return handles.Child(self, number, received[0])

    def release(self, number: int) -> None:
        """Note that session ``number`` is over; without any, a zygote that no longer answers ends."""
        self._held.discard(number)
        if not self.alive and not self._held:
            self._popen.kill()
            self.close()

    @property
    def idle(self) -> bool:
        """True while it holds no session."""
        return not self._held

    def close(self) -> None:
        self.alive = False
        self._control.close()
        try:
            self._popen.wait(2)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()


_zygotes: dict[tuple[Any, ...], _Zygote] = {}
_retired: list[tuple[int, _Zygote]] = []  # those that no longer answer, by the process that started them
_zygotes_lock = threading.Lock()


def zygote(mode: Mode, packages: bool = True, preload: tuple[str, ...] = ()) -> _Zygote:
    """Return the warm zygote of these settings, starting it when there is none; raises ``IsolationUnavailable``."""
    key = (os.getpid(), mode, packages, preload)  # a forked copy of this process needs zygotes of its own
    with _zygotes_lock:
        warm = _zygotes.get(key)
        if warm is None or not warm.alive:
            if warm is not None and warm.idle:
                warm.close()
            elif warm is not None:
                _retired.append((os.getpid(), warm))
            warm = _zygotes[key] = _Zygote(mode, packages, preload)
        return warm


def close_all() -> None:
    """End every zygote of this process, and with them every session."""
    with _zygotes_lock:
        for key in [key for key in _zygotes if key[0] == os.getpid()]:
            _zygotes.pop(key).close()
        for _, stuck in [entry for entry in _retired if entry[0] == os.getpid()]:
            stuck.close()
        _retired.clear()


atexit.register(close_all)


def launch(
    mode: Mode,
    settings: Settings,
    folder: str,
    fds: Sequence[int],
    preload: tuple[str, ...] = (),
    functions: Sequence[str] = (),
) -> handles.Process:
    """Start one session that owns the descriptors ``fds`` (protocol, stdout, stderr) and works in ``folder``.

    It is forked with the modules ``preload`` and may call the ``functions``. Raises ``OSError`` or
    ``IsolationUnavailable`` with the reason when it cannot be started.
    """
    wire = {
        "memory_mb": settings.memory_mb,
        "disk_mb": settings.folder_mb,
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
    try:
        return zygote(mode, settings.packages, preload).start(wire, fds)
    except ConnectionError:  # it has ended since the last start, and nothing was run: the next one does it
        return zygote(mode, settings.packages, preload).start(wire, fds)


@lru_cache(maxsize=1)
def _spawner() -> ThreadPoolExecutor:
    """One lasting thread that starts bubblewrap: its --die-with-parent is tied to the thread that forked it."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="bubblewrap")


def bubblewrap_command(packages: bool) -> list[str]:
    """Return the command line up to the program; raises ``IsolationUnavailable`` when bubblewrap is not installed.

    The program has the rights to mount its working folder, with a limit on bytes and on files, and to become a user
    without rights. It gives them up.
    """
    program = shutil.which("bwrap")
    if program is None:
        raise IsolationUnavailable("bubblewrap", "no program bwrap on PATH (Debian and Fedora: package bubblewrap)")
    binds, links, _ = view(packages)
    command = [program, "--unshare-all", "--die-with-parent", "--new-session", "--uid", "1000", "--gid", "1000"]
    # Made on the way to a file they would be root's alone.
    shown = (*binds, *links, *DEVICES, _INSIDE, BOX)
    for folder in sorted({str(folder) for path in shown for folder in Path(path).parents} - {"/"}):
        command += ["--dir", folder]
    for path in binds:
        command += ["--ro-bind", path, path]
    for path, target in links.items():
        command += ["--symlink", target, path]
    for path in DEVICES:
        command += ["--dev-bind", path, path]
    below = any(f"{path}/".startswith("/tmp/") for path in (*binds, *links))  # Python itself may lie there
    command += [*([] if below else ["--symlink", f"{BOX}/tmp", "/tmp"]), "--dir", BOX, "--chdir", BOX]
    command += ["--ro-bind", str(_HERE), _INSIDE, "--remount-ro", "/"]
    rights = ["--cap-drop", "ALL"]
    for right in ("SYS_ADMIN", "SETPCAP", "SETUID", "SETGID"):
        rights += ["--cap-add", f"CAP_{right}"]
    return [*command, *rights, "--"]


def _wrapped(settings: Settings, wire: dict[str, Any], fds: Sequence[int], preload: tuple[str, ...]) -> handles.Process:
    command = bubblewrap_command(settings.packages)
    call = f"import json; zygote.become(json.loads(sys.argv[1]), {list(fds)!r}, None, None)"
    python = _python(view(settings.packages)[2], call, _INSIDE)
    (told, telling), (waiting, going) = os.pipe(), os.pipe()
    as_root = os.geteuid() == 0
    if as_root:
        command[1:1] = ["--unshare-user", "--info-fd", str(telling), "--userns-block-fd", str(waiting)]
    try:
        popen = subprocess.Popen(
            [*command, *python, json.dumps({**wire, "preload": preload})],
            pass_fds=[*fds, telling, waiting] if as_root else list(fds),
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=fds[2],
        )
        os.close(telling)
        telling = -1
        if as_root and not _mapped_to_nobody(told) and settings.allow_processes:
            popen.kill()
            popen.wait()
            raise IsolationUnavailable(
                "bubblewrap", "the number of processes cannot be limited for root on this host (allow_processes)"
            )
        os.write(going, b"x")
    finally:
        for fd in (told, telling, waiting, going):
            if fd >= 0:
                os.close(fd)
    return handles.Wrapped(popen)


def _mapped_to_nobody(told: int) -> bool:
    """Let the session become a user without rights, as any user that root makes by itself would be root outside.

    ``told`` is where bubblewrap says which process waits for its map. False where the host refuses one with two users
    in it: then the session is root, without any rights but those over root's files, and its threads are not counted.
    """
    said = b""
    while b"}" not in said:
        chunk = os.read(told, 4096)
        if not chunk:
            return False  # it has ended, and what it said comes with the session's output
        said += chunk
    waiting = Path("/proc") / str(json.loads(said)["child-pid"])
    try:
        for kind in ("gid_map", "uid_map"):
            (waiting / kind).write_text(f"0 0 1\n1000 {NOBODY} 1", encoding="ascii")
        return True
    except OSError:
        for kind, text in (("setgroups", "deny"), ("gid_map", "1000 0 1"), ("uid_map", "1000 0 1")):
            with contextlib.suppress(OSError):
                (waiting / kind).write_text(text, encoding="ascii")
        return False
