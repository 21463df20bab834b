"""Keeping many interpreters in bounded memory: idle ones are stopped, then ended; the oldest idle one makes room."""

from __future__ import annotations

import threading
import time
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ferrule.sandbox.interpreter import Interpreter

__all__ = ["HOUSE", "House", "Rules", "resident_mb"]


@dataclass
class Rules:
    """How many processes may live at once, after how many idle seconds one is parked and ended, and all their memory.

    Parked processes use no processor time. ``memory_mb`` bounds the memory of all processes that share the house
    (proportional set size, MiB): above it the longest idle ones are ended. An ended interpreter starts afresh with its
    next call and says so.
    """

    alive: int = 512
    park_seconds: float = 30.0
    reap_seconds: float = 1800.0
    memory_mb: float = 8192.0


class House:
    """All interpreters of this process. Safe to use from several threads; ``rules`` may be changed at any time."""

    def __init__(self, rules: Rules | None = None) -> None:
        """Start empty; the housekeeping thread starts with the first interpreter."""
        self.rules = rules or Rules()
        self._all: weakref.WeakSet[Interpreter] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def enter(self, interpreter: Interpreter) -> None:
        """Look after an interpreter until it is forgotten."""
        with self._lock:
            self._all.add(interpreter)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._keep, daemon=True, name="ferrule-house")
                self._thread.start()

    def living(self) -> list[Interpreter]:
        """Return the interpreters that have a process, the longest idle first."""
        with self._lock:
            everyone = list(self._all)
        return sorted((one for one in everyone if one.alive), key=lambda one: one.used)

    def make_room(self, comer: Interpreter) -> None:
        """End the longest idle interpreters when a further one would be too many; raises ``OSError`` when all are busy.

        ``comer`` itself is left alone.
        """
        living = [one for one in self.living() if one is not comer]
        for one in living[: max(0, len(living) + 1 - self.rules.alive)]:
            if not one.reap():
                raise OSError(f"{len(living)} interpreters are at work (the most is {self.rules.alive})")

    def sweep(self) -> None:
        """Park and end what has been idle for long enough, and what memory has no room for."""
        now = time.monotonic()
        living = self.living()
        for one in living:
            idle = now - one.used
            if idle > self.rules.reap_seconds:
                one.reap()
            elif idle > self.rules.park_seconds:
                one.park()
        self._fit([one for one in living if one.alive])

    def _fit(self, living: list[Interpreter]) -> None:
        sizes = [(one, resident_mb(one.pid)) for one in living]
        total = sum(size for _, size in sizes)
        for one, size in sizes:
            if total <= self.rules.memory_mb:
                break
            if one.reap():
                total -= size

    def _keep(self) -> None:
        while True:
            time.sleep(max(0.05, min(5.0, self.rules.park_seconds / 2)))
            self.sweep()
            with self._lock:
                if not self._all:
                    self._thread = None
                    return


def resident_mb(pid: int | None) -> float:
    """Memory that a process holds, shared pages divided by their users (MiB); 0 where that cannot be read."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("Pss:")) / 1024
    except (OSError, StopIteration, ValueError):
        return 0.0


HOUSE = House()
