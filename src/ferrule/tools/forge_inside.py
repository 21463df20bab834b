"""What runs inside the sandbox when a proposed tool is examined: its tests, its calls again, and tests of variants.

The text of this module is sent there (``ferrule.tools.forge_trial``), so it uses the standard library alone. While a
proposal runs, a hook that cannot be taken off watches what it does; what is forbidden ends the process at once, so that
nothing which runs afterwards can deny it.
"""

from __future__ import annotations

import ast
import copy
import json
import operator
import os
import random
import signal
import sys
import time
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["MARK", "main"]

MARK = "forbidden: "
_MOST_CALLS = 200
_CHANGES = ("os.mkdir", "os.remove", "os.rename", "os.rmdir")
_LOOKS = ("os.listdir", "os.scandir")
_DOORS = (
    *("_thread.", "cpython.", "ctypes.", "fcntl.", "ftplib.", "gc.", "http.", "imaplib.", "mmap.", "msvcrt.", "os."),
    *("poplib.", "pty.", "resource.", "shutil.", "signal.", "smtplib.", "socket.", "sqlite3.", "subprocess."),
    *("sys.addaudithook", "sys.setprofile", "sys.settrace", "syslog.", "telnetlib.", "tempfile.", "time.sleep"),
    *("urllib.", "webbrowser.", "winreg."),
)


def main(request: Mapping[str, Any]) -> str:
    """Answer a request, ``tests``, ``replay`` or ``variants`` with its arguments, by JSON."""
    tasks: dict[str, Callable[..., Any]] = {"tests": run_tests, "replay": replay, "variants": variants}
    arguments = dict(request)
    watched = _watch(os.getcwd(), arguments.pop("writes"))
    return json.dumps(tasks[arguments.pop("do")](watched, **arguments))


def _watch(folder: str, writes: bool) -> Callable[[bool], None]:
    """Install the hook and return what switches it on and off."""
    on, say, leave, real, decode = [False], os.write, os._exit, os.path.realpath, os.fsdecode
    home = real(folder)
    library = tuple(
        {real(path) + os.sep for path in (sys.prefix, sys.base_prefix, *sys.path, os.path.dirname(os.__file__))}
    )
    changing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    doors, changes, looks, mark = _DOORS, _CHANGES, _LOOKS, MARK

    def inside(path: Any) -> bool:
        # Nothing but plain texts: the methods of a class of the proposal's own would run unwatched here.
        where = real(decode(path)) if type(path) in (str, bytes) else ""
        return where == home or where.startswith(home + os.sep)

    def forbidden(event: str, given: tuple[Any, ...]) -> str:
        if event == "open":
            path, mode, flags = given
            alters = (type(mode) is str and any(letter in mode for letter in "wax+")) or bool((flags or 0) & changing)
            if inside(path):
                return f"effects: it writes the file {path!r}" if alters and not writes else ""
            known = type(path) is str and real(path).startswith(library)
            return "" if known and not alters else f"escape: it opens {path!r}"
        if event in changes and all(inside(path) for path in given if not isinstance(path, int)):
            return "" if writes else f"effects: it changes files ({event})"
        if event in looks:
            path = given[0] if given and given[0] is not None else folder
            known = type(path) is str and (real(path) + os.sep).startswith(library)
            return "" if known or inside(path) else f"escape: it looks into {path!r}"
        return f"escape: {event}" if event.startswith(doors) else ""

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if not on[0]:
            return
        on[0] = False  # the judgement itself is not judged
        try:
            why = forbidden(event, given)
            if why:
                say(2, f"\n{mark}{why}\n".encode("utf-8", "replace"))
                leave(97)
        finally:
            on[0] = True

    sys.addaudithook(hook)

    def switch(value: bool) -> None:
        on[0] = value

    return switch


def _backwards(kind: type[Any]) -> type[Any]:
    """Return a kind of set that lists its members in the other order: what depends on the order shows itself."""

    def listed(self: Any) -> Any:
        return iter(list(kind.__iter__(self))[::-1])

    def closed(name: str) -> Any:
        def operation(self: Any, *others: Any) -> Any:
            result = getattr(kind, name)(self, *others)
            return result if result is NotImplemented else made(result)

        return operation

    def popped(self: Any) -> Any:
        value = next(iter(self))
        self.remove(value)
        return value

    names = ("__and__", "__or__", "__sub__", "__xor__", "copy", "difference", "intersection", "union")
    space = {"__iter__": listed, **{name: closed(name) for name in names}}
    made: type[Any] = type(kind.__name__, (kind,), {**space, "pop": popped} if kind is set else space)
    return made


class _Spelled(ast.NodeTransformer):
    """Writes displays of sets as calls of ``set``, so that another one can take its place."""

    def visit_Set(self, node: ast.Set) -> ast.AST:
        self.generic_visit(node)
        return _call_of("set", ast.List(node.elts, ast.Load()))

    def visit_SetComp(self, node: ast.SetComp) -> ast.AST:
        self.generic_visit(node)
        return _call_of("set", ast.ListComp(node.elt, node.generators))


