"""The environments of an OpenEnv server that are open: each runs on a thread of its own and has an id."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ferrule.serve.openenv_episode import Environment

__all__ = ["Connection", "Connections"]

T = TypeVar("T")


class Connection:
    """An environment with a thread of its own, in which all its code runs."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.name = secrets.token_hex(16)
        self.attached = False
        self.used = time.monotonic()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="openenv")

    async def run(self, work: Callable[[], T], seconds: float) -> T:
        """Do ``work`` on the thread of this environment; raises ``TimeoutError`` after ``seconds``."""
        self.used = time.monotonic()
        return await asyncio.wait_for(asyncio.get_running_loop().run_in_executor(self._thread, work), seconds)

    def close(self) -> None:
        """Close the session when the call under way has ended; nobody waits for it."""
        self._thread.submit(self.environment.close)
        self._thread.shutdown(wait=False)


class Connections:
    """The environments that are open, and those that were opened over HTTP by id."""

    def __init__(self, make: Callable[[], Environment], most: int, seconds: float, idle: float) -> None:
        self.turns = itertools.count()
        self.named: dict[str, Connection] = {}
        self.seconds = seconds
        self.idle = idle
        self.most = most
        self._make = make
        self._all: set[Connection] = set()

    def open(self) -> Connection | None:
        """Open an environment, or return None when there are as many as allowed."""
        now = time.monotonic()
        for connection in list(self.named.values()):  # a session over HTTP has no connection whose end would tell
            if not connection.attached and now - connection.used > self.idle:
                self.close(connection)
        if len(self._all) >= self.most:
            return None
        connection = Connection(self._make())
        self._all.add(connection)
        return connection

    def close(self, connection: Connection) -> None:
        """Close an environment; may be called twice."""
        self.named.pop(connection.name, None)
        if connection in self._all:
            self._all.discard(connection)
            connection.close()

    def close_all(self) -> None:
        """Close every environment."""
        for connection in list(self._all):
            self.close(connection)
