"""The host's end of a system call listener: refuses what a session may not do, except while it is being branched."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct
import threading
from dataclasses import dataclass, field

from ferrule.sandbox import kernel, seccomp

__all__ = ["Listener"]

_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_CONTINUE = 1


@dataclass
class Listener:
    """The calls that sessions of one group of branches are held in until they are answered.

    ``forks`` forks and as many new working folders are let through while a branch is under way; ``entered`` collects
    handles (pid descriptors) of the processes that made them. Everything else fails with ``EPERM``. Safe to use from
    several threads: all interpreters of the group share it.
    """

    fd: int
    forks: int = 0
    entered: list[tuple[int, int]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self) -> None:
        """Answer every call that is waiting."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        with self._lock:
            while self.fd >= 0 and any(event & select.POLLIN for _, event in poll.poll(0)):
                try:
                    self._one()
                except OSError:
                    return  # the process that asked is gone

    def _one(self) -> None:
        request = bytearray(80)
        fcntl.ioctl(self.fd, _RECEIVE, request)
        number, pid, _ = struct.unpack_from("QII", request)
        called, _, _ = struct.unpack_from("iIQ", request, 16)
        clone, unshare = seccomp.numbers(kernel.MACHINE)
        allowed = False
        if called == clone and self.forks > 0:
            self.forks -= 1
            allowed = True
        elif called == unshare and len(self.entered) < self._expected:
            # Held in its call, the process is certain to be the one with this number.
            self.entered.append((pid, os.pidfd_open(pid)))
            allowed = True
        fcntl.ioctl(self.fd, _SEND, struct.pack("QqiI", number, 0, *((0, _CONTINUE) if allowed else (-errno.EPERM, 0))))

    _expected: int = 0

    def open(self, forks: int) -> None:
        """Let ``forks`` forks through, and the namespaces of the processes that they make."""
        with self._lock:
            self.forks, self._expected, self.entered = forks, forks, []

    def shut(self) -> list[tuple[int, int]]:
        """Let nothing through any more; returns (process id, pid descriptor) of each process created since ``open``."""
        with self._lock:
            entered, self.forks, self._expected, self.entered = self.entered, 0, 0, []
            return entered

    def close(self) -> None:
        """Stop listening; calls that still wait fail."""
        with self._lock:
            if self.fd >= 0:
                os.close(self.fd)
            self.fd = -1
