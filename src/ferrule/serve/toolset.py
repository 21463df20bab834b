"""Toolsets by name: built-in tools and files of tools, opened anew for every episode."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ferrule.core.arrays import nearest
from ferrule.core.clip import clip
from ferrule.core.flows import Session
from ferrule.core.records import Call, Observation, Tool
from ferrule.sandbox.interpreter import Interpreter
from ferrule.sandbox.settings import Isolation, Settings
from ferrule.tools.files import ToolSource
from ferrule.tools.invoke import invoke
from ferrule.tools.python import PythonSession
from ferrule.tools.sources import FORMS, States, tool_source

__all__ = ["Toolset", "toolset_names"]

_START_SECONDS = 60.0  # what the start of an interpreter may take on top of a call's own limit


def toolset_names() -> tuple[str, ...]:
    """Return the forms in which a toolset can be named."""
    return ("python", "calculator", "search:FOLDER_OR_JSONL", "sql:DATABASE", *FORMS)


@dataclass(frozen=True)
class Toolset:
    """The tools that ``names`` name, in order; ``open`` gives every episode a session of its own.

    ``python`` is one isolated interpreter per episode with the limits ``seconds``, ``memory_mb`` and ``isolation``;
    files, import paths and MCP servers are those of ``ferrule.tools.sources.tool_source``, with a state per episode.
    ``limit`` is the longest observation (characters). Raises ``ValueError`` for an unknown name and for two tools of
    one name, and what loading a file raises.
    """

    names: Sequence[str]
    seconds: float = 10.0
    memory_mb: int = 1024
    isolation: Isolation = "auto"
    limit: int = 8000
    _sources: Sequence[ToolSource] = field(init=False, repr=False, compare=False, default=())
    tools: tuple[Tool, ...] = field(init=False, repr=False, compare=False, default=())
    """The tools on offer."""

    def __post_init__(self) -> None:
        """Load everything that episodes share, and check the names."""
        if not self.names:
            raise ValueError(f"no toolset is named; known: {', '.join(toolset_names())}")
        object.__setattr__(self, "_sources", [self._load(name) for name in self.names])
        states = self._start()
        object.__setattr__(self, "tools", self.built(states))
        states.close()
        names: set[str] = set()
        for tool in self.tools:
            if tool.name in names:
                raise ValueError(f"two tools are named {tool.name!r} in {', '.join(self.names)}; serve them apart")
            names.add(tool.name)

    @cached_property
    def _settings(self) -> Settings:
        return Settings(isolation=self.isolation, seconds=self.seconds, memory_mb=self.memory_mb)

    @cached_property
    def python(self) -> Tool:
        """The description of the python tool; making it also checks whether the isolation is available."""
        session = PythonSession(
            seconds=self.seconds, memory_mb=self.memory_mb, isolation=self.isolation, limit=self.limit
        )
        session.close()
        return session.tool

    def _start(self) -> States:
        return States([source.start() for source in self._sources])

    def built(self, states: States) -> tuple[Tool, ...]:
        """Return the tools that act on the states of one episode."""
        parts = zip(self._sources, states.parts, strict=True)
        return tuple(tool for source, state in parts for tool in source.build(state))

    def open(self, episode: str) -> Session:
        """Open the session of an episode."""
        code = _Code(Interpreter(self._settings), self.limit) if "python" in self.names else None
        return _Opened(self, self._start(), code)

    def warm(self) -> None:
        """Run the slow parts once, so that the first episode need not wait for them."""
        session = self.open("")
        try:
            if "python" in self.names:
                session.act(Call("python", {"code": "0"}))
        finally:
            session.close()

    def _load(self, name: str) -> ToolSource:
        kind, _, where = name.partition(":")
        if name == "python":
            return tool_source((self.python,))
        if name == "calculator":
            from ferrule.tools.calculator import calculator

            return tool_source((calculator,))
        if kind == "search" and where:
            from ferrule.tools.search import read_corpus, search_tool

            return tool_source((search_tool(read_corpus(where)),))
        if kind == "sql" and where:
            from ferrule.tools.sql import sql_tool

            return tool_source((sql_tool(where),))
        if name.endswith(".py") or Path(name).is_file() or kind == "mcp" or (where and "." in kind):
            return tool_source(name)
        raise ValueError(f"unknown toolset {name!r}; {nearest(name, toolset_names())}")


class _Code:
    """The interpreter of one episode; the limit of the next call is set before it runs."""

    def __init__(self, interpreter: Interpreter, limit: int) -> None:
        self.interpreter = interpreter
        self.seconds: float | None = None
        self._limit = limit

    def run(self, code: str) -> Observation:
        observation = self.interpreter.run(code, self.seconds)
        return replace(observation, text=clip(observation.text, self._limit, "middle"))


class _Opened:
    """The session of one episode: tools on its own states, python with an interpreter of its own."""

    def __init__(self, toolset: Toolset, states: States, code: _Code | None) -> None:
        self._toolset = toolset
        self._states = states
        self._code = code
        self._limit = toolset.limit
        described = toolset.python if code else None
        tools = toolset.built(states)
        self.tools = tuple(replace(tool, run=code.run) if code and tool is described else tool for tool in tools)

    def act(self, call: Call) -> Observation:
        return self.act_within(call, None)

    def act_within(self, call: Call, seconds: float | None) -> Observation:
        """Run one call; every failure is an observation."""
        tool = next((tool for tool in self.tools if tool.name == call.name), None)
        if call.problem:
            return Observation(f"malformed call: {call.problem}", "malformed")
        if tool is None:
            known = [tool.name for tool in self.tools]
            return Observation(f"unknown tool {call.name!r}; {nearest(call.name, known)}", "unknown_tool")
        if self._code is None or not _is(tool.run, self._code.run):
            return invoke(tool, call, seconds=seconds, limit=self._limit)
        self._code.seconds = seconds
        start = None if seconds is None else seconds + _START_SECONDS
        return invoke(tool, call, seconds=start, limit=self._limit)

    def fork(self) -> Session:
        twin = None if self._code is None else _Code(self._code.interpreter.fork(), self._limit)
        return _Opened(self._toolset, self._states.fork(), twin)

    def final(self) -> Mapping[str, Any]:
        return {}

    def close(self) -> None:
        self._states.close()
        if self._code is not None:
            self._code.interpreter.close()


def _is(run: Callable[..., Any], other: Callable[..., Any]) -> bool:
    return run == other  # bound methods are made anew by every look-up, so identity would not do
