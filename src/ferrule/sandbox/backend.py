"""Where Python code runs: one surface over the isolated local interpreter, Monty, and a server behind a URL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ferrule.core.arrays import nearest
from ferrule.core.records import Observation
from ferrule.sandbox.settings import Settings

__all__ = ["BACKENDS", "Backend", "open_backend"]

BACKENDS = ("local", "monty")
"""Back-ends by name; a URL of a tool server is the third kind."""


class Backend(Protocol):
    """A Python interpreter, wherever it runs."""

    def run(self, code: str, seconds: float | None = None) -> Observation:
        """Run code and return its outcome; never raises."""
        ...

    def fork(self) -> Backend:
        """Return an independent interpreter in the same state."""
        ...

    def names(self) -> dict[str, str]:
        """Return the global variables that code has set, each with the name of its type."""
        ...

    def close(self) -> None:
        """End it; may be called twice."""
        ...


def open_backend(
    where: str = "local",
    settings: Settings | None = None,
    *,
    persistent: bool = True,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    key: str | None = None,
) -> Backend:
    """Open an interpreter: ``local``, ``monty``, or the URL of a server (``ferrule serve tools python``).

    No interpreter is replaced by another one. ``key`` is the API key of the server, whose own settings hold for
    code that runs there. Raises ``ValueError`` for an unknown name and for settings that the back-end does not have.
    """
    if where == "local":
        from ferrule.sandbox.interpreter import Interpreter

        return Interpreter(settings, persistent=persistent, functions=functions)
    if where == "monty":
        from ferrule.sandbox.monty import MontyInterpreter

        return MontyInterpreter(settings, persistent=persistent, functions=functions)
    if not where.startswith(("http://", "https://")):
        raise ValueError(f"backend is {where!r}; {nearest(where, BACKENDS)}, or the URL of a tool server")
    if functions or not persistent:
        raise ValueError("functions and persistent=False are settings of the server, not of its client")
    from ferrule.sandbox.remote import RemoteInterpreter

    return RemoteInterpreter(where, key=key, seconds=settings.seconds if settings else None)
