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
_AT_ONCE = 64


@dataclass
class Listener:
    """The calls that sessions of one group of branches are held in until they are answered.

    ``forks`` forks and as many new working folders are let through while a branch is under way; ``entered`` collects
    handles (pid descriptors) of the processes that made them. Both are for the process that is being branched and its
    children alone. Everything else fails with ``EPERM``. Safe to use from
    several threads: all interpreters of the group share it.
    """

    fd: int
    forks: int = 0
    entered: list[tuple[int, int]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self) -> None:
        """Answer the calls that are waiting, but a bounded number of them: others may follow as fast."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        with self._lock:
            for _ in range(_AT_ONCE):
                if self.fd < 0 or not any(event & select.POLLIN for _, event in poll.poll(0)):
                    return
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
        allowed, handle = False, -1
        if called == clone and self.forks > 0 and os.path.exists(f"/proc/{self._parent}/task/{pid}"):
            self.forks -= 1
            allowed = True
        elif called == unshare and len(self.entered) < self._expected and _parent_of(pid) == self._parent:
            handle, allowed = os.pidfd_open(pid), True
        answer = struct.pack("QqiI", number, 0, *((0, _CONTINUE) if allowed else (-errno.EPERM, 0)))
        try:
            fcntl.ioctl(self.fd, _SEND, answer)
        except OSError:
            if handle >= 0:
                os.close(handle)
            raise
        if handle >= 0:  # it was held in its call until now, so the number was its own
            self.entered.append((pid, handle))

    _expected: int = 0
    _parent: int = 0

    def open(self, forks: int, parent: int) -> None:
        """Let ``forks`` forks of the process ``parent`` through, and the namespaces of the processes that they make."""
        with self._lock:
            self.forks, self._expected, self._parent, self.entered = forks, forks, parent, []

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


def _parent_of(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except OSError:
        return -1
