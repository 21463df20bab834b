"""Python code in Monty, an interpreter of a Python subset that needs no OS support (extra ``monty``).

It starts in less than a millisecond and runs anywhere, but knows only a part of the language and of the standard
library and no packages; code that goes beyond ends in an error.
"""

from __future__ import annotations

import ast
import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import TracebackType
from typing import Any

from ferrule.core.records import Observation, Status
from ferrule.sandbox.settings import Settings

__all__ = ["MontyInterpreter"]

_LOST = "[the interpreter was restarted: variables of earlier calls are lost]"


@lru_cache(maxsize=1)
def _pool() -> Any:
    """The worker processes of this process; they end with it."""
    try:
        import pydantic_monty
    except ImportError:
        raise ImportError('the Monty back-end needs `pip install "ferrule[monty]"`') from None
    pool = pydantic_monty.Monty(max_processes=256)
    return pool.__enter__()


class MontyInterpreter:
    """The surface of ``Interpreter`` over Monty. Safe to use from several threads.

    Of ``settings`` the limits ``seconds``, ``memory_mb`` and ``output_limit`` apply; there are no files and no
    packages. ``functions`` are called on this side. Raises ``ImportError`` naming the extra when it is missing, and
    ``ValueError`` for settings that would do nothing here.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        persistent: bool = True,
        functions: Mapping[str, Callable[..., Any]] | None = None,
    ) -> None:
        """Check that Monty is there; a session is opened with the first call."""
        self.settings = settings or Settings()
        if self.settings.preload:
            raise ValueError("preload would do nothing with Monty, which has no packages")
        if self.settings.allow_processes:
            raise ValueError("allow_processes would do nothing with Monty, which has no processes")
        _pool()
        self.persistent = persistent
        self.functions = dict(functions or {})
        self._lock = threading.Lock()
        self._checkout: Any = None
        self._session: Any = None
        self._state: bytes | None = None
        self._names: set[str] = set()
        self._closed = self._lost = False

    def run(self, code: str, seconds: float | None = None) -> Observation:
        """Run ``code``; text, status and ``data`` are those of ``Interpreter.run``, without files. Never raises."""
        began = time.perf_counter()
        with self._lock:
            observation = self._run(code, self.settings.seconds if seconds is None else seconds)
        return Observation(
            observation.text, observation.status, data=observation.data, seconds=time.perf_counter() - began
        )

    def _run(self, code: str, seconds: float) -> Observation:
        import pydantic_monty as monty

        if self._closed:
            return _observed("error", [], exception="Error: the interpreter is closed")
        streams = monty.CollectStreams(max_bytes=2 * self.settings.output_limit)
        restarted, self._lost = self._lost and self.persistent, False
        status: Status = "ok"
        value = exception = kind = line = None
        try:
            if self._session is None:
                self._open(seconds)
            result = self._session.feed_run(code, print_callback=streams, external_lookup=self.functions)
            value = None if result is None else repr(result)[: self.settings.output_limit]
            self._names |= _assigned(code)
        except (monty.MontyRuntimeError, monty.MontySyntaxError) as problem:
            inner, frames = problem.exception(), problem.traceback()
            status, kind, exception = "error", type(inner).__name__, problem.display()[-self.settings.output_limit :]
            line = frames[-1].line if frames else None
            self._names |= _assigned(code)
            if kind == "TimeoutError" and "time limit exceeded" in str(inner):
                status, exception = "timeout", f"Error: stopped after {seconds:.3g} s"
                self._drop(lost=True)
            elif kind == "MemoryError":
                self._drop(lost=True)  # a limit stops the code anywhere, so the state is not to be trusted
        except Exception as problem:
            status, kind, exception = "error", type(problem).__name__, f"Error: interpreter died ({problem})"
            self._drop(lost=True)
        if not self.persistent and self._session is not None:
            self._drop(lost=False)
        return _observed(status, streams.output, value, exception, kind, line, restarted)

    def _open(self, seconds: float) -> None:
        limits = {
            "max_feed_duration_secs": seconds,
            "max_memory": self.settings.memory_mb << 20,
            "max_suspensions": 1_000_000,
        }
        self._checkout = _pool().checkout(script_name="<code>", limits=limits)
        self._session = self._checkout.__enter__()
        if self._state is not None:
            self._session.load_session(self._state)
            self._state = None

    def _drop(self, *, lost: bool) -> None:
        checkout, self._checkout, self._session, self._state = self._checkout, None, None, None
        self._lost, self._names = self._lost or lost, set()
        if checkout is not None:
            with contextlib.suppress(Exception):
                checkout.__exit__(None, None, None)

    def names(self) -> dict[str, str]:
        """Return the global variables that code has assigned, each with the name of its type."""
        with self._lock:
            if self._session is None:
                return {}
            kinds = {}
            for name in sorted(self._names):
                with contextlib.suppress(Exception):
                    kinds[name] = str(self._session.feed_run(f"type({name}).__name__"))
            return kinds

    def fork(self, functions: Mapping[str, Callable[..., Any]] | None = None) -> MontyInterpreter:
        """Return an independent interpreter in the same state, copied as Monty's own dump."""
        if functions is not None and set(functions) != set(self.functions):
            raise ValueError(f"a fork keeps the names of its functions: {', '.join(sorted(self.functions)) or 'none'}")
        with self._lock:
            twin = MontyInterpreter(
                self.settings, persistent=self.persistent, functions=self.functions if functions is None else functions
            )
            twin._closed, twin._lost, twin._names = self._closed, self._lost, set(self._names)
            twin._state = self._session.dump() if self._session is not None else self._state
            return twin

    def close(self) -> None:
        """End the session; may be called twice."""
        with self._lock:
            self._closed = True
            self._drop(lost=True)

    def __enter__(self) -> MontyInterpreter:
        """Use as a context manager: the session ends with the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def __del__(self) -> None:
        """An interpreter that is forgotten gives its worker back."""
        with contextlib.suppress(Exception):
            self.close()


def _assigned(code: str) -> set[str]:
    """Names that the code binds at its top level, as far as can be told from its text."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return names | {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}


def _observed(
    status: Status,
    printed: Sequence[tuple[str, str]],
    value: str | None = None,
    exception: str | None = None,
    kind: str | None = None,
    line: int | None = None,
    restarted: bool = False,
) -> Observation:
    stdout, stderr = ("".join(text for stream, text in printed if stream == name) for name in ("stdout", "stderr"))
    text = ""
    for part in (_LOST if restarted else "", stdout, stderr, value or exception or ""):
        text += ("\n" if text and part and not text.endswith("\n") else "") + part
    data = {"stdout": stdout, "stderr": stderr, "value": value, "exception": exception, "kind": kind}
    return Observation(text, status, data={**data, "line": line, "restarted": restarted})
