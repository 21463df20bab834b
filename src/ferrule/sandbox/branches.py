"""Descriptors of one session, and what sessions that were branched from one another share."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import threading
from dataclasses import dataclass, field

from ferrule.sandbox.handles import Process, children
from ferrule.sandbox.notify import Listener

__all__ = ["BranchGroup", "Channel", "unconfined"]


class Channel:
    """Our ends of a session's connection and output, and its ends until they are handed over."""

    def __init__(self) -> None:
        self.link, self._theirs = socket.socketpair()
        pipes = [os.pipe(), os.pipe()]
        self.outputs = [read for read, _ in pipes]
        self._writes = [write for _, write in pipes]
        self.link.setblocking(False)
        self.poll = select.poll()  # the connection first, see ``LiveProcess.ask``
        self.poll.register(self.link, select.POLLIN)
        for fd in self.outputs:
            os.set_blocking(fd, False)
            self.poll.register(fd, select.POLLIN)

    @property
    def given(self) -> list[int]:
        """The other ends: protocol, stdout, stderr."""
        return [self._theirs.fileno(), *self._writes]

    def hand_over(self) -> None:
        """Close our copies of the other ends."""
        self._theirs.close()
        for fd in self._writes:
            os.close(fd)
        self._writes = []

    def close(self) -> None:
        """Close our ends."""
        self.link.close()
        for fd in self.outputs:
            with contextlib.suppress(OSError):
                os.close(fd)
        self.outputs = []


@dataclass
class BranchGroup:
    """Sessions that were branched from one another: they live in the process namespace of the first.

    The first process is its process 1, so it must outlive the others (``LiveProcess.replace_first``).
    """

    root: Process
    listener: Listener | None = None
    members: int = 1
    pids: set[int] = field(default_factory=set)
    frozen: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def leave(self) -> None:
        """One member is gone; with the last one everything ends."""
        with self.lock:
            self.members -= 1
            last = self.members == 0
        if last:
            if self.frozen:
                self.root.drop()
            if self.listener is not None:
                self.listener.close()

    def kill_unknown(self, parent: int) -> None:
        """Kill the children of ``parent`` that are not members: failed or unexpected forks."""
        for pid in children(parent):
            if pid not in self.pids:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)


_RIGHTS = re.compile(rb"^(Cap\w+|NoNewPrivs|Seccomp):\s+(\S+)", re.MULTILINE)
_CONFINED = {b"CapInh": 0, b"CapPrm": 0, b"CapEff": 0, b"CapBnd": 0, b"CapAmb": 0, b"NoNewPrivs": 1, b"Seccomp": 2}


def unconfined(pid: int) -> str:
    """Say what a process has that no session may have, as the kernel tells it from outside; empty when nothing.

    Rights belong to threads. So they are read first and the threads counted afterwards: a process of one thread that
    had no rights cannot have got them from anybody in between.
    """
    status = os.open(f"/proc/{pid}/status", os.O_RDONLY | os.O_CLOEXEC)
    try:
        rights = dict(_RIGHTS.findall(os.read(status, 1 << 16)))
    finally:
        os.close(status)
    alone = len(os.listdir(f"/proc/{pid}/task")) == 1
    wrong = [name.decode() for name, value in _CONFINED.items() if int(rights.get(name, b"-1"), 16) != value]
    return ", ".join([*wrong, *([] if alone else ["Threads"])])
