"""What runs inside a session's process: reads code frames, runs them, answers. Standard library only.

A frame is four bytes of length (big-endian) and so much JSON. A request is ``{"id", "code", "cap"}``, the answer
``{"id", "status",
"value", "exception", "kind", "dropped"}``. The other end trusts none of it: code that runs here can reach
everything here.
"""

from __future__ import annotations

import ast
import builtins
import gc
import io
import json
import linecache
import os
import struct
import sys
import traceback
import types
from collections.abc import Callable
from typing import Any

__all__ = ["Output", "execute", "serve"]

_Execute = Callable[[str, str, int], dict[str, Any]]


class Output(io.RawIOBase):
    """Writes straight to a descriptor until ``cap`` bytes are through, then only counts."""

    def __init__(self, fd: int, write: Callable[[int, bytes], int] = os.write) -> None:
        """Start open, with nothing written; ``renew`` sets the cap of a call."""
        super().__init__()
        self._fd, self._write, self._left, self.dropped = fd, write, 0, 0

    def renew(self, cap: int) -> None:
        """Allow ``cap`` bytes from now on."""
        self._left, self.dropped = cap, 0

    def fileno(self) -> int:
        """The descriptor below, for code that asks."""
        return self._fd

    def isatty(self) -> bool:
        """Never a terminal."""
        return False

    def writable(self) -> bool:
        """Always writable."""
        return True

    def write(self, data: Any) -> int:
        """Write what the cap allows and count the rest; claims to have written all."""
        body = bytes(data)
        kept = body[: self._left]
        self._left -= len(kept)
        self.dropped += len(body) - len(kept)
        while kept:
            kept = kept[self._write(self._fd, kept) :]
        return len(body)


def _namespace() -> dict[str, Any]:
    """A fresh ``__main__`` module, so that classes and pickles of user code work as in a script."""
    module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = module
    return module.__dict__


def execute(code: str, label: str, cap: int, namespace: dict[str, Any]) -> dict[str, Any]:
    """Run ``code`` once; the value of a last expression is its ``repr``, cut to ``cap`` characters.

    Whatever the code raises, ``SystemExit`` included, becomes part of the answer. ``sys.exit()`` and
    ``sys.exit(0)`` end the code as a script would end: status ok.
    """
    value: str | None = None
    try:
        linecache.cache[label] = (len(code), None, code.splitlines(keepends=True), label)
        tree = ast.parse(code, label)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, label, "exec", dont_inherit=True), namespace)
        if isinstance(last, ast.Expr):
            result = eval(compile(ast.Expression(last.value), label, "eval", dont_inherit=True), namespace)
            if result is not None:
                value = repr(result)[:cap]
    except BaseException as problem:
        if isinstance(problem, SystemExit) and problem.code in (None, 0):
            return {"status": "ok", "value": None, "exception": None, "kind": None}
        return {"status": "error", "value": None, "exception": _shown(problem, cap), "kind": type(problem).__name__}
    return {"status": "ok", "value": value, "exception": None, "kind": None}


def _shown(problem: BaseException, cap: int) -> str:
    """The last lines of the traceback, from the user's own frames on."""
    try:
        trace = problem.__traceback__
        while trace is not None and not trace.tb_frame.f_code.co_filename.startswith("<code "):
            trace = trace.tb_next
        lines = traceback.format_exception(type(problem), problem, trace, limit=-6)
        if trace is None and lines and lines[0].startswith("Traceback"):
            lines = lines[1:]
        return "".join(lines).rstrip()[-cap:]
    except BaseException as worse:
        return f"{type(problem).__name__} (which cannot be shown: {type(worse).__name__})"


def _bound_execute() -> _Execute:
    namespace = _namespace()
    return lambda code, label, cap: execute(code, label, cap, namespace)


def serve(fd: int) -> None:
    """Answer requests on ``fd`` until its other end closes; output goes to descriptors 1 and 2. Never returns."""
    read, write, leave, dumps, loads = os.read, os.write, os._exit, json.dumps, json.loads
    out, err = Output(1), Output(2)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - lives as long as the process
    streams = [
        io.TextIOWrapper(stream, encoding="utf-8", errors="backslashreplace", write_through=True)  # type: ignore[type-var]
        for stream in (out, err)
    ]
    run, count = _bound_execute(), 0
    whose, mine = os.getpid, os.getpid()

    def receive(size: int) -> bytes:
        body = b""
        while len(body) < size:
            chunk = read(fd, min(size - len(body), 1 << 16))
            if not chunk:
                leave(0)
            body += chunk
        return body

    while True:
        request = loads(receive(struct.unpack(">I", receive(4))[0]))
        count += 1
        out.renew(request["cap"])
        err.renew(request["cap"])
        sys.stdout, sys.stderr = streams
        answer = run(request["code"], f"<code {count}>", request["cap"])
        if whose() != mine:
            leave(0)  # a child that user code forked and that came back here: only the original answers
        now: list[Any] = [sys.stdout, sys.stderr, *streams]
        for stream in now:
            try:
                stream.flush()
            except BaseException:  # whatever the code put there
                continue
        body = dumps({"id": request["id"], "dropped": [out.dropped, err.dropped], **answer}).encode()
        frame = struct.pack(">I", len(body)) + body
        while frame:
            frame = frame[write(fd, frame) :]
        del answer, body, frame
        gc.collect(0)
