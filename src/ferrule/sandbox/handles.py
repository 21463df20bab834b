"""Handles on running sessions: forked by a zygote, forked by another session, or started through bubblewrap."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["Branch", "Child", "End", "Helper", "HelperEnded", "Process", "Wrapped", "Zygote", "children", "stopped"]

_DYING = 2.0  # seconds that a killed process may take to be gone before nobody waits for its exit code
_STOPPING = 5.0  # seconds in which all threads of a process must have stopped


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


class Zygote(Protocol):
    """What forked a session and collects its exit code."""

    def ask(self, request: dict[str, Any], fds: Sequence[int] = ()) -> tuple[dict[str, Any], list[int]]:
        """Send one request and return the answer with its descriptors; ``OSError`` says what went wrong."""
        ...

    def tell(self, request: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Send one request that has no answer."""
        ...

    def release(self, number: int) -> None:
        """Note that session ``number`` is over."""
        ...


@dataclass
class Child:
    """A session forked by a zygote; ``handle`` is its pid descriptor."""

    zygote: Zygote
    number: int
    handle: int

    @property
    def pid(self) -> int:
        """Its process id, as this process counts; raises ``OSError`` when it is over."""
        return _pid_behind(self.handle)

    def pause(self, stopped: bool) -> None:
        """Stop it or let it go on."""
        _signal(self.handle, signal.SIGSTOP if stopped else signal.SIGCONT)

    def drop(self) -> None:
        """Kill it without waiting for its end."""
        if self.handle >= 0:
            _signal(self.handle, signal.SIGKILL)
            self.zygote.tell({"op": "drop", "id": self.number})
            self._release()

    def reap(self, grace: float) -> End:
        """Give it ``grace`` seconds to end, kill what is left, and tell how it ended."""
        if self.handle < 0:
            return End(None, True)
        ended = _ended(self.handle, grace)
        if not ended:
            _signal(self.handle, signal.SIGKILL)
            _ended(self.handle, _DYING)
        try:
            answer, _ = self.zygote.ask({"op": "reap", "id": self.number})
        except OSError:
            answer = {"code": -signal.SIGKILL}  # with the zygote its sessions are gone, too
        self._release()
        return End(int(answer["code"]), not ended)

    def helper(self) -> Helper:
        """Ask for what sets up the namespaces of one branch; it comes while the branch is still being forked."""
        link, given = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with given:
            self.zygote.tell({"op": "help"}, [given.fileno()])
        return Helper(link)

    def _release(self) -> None:
        handle, self.handle = self.handle, -1
        os.close(handle)
        self.zygote.release(self.number)


class HelperEnded(OSError):
    """A helper was not there any more, or ended without a word."""


@dataclass
class Helper:
    """Sets up the namespaces of one branch, in a process of its own."""

    link: socket.socket

    def close(self) -> None:
        """Let it go; one that was told nothing ends."""
        self.link.close()

    def adopt(self, pid: int, disk_mb: int, seconds: float) -> None:
        """Set up the namespaces of the branch ``pid``; with ``disk_mb`` it has a folder of its own.

        Whatever happens to who does it, this returns or raises ``OSError`` within ``seconds``; ``HelperEnded`` when
        another helper may be asked.
        """
        with contextlib.suppress(ConnectionError):  # it may have left a reason
            self.link.send(b"%d %d %f" % (pid, disk_mb, seconds))
        if not _ended(self.link.fileno(), seconds):
            raise OSError("namespaces of a branch: it took too long")
        reason = ""
        with contextlib.suppress(ConnectionResetError):  # it was killed before it had read what to do
            reason = self.link.recv(4096).decode()
        if not reason:
            raise HelperEnded("namespaces of a branch: what sets them up has ended")
        if reason.strip():
            raise OSError(f"namespaces of a branch: {reason}")


@dataclass
class Branch:
    """A session forked by another one; ``group``: its whole process group dies with it.

    Its parent is not ours, so nobody tells us its exit code.
    """

    pid: int
    handle: int
    group: bool

    def pause(self, stopped: bool) -> None:
        """Stop it or let it go on."""
        _signal(self.handle, signal.SIGSTOP if stopped else signal.SIGCONT)

    def drop(self) -> None:
        """Kill it without waiting for its end."""
        if self.handle >= 0:
            if self.group:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self.pid, signal.SIGKILL)
            _signal(self.handle, signal.SIGKILL)
            handle, self.handle = self.handle, -1
            os.close(handle)

    def reap(self, grace: float) -> End:
        """Give it ``grace`` seconds to end, kill what is left, and tell how it ended."""
        ended = self.handle >= 0 and _ended(self.handle, grace)
        self.drop()
        return End(None, not ended)


@dataclass
class Wrapped:
    """A session in a bubblewrap process of its own."""

    popen: subprocess.Popen[bytes]
    handle: int = -1

    @property
    def pid(self) -> int:
        """The process id of the session itself, two generations below; raises ``OSError`` while there is none."""
        return _pid_behind(self._session())

    def _session(self) -> int:
        if self.handle < 0:
            first = next(iter(children(self.popen.pid)), 0)
            for pid in children(first):
                handle = os.pidfd_open(pid)
                if pid in children(first):  # still the one that we mean
                    self.handle = handle
                    break
                os.close(handle)
            else:
                raise OSError("the session has not started, or is over")
        return self.handle

    def pause(self, stopped: bool) -> None:
        """Stop it or let it go on."""
        with contextlib.suppress(OSError):
            _signal(self._session(), signal.SIGSTOP if stopped else signal.SIGCONT)

    def drop(self) -> None:
        """Kill it."""
        self.reap(0.0)

    def reap(self, grace: float) -> End:
        """Give it ``grace`` seconds to end, kill what is left, and tell how it ended."""
        try:
            code, killed = self.popen.wait(grace or 0.001), False
        except subprocess.TimeoutExpired:
            self.popen.kill()
            code, killed = self.popen.wait(), True
        if self.handle >= 0:
            handle, self.handle = self.handle, -1
            os.close(handle)
        # bubblewrap reports a signal the way a shell does
        return End(128 - code if 128 < code < 193 else code, killed)


def children(pid: int) -> list[int]:
    """The processes that any thread of ``pid`` has started and that are not collected; empty when it is gone."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                found += map(int, file.read().split())
    return found


@contextlib.contextmanager
def stopped(process: Process) -> Iterator[None]:
    """Stop all threads of a process for a while, where it has several; raises ``OSError`` when they do not stop."""
    tasks = f"/proc/{process.pid}/task"
    if len(os.listdir(tasks)) == 1:
        yield
        return
    process.pause(True)
    try:
        end = time.monotonic() + _STOPPING
        while not all(_state(f"{tasks}/{task}") in "TZX" for task in os.listdir(tasks)):
            if time.monotonic() > end:
                raise OSError("the threads of a session do not stop")
            time.sleep(0.0005)
        yield
    finally:
        process.pause(False)


def _state(task: str) -> str:
    try:
        with open(f"{task}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def _signal(handle: int, number: int) -> None:
    with contextlib.suppress(OSError):  # it has ended
        signal.pidfd_send_signal(handle, number)


def _ended(fd: int, grace: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(1000 * max(0.0, grace)))


def _pid_behind(handle: int) -> int:
    with open(f"/proc/self/fdinfo/{handle}", encoding="ascii") as file:
        pid = next((int(line.split()[1]) for line in file if line.startswith("Pid:")), 0)
    if pid <= 0:
        raise OSError("the process has ended")
    return pid
