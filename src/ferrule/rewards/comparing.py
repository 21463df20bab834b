"""Comparisons with a time limit that holds: each runs in a helper process, which is killed at the limit.

Patterns, expressions and symbolic algebra can take for ever on an unlucky answer, inside code that no thread can be
stopped in. Helpers are kept and used again; one that was killed is replaced by a new one at the next comparison.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

__all__ = ["SECONDS", "Comparison", "Outcome", "limited"]

Outcome: TypeAlias = Literal["ok", "timeout", "error"]

SECONDS = 3.0
"""Time limit of one comparison, in seconds of the processor; ten times as long by the clock."""
_START = 120.0  # until a helper has imported what it needs, on a busy machine
_KEPT = 4  # idle helpers


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison: 1.0 is right, 0.0 wrong or not finished.

    ``status`` is ``ok``, ``timeout`` (stopped at the limit) or ``error`` (the comparison itself failed: no memory, a
    crash); ``problem`` says more.
    """

    value: float
    status: Outcome = "ok"
    problem: str = ""


class _Helper:
    """One helper process: a request in, a line when work begins, a line with the result."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ferrule.rewards.comparer"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._rest, self._ended = b"", False

    def ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any] | None:
        """Return the answer to a request, None when the limit came first or the process ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({**request, "seconds": seconds}).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            return None
        if self._line(_START) is None or (line := self._line(10 * seconds)) is None:
            return None
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _line(self, seconds: float) -> bytes | None:
        assert self._process.stdout is not None
        pipe, end = self._process.stdout.fileno(), time.monotonic() + seconds
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        while b"\n" not in self._rest:
            left = end - time.monotonic()
            if left <= 0 or not poll.poll(1000 * left):
                return None
            chunk = os.read(pipe, 1 << 16)
            if not chunk:
                self._ended = True
                return None
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def end(self) -> int:
        """Kill the process unless it has ended; return its exit code."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.0 if self._process.poll() is None and not self._ended else 5.0)
        self._process.kill()
        code = self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what was not yet written can no longer be
                    pipe.close()
        return code


_idle: list[_Helper] = []
_foreign: list[_Helper] = []
_lock = threading.Lock()


def limited(name: str, answer: str, gold: Any, *, seconds: float = SECONDS) -> Comparison:
    """Compare by a verifier in a helper process, which ends after ``seconds`` of the processor.

    Raises ``ValueError`` on a gold that the verifier cannot use and ``ImportError`` when its package is missing.
    """
    with _lock:
        helper = _idle.pop() if _idle else None
    helper = helper or _Helper()
    try:
        answered = helper.ask({"name": name, "answer": answer, "gold": gold}, seconds)
    except BaseException:
        helper.end()
        raise
    if answered is None:
        code = helper.end()
        if code in (-signal.SIGPROF, -signal.SIGKILL):
            return Comparison(0.0, "timeout", f"verifier {name!r} was stopped after {seconds:g} s")
        return Comparison(0.0, "error", f"the process of verifier {name!r} ended with exit code {code}")
    _keep(helper)
    for kind, error in (("invalid", ValueError), ("missing", ImportError)):
        if kind in answered:
            raise error(answered[kind])
    return Comparison(answered["value"], answered["status"], answered["problem"])


def _keep(helper: _Helper) -> None:
    with _lock:
        if len(_idle) < _KEPT:
            _idle.append(helper)
            return
    helper.end()


def _end_all() -> None:
    while _idle:
        _idle.pop().end()


def _forget() -> None:
    """Leave the helpers of a parent process alone in a forked one: they are kept, so that none is waited for."""
    global _lock
    _lock = threading.Lock()
    _foreign.extend(_idle)
    _idle.clear()


atexit.register(_end_all)
os.register_at_fork(after_in_child=_forget)
