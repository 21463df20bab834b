"""Where a person's tools come from: files, import paths, MCP servers, web APIs, the pack, and several of these."""

from __future__ import annotations

import copy
import inspect
import re
import shlex
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from ferrule.core.paths import by_path
from ferrule.core.records import Observation, Tool
from ferrule.tools.files import ToolSource, load_file, named_once
from ferrule.tools.mcp import Connection, connect
from ferrule.tools.namespaces import Namespaces, changed, without_copy
from ferrule.tools.openapi import openapi
from ferrule.tools.pack import pack
from ferrule.tools.tool import Typed, tool, with_states

__all__ = ["FORMS", "Kept", "States", "Tools", "methods_as_tools", "tool_source"]

Tools: TypeAlias = str | Path | Sequence[Tool | str | Path]

FORMS = ("FILE.py", "module:function", "mcp:COMMAND", "mcp:URL", "openapi:DOCUMENT", "pack", "pack:NAME,NAME")
"""The forms in which tools can be named."""

_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def tool_source(tools: Tools, *, apart: bool = True) -> ToolSource:
    """Return the source of tools that are given by name, as they are, or in a sequence of both.

    A name is a Python file; ``module:function`` for a typed function, a ``Tool``, a sequence of tools, or a class whose
    public methods are tools on an instance per episode; an MCP server, ``mcp:COMMAND`` or ``mcp:URL``; a web API,
    ``openapi:DOCUMENT`` (``ferrule.tools.openapi``: a file or URL, and after a space the address of the server where
    the document names none); or the tools of ``ferrule.tools.pack``, ``pack`` or some of them, ``pack:units,sql``.

    Files and classes have a state per episode (``load_file``), and so has an MCP server: every episode has a process or
    a session of its own, unless all its tools only read. Tools given as they are, and those of a module, have the
    states that they declare (``@tool(state=...)``), and copies of what those that change something use of their module
    (``ferrule.tools.namespaces``), unless ``apart`` is False; what has no copy is shared by all episodes, and ``note``
    names it. Raises what loading raises, and ``ValueError`` for two tools of one name.
    """
    if isinstance(tools, str | Path):
        return _named(str(tools))
    given = tuple(each for each in tools if isinstance(each, Tool))
    named = [_named(str(each)) for each in tools if not isinstance(each, Tool)]
    if not named:
        return _given(given, apart)
    if len(named) == 1 and not given:
        return named[0]
    return _joined([*([_given(given, apart)] if given else ()), *named])


def _given(tools: tuple[Tool, ...], apart: bool = True) -> ToolSource:
    """Return tools that are there already, on the states that they declare and on copies of what they change."""
    shared = {each.name: names for each in tools if (names := without_copy(each))}
    told = [f"{name} uses {', '.join(names)} of its module" for name, names in shared.items()]
    note = f"{'; '.join(told)}, which has no copy, so that all episodes share it: declare @tool(state=...)"
    declared = any(isinstance(each.run, Typed) and each.run.state for each in tools)
    copied = tools if apart and any(map(changed, tools)) else ()
    if not declared and not copied:
        return ToolSource(lambda: None, lambda state: tools)
    return ToolSource(
        lambda: Kept(variables=Namespaces(copied)),
        lambda kept: with_states(kept.variables.bound(tools), kept.states),
        note if told and copied else "",
    )


class Kept:
    """What the tools of one episode keep: the states that they declare, by what makes each, and their variables."""

    def __init__(self, states: dict[Any, Any] | None = None, variables: Namespaces | None = None) -> None:
        self.states: dict[Any, Any] = {} if states is None else states
        self.variables = Namespaces(()) if variables is None else variables

    def fork(self) -> Kept:
        """Branch every state, by its own ``fork()`` or else by a deep copy, and the variables."""
        return Kept({make: _branched(state) for make, state in self.states.items()}, self.variables.fork())

    def close(self) -> None:
        """Close every state that can be closed."""
        _closed(self.states.values())


def _branched(state: Any) -> Any:
    return state.fork() if hasattr(state, "fork") else copy.deepcopy(state)


def _closed(states: Iterable[Any]) -> None:
    for state in states:
        if hasattr(state, "close"):
            state.close()


def _named(name: str) -> ToolSource:
    if name.startswith("mcp:"):
        return _server(name.removeprefix("mcp:").strip())
    if name.startswith("openapi:"):
        return _web_api(name.removeprefix("openapi:"))
    if name == "pack" or name.startswith("pack:"):
        names = [each.strip() for each in name.removeprefix("pack").removeprefix(":").split(",")]
        return _given(pack([each for each in names if each]))
    if _PATH.fullmatch(name) and not Path(name).exists():
        return _imported(name)
    if not name.endswith(".py") and not Path(name).exists():
        raise FileNotFoundError(f"no tools {name!r}; known forms: {', '.join(FORMS)}")
    return load_file(name)


