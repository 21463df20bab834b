"""What runs inside a session's process: reads request frames, runs code, answers. Standard library only.

A frame is four bytes of length (big-endian) and so much JSON. Requests are ``{"id", "op"}`` with op ``run`` (code,
caps), ``names`` and ``fork`` (with the branch's descriptors); see ``_answer`` for the answers. While code runs, a frame
``{"id", "call", "args", "kwargs"}`` asks the other end to call a function there. The other end trusts none of it: code
that runs here can reach everything here.
"""

from __future__ import annotations

import _thread
import ast
import base64
import builtins
import contextlib
import gc
import io
import json
import linecache
import os
import random
import resource
import signal
import socket
import struct
import sys
import threading
import traceback
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

__all__ = ["GREETING", "Output", "execute", "serve"]

_ASIDE = 4000  # bytes of each stream
GREETING = b"\xff"  # no frame starts with it: the first byte of a length is small


class Output(io.RawIOBase):
    """Writes straight to a descriptor until ``cap`` bytes are through, then only counts.

    What threads of earlier calls write, and what is written while no call runs, is put aside (``aside``).
    """

    def __init__(self, fd: int, write: Callable[[int, bytes], int] = os.write) -> None:
        """Start open, with nothing written; ``renew`` begins a call."""
        super().__init__()
        self._fd, self._write, self._left, self.dropped = fd, write, 0, 0
        self._running, self._earlier, self._thread = False, frozenset[int](), threading.get_ident
        self._aside = bytearray()

    def renew(self, cap: int, earlier: frozenset[int] = frozenset()) -> None:
        """Begin a call: allow ``cap`` bytes from now on, except to the threads ``earlier``."""
        self._left, self.dropped, self._running, self._earlier = cap, 0, True, earlier

    def rest(self) -> str:
        """End the call; returns what was put aside until now."""
        self._running = False
        if not self._aside:
            return ""
        aside, self._aside = self._aside, bytearray()
        return aside.decode("utf-8", "replace")

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
        if not self._running or (self._earlier and self._thread() in self._earlier):
            self._aside += body[: max(0, _ASIDE - len(self._aside))]
            return len(body)
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
            return {"status": "ok", "value": None, "exception": None, "kind": None, "line": None}
        text, line = _shown(problem, cap), _line(problem, label)
        return {"status": "error", "value": None, "exception": text, "kind": type(problem).__name__, "line": line}
    return {"status": "ok", "value": value, "exception": None, "kind": None, "line": None}


def _line(problem: BaseException, label: str) -> int | None:
    """The line of the code ``label`` that failed; None where it is unknown."""
    try:
        if isinstance(problem, SyntaxError) and problem.filename == label:
            return int(problem.lineno or 0) or None
        number, trace = None, problem.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == label:
                number = trace.tb_lineno
            trace = trace.tb_next
        return number
    except BaseException:
        return None


def _shown(problem: BaseException, cap: int) -> str:
    """The last lines of the traceback, from the user's own frames on."""
    try:
        trace = problem.__traceback__
        while trace is not None and not trace.tb_frame.f_code.co_filename.startswith("<code "):
            trace = trace.tb_next
        report = traceback.TracebackException(type(problem), problem, trace, limit=-6)
        _without_places(report)
        lines = list(report.format())
        if trace is None and lines and lines[0].startswith("Traceback"):
            lines = lines[1:]
        return "".join(lines).rstrip()[-cap:]
    except BaseException as worse:
        return f"{type(problem).__name__} (which cannot be shown: {type(worse).__name__})"


def _without_places(report: traceback.TracebackException) -> None:
    """Leave out frames of this file, and where modules lie: what code is told is the same on every machine."""
    here, folders = _without_places.__code__.co_filename, sorted(filter(None, sys.path), key=len, reverse=True)
    part: traceback.TracebackException | None = report
    while part is not None:
        part.stack[:] = [frame for frame in part.stack if frame.filename != here]
        for frame in part.stack:
            folder = next((folder for folder in folders if frame.filename.startswith(f"{folder}/")), None)
            if folder is not None:
                frame.filename = frame.filename[len(folder) + 1 :]
        part = part.__cause__ or part.__context__