class _Counted(ast.NodeTransformer):
    """Puts a call of ``counted`` before every assertion."""

    def visit_Assert(self, node: ast.Assert) -> Any:
        return [ast.Expr(_call_of("_counted_")), node]


def _call_of(name: str, *given: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(given), [])


def _loaded(source: str, backwards: bool = False) -> dict[str, Any]:
    """Run a module and return its variables."""
    tree = ast.parse(source)
    module = types.ModuleType("tool")
    space = module.__dict__
    if backwards:
        tree = ast.fix_missing_locations(_Spelled().visit(tree))
        space.update({kind.__name__: _backwards(kind) for kind in (set, frozenset)})
    sys.modules["tool"] = module  # dataclasses look their module up
    exec(compile(tree, "<tool>", "exec", dont_inherit=True), space)
    return space


def told(value: Any, depth: int = 0, known: set[int] | None = None) -> str:
    """Return a text that is the same for equal plain values of the same types, and for objects that hold the same."""
    known = set() if known is None else known
    if depth > 20:
        return "..."

    def inner(part: Any) -> str:
        return told(part, depth + 1, known)

    if isinstance(value, (list, tuple)) and type(value).__module__ == "builtins":
        return f"{type(value).__name__}[{', '.join(map(inner, value))}]"
    if isinstance(value, (set, frozenset)):
        return f"set[{', '.join(sorted(map(inner, value)))}]"
    if isinstance(value, (dict, types.MappingProxyType)):
        return f"dict[{', '.join(f'{inner(key)}: {inner(part)}' for key, part in value.items())}]"
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return repr(value)
    if id(value) in known:
        return f"{type(value).__name__} again"
    known.add(id(value))
    held = _held(value)
    if held:
        return f"{type(value).__name__}({inner(held)})"
    return f"{type(value).__name__}({'' if repr(value) == object.__repr__(value) else repr(value)})"


def _held(value: Any) -> Any:
    """Return what an object holds that calls could change; nothing where its text says it."""
    if isinstance(value, types.FunctionType):
        return [value.__name__, value.__defaults__, value.__kwdefaults__, vars(value), _cells(value)]
    if isinstance(value, type):
        own = value.__module__ == "tool"
        return [value.__name__, {k: part for k, part in vars(value).items() if own and not k.startswith("__")}]
    if isinstance(value, types.ModuleType):
        plain = (bool, int, float, str, bytes, list, tuple, dict, set, frozenset)
        kept = {k: part for k, part in vars(value).items() if k[0] != "_" and type(part) in plain}
        return [value.__name__, kept]
    if isinstance(value, types.GeneratorType):
        frame = value.gi_frame
        return [frame.f_lasti, dict(frame.f_locals)] if frame is not None else ["ended"]
    if isinstance(value, (classmethod, staticmethod)):
        return [value.__func__]
    if isinstance(value, random.Random):
        return [random.Random.getstate(value)]
    if hasattr(value, "__next__"):
        return [type(value).__name__, repr(value).partition(" at 0x")[0], operator.length_hint(value, -1)]
    slots = [name for kind in type(value).__mro__ for name in _listed(vars(kind).get("__slots__", ()))]
    parts = {name: getattr(value, name) for name in slots if not name.startswith("__") and hasattr(value, name)}
    return {**parts, **(vars(value) if hasattr(value, "__dict__") else {})}


def _listed(slots: Any) -> list[str]:
    return [slots] if isinstance(slots, str) else list(slots)


def _cells(function: types.FunctionType) -> list[Any]:
    values = []
    for cell in function.__closure__ or ():
        try:
            values.append(cell.cell_contents)
        except ValueError:  # it is not bound yet
            values.append(None)
    return values


def _plain(value: Any, listed: bool = False) -> tuple[bool, Any]:
    """Return whether a value is plain JSON data, and the value; tuples count as lists where they are ``listed``.

    Values of a class of the proposal's own are none, whatever they inherit: they may be equal to anything.
    """
    try:
        if not _exact(value, (list, tuple) if listed else (list,)):
            return False, None
        return True, json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return False, None


def _exact(value: Any, lists: tuple[type, ...]) -> bool:
    if type(value) in lists:
        return all(_exact(part, lists) for part in value)
    if type(value) is dict:
        return all(type(key) is str and _exact(part, lists) for key, part in value.items())
    return value is None or type(value) in (bool, int, float, str)


class _Late(BaseException):
    """A call takes too long."""


def _late(number: int, frame: Any) -> None:
    raise _Late


