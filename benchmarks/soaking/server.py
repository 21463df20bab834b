"""A tool server in a process of its own, started as a user would start it, and what ``/proc`` says about it."""

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

from ferrule.sandbox.handles import children
from ferrule.serve.metrics import tree_memory
from ferrule.serve.workers import resident

_CHILD_SUBREAPER = 36  # prctl: orphans below this process become its children, so that none can hide


def keep_orphans() -> None:
    """Become the parent of whatever outlives its own parent below this process."""
    if ctypes.CDLL(None, use_errno=True).prctl(_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "orphans cannot be kept in sight")


def orphans(*known: int) -> int:
    """Return how many children this process has beside those ``known``: who started them is gone."""
    return sum(_state(pid) not in "ZX" for pid in children(os.getpid()) if pid not in known)


def left_behind(seconds: float) -> int:
    """Wait for the end of all orphans and collect them; returns how many live on after ``seconds``."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        count = orphans()
        if not count or time.monotonic() >= end:
            return count
        time.sleep(0.02)


def _state(pid: int) -> str:
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return "X"


def _runs(pid: int, part: bytes) -> bool:
    with contextlib.suppress(OSError):
        return part in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _namespace(pid: int) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/ns/pid")
    return ""


class Server:
    """The server process; ``descriptors`` is how many it may open (None: as many as this process)."""

    def __init__(
        self, *options: str, tools: Iterable[str] = ("python",), descriptors: int | None = None,
        log: IO[bytes] | None = None,
    ) -> None:  # fmt: skip
        command = [sys.executable, "-m", "ferrule", "serve", "tools", *tools, "--port", "0", *options]
        environment = {name: value for name, value in os.environ.items() if name != "FERRULE_API_KEY"}
        bounded: Callable[[], None] | None = None
        if descriptors is not None:
            bounds = (descriptors, descriptors)

            def bounded() -> None:
                resource.setrlimit(resource.RLIMIT_NOFILE, bounds)

        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment, preexec_fn=bounded
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        if not self.url.startswith("http://127.0.0.1:"):
            raise RuntimeError("the server did not start")

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.url.removeprefix("http://").partition(":")
        return host, int(port)

    def workers(self) -> list[int]:
        """Return the live workers."""
        return [pid for pid in children(self.process.pid) if _runs(pid, b"ferrule.serve.worker")]

    def zygotes(self) -> list[int]:
        """Return the processes that sessions are forked from: each is the one child of a stub that a worker started."""
        stubs = [pid for worker in self.workers() for pid in children(worker) if _runs(pid, b"zygote.main")]
        return [pid for stub in stubs for pid in children(stub)]

    def helpers(self) -> list[int]:
        """Return what sets up branches: children of a zygote that, unlike sessions, live in its process namespace."""
        return [
            pid
            for zygote in self.zygotes()
            for pid in children(zygote)
            if _state(pid) not in "ZX" and _namespace(pid) == _namespace(zygote)
        ]

    def memory(self) -> int:
        """Return the resident memory of everything that was started here, orphans of killed workers included."""
        return tree_memory(os.getpid()) - resident(os.getpid())

    def descriptors(self) -> dict[str, int]:
        """Return the open descriptors of the server and those of its workers."""
        count = {"server": len(os.listdir(f"/proc/{self.process.pid}/fd")), "workers": 0}
        for worker in self.workers():
            with contextlib.suppress(OSError):
                count["workers"] += len(os.listdir(f"/proc/{worker}/fd"))
        return count

    def orphans(self) -> int:
        """Return how many processes outlived what had started them."""
        return orphans(self.process.pid)

    def stop(self) -> int:
        """Ask it to end and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)
