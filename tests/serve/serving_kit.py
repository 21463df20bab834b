"""A toolset for tests of the hosts: it counts, waits, raises, hogs memory, and ends its own process."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping
from typing import Any

from ferrule.core.flows import Session
from ferrule.core.records import Call, Observation, Task, Tool
from ferrule.tools.tool import tool
from ferrule.worlds.session import ToolSession

GATE = threading.Event()  # what ``wait`` waits for, in tests of hosts that live in this process


class Total:
    """The state of one episode."""

    def __init__(self, episode: str, value: int = 0) -> None:
        self.episode, self.value, self.ballast = episode, value, b""

    def fork(self) -> Total:
        return Total(self.episode, self.value)

    def close(self) -> None:
        pass


def build(state: Total) -> tuple[Tool, ...]:
    def add(number: int) -> str:
        """Add to the total of the episode."""
        state.value += number
        return f"{state.episode} {state.value}"

    def late(number: int, seconds: float) -> str:
        """Add after a while."""
        time.sleep(seconds)
        return add(number)

    def wait() -> str:
        """Wait for the gate."""
        return "open" if GATE.wait(30) else "shut"

    def pid() -> int:
        """The process."""
        return os.getpid()

    def die() -> None:
        """End the process as a crash does."""
        os.kill(os.getpid(), signal.SIGKILL)

    def hog(megabytes: int) -> int:
        """Hold memory."""
        state.ballast = b"x" * (megabytes << 20)
        return megabytes

    def long(length: int) -> str:
        """Say a lot."""
        return "x" * length

    def fail() -> None:
        """Raise."""
        raise RuntimeError("it broke")

    def variable(name: str) -> str:
        """A variable of the process."""
        return os.environ.get(name, "not set")

    def stop() -> str:
        """End the trajectory."""
        return "over"

    plain = [tool(function, seconds=30) for function in (add, late, wait, pid, die, hog, long, fail, variable)]
    return (*plain, tool(stop, terminal=True))


class Kit:
    """What a worker builds by name."""

    def __init__(self, broken: bool = False, fatal: str = "") -> None:
        if broken:
            raise RuntimeError("the kit is broken")
        if fatal and os.path.exists(fatal):
            threading.Timer(0.05, os._exit, (3,)).start()  # ready first, then gone
        self.tools = build(Total(""))

    def open(self, episode: str) -> Session:
        if episode == "unwanted":
            raise RuntimeError("not this one")
        return Spoken(ToolSession(Task("t", ""), build, Total(episode), limit=100_000_000))


class Spoken:
    """A session inside another, as hosts meet them."""

    def __init__(self, inner: Session) -> None:
        self.inner = inner

    @property
    def tools(self) -> tuple[Tool, ...]:
        return self.inner.tools

    def act(self, call: Call) -> Observation:
        return self.inner.act(call)

    def fork(self) -> Session:
        return Spoken(self.inner.fork())

    def final(self) -> Mapping[str, Any]:
        return self.inner.final()

    def close(self) -> None:
        self.inner.close()


def add(number: int) -> Call:
    return Call("add", {"number": number})
