"""Forged tools at work: every episode runs them in a sandbox of its own, never in this process."""

from __future__ import annotations

import ast
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ferrule.core.records import Effect, Observation, Tool
from ferrule.sandbox.interpreter import Interpreter
from ferrule.sandbox.settings import Settings
from ferrule.tools.files import ToolSource
from ferrule.tools.forge_rules import main_function
from ferrule.tools.forge_schema import described_tool
from ferrule.tools.tool import Typed

__all__ = ["Sandboxed", "forged_source", "runnable"]

_CALL = """
import json as _json
print(end="")
_json.dumps({name}(**_json.loads({given!r})))
"""


class Sandboxed:
    """The sources of forged tools, each in an interpreter that starts with its first call.

    What a tool keeps from call to call lives as long as this does; ``fork`` copies it, ``close`` ends it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._places: dict[str, Interpreter] = {}
        self._lock = threading.Lock()

    def call(self, name: str, source: str, seconds: float, /, **arguments: Any) -> Observation:
        """Call the function ``name`` of a module and return its result as data, with JSON as its text."""
        with self._lock:
            fresh = name not in self._places
            place = self._places.setdefault(name, Interpreter(self._settings))
        for attempt in (fresh, True):
            if attempt:
                loaded = place.run(source)
                if loaded.status != "ok":
                    return _trouble(loaded)
            outcome = place.run(_CALL.format(name=name, given=json.dumps(arguments)), seconds)
            if not (outcome.data or {}).get("restarted"):
                break  # otherwise it was ended while it was idle, and has lost the module
        return _result(outcome)

    def fork(self) -> Sandboxed:
        """Return a copy whose tools go on from what these have kept."""
        twin = Sandboxed(self._settings)
        with self._lock:
            twin._places = {name: place.fork() for name, place in self._places.items()}
        return twin

    def close(self) -> None:
        """End all interpreters; may be called twice."""
        with self._lock:
            for place in self._places.values():
                place.close()


def _result(outcome: Observation) -> Observation:
    if outcome.status != "ok":
        return _trouble(outcome)
    try:
        value = json.loads(ast.literal_eval(str(outcome.data["value"])))
    except (ValueError, SyntaxError):
        return Observation("the tool gave no result that can be read", "error")
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Observation(text, data=value)


def _trouble(outcome: Observation) -> Observation:
    lines = str((outcome.data or {}).get("exception") or outcome.text).strip().splitlines()
    return Observation((lines or [outcome.status])[-1], outcome.status)


def runnable(
    source: str, name: str = "", *, effects: Effect = "read", seconds: float = 10.0, place: Sandboxed | None = None
) -> Tool:
    """Return the tool of a source, run in ``place`` (None: a sandbox of its own, which ends with the program)."""
    described = described_tool(main_function(source, name), effects=effects, seconds=seconds)
    place = place or Sandboxed(_settings(seconds))
    assert isinstance(described.run, Typed)
    function = partial(place.call, described.name, source, seconds)
    return replace(described, run=replace(described.run, function=function), seconds=seconds + 10.0)


def forged_source(sources: Sequence[Mapping[str, Any]], *, seconds: float = 10.0) -> ToolSource:
    """Return forged tools as a source: every episode has a sandbox of its own for what they keep.

    Each of ``sources`` has the keywords ``source``, ``name`` and ``effects`` of ``runnable``.
    """
    return ToolSource(
        lambda: Sandboxed(_settings(seconds)),
        lambda place: tuple(runnable(**each, seconds=seconds, place=place) for each in sources),
    )


def _settings(seconds: float) -> Settings:
    return Settings(seconds=seconds, memory_mb=512, packages=False, artifact_limit=0)
