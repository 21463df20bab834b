"""Files of tools, run anew for every episode: what a file keeps in its variables is the episode's own."""

from __future__ import annotations

import importlib.util
import inspect
import io
import itertools
import pickle
import re
import sys
import time
import traceback
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ferrule.core.records import Tool
from ferrule.tools.loops import SHARED
from ferrule.tools.tool import with_states

__all__ = ["ToolSource", "Variables", "load_file", "load_tools", "named_once"]

_SLOW = 0.5  # seconds that running a file may take before it is said that every episode does
_STATES = "states of its tools"  # the name of the variable that holds them: no file can have one of that name
_CLOSING = 5.0  # seconds that a client has for closing
_files = itertools.count()


@dataclass(frozen=True)
class ToolSource:
    """Tools from elsewhere: ``start()`` opens the state of one episode, ``build(state)`` returns the tools on it.

    A state may have ``fork()``, which returns a copy for a branch, and ``close()``. ``note`` says what a person should
    know of what episodes share and what they cost; empty when nothing.
    """

    start: Callable[[], Any]
    build: Callable[[Any], tuple[Tool, ...]]
    note: str = ""

    def offer(self) -> tuple[Tool, ...]:
        """Return the tools on a state that is closed again: what they are called and what they take."""
        state = self.start()
        try:
            return self.build(state)
        finally:
            if hasattr(state, "close"):
                state.close()


def load_tools(path: str | Path) -> tuple[Tool, ...]:
    """Run the Python file ``path`` and return its tools, on one state where they share one (``load_file``)."""
    file = load_file(path)
    return file.build(file.start())


def load_file(path: str | Path) -> ToolSource:
    """Return the module-level tools of the Python file ``path``, in order of definition.

    The file is run anew for every episode, so its variables are the episode's own; modules that it imports are shared,
    as anywhere. A file may define the functions ``start()``, which returns the state of an episode, and
    ``tools(state)`` instead: it is run once. It runs with your rights: load only your own. Raises
    ``FileNotFoundError`` when the file does not exist, ``ImportError`` naming the line when the file fails, and
    ``ValueError`` when it defines no tools or two of one name.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no tool file {str(path)!r}; give a Python file that defines functions with @tool")
    code = _Code(path)
    begun = time.perf_counter()
    first = code.first = code.run()
    seconds = time.perf_counter() - begun
    start, build = getattr(first, "start", None), getattr(first, "tools", None)
    if inspect.isfunction(build):
        if not inspect.isfunction(start):
            raise ValueError(f"{path} defines tools(state) but no start(), which returns the state of an episode")
        named_once(build(start()), str(path))
        return ToolSource(start, lambda state: tuple(build(state)))
    named_once(_tools(first), str(path))
    slow = f"{path} runs for {seconds:.1f} s, anew for every episode: a module that it imports is shared, and run once"
    return ToolSource(lambda: Variables(code), lambda state: _tools(state.module), slow if seconds > _SLOW else "")


def _tools(module: types.ModuleType) -> tuple[Tool, ...]:
    """Return the tools of a run of a file, those with ``state`` on what this run keeps for them."""
    tools = tuple({id(value): value for value in vars(module).values() if isinstance(value, Tool)}.values())
    return with_states(tools, vars(module).setdefault(_STATES, {}))


def named_once(tools: Sequence[Tool], where: str) -> tuple[Tool, ...]:
    """Return the tools; refuses none at all, and two of one name."""
    names = [tool.name for tool in tools]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{where} defines two tools named {name!r}; give one of them name=...")
    if not tools:
        raise ValueError(f"{where} defines no tools; decorate functions with @tool (from ferrule.tools import tool)")
    return tuple(tools)


@dataclass
class _Code:
    """A file that can be run many times; ``first`` is the run that found its tools, which no episode uses."""

    path: Path
    first: types.ModuleType = field(init=False)

    def run(self) -> types.ModuleType:
        """Run the file as a module of its own."""
        name = f"_ferrule_tools_{next(_files)}_{re.sub(r'[^A-Za-z0-9]', '_', self.path.stem)}"
        spec = importlib.util.spec_from_file_location(name, self.path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{self.path} cannot be imported; a file of tools ends in .py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # annotations of the file are resolved through this entry
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as problem:
            del sys.modules[name]
            where = f"{self.path}, line {_line(problem, self.path)}"
            raise ImportError(f"{where}: {type(problem).__name__}: {problem}") from problem
        return module


class Variables:
    """The variables of one run of a file: the state of one episode."""

    def __init__(self, code: _Code) -> None:
        self._code = code
        self.module = code.run()

    def _own(self) -> Iterator[tuple[str, Any]]:
        """Yield the variables that hold data of this run: no definitions, and nothing that an import shares."""
        first = vars(self._code.first)
        for name, value in vars(self.module).items():
            defined = isinstance(value, (types.ModuleType, types.FunctionType, type, Tool))
            if not name.startswith("__") and not defined and value is not first.get(name, self):
                yield name, value

    def fork(self) -> Variables:
        """Return a run of its own with copies of the variables; raises ``RuntimeError`` for one that has no copy."""
        branch = Variables(self._code)
        variables = dict(self._own())
        try:
            copies = _copied(variables, self.module, branch.module)
        except Exception:
            branch.close()
            for name, value in variables.items():
                try:
                    _copied(value, self.module, self.module)
                except Exception as problem:
                    raise RuntimeError(
                        f"{self._code.path}: an episode cannot be branched, because its variable {name!r} has no copy "
                        f"({type(problem).__name__}: {problem}); define start() and tools(state), or import it from a "
                        "module, which all episodes share"
                    ) from None
            raise
        vars(branch.module).update(copies)
        return branch

    def close(self) -> None:
        """Forget the run; clients and connections that its variables hold are closed."""
        if sys.modules.pop(self.module.__name__, None) is None:
            return
        for value in (*(value for _, value in self._own()), *vars(self.module).get(_STATES, {}).values()):
            close = getattr(value, "aclose", None) or getattr(value, "close", None)
            if callable(close):
                SHARED.run(_closed(close), _CLOSING)


async def _closed(close: Callable[[], Any]) -> None:
    waiting = close()
    if inspect.isawaitable(waiting):
        await waiting


def _copied(value: Any, old: types.ModuleType, new: types.ModuleType) -> Any:
    """Copy data of one run of a file into another: what the file defines becomes what the other run defines."""
    names = {id(each): name for name, each in vars(old).items() if isinstance(each, (types.FunctionType, type, Tool))}

    class Writer(pickle.Pickler):
        def persistent_id(self, each: Any) -> Any:
            if isinstance(each, types.ModuleType):
                return None, each.__name__
            return (new.__name__, names[id(each)]) if id(each) in names else None

    class Reader(pickle.Unpickler):
        def persistent_load(self, pid: Any) -> Any:
            home, name = pid
            return sys.modules[name] if home is None else getattr(new, name)

    stream = io.BytesIO()
    Writer(stream).dump(value)
    stream.seek(0)
    return Reader(stream).load()


def _line(problem: BaseException, path: Path) -> int | str:
    if isinstance(problem, SyntaxError) and problem.lineno is not None:
        return problem.lineno
    file = path.absolute()  # as frames name it, whatever the path was given as
    lines = [frame.lineno for frame in traceback.extract_tb(problem.__traceback__) if Path(frame.filename) == file]
    return lines[-1] if lines and lines[-1] is not None else "?"
