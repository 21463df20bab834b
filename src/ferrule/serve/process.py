"""One worker process as its host sees it: questions by number, one answer each, and a death that is noticed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ferrule.core.exact import read
from ferrule.core.records import Tool
from ferrule.serve.frames import FrameError, pack, read_frame

__all__ = ["Worker", "WorkerFailed"]

_SECRET = ("FERRULE_API_KEY",)  # what the server knows and its tools should not
_START = 120.0  # seconds that a worker may take until it is ready
_PATIENCE = 5.0  # seconds that a worker whose link has ended may take to close its sessions


class WorkerFailed(Exception):
    """A worker that is gone, or could not be started; the message says how it ended."""


class Worker:
    """A worker that is ready; made by ``Worker.start``."""

    def __init__(self, process: subprocess.Popen[bytes], writer: asyncio.StreamWriter, tools: tuple[Tool, ...]) -> None:
        """Keep the ends; ``Worker.start`` is the way to make one."""
        self.tools = tools
        self.episodes: set[str] = set()
        self.alive = True
        self.answered = 0
        self.began = time.monotonic()
        self.reason = ""
        self._process = process
        self._writer = writer
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reason = "the worker process died"
        self._listener: asyncio.Task[None] | None = None
        self._stopping = False

    @classmethod
    async def start(cls, hello: Mapping[str, Any], died: Callable[[Worker], None]) -> Worker:
        """Start a process and wait until it is ready; raises ``WorkerFailed`` with its reason.

        ``died(worker)`` is called once, when the process ends without having been asked to.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "ferrule.serve.worker", str(theirs.fileno())]
            process = subprocess.Popen(
                command,
                env={name: value for name, value in os.environ.items() if name not in _SECRET},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=2,
                start_new_session=True,
            )
        writer: asyncio.StreamWriter | None = None
        try:
            reader, writer = await asyncio.open_unix_connection(sock=ours)
            writer.write(pack(hello))
            answer = await asyncio.wait_for(read_frame(reader), _START)
            if answer is None or "ready" not in answer:
                reason = (answer or {}).get("failed") or f"it ended with {_exit(await _reaped(process))}"
                raise WorkerFailed(f"the worker could not be started: {reason}")
        except BaseException as problem:
            # Closed before anything is waited for: who gives a start up may not wait to the end.
            (ours if writer is None else writer).close()
            _kill(process)
            await _reaped(process)
            if isinstance(problem, FrameError | TimeoutError):
                raise WorkerFailed(f"the worker could not be started: {problem or 'it took too long'}") from None
            raise
        worker = cls(process, writer, tuple(_tool(record) for record in answer["ready"]))
        worker._listener = asyncio.ensure_future(worker._listen(reader, died))
        return worker

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def ask(self, request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Return the answer that carries the request's number.

        Raises ``WorkerFailed`` when the worker dies first or sends nothing for ``seconds`` (it is then killed), and
        ``FrameError`` for a request that is too large (nothing was sent).
        """
        frame = pack(request)
        if not self.alive:
            raise WorkerFailed(self._reason)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[request["id"]] = future
        try:
            self._writer.write(frame)
            return await asyncio.wait_for(future, seconds)
        except TimeoutError:
            self.kill(f"the worker said nothing for {seconds:g} s and was ended")
            raise WorkerFailed(self._reason) from None
        finally:
            self._waiting.pop(request["id"], None)

    async def ended(self) -> str:
        """Wait for the end of the process and return how it ended: ``exit code 1``, ``SIGKILL``."""
        return _exit(await _reaped(self._process))

    def kill(self, reason: str) -> None:
        """End the process at once; its calls in flight fail with ``reason``."""
        self._reason = reason
        _kill(self._process)

    async def stop(self) -> None:
        """End the link, give the process time to close its sessions, and kill what is left."""
        self._stopping = True
        self._writer.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(_reaped(self._process), _PATIENCE)
        _kill(self._process)
        if self._listener is not None:
            await self._listener

    async def _listen(self, reader: asyncio.StreamReader, died: Callable[[Worker], None]) -> None:
        """Hand every answer to the question of its number; the end of the link is the end of the worker."""
        try:
            while (answer := await read_frame(reader)) is not None:
                self.answered += 1
                future = self._waiting.get(answer.get("id", 0))
                if future is not None and not future.done():
                    future.set_result(answer)
        except FrameError as problem:
            self._reason = f"the worker was ended because it broke the protocol: {problem}"
        self.alive = False
        _kill(self._process)
        if not self._stopping:
            died(self)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(WorkerFailed(self._reason))
        self._writer.close()
        await _reaped(self._process)


def _tool(record: Mapping[str, Any]) -> Tool:
    """Return a description; the host runs its calls."""

    def run(**_: Any) -> None:
        raise RuntimeError(f"{record['name']} runs in a worker process; call it through the host")

    return replace(read(Tool, record), run=run)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a worker with everything in its process group."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


async def _reaped(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end of a process without holding a thread."""
    pause = 0.002
    while (code := process.poll()) is None:
        await asyncio.sleep(pause)
        pause = min(2 * pause, 0.1)
    return code


def _exit(code: int) -> str:
    if code < 0 and -code in set(signal.Signals):
        return signal.Signals(-code).name
    return f"exit code {code}"