class _Link:
    """Frames over a descriptor, without trusting that user code left the modules it needs as they were."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._read, self._write, self._leave = os.read, os.write, os._exit
        self._dumps, self._loads, self._recv = json.dumps, json.loads, socket.recv_fds
        self._socket = socket.socket(fileno=fd)
        self._pack, self._unpack = struct.pack, struct.unpack

    def receive(self) -> tuple[dict[str, Any], list[int]]:
        """Wait for a frame; the process ends with the connection."""
        head, fds, _, _ = self._recv(self._socket, 4, 4)
        head += self._rest(4 - len(head))
        request: dict[str, Any] = self._loads(self._rest(self._unpack(">I", head)[0]))
        return request, fds

    def _rest(self, size: int) -> bytes:
        body = b""
        while len(body) < size:
            chunk = self._read(self.fd, min(size - len(body), 1 << 16))
            if not chunk:
                self._leave(0)
            body += chunk
        return body

    def send(self, answer: Mapping[str, Any]) -> None:
        body = self._dumps(answer).encode()
        frame = self._pack(">I", len(body)) + body
        while frame:
            frame = frame[self._write(self.fd, frame) :]


def _at_once(path: str, flags: int) -> int:
    """Open a file without following a link, and without waiting where it is a pipe."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)


class _Files:
    """Which files below a folder are new or have changed since the last look."""

    def __init__(self, top: str) -> None:
        self.top, self._known = top, dict[str, tuple[int, int]]()
        self._scan, self._encode = os.scandir, base64.b64encode

    def changed(self, room: int, most: int = 64) -> list[dict[str, Any]]:
        """Return up to ``most`` files with content (base64) while it fits into ``room`` bytes; else without."""
        now, entries = dict(self._walk(self.top, 200)), list[dict[str, Any]]()
        for path, stamp in now.items():
            if self._known.get(path) == stamp or len(entries) >= most:
                continue
            entry: dict[str, Any] = {"name": path[len(self.top) + 1 :], "size": stamp[1], "body": None}
            if stamp[1] <= room:
                try:
                    with open(path, "rb", opener=_at_once) as file:  # it may be a pipe by now
                        body = file.read(room) or b""
                except OSError:
                    continue
                room -= len(body)
                entry["body"] = self._encode(body).decode()
            entries.append(entry)
        self._known = now
        return entries

    def _walk(self, top: str, most: int) -> Iterator[tuple[str, tuple[int, int]]]:
        folders = [top]
        while folders:
            try:
                entries = list(self._scan(folders.pop()))[:most]
            except OSError:  # it is gone, closed, or nested too deeply for a path
                continue
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if entry.path != f"{self.top}/tmp" and "__pycache__" not in entry.path:
                        folders.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(OSError):
                        stat = entry.stat(follow_symlinks=False)
                        yield entry.path, (stat.st_mtime_ns, stat.st_size)