class _Record:
    """The calls of the function under test, in order; one that takes ``seconds`` of processor time is ended."""

    def __init__(self, function: Callable[..., Any], seconds: float) -> None:
        self.function, self.clock, self.seconds = function, time.thread_time, seconds
        self.timer, self.kind = signal.setitimer, signal.ITIMER_VIRTUAL
        signal.signal(signal.SIGVTALRM, _late)
        self.calls: list[dict[str, Any]] = []
        self.changed: list[str] = []
        self.longest, self.last = 0.0, ""
        code = function.__code__
        self.names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]

    def shield(self) -> Callable[..., Any]:
        """Return a function that makes recorded calls, from which nothing leads to the record."""

        def call(*given: Any, **named: Any) -> Any:
            return self.call(*given, **named)

        call.__name__, call.__doc__ = self.function.__name__, self.function.__doc__
        return call

    def call(self, *given: Any, **named: Any) -> Any:
        """Make a call and note its outcome."""
        by_name = {**dict(zip(self.names, given)), **named}  # noqa: B905 - too many are refused by the function itself
        before = copy.deepcopy(by_name)
        begun = self.clock()
        self.timer(self.kind, 1.1 * self.seconds)
        try:
            result = self.function(*given, **named)
            self.timer(self.kind, 0)
        except _Late:
            took = max(self.clock() - begun, 1.1 * self.seconds)  # the timer counts a little differently
            self._note(before, by_name, took, "is stopped", None)
            raise
        except BaseException as problem:
            self.timer(self.kind, 0)
            self._note(before, by_name, self.clock() - begun, f"raises {type(problem).__name__}", None)
            raise
        self._note(before, by_name, self.clock() - begun, "", result)
        return result

    def _note(self, before: dict[str, Any], after: dict[str, Any], took: float, raised: str, result: Any) -> None:
        self.longest = max(self.longest, took)
        shown = ", ".join(f"{name}={value!r}" for name, value in before.items())
        outcome = raised or f"returns {told(result)}"
        self.last = f"{self.function.__name__}({shown}) {raised or f'returns {result!r}'}"[:400]
        if told(before) != told(after):
            self.changed.append(self.last)
        if len(self.calls) < _MOST_CALLS:
            plain, arguments = _plain(before)
            whole, value = (False, None) if raised else _plain(result, listed=True)
            self.calls.append(
                {
                    "arguments": arguments,
                    "plain": plain,
                    "told": outcome,
                    "raised": raised,
                    "result": value,
                    "whole": whole,
                }
            )


def _tested(space: dict[str, Any], name: str, text: str, seconds: float) -> dict[str, Any]:
    """Run tests against the function of a loaded module: what stands at their top, then functions ``test...``."""
    record, count = _Record(space[name], seconds), [0]

    def counted() -> None:
        count[0] += 1

    tree = ast.fix_missing_locations(_Counted().visit(ast.parse(text)))
    scope = {**space, "__name__": "tests", name: record.shield(), "_counted_": counted}
    known, problem = set(scope), ""
    try:
        exec(compile(tree, "<tests>", "exec", dont_inherit=True), scope)
        for label in [label for label in scope if label.startswith("test") and label not in known]:
            if isinstance(scope[label], types.FunctionType):
                scope[label]()
    except (Exception, _Late) as error:
        problem = _failure(error, text, record.last)
    return {
        "problem": problem, "asserts": count[0], "calls": record.calls, "changed": record.changed[:3],
        "longest": record.longest,
    }  # fmt: skip


def _failure(error: BaseException, text: str, last: str) -> str:
    line, trace = 0, error.__traceback__
    while trace is not None:
        line = trace.tb_lineno if trace.tb_frame.f_code.co_filename == "<tests>" else line
        trace = trace.tb_next
    lines = text.splitlines()
    shown = lines[line - 1].strip() if 0 < line <= len(lines) else ""
    kind = type(error).__name__ + (f": {error}" if str(error) else "")
    return f"line {line}: {shown} ({kind[:200]})" + (f"; the last call: {last}" if last else "")


def _state(space: Mapping[str, Any]) -> dict[str, str]:
    return {name: told(value) for name, value in space.items() if not name.startswith("__")}


def run_tests(
    switch: Callable[[bool], None], source: str, name: str, text: str, seconds: float, seed: int,
    backwards: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Run a module and its tests: which failed, how many assertions ran, the calls, and what was changed by them."""
    random.seed(seed)
    moved = [object() for _ in range(1000 + 517 * seed)]  # so that addresses differ from run to run
    switch(True)  # also while the state is read, which runs methods of the proposal
    space = _loaded(source, backwards)
    before = _state(space)
    outcome = _tested(space, name, text, seconds)
    after = _state(space)
    switch(False)
    del moved
    outcome["state"] = sorted(key for key in after if before.get(key) != after[key])
    return outcome


def replay(
    switch: Callable[[bool], None], source: str, name: str, calls: Sequence[Mapping[str, Any]], seconds: float
) -> list[dict[str, Any]]:
    """Make calls by keywords in a fresh module and return their outcomes, in order."""
    switch(True)
    record = _Record(_loaded(source)[name], seconds)
    for arguments in calls:
        try:
            record.call(**arguments)
        except Exception:
            continue
    switch(False)
    return [{**call, "longest": record.longest, "changed": record.changed[:3]} for call in record.calls]


def variants(
    switch: Callable[[bool], None], sources: Sequence[str], name: str, text: str, seconds: float
) -> list[bool]:
    """Run the tests against every variant of a module; True for those that they tell from the original."""
    noticed = []
    for source in sources:
        try:
            switch(True)
            noticed.append(bool(_tested(_loaded(source), name, text, seconds)["problem"]))
        except BaseException:
            noticed.append(True)  # it cannot be loaded, or ends the process
        finally:
            switch(False)
    return noticed
