"""A persistent, isolated Python interpreter: code in, observation out, whatever the code does."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from typing import Any

from ferrule.core.records import Observation, Status
from ferrule.sandbox import pool
from ferrule.sandbox.isolate import choose
from ferrule.sandbox.process import LateAnswer, LiveProcess, ProtocolError, Stream
from ferrule.sandbox.settings import IsolationUnavailable, Mode, Settings

__all__ = ["Interpreter"]

_LOST = "[the interpreter was restarted: variables and files of earlier calls are lost]"
_GRACE = 0.1  # seconds that a process whose connection ended has to end by itself


class Interpreter:
    """A Python interpreter in a process of its own that starts with the first call. Safe to use from several threads.

    With ``persistent`` variables live from call to call, otherwise every call gets a fresh process. The time limit
    of a call kills the process with all that it started, so the next call begins with a fresh one and says so. Raises
    ``IsolationUnavailable`` at once when the host lacks the isolation that ``settings`` ask for.
    """

    def __init__(self, settings: Settings | None = None, *, persistent: bool = True) -> None:
        """Check the isolation; no process is started for this interpreter yet."""
        self.settings = settings or Settings()
        self.persistent = persistent
        self.mode: Mode = choose(self.settings)
        self._lock = threading.Lock()
        self._live: LiveProcess | None = None
        self._lost = False
        self._closed = False
        self._log: list[str] = []
        self._replay: list[str] = []

    def run(self, code: str, seconds: float | None = None) -> Observation:
        """Run ``code`` and return its output, the value of its last expression, or its error. Never raises.

        Text: stdout, stderr, then the value or the traceback. ``data`` holds ``stdout``, ``stderr``, ``value`` (a
        ``repr``),
        ``exception`` (text), ``kind`` (exception name) and ``restarted``. Status ``timeout`` keeps the output so far.
        """
        started = time.perf_counter()
        with self._lock:
            seen = self._run(code, self.settings.seconds if seconds is None else seconds)
        took = time.perf_counter() - started
        return Observation(seen.text, seen.status, data=seen.data, seconds=took)

    def _run(self, code: str, seconds: float) -> Observation:
        if self._closed:
            return _observed("error", [Stream(0), Stream(0)], problem="the interpreter is closed")
        end = time.monotonic() + seconds
        seen = self._attempt(code, seconds)
        if seen is None:
            seen = self._attempt(code, max(0.1, end - time.monotonic()))
        return seen or _observed("error", [Stream(0), Stream(0)], problem="the interpreter answers out of turn")

    def _attempt(self, code: str, seconds: float) -> Observation | None:
        """Run once; None when the process turned out to be busy with an earlier call, and was replaced."""
        streams = [Stream(self.settings.output_limit), Stream(self.settings.output_limit)]
        if self._live is not None and not self._live.quiet():
            self._drop(lost=True)  # it died, or spoke without being asked, since the last call
        try:
            live = self._live or self._start()
        except (OSError, IsolationUnavailable) as problem:
            return _observed("error", streams, problem=f"the interpreter could not be started: {problem}")
        restarted, self._lost = self._lost and self.persistent, False
        status: Status = "error"
        answer: dict[str, Any] = {}
        said = ""
        try:
            found = live.ask(code, self.settings.output_limit, seconds, streams)
            if found is None:
                status, said = "timeout", f"stopped after {seconds:.3g} s"
                self._drop(lost=True)
            else:
                answer, status = found, found["status"]
                for stream, count in zip(streams, found["dropped"], strict=True):
                    stream.dropped += count
                self._log.append(code)
                if not self.persistent:
                    self._drop(lost=False)
        except LateAnswer:
            self._drop(lost=True)
            return None
        except ProtocolError as problem:
            said = f"the interpreter was stopped: {problem}"
            self._drop(lost=True)
        except OSError:
            said = _cause(self._drop(lost=True, grace=_GRACE, streams=streams))
        return _observed(status, streams, answer, said, restarted)

    def _start(self) -> LiveProcess:
        """Start a process; a forked interpreter first repeats what its original had run."""
        session = self._live = LiveProcess(self.mode, self.settings)
        replay, self._replay, self._log = self._replay, [], []
        for code in replay:
            streams = [Stream(0), Stream(0)]
            try:
                sound = session.ask(code, self.settings.output_limit, self.settings.seconds, streams) is not None
            except (ProtocolError, OSError):
                sound = False
            if not sound:
                self._drop(lost=True)
                session = self._live = LiveProcess(self.mode, self.settings)
                break
            self._log.append(code)
        return session

    def _drop(self, *, lost: bool, grace: float = 0.0, streams: list[Stream] | None = None) -> pool.End:
        session, self._live = self._live, None
        self._lost = self._lost or lost
        self._log = []
        assert session is not None
        return session.end(grace, streams)

    def fork(self) -> Interpreter:
        """Return an independent interpreter in the same state.

        The twin starts a process of its own and repeats, with its first call, every code that this one has run
        since its start:
        code that reads a clock or random numbers may come to other values. Output of the repetition is dropped.
        """
        with self._lock:
            twin = Interpreter(self.settings, persistent=self.persistent)
            twin._replay = [*self._replay, *self._log] if self.persistent else []
            twin._lost = self._lost
            twin._closed = self._closed
        return twin

    def close(self) -> None:
        """End the process; may be called twice."""
        with self._lock:
            self._closed = True
            if self._live is not None:
                self._drop(lost=True)

    def __enter__(self) -> Interpreter:
        """Use as a context manager: the process ends with the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def __del__(self) -> None:
        """An interpreter that is forgotten takes its process with it."""
        with contextlib.suppress(Exception):
            self.close()


def _cause(ended: pool.End) -> str:
    """Say why a process is gone."""
    if ended.killed:
        return "the code closed the interpreter's connection, so it was stopped"
    if ended.code == -signal.SIGKILL:
        return "interpreter died (SIGKILL): most likely out of memory or out of processor time"
    if ended.code < 0:
        name = signal.Signals(-ended.code).name if -ended.code in set(signal.Signals) else str(-ended.code)
        return f"interpreter died ({name})"
    return f"interpreter died (exit code {ended.code})"


def _observed(
    status: Status,
    streams: list[Stream],
    answer: dict[str, Any] | None = None,
    problem: str = "",
    restarted: bool = False,
) -> Observation:
    """Put the parts of an outcome together as text for the model and data for everybody else."""
    answer = answer or {}
    stdout, stderr = (stream.text() for stream in streams)
    last = answer.get("value") or answer.get("exception") or (f"Error: {problem}" if problem else "")
    parts = [_LOST if restarted else "", stdout, stderr, last]
    text = ""
    for part in parts:
        text += ("\n" if text and part and not text.endswith("\n") else "") + part
    data = {
        "stdout": stdout,
        "stderr": stderr,
        "value": answer.get("value"),
        "exception": answer.get("exception") or problem or None,
        "kind": answer.get("kind"),
        "restarted": restarted,
    }
    return Observation(text, status, data=data)