class _Server:
    """The state of one session: its connection, its namespace, its output."""

    def __init__(self, fd: int, settings: Mapping[str, Any]) -> None:
        self.link, self.count = _Link(fd), 0
        self.isolated, self.folder = settings["isolated"], settings["folder"]
        self.out, self.err = Output(1), Output(2)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - lives as long as the process
        self.streams = [
            io.TextIOWrapper(stream, encoding="utf-8", errors="backslashreplace", write_through=True)  # type: ignore[type-var]
            for stream in (self.out, self.err)
        ]
        self.namespace = _namespace()
        self.functions = {name: self._stub(name) for name in settings["functions"]}
        self.files = _Files(settings["folder"])
        self.files.changed(0)
        self._asking, self._run = threading.Lock(), ""
        self._mine, self._whose, self._usage = os.getpid(), os.getpid, resource.getrusage
        self._collect, self._leave = gc.collect, os._exit
        self._threads, self._count, self._thread = sys._current_frames, _thread._count, threading.get_ident

    def _stub(self, name: str) -> Callable[..., Any]:
        """A function of the other end, as user code sees it."""

        def call(*args: Any, **kwargs: Any) -> Any:
            with self._asking:
                self.link.send({"id": self._run, "call": name, "args": args, "kwargs": kwargs})
                answer, _ = self.link.receive()
            if "raised" in answer:
                kind = getattr(builtins, answer["raised"], RuntimeError)
                sound = isinstance(kind, type) and issubclass(kind, Exception)
                raise (kind if sound else RuntimeError)(answer["message"])
            return answer["result"]

        call.__name__ = call.__qualname__ = name
        return call

    def serve(self) -> None:
        """Answer requests until the connection ends."""
        while True:
            request, fds = self.link.receive()
            match request["op"]:
                case "run":
                    answer = self.run(request)
                case "names":
                    answer = {"names": self.names(request["most"])}
                case "settle":
                    answer = self.settle(request["folder"])
                case _:
                    answer = self.fork(request["id"], fds)
            self.link.send({"id": request["id"], **answer})
            del answer, request

    def run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Run code once; see ``execute`` for the result."""
        self.count += 1
        cap, self._run = request["cap"], request["id"]
        earlier = frozenset(self._threads()) - {self._thread()} if self._count() else frozenset[int]()
        self.out.renew(cap, earlier)
        self.err.renew(cap, earlier)
        sys.stdout, sys.stderr = self.streams
        # Names of functions cannot be lost to a variable of an earlier call.
        self.namespace.update(self.functions)
        answer = execute(request["code"], f"<code {self.count}>", cap, self.namespace)
        if self._whose() != self._mine:
            self._leave(0)  # a child that user code forked and that came back here: only the original answers
        now: list[Any] = [sys.stdout, sys.stderr, *self.streams]
        for stream in now:
            try:
                stream.flush()
            except BaseException:  # whatever the code put there
                continue
        answer["dropped"] = [self.out.dropped, self.err.dropped]
        answer["peak"] = self._usage(resource.RUSAGE_SELF).ru_maxrss
        answer["files"] = self.files.changed(request["room"])
        self._collect(0)
        aside = [self.out.rest(), self.err.rest()]
        if any(aside):
            answer["late"] = [text[:cap] for text in aside]
        return answer

    def settle(self, folder: str) -> dict[str, Any]:
        """Move to the working folder that this branch was given."""
        os.chdir(folder)
        os.environ["HOME"] = self.folder = self.files.top = folder
        os.environ["TMPDIR"] = os.path.join(folder, "tmp") if self.isolated else folder
        self.files.changed(0)
        return {}

    def names(self, most: int) -> list[list[str]]:
        """The variables that user code has set, with the names of their types."""
        variables = [(k, v) for k, v in self.namespace.items() if isinstance(k, str) and not k.startswith("__")]
        return [[k[:200], type(v).__name__[:200]] for k, v in variables if self.functions.get(k) is not v][:most]

    def fork(self, number: str, fds: Sequence[int]) -> dict[str, Any]:
        """Fork this process: the child goes on with the connection and the output given, the parent as before."""
        try:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # branches that end leave nothing behind
            dice = random.getstate()
            child = os.fork()
        except OSError as problem:
            for fd in fds:
                os.close(fd)
            return {"forked": 0, "problem": str(problem)}
        if child:
            for fd in fds:
                os.close(fd)
            return {"forked": child}
        try:
            if self.isolated:
                _enter_branch()
            os.setsid()
            for source, target in zip(fds, (self.link.fd, 1, 2), strict=True):
                os.dup2(source, target, inheritable=False)
                os.close(source)
            self._mine = self._whose()
            random.setstate(dice)  # the module reseeds itself in a forked child, but this one is the same episode
        except BaseException:
            self._leave(72)
        return {"forked": 0, "pid": self._mine}


def _enter_branch() -> None:
    """Enter new user and mount namespaces, which the other end allows at this moment only."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    # A new user namespace comes with all rights over itself: give them up like everything before it. Whether that was
    # done is checked by the other end, from outside, before the branch gets anything.
    if libc.unshare(0x10020000) < 0:
        raise OSError(ctypes.get_errno(), "namespaces of the branch")
    capability = 0
    while libc.prctl(24, capability, 0, 0, 0) == 0:
        capability += 1
    if libc.capset(ctypes.byref(header), ctypes.byref(none)) < 0:
        raise OSError(ctypes.get_errno(), "rights of the branch")


def serve(fd: int, settings: Mapping[str, Any]) -> None:
    """Answer requests on ``fd`` until its other end closes; output goes to descriptors 1 and 2. Never returns."""
    _Server(fd, settings).serve()
