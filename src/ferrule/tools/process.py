"""One function call in a forked process that is killed at its limit."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import time
import warnings
from collections.abc import Callable

from ferrule.core.exact import line_of, read, write
from ferrule.core.records import Observation

__all__ = ["run_forked"]

_LARGEST = 16 << 20  # bytes of result that the parent is willing to read


def run_forked(function: Callable[[], Observation], seconds: float, name: str = "the tool") -> Observation:
    """Run ``function`` in a child process and return its observation; the child's group dies at the limit.

    The child is a copy of this process, so what the function changes in memory is lost. The observation comes back as
    JSON (``ferrule.core.exact``), never as a pickle. A crash, an exit or an unreadable result becomes status ``error``.
    This contains accidents such as endless loops and crashes; it does not contain hostile code.
    """
    ours, theirs = os.pipe()
    with warnings.catch_warnings():
        # Newer interpreters warn when threads exist; a child stuck on an inherited lock is killed at the limit.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _child(function, theirs)
    os.close(theirs)
    try:
        body, late = _read(ours, seconds)
    finally:
        os.close(ours)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if late:
        return Observation(f"{name} was stopped after {seconds:g} s", "timeout")
    return _result(body, os.waitstatus_to_exitcode(status))


def _child(function: Callable[[], Observation], pipe: int) -> None:
    """Run in the child: never returns, whatever happens."""
    try:
        os.setsid()
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no orphans when the parent dies
        try:
            observation = function()
        except BaseException as problem:
            observation = Observation(
                f"{type(problem).__name__}: {problem}", "error", data={"exception": type(problem).__name__}
            )
        view = memoryview(line_of(write(observation)))
        while view:
            view = view[os.write(pipe, view) :]
    finally:
        os._exit(0)


def _read(pipe: int, seconds: float) -> tuple[bytes, bool]:
    """Read to the end of the pipe; returns the bytes and whether the limit came first."""
    end = time.monotonic() + seconds
    body = bytearray()
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    while len(body) <= _LARGEST:
        left = end - time.monotonic()
        if left <= 0 or not poll.poll(1000 * left):
            return bytes(body), True
        chunk = os.read(pipe, 1 << 16)
        if not chunk:
            break
        body += chunk
    return bytes(body), False


def _result(body: bytes, code: int) -> Observation:
    try:
        return read(Observation, json.loads(body))
    except (ValueError, RecursionError):
        reason = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return Observation(f"the tool's process ended without a result ({reason})", "error")
