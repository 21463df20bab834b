"""The ``python`` tool: code in an isolated interpreter, with a time, memory and output limit."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from typing import Any

from ferrule.core.clip import clip
from ferrule.core.records import Observation, Tool
from ferrule.sandbox.backend import Backend, open_backend
from ferrule.sandbox.settings import Isolation, Settings

__all__ = ["PythonSession", "python_session"]

_PARAMETERS: Mapping[str, Any] = {
    "type": "object",
    "properties": {"code": {"type": "string", "description": "Python source code"}},
    "required": ["code"],
}
_DESCRIPTION = (
    "Run Python code.\nReturns what it prints and the value of its last expression. "
    "{memory} There is no network and no access to other files than the working folder."
)
_START_SECONDS = 60.0  # what a start may take on top of a call's own limit


class PythonSession:
    """One interpreter as a tool; it starts its process with the first call."""

    def __init__(
        self,
        *,
        seconds: float = 10.0,
        memory_mb: int = 1024,
        isolation: Isolation = "auto",
        persistent: bool = True,
        limit: int = 8000,
        allow_processes: bool = False,
        packages: bool = True,
        preload: tuple[str, ...] | None = None,
        name: str = "python",
        backend: str = "local",
        key: str | None = None,
    ) -> None:
        """Check the settings (see ``ferrule.sandbox.settings.Settings``); ``limit`` cuts the observation (characters).

        ``backend`` is where code runs: ``local``, ``monty``, or the URL of a tool server with its API ``key``. Raises
        ``IsolationUnavailable`` when the host lacks the isolation and ``ValueError`` for an invalid value.
        """
        if limit < 1:
            raise ValueError(f"limit is {limit}; the least is 1 character")
        settings = Settings(
            isolation=isolation,
            seconds=seconds,
            memory_mb=memory_mb,
            allow_processes=allow_processes,
            packages=packages,
            preload=preload,
        )
        self._limit, self._seconds, self._persistent = limit, seconds, persistent
        self._use(open_backend(backend, settings, persistent=persistent, key=key), name)

    def _use(self, interpreter: Backend, name: str) -> None:
        memory = "Variables are kept from call to call." if self._persistent else "Every call starts afresh."
        self._interpreter = interpreter
        self.tool = Tool(
            name=name,
            description=_DESCRIPTION.format(memory=memory),
            parameters=_PARAMETERS,
            run=self.run,
            effects="write",
            seconds=self._seconds + _START_SECONDS,
        )

    def run(self, code: str) -> Observation:
        """Run ``code``; the text keeps its head and its tail when it is longer than the limit. Never raises."""
        observation = self._interpreter.run(code)
        return replace(observation, text=clip(observation.text, self._limit, "middle"))

    def names(self) -> dict[str, str]:
        """Return the global variables that code has set, each with the name of its type."""
        return self._interpreter.names()

    def fork(self) -> PythonSession:
        """Return an independent session in the same state (see ``Interpreter.fork`` for what that means)."""
        twin = copy(self)
        twin._use(self._interpreter.fork(), self.tool.name)
        return twin

    def close(self) -> None:
        """End the process; may be called twice."""
        self._interpreter.close()


python_session = PythonSession
