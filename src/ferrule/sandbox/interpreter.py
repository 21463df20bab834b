"""A persistent, isolated Python interpreter: code in, observation out, whatever the code does."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ferrule.core.records import Observation, Status
from ferrule.sandbox.frames import LateAnswer, ProtocolError, Stream, checked_run
from ferrule.sandbox.handles import End, children
from ferrule.sandbox.isolate import choose
from ferrule.sandbox.outcomes import cause, observed, readable, said
from ferrule.sandbox.process import LiveProcess, Serve
from ferrule.sandbox.replay import Log, Step
from ferrule.sandbox.residency import RESIDENCY, processor_seconds
from ferrule.sandbox.settings import IsolationUnavailable, Mode, Settings, image

__all__ = ["Functions", "Interpreter"]

_GRACE = 0.1  # seconds that a process whose connection ended has to end by itself
_BRANCH_SECONDS = 20.0  # that a fork may take on a loaded machine
_LONGEST = 1e6  # seconds: more than any call takes, and not too much for a timer
_PASSED_ON = ("ValueError", "RuntimeError", "PermissionError", "TypeError", "KeyError", "IndexError", "LookupError")

Functions = Mapping[str, Callable[..., Any]]


class Interpreter:
    """A Python interpreter in a process of its own that starts with the first call. Safe to use from several threads.

    With ``persistent`` variables live from call to call, otherwise every call gets a fresh process. The time limit
    of a call kills the process with all that it started, so the next call begins with a fresh one and says so. Code
    may call ``functions`` by name: they run in this process, on JSON arguments, and give JSON results;
    ``ValueError`` and other plain exceptions of theirs are raised again inside. Raises ``IsolationUnavailable`` at
    once when the host lacks the isolation that ``settings`` ask for.
    """

    def __init__(
        self, settings: Settings | None = None, *, persistent: bool = True, functions: Functions | None = None
    ) -> None:
        """Check the isolation; no process is started for this interpreter yet."""
        self.settings = settings or Settings()
        self.persistent = persistent
        self.functions: Functions = dict(functions or {})
        for name in self.functions:
            if not name.isidentifier():
                raise ValueError(f"a function is named {name!r}, which is not a valid Python name")
        self.mode: Mode = choose(self.settings)
        self.used = time.monotonic()
        self.parked = False
        self._lock = threading.Lock()
        self._live: LiveProcess | None = None
        self._lost = False
        self._closed = False
        self._log, self._replay = Log(), list[Step]()
        RESIDENCY.add(self)

    @property
    def branching(self) -> str:
        """How ``fork`` copies a state: ``fork`` (copy on write) or ``replay`` (all code is run again)."""
        forks = self.mode != "bubblewrap" and not self.settings.allow_processes and self.settings.branches > 0
        return "fork" if forks else "replay"

    def run(self, code: str, seconds: float | None = None) -> Observation:
        """Run ``code`` and return its output, the value of its last expression, or its error. Never raises.

        Text: stdout, stderr, then the value or the traceback. ``data`` holds ``stdout``, ``stderr``, ``value`` (a
        ``repr``), ``exception`` (text), ``kind`` (exception name), ``line`` (in ``code``, where it went wrong) and
        ``restarted``, and ``late``: what threads of earlier calls have printed, which stands at the end of the text.
        ``artifacts`` are the files that the call wrote, with relative names; ``peak_mb`` is the most memory the process
        has held. Status ``timeout`` keeps the output so far. All of it is what the code says about itself.
        """
        started = time.perf_counter()
        with self._lock:
            self._wake()
            try:
                observation = self._run(code, self.settings.seconds if seconds is None else seconds)
            except BaseException as problem:
                # Where it stopped is not known, so neither is what the process will say next.
                if self._live is not None:
                    self._drop(lost=True)
                if not isinstance(problem, Exception):
                    raise  # Ctrl-C
                observation = observed("error", _none(), problem=f"the interpreter failed: {said(problem, 1000)}")
            self.used = time.monotonic()
        return replace(observation, seconds=time.perf_counter() - started)

    def names(self) -> dict[str, str]:
        """Return the global variables that code has set, each with the name of its type."""
        with self._lock:
            self._wake()
            live, answer = self._live, None
            if live is None:
                return {}
            try:
                streams = [Stream(0), Stream(0)]
                answer = live.ask({"op": "names", "most": 1000}, self.settings.seconds, streams, most=1 << 20)
            except (ProtocolError, OSError):
                answer = None
            names = answer.get("names") if answer else None
            if not isinstance(names, list):
                self._drop(lost=True)
                return {}
            return {readable(str(name)): readable(str(kind)) for name, kind in filter(_pair, names)}

    def _run(self, code: Any, seconds: Any) -> Observation:
        wrong = ""
        if self._closed:
            wrong = "the interpreter is closed"
        elif not isinstance(code, str):
            wrong = f"code is of the type {type(code).__name__}; it must be text"
        elif not isinstance(seconds, int | float) or not seconds > 0:
            wrong = f"seconds is {seconds!r}; it must be a number above 0"
        if wrong:
            return observed("error", _none(), problem=wrong)
        seconds = min(seconds, _LONGEST)
        end = time.monotonic() + seconds
        observation = self._attempt(code, seconds)
        if observation is None:
            observation = self._attempt(code, max(0.1, end - time.monotonic()))
        return observation or observed("error", _none(), problem="the interpreter answers out of turn")

    def _attempt(self, code: str, seconds: float) -> Observation | None:
        """Run once; None when the process turned out to be busy with an earlier call, and was replaced."""
        streams = [Stream(self.settings.output_limit), Stream(self.settings.output_limit)]
        late = self._live.unasked() if self._live is not None else []
        if late is None:
            late = []
            self._drop(lost=True)  # it died, or spoke without being asked, since the last call
        try:
            live = self._live or self._start(code)
        except (OSError, IsolationUnavailable) as problem:
            return observed("error", streams, problem=f"the interpreter could not be started: {problem}")
        restarted, self._lost = self._lost and self.persistent, False
        status: Status = "error"
        answer: dict[str, Any] = {}
        reason = ""
        step = Step(code)
        try:
            outcome = self._ask(live, step, seconds, streams)
            if outcome is None:
                status, reason = "timeout", f"stopped after {seconds:.3g} s"
                self._drop(lost=True)
            else:
                answer, status = outcome, outcome["status"]
                for stream, count in zip(streams, outcome["dropped"], strict=True):
                    stream.dropped += count
                self._log.add(step)
                if not self.persistent:
                    self._drop(lost=False)
        except LateAnswer:
            self._drop(lost=True)
            return None
        except ProtocolError as problem:
            reason = f"the interpreter was stopped: {problem}"
            self._drop(lost=True)
        except OSError:
            reason = cause(self._drop(lost=True, grace=_GRACE, streams=streams))
        return observed(status, streams, answer, reason, restarted=restarted, late=late)

    def _ask(
        self, live: LiveProcess, step: Step, seconds: float, streams: list[Stream], serve: Serve | None = None
    ) -> dict[str, Any] | None:
        cap, room = self.settings.output_limit, self.settings.artifact_limit
        live.replace_first(_BRANCH_SECONDS)

        def answer(name: str, args: list[Any], kwargs: dict[str, Any]) -> bytes:
            result = self._serve(name, args, kwargs)
            if self._log.spend(len(result)):
                step.answers.append(result)
            else:
                step.answers.clear()
            return result

        # JSON writes one character as 12 bytes at worst, and there are two texts; files come in base64.
        most = 1 << 20 | 24 * cap + 2 * room
        request = {"op": "run", "code": step.code, "cap": cap, "room": room}
        outcome = live.ask(request, seconds, streams, serve=serve or answer, most=most)
        return None if outcome is None else checked_run(outcome, cap)

    def _serve(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> bytes:
        """Call a function of this side; whatever it does comes to an answer (JSON), except for Ctrl-C."""
        function = self.functions.get(name)
        if function is None:
            raise ProtocolError(f"a function {name[:100]!r} was called, which was not given")
        try:
            return json.dumps({"result": function(*args, **kwargs)}).encode()
        except KeyboardInterrupt:
            raise
        except BaseException as problem:
            kind = type(problem).__name__
            raised = kind if kind in _PASSED_ON else "RuntimeError"
            return json.dumps({"raised": raised, "message": said(problem, self.settings.output_limit)}).encode()

    def _start(self, code: str) -> LiveProcess:
        """Start a process; a copy that could not be forked first repeats what its original had run."""
        RESIDENCY.make_room(self)
        preload = image(self.settings, "\n".join([code, *(step.code for step in self._replay)]))
        session = self._live = LiveProcess(self.mode, self.settings, preload, tuple(self.functions))
        replay, self._replay, self._log = self._replay, [], Log()  # a start that failed has lost nothing
        for step in replay:
            answers = iter(step.answers)

            def again(name: str, args: list[Any], kwargs: dict[str, Any], answers: Any = answers) -> bytes:
                missing = {"raised": "RuntimeError", "message": f"{name[:100]} was not called before"}
                return next(answers, json.dumps(missing).encode())

            streams = [Stream(0), Stream(0)]
            try:
                sound = self._ask(session, Step(step.code), self.settings.seconds, streams, again) is not None
            except (ProtocolError, OSError):
                sound = False
            if not sound:
                self._drop(lost=True)
                session = self._live = LiveProcess(self.mode, self.settings, preload, tuple(self.functions))
                break
            self._log.add(step)
        return session

    def _drop(self, *, lost: bool, grace: float = 0.0, streams: list[Stream] | None = None) -> End:
        session, self._live = self._live, None
        self._lost = self._lost or lost
        self._log = Log()
        self.parked = False
        assert session is not None
        return session.end(grace, streams)

    def fork(self, functions: Functions | None = None) -> Interpreter:
        """Return an independent interpreter in the same state, with ``functions`` of the same names when given.

        The process is forked as it is, copy on write, in milliseconds: variables, modules and random state are the
        same, files of the working folder are copied, threads of user code end; what was open or mapped as shared is
        shared from then on. Where ``branching`` is ``replay``, the twin instead repeats with its first call every code
        that this one has run: code that reads a clock or random numbers may then give other values; output of the
        repetition is dropped.
        """
        if functions is not None and set(functions) != set(self.functions):
            raise ValueError(f"a fork keeps the names of its functions: {', '.join(sorted(self.functions)) or 'none'}")
        with self._lock:
            self._wake()
            twin = Interpreter(
                self.settings,
                persistent=self.persistent,
                functions=self.functions if functions is None else functions,
            )
            twin._lost, twin._closed = self._lost, self._closed
            if not self.persistent or self._closed:
                return twin
            if self.branching == "replay" or self._live is None:
                twin._replay = [*self._replay, *self._log.steps]
                twin._lost = self._lost or not self._log.whole
                return twin
            try:
                RESIDENCY.make_room(self)
                if not self._live.quiet():
                    raise OSError("the interpreter ended before it was forked")
                twin._live = self._live.branch(_BRANCH_SECONDS)
                twin._log = self._log.copy()
            except (OSError, ProtocolError, IsolationUnavailable):
                # The process may be anywhere in the middle of it: both go on from a fresh one that repeats the log.
                log = self._log
                self._drop(lost=not log.whole)
                twin._lost = self._lost
                self._replay, twin._replay = [*log.steps], [*log.steps]
            return twin

    def park(self) -> bool:
        """Stop the process until the next call, unless a call is running; True when it is stopped.

        One that has processes of its own, which go on by themselves, is ended instead.
        """
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if self._live is None or self.parked:
                return self.parked
            if self.settings.allow_processes and children(self.pid or 0):
                self._drop(lost=True)
                return False
            self._live.process.pause(True)
            self.parked = True
            return True
        finally:
            self._lock.release()

    def reap(self) -> bool:
        """End an idle process to free its memory; the next call starts afresh and says so. False while one runs."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if self._live is not None:
                self._drop(lost=True)
            return True
        finally:
            self._lock.release()

    @property
    def alive(self) -> bool:
        """True while a process exists."""
        return self._live is not None

    @property
    def pid(self) -> int | None:
        """Process id as the host counts, None without a process."""
        live = self._live
        try:
            return live.process.pid if live is not None else None
        except (OSError, StopIteration):
            return None

    def spent(self) -> float:
        """Processor seconds that the process has used so far, and those it has started; 0 without a process."""
        return processor_seconds(self.pid, below=self.settings.allow_processes)

    def _wake(self) -> None:
        if self.parked and self._live is not None:
            self._live.process.pause(False)
        self.parked = False

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
        """End the process of an interpreter that nobody closed."""
        with contextlib.suppress(Exception):
            self.close()


def _pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2


def _none() -> list[Stream]:
    return [Stream(0), Stream(0)]
