"""One live interpreter process: questions, answers, captured output. Nothing that it sends is trusted."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any

from ferrule.sandbox import pool
from ferrule.sandbox.branches import BranchGroup, Channel, unconfined
from ferrule.sandbox.confinement import BOX
from ferrule.sandbox.frames import LateAnswer, ProtocolError, Stream, as_frame, count, framed, take_frame
from ferrule.sandbox.handles import Branch, Child, End, Helper, HelperEnded, stopped
from ferrule.sandbox.notify import Listener
from ferrule.sandbox.runner import GREETING
from ferrule.sandbox.settings import Mode, Settings

__all__ = ["LiveProcess", "Serve", "no_functions"]

_DRAIN = 1 << 20  # bytes of output read after an answer, in case threads go on writing

Serve = Callable[[str, list[Any], dict[str, Any]], bytes]
"""Calls a function for code inside: name, arguments -> JSON, ``{"result"}`` or ``{"raised", "message"}``."""


def no_functions(name: str, args: list[Any], kwargs: dict[str, Any]) -> bytes:
    """Answer a session that has no functions."""
    raise ProtocolError(f"a function {name!r} was called, which was not given")


class LiveProcess:
    """One live process and our ends of its descriptors."""

    def __init__(
        self,
        mode: Mode,
        settings: Settings,
        preload: tuple[str, ...] = (),
        functions: Sequence[str] = (),
    ) -> None:
        """Start the process; raises ``OSError`` or ``IsolationUnavailable`` with the reason when that fails."""
        self.mode, self.settings, self.preload = mode, settings, preload
        self.folder = tempfile.mkdtemp(prefix="ferrule-") if mode == "none" else ""
        self.channel = Channel()
        try:
            where = self.folder or BOX
            self.process = pool.launch(mode, settings, where, self.channel.given, preload, functions)
        except BaseException:
            self._close_ours()
            raise
        finally:
            self.channel.hand_over()
        self.group = BranchGroup(self.process)
        self.first = True
        self._last = ""

    @property
    def outputs(self) -> list[int]:
        """Our ends of the output pipes."""
        return self.channel.outputs

    def quiet(self) -> bool:
        """True when the process seems alive and has sent nothing unasked."""
        return self._still(self.channel.poll.poll(0))

    def _still(self, events: Sequence[tuple[int, int]]) -> bool:
        link = self.channel.link.fileno()
        return all(fd != link for fd, _ in events) or (self._greets and self._greeting())

    def unasked(self) -> list[Stream] | None:
        """Return what was written since the last answer, most often nothing; None unless it is ``quiet``."""
        events = self.channel.poll.poll(0)
        if not events:
            return []
        if not self._still(events):
            return None
        streams = [Stream(self.settings.output_limit) for _ in self.outputs]
        self._drain(dict(zip(self.outputs, streams, strict=True)))
        return streams

    @property
    def _greets(self) -> bool:
        """True while the listener may come, unasked and before everything else; sessions of other kinds have none."""
        return self.group.listener is None and self.mode == "namespaces" and not self.settings.allow_processes

    def _greeting(self) -> bool:
        """Take the listener off the connection; False when something else came."""
        try:
            head, fds, _, _ = socket.recv_fds(self.channel.link, 1, 1)
        except OSError:
            return False
        if head == GREETING and fds:
            self.group.listener = Listener(fds[0])
            return True
        for fd in fds:
            os.close(fd)
        return False

    def ask(
        self,
        request: Mapping[str, Any],
        seconds: float,
        streams: list[Stream],
        *,
        serve: Serve = no_functions,
        most: int = 1 << 16,
        fds: Sequence[int] = (),
    ) -> dict[str, Any] | None:
        """Send a request and wait for its answer; None at the time limit.

        Code inside may have functions called through ``serve`` meanwhile. ``most`` bytes of answer are accepted.
        Raises ``ProtocolError`` and ``ConnectionError``.
        """
        link, number = self.channel.link, os.urandom(8).hex()
        received = bytearray()
        unsent = self._send(memoryview(framed({"id": number, **request})), fds)
        poll = self.channel.poll
        poll.modify(link, select.POLLIN | select.POLLOUT if unsent else select.POLLIN)
        by_fd = dict(zip(self.outputs, streams, strict=True))
        listening = self._listen(poll)
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            events = poll.poll(1000 * left)
            for fd, event in events:
                if fd in by_fd:
                    if not self._take(fd, by_fd[fd]):
                        poll.unregister(fd)
                    continue
                if fd == listening:
                    self._refuse(poll, event)
                    continue
                if event & select.POLLOUT and unsent:
                    unsent = self._send(unsent)
                    if not unsent:
                        poll.modify(link, select.POLLIN)
                if event & (select.POLLIN | select.POLLHUP | select.POLLERR):
                    self._receive(received)
                    if listening < 0:
                        listening = self._listen(poll)
                    # All that is complete is taken, so that what is kept never grows beyond one frame.
                    while time.monotonic() < end and (answer := take_frame(received, most)) is not None:
                        if not isinstance(answer, dict) or "call" not in answer:
                            # It was written before the answer was sent, and is looked at after it: nothing is missed.
                            self._drain({fd: by_fd[fd] for fd, _ in events if fd in by_fd})
                            return self._matched(answer, number, received)
                        if answer.get("id") == self._last:
                            raise LateAnswer("a thread of an earlier call called a function")
                        if unsent:
                            raise ProtocolError("a function was called before the last one's result was read")
                        unsent = self._send(memoryview(as_frame(_called(answer, number, serve))))
                        if unsent:
                            poll.modify(link, select.POLLIN | select.POLLOUT)
        self._drain(by_fd)
        return None

    def _send(self, unsent: memoryview, fds: Sequence[int] = ()) -> memoryview:
        """Send what the connection takes now; returns the rest. Descriptors go with the first byte."""
        try:
            if fds:
                sent = socket.send_fds(self.channel.link, [unsent], list(fds), socket.MSG_NOSIGNAL)
            else:
                sent = self.channel.link.send(unsent, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            if fds:  # nothing else is ever under way when descriptors are sent
                raise ConnectionError("the connection is blocked") from None
            return unsent
        return unsent[sent:]

    def _matched(self, answer: Any, number: str, more: bytearray) -> dict[str, Any]:
        """Return the answer when it is the one to question ``number`` and nothing came after it."""
        if isinstance(answer, dict) and answer.get("id") == self._last:
            raise LateAnswer("a question was answered twice")
        self._last = number
        if more or not isinstance(answer, dict) or answer.get("id") != number:
            raise ProtocolError("an answer belonged to no question")
        return answer

    def _listen(self, poll: select.poll) -> int:
        listener = self.group.listener
        if listener is None:
            return -1
        poll.register(listener.fd, select.POLLIN)
        return listener.fd

    def _refuse(self, poll: select.poll, event: int) -> None:
        """Answer calls that are held; a listener without sessions is closed."""
        listener = self.group.listener
        assert listener is not None
        if event & select.POLLIN:
            listener.answer()
        else:
            poll.unregister(listener.fd)

    def _receive(self, received: bytearray) -> None:
        fds = list[int]()
        try:
            if self._greets:
                chunk, fds, _, _ = socket.recv_fds(self.channel.link, 1 << 16, 1)
            else:  # quicker; descriptors that come along are closed by the kernel
                chunk = self.channel.link.recv(1 << 16)
        except BlockingIOError:
            return
        if not chunk:
            raise ConnectionError("the connection ended")
        if fds and chunk[:1] == GREETING and not received:
            self.group.listener = Listener(fds.pop())
            chunk = chunk[1:]
        for fd in fds:
            os.close(fd)
        received += chunk

    def branch(self, seconds: float) -> LiveProcess:
        """Fork the process itself, copy on write, and return the twin; raises ``OSError`` when that is not possible.

        The twin has all variables and a copy of the working folder. Threads of user code do not live on in it; open
        files are shared. When anything goes wrong the process may be left in an unknown state and should be dropped.
        """
        end = time.monotonic() + seconds
        twin = self._fork(end)
        try:
            if self.mode == "none":
                twin.folder = tempfile.mkdtemp(prefix="ferrule-")
                shutil.copytree(self.folder, twin.folder, symlinks=True, dirs_exist_ok=True)
            self._settle(twin, end)
        except BaseException:
            twin.end()
            raise
        return twin

    def replace_first(self, seconds: float) -> None:
        """Let a fork go on in place of a process that others were branched from, before it runs anything again.

        The first process of a group of branches is process 1 of their namespace: were it to crash, all would end with
        it. So it is stopped for good once it has branches, and the fork does the work.
        """
        if not self.first or self.group.members == 1 or self.mode != "namespaces":
            return
        fork = self._fork(time.monotonic() + seconds, folder=False)
        self.process.pause(True)
        self.group.frozen, self.first = True, False
        self.channel.close()
        self.channel, self.process, self._last = fork.channel, fork.process, fork._last
        with self.group.lock:
            self.group.members -= 1  # the fork takes the place of the first

    def _settle(self, twin: LiveProcess, end: float) -> None:
        request = {"op": "settle", "folder": twin.folder or BOX}
        if twin.ask(request, max(0.0, end - time.monotonic()), [Stream(0), Stream(0)]) is None:
            raise OSError("the branch did not answer")

    def _fork(self, end: float, *, folder: bool = True) -> LiveProcess:
        """Let the process fork once and return the child."""
        twin = copy(self)
        twin.channel, twin._last, twin.folder, twin.first = Channel(), "", "", False
        listener = self.group.listener
        children: list[tuple[int, int]] = []
        helper = None
        try:
            if listener is not None:
                helper = self._helper()
                listener.open(1, self.process.pid)
            request, left = {"op": "fork"}, max(0.0, end - time.monotonic())
            answer = self.ask(request, left, [Stream(0), Stream(0)], fds=twin.channel.given)
            twin.channel.hand_over()
            if answer is None or answer.get("problem"):
                raise OSError(f"the interpreter could not be forked: {(answer and answer['problem']) or 'no answer'}")
            pid = twin._born(max(0.0, end - time.monotonic()), answer)
            children = listener.shut() if listener is not None else [(pid, os.pidfd_open(pid))]
            if len(children) != 1:
                raise OSError("the branch could not be told apart from other processes")
            if helper is not None:
                self._adopt(helper, children[0][0], end, folder=folder)
        except BaseException:
            twin.channel.hand_over()
            twin.channel.close()
            for _, handle in [*children, *(listener.shut() if listener is not None else [])]:
                with contextlib.suppress(OSError):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                os.close(handle)
            with contextlib.suppress(OSError, StopIteration):
                self.group.kill_unknown(self.process.pid)
            raise
        finally:
            if helper is not None:
                helper.close()
        twin.process = Branch(*children[0], self.mode == "none")
        with self.group.lock:
            self.group.members += 1
            self.group.pids.add(children[0][0])
        return twin

    def _helper(self) -> Helper:
        assert isinstance(self.group.root, Child)
        return self.group.root.helper()

    def _adopt(self, helper: Helper, pid: int, end: float, *, folder: bool) -> None:
        """Give the branch ``pid`` its user and its folder, once the kernel says that it has kept no rights."""
        kept = unconfined(pid)
        if kept:
            raise OSError(f"a branch kept what it must not have: {kept}")
        disk_mb = self.settings.folder_mb if folder else 0
        with stopped(self.process) if folder else contextlib.nullcontext():
            try:
                helper.adopt(pid, disk_mb, end - time.monotonic())
            except HelperEnded:
                with contextlib.closing(self._helper()) as another:
                    another.adopt(pid, disk_mb, end - time.monotonic())

    def _born(self, seconds: float, asked: Mapping[str, Any]) -> int:
        """Wait for the first words of a fork, letting it into its namespaces; returns the process id it claims."""
        listener, end = self.group.listener, time.monotonic() + seconds
        poll, received = select.poll(), bytearray()
        poll.register(self.channel.link, select.POLLIN)
        if listener is not None:
            poll.register(listener.fd, select.POLLIN)
        while (left := end - time.monotonic()) > 0:
            for fd, _ in poll.poll(1000 * left):
                if listener is not None and fd == listener.fd:
                    listener.answer()
                    continue
                self._receive(received)
                answer = take_frame(received, 1 << 12)
                if answer is None:
                    continue
                if not isinstance(answer, dict) or answer.get("id") != asked["id"] or not count(answer.get("pid")):
                    raise ProtocolError("a branch did not introduce itself")
                self._last = answer["id"]
                return int(answer["pid"])
        raise OSError("the branch did not come up in time")

    def _take(self, fd: int, stream: Stream) -> int:
        """Read once; returns how much, 0 when the other end is closed."""
        try:
            chunk = os.read(fd, 1 << 16)
        except BlockingIOError:
            return 1
        stream.add(chunk)
        return len(chunk)

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

    def end(self, grace: float = 0.0, streams: list[Stream] | None = None) -> End:
        """Kill what is left, collect the last output, free everything, and tell how the process ended."""
        if self.first and self.mode == "namespaces" and self.group.members > 1:
            self.process.pause(True)  # its branches live in its namespace
            self.group.frozen, ended = True, End(None, True)
        elif grace or streams is not None:
            ended = self.process.reap(grace)
        else:
            self.process.drop()
            ended = End(None, True)
        if streams is not None:
            self._drain(dict(zip(self.outputs, streams, strict=True)))
        self._close_ours()
        self.group.leave()
        return ended

    def _close_ours(self) -> None:
        self.channel.close()
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)


def _called(frame: Mapping[str, Any], number: str, serve: Serve) -> bytes:
    """Serve one call of a function from inside; raises ``ProtocolError`` for an invalid frame."""
    name, args, kwargs = frame.get("call"), frame.get("args"), frame.get("kwargs")
    sound = isinstance(name, str) and isinstance(args, list) and isinstance(kwargs, dict)
    if not sound or frame.get("id") != number:
        raise ProtocolError("a call of a function was not in order")
    return serve(str(name), args or [], kwargs or {})
