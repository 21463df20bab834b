"""One live interpreter process: questions, answers, captured output. Nothing that comes back is trusted."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import socket
import struct
import tempfile
import time
from dataclasses import dataclass, field
from typing import Any

from ferrule.sandbox import pool
from ferrule.sandbox.settings import IsolationUnavailable, Mode, Settings

__all__ = ["LateAnswer", "LiveProcess", "ProtocolError", "Stream", "attempt"]

_DRAIN = 1 << 20  # bytes of output read after an answer, in case threads go on writing


class ProtocolError(Exception):
    """Something came over the connection that is no answer to the question."""


class LateAnswer(ProtocolError):
    """A second answer to the question before this one: the process was still at work when it was asked."""


@dataclass
class Stream:
    """One captured output stream: the first ``cap`` bytes, and how many more there were."""

    cap: int
    body: bytearray = field(default_factory=bytearray)
    dropped: int = 0

    def add(self, chunk: bytes) -> None:
        """Keep what there is room for and count the rest."""
        room = max(0, self.cap - len(self.body))
        self.body += chunk[:room]
        self.dropped += max(0, len(chunk) - room)

    def text(self) -> str:
        """The text, with a marker when bytes were dropped."""
        said = self.body.decode("utf-8", "replace")
        return f"{said}\n[... {self.dropped} bytes of output left out ...]" if self.dropped else said


class LiveProcess:
    """One live process and our ends of its descriptors."""

    def __init__(self, mode: Mode, settings: Settings) -> None:
        """Start the process; raises ``OSError`` or ``IsolationUnavailable`` with the reason when that fails."""
        self.folder = tempfile.mkdtemp(prefix="ferrule-") if mode == "none" else ""
        self.link, theirs = socket.socketpair()
        pipes = [os.pipe(), os.pipe()]
        self.outputs = [read for read, _ in pipes]
        given = [theirs.fileno(), *(write for _, write in pipes)]
        try:
            self.process = pool.launch(mode, settings, self.folder or "/box", given)
        except BaseException:
            self._close_ours()
            raise
        finally:
            theirs.close()
            for _, write in pipes:
                os.close(write)
        self._last = ""
        self.link.setblocking(False)
        for fd in self.outputs:
            os.set_blocking(fd, False)

    def quiet(self) -> bool:
        """True when the process is alive as far as can be seen and has said nothing that it was not asked for."""
        poll = select.poll()
        poll.register(self.link, select.POLLIN)
        return not poll.poll(0)

    def ask(self, code: str, cap: int, seconds: float, streams: list[Stream]) -> dict[str, Any] | None:
        """Run ``code``; None at the time limit. Raises ``ProtocolError`` and ``ConnectionError``."""
        number = os.urandom(8).hex()
        request = json.dumps({"id": number, "code": code, "cap": cap}).encode()
        unsent = memoryview(struct.pack(">I", len(request)) + request)
        received = bytearray()
        most = 1 << 16 | 24 * cap  # JSON writes one character as 12 bytes at worst, and there are two texts
        poll = select.poll()
        poll.register(self.link, select.POLLIN | select.POLLOUT)
        by_fd = dict(zip(self.outputs, streams, strict=True))
        for fd in by_fd:
            poll.register(fd, select.POLLIN)
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            for fd, event in poll.poll(1000 * left):
                if fd in by_fd:
                    if not self._take(fd, by_fd[fd]):
                        poll.unregister(fd)
                    continue
                if event & select.POLLOUT and unsent:
                    with contextlib.suppress(BlockingIOError):
                        unsent = unsent[self.link.send(unsent, socket.MSG_NOSIGNAL) :]
                    if not unsent:
                        poll.modify(self.link, select.POLLIN)
                if event & (select.POLLIN | select.POLLHUP | select.POLLERR):
                    self._receive(received)
                    if (answer := _frame(received, most)) is not None:
                        self._drain(by_fd)
                        if isinstance(answer, dict) and answer.get("id") == self._last:
                            raise LateAnswer("a question was answered twice")
                        self._last = number
                        return _checked(answer, number, cap, len(received))
        self._drain(by_fd)
        return None

    def _receive(self, received: bytearray) -> None:
        try:
            chunk = self.link.recv(1 << 16)
        except BlockingIOError:
            return
        if not chunk:
            raise ConnectionError("the connection ended")
        received += chunk

    def _take(self, fd: int, stream: Stream) -> int:
        """Read once; returns how much, 0 when the other end is closed."""
        try:
            chunk = os.read(fd, 1 << 16)
        except BlockingIOError:
            return 1
        stream.add(chunk)
        return len(chunk)

    def drain(self, streams: list[Stream]) -> None:
        """Read what is left in the output pipes without waiting."""
        self._drain(dict(zip(self.outputs, streams, strict=True)))

    def _drain(self, by_fd: dict[int, Stream]) -> None:
        for fd, stream in by_fd.items():
            taken = 0
            while taken < _DRAIN:
                try:
                    chunk = os.read(fd, 1 << 16)
                except BlockingIOError:
                    break
                if not chunk:
                    break
                stream.add(chunk)
                taken += len(chunk)

    def end(self, grace: float = 0.0, streams: list[Stream] | None = None) -> pool.End:
        """Kill what is left, collect the last output, free everything, and tell how the process ended."""
        ended = self.process.reap(grace)
        if streams is not None:
            self.drain(streams)
        self._close_ours()
        return ended

    def _close_ours(self) -> None:
        self.link.close()
        for fd in self.outputs:
            with contextlib.suppress(OSError):
                os.close(fd)
        self.outputs = []
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)


def _frame(received: bytearray, most: int) -> Any:
    """Take the JSON of a complete frame off ``received``; None while it is incomplete; raises on anything else."""
    if len(received) < 4:
        return None
    size = int(struct.unpack(">I", received[:4])[0])
    if size > most:
        raise ProtocolError(f"an answer of {size} bytes was announced (the most is {most})")
    if len(received) < 4 + size:
        return None
    body = bytes(received[4 : 4 + size])
    del received[: 4 + size]
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise ProtocolError("an answer was not JSON") from None


def _checked(answer: Any, number: str, cap: int, more: int = 0) -> dict[str, Any]:
    """Check an answer field by field, as it comes from where untrusted code runs; ``more`` bytes came after it."""
    if more:
        raise ProtocolError("there was more than one answer")
    if not isinstance(answer, dict) or answer.get("id") != number:
        raise ProtocolError("an answer belonged to no question")
    texts = [answer.get(name) for name in ("value", "exception", "kind")]
    dropped = answer.get("dropped")
    sound = (
        answer.get("status") in ("ok", "error")
        and all(text is None or (isinstance(text, str) and len(text) <= cap + 200) for text in texts)
        and isinstance(dropped, list)
        and len(dropped) == 2
        and all(type(count) is int and 0 <= count < 1 << 60 for count in dropped)
    )
    if not sound:
        raise ProtocolError("an answer had unexpected fields")
    return answer


def attempt(mode: Mode) -> str:
    """Start a process in ``mode``, let it add two numbers, and return what went wrong (empty: nothing)."""
    streams = [Stream(2000), Stream(2000)]
    try:
        live = LiveProcess(mode, Settings(isolation=mode))
    except (OSError, IsolationUnavailable) as problem:
        return problem.missing if isinstance(problem, IsolationUnavailable) else str(problem)
    try:
        answer = live.ask("1 + 1", 100, 20.0, streams)
        said = "no answer within 20 s" if answer is None else "" if answer["value"] == "2" else "a wrong answer"
    except (ProtocolError, OSError):
        said = "the process ended at once"
    live.end(0.1, streams)
    return f"{said}: {streams[1].text().strip().splitlines()[-1]}" if said and streams[1].body.strip() else said