# --------------------------------------------------------------------------------------------------- import paths


def _imported(path: str) -> ToolSource:
    """Return what an import path holds, as tools."""
    held = by_path(path)
    if isinstance(held, type):
        build_once = methods_as_tools(held())
        named_once(build_once, path)
        return ToolSource(held, methods_as_tools)
    if isinstance(held, Tool):
        tools: tuple[Tool, ...] = (held,)
    elif isinstance(held, Sequence) and all(isinstance(each, Tool) for each in held):
        tools = named_once(held, path)
    elif callable(held):
        tools = (tool(held),)
    else:
        raise ValueError(f"{path} is {type(held).__name__}; a function, a tool, a list of tools or a class is needed")
    return _given(tools)


def methods_as_tools(instance: Any, *, without: Sequence[str] = ("fork", "close")) -> tuple[Tool, ...]:
    """Return the public methods of an object as tools that may change it, in order of definition."""
    names: dict[str, None] = {}
    for kind in reversed(type(instance).__mro__[:-1]):
        names |= dict.fromkeys(name for name, value in vars(kind).items() if inspect.isroutine(value))
    public = [name for name in names if not name.startswith("_") and name not in without]
    return tuple(tool(getattr(instance, name), name=name, effects="write") for name in public)


# --------------------------------------------------------------------------------------------------------- servers


def _server(where: str) -> ToolSource:
    """Return the tools of an MCP server; servers whose tools only read are started once, for all episodes."""
    if not where:
        raise ValueError("mcp: names no server; write mcp:COMMAND or mcp:URL")
    first = _connected(where)
    tools = first.tools
    if all(each.effects == "read" for each in tools):
        note = f"mcp:{where} only reads, by what it says: all episodes share one connection"
        return ToolSource(lambda: None, lambda state: tools, note)
    first.close()
    note = f"mcp:{where}: every episode has a session of its own; what the server keeps beyond it, all share"
    return ToolSource(
        lambda: _Server(where), lambda state: tuple(map(state.bound, tools)), note if _is_url(where) else ""
    )


def _is_url(where: str) -> bool:
    return where.startswith(("http://", "https://"))


def _connected(where: str) -> Connection:
    return connect(url=where) if _is_url(where) else connect(command=where)


class _Server:
    """The server of one episode, started by its first call; branches share it."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._lock = threading.Lock()
        self._users = 1
        self._connection: Connection | None = None

    def bound(self, described: Tool) -> Tool:
        def run(**arguments: Any) -> Observation:
            return self._open().call(described.name, arguments)

        return replace(described, run=run)

    def _open(self) -> Connection:
        with self._lock:
            if self._connection is None:
                self._connection = _connected(self._where)
            return self._connection

    def fork(self) -> _Server:
        with self._lock:
            self._users += 1
        return self

    def close(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._connection is not None:
                self._connection.close()


def _web_api(name: str) -> ToolSource:
    """Return the tools of an OpenAPI document; what its server keeps, all episodes share."""
    words = shlex.split(name)
    if len(words) not in (1, 2):
        raise ValueError(f"openapi:{name} should be openapi:DOCUMENT, with the server's address after a space if any")
    tools = openapi(words[0], server=words[1] if len(words) == 2 else "")
    changing = [each.name for each in tools if each.effects != "read"]
    note = f"openapi:{words[0]}: what {', '.join(changing[:3])} change at the server, all episodes share"
    return ToolSource(lambda: None, lambda state: tools, note if changing else "")


# --------------------------------------------------------------------------------------------------------- several


def _joined(sources: Sequence[ToolSource]) -> ToolSource:
    def build(states: States) -> tuple[Tool, ...]:
        return tuple(each for source, state in zip(sources, states.parts, strict=True) for each in source.build(state))

    def start() -> States:
        return States([source.start() for source in sources])

    first = start()
    named_once(build(first), "what is given as tools")
    first.close()
    return ToolSource(start, build, "; ".join(source.note for source in sources if source.note))


class States:
    """The states of several sources, branched and closed together."""

    def __init__(self, parts: Sequence[Any]) -> None:
        self.parts = parts

    def fork(self) -> States:
        """Branch every state: by its own ``fork()``, else by a deep copy."""
        return States([_branched(part) for part in self.parts])

    def close(self) -> None:
        """Close every state that can be closed."""
        _closed(self.parts)
