"""Which interpreters keep a process: idle ones are stopped, then ended; the longest idle one makes room."""

from __future__ import annotations

import os
import threading
import time
import weakref
from dataclasses import dataclass
from typing import Protocol

from ferrule.sandbox.confinement import BOX
from ferrule.sandbox.handles import children

__all__ = ["RESIDENCY", "Residency", "ResidencyLimits", "Resident", "processor_seconds", "resident_mb"]


@dataclass
class ResidencyLimits:
    """How many processes may live at once, after how many idle seconds one is parked and ended, and all their memory.

    Parked processes use no processor time. One that goes on after its reply, in threads, is parked earlier: when it
    has used ``idle_cpu_seconds``, which is looked at every second. ``memory_mb`` bounds the memory of all processes and
    their folders together (proportional set size, MiB): above it the longest idle ones are ended. An ended interpreter
    starts afresh with its next call and says so.
    """

    alive: int = 512
    park_seconds: float = 30.0
    reap_seconds: float = 1800.0
    idle_cpu_seconds: float = 2.0
    memory_mb: float = 8192.0


class Resident(Protocol):
    """What holds a process that may be stopped and ended while it is idle: an ``Interpreter``."""

    used: float
    """When it was last used (``time.monotonic``)."""

    @property
    def alive(self) -> bool:
        """True while a process exists."""
        ...

    @property
    def pid(self) -> int | None:
        """Process id as the host counts, None without a process."""
        ...

    def spent(self) -> float:
        """Processor seconds that it has used so far; 0 without a process."""
        ...

    def park(self) -> bool:
        """Stop the idle process until it is used again; True when it is stopped."""
        ...

    def reap(self) -> bool:
        """End the idle process; False while it is at work."""
        ...


class Residency:
    """All interpreters of this process. Safe to use from several threads; ``limits`` may be changed at any time."""

    def __init__(self, limits: ResidencyLimits | None = None) -> None:
        """Start empty; the thread that sweeps starts with the first interpreter."""
        self.limits = limits or ResidencyLimits()
        self._all: weakref.WeakSet[Resident] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._spent: weakref.WeakKeyDictionary[Resident, tuple[float, float]] = weakref.WeakKeyDictionary()

    def add(self, interpreter: Resident) -> None:
        """Manage an interpreter until it is garbage-collected."""
        with self._lock:
            self._all.add(interpreter)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._sweep_often, daemon=True, name="ferrule-residency")
                self._thread.start()

    def living(self) -> list[Resident]:
        """Return the interpreters that have a process, the longest idle first."""
        with self._lock:
            interpreters = list(self._all)
        return sorted(
            (interpreter for interpreter in interpreters if interpreter.alive), key=lambda interpreter: interpreter.used
        )

    def make_room(self, newcomer: Resident) -> None:
        """End the longest idle interpreters when a further one would be too many; raises ``OSError`` when all are busy.

        ``newcomer`` itself is left alone.
        """
        living = [interpreter for interpreter in self.living() if interpreter is not newcomer]
        for interpreter in living[: max(0, len(living) + 1 - self.limits.alive)]:
            if not interpreter.reap():
                raise OSError(f"{len(living)} interpreters are at work (the most is {self.limits.alive})")

    def sweep(self) -> None:
        """Park and end processes that have been idle for long enough, and those beyond the memory limit."""
        now = time.monotonic()
        living = self.living()
        for interpreter in living:
            idle = now - interpreter.used
            if idle > self.limits.reap_seconds:
                interpreter.reap()
            elif idle > self.limits.park_seconds or self._goes_on(interpreter):
                interpreter.park()
        self._fit([interpreter for interpreter in living if interpreter.alive])

    def _goes_on(self, interpreter: Resident) -> bool:
        """True when it has used more processor time than it may since it was first seen idle."""
        spent = interpreter.spent()
        used, before = self._spent.get(interpreter, (-1.0, 0.0))
        if used != interpreter.used:
            self._spent[interpreter] = interpreter.used, spent
            return False
        return spent - before > self.limits.idle_cpu_seconds

    def _fit(self, living: list[Resident]) -> None:
        sizes = [(interpreter, resident_mb(interpreter.pid)) for interpreter in living]
        total = sum(size for _, size in sizes)
        for interpreter, size in sizes:
            if total <= self.limits.memory_mb:
                break
            if interpreter.reap():
                total -= size

    def _sweep_often(self) -> None:
        while True:
            time.sleep(max(0.05, min(1.0, self.limits.park_seconds / 2)))
            self.sweep()
            with self._lock:
                if not self._all:
                    self._thread = None
                    return


def resident_mb(pid: int | None) -> float:
    """Memory of a process, shared pages divided by their users, and of its folder (MiB); 0 if it cannot be read."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            pages = next(int(line.split()[1]) for line in file if line.startswith("Pss:")) / 1024
    except (OSError, StopIteration, ValueError):
        return 0.0
    try:
        folder = os.statvfs(f"/proc/{pid}/root{BOX}")
    except OSError:
        return pages  # without isolation the folder lies on a disk
    return pages + (folder.f_blocks - folder.f_bfree) * folder.f_frsize / (1 << 20)


def processor_seconds(pid: int | None, *, below: bool = False) -> float:
    """Processor time that a process has used, with ``below`` also what it has started; 0 if it cannot be read."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            spent = sum(map(int, file.read().rpartition(")")[2].split()[11:15])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return 0.0
    return spent + sum(processor_seconds(child, below=True) for child in children(pid or 0)) if below else spent


RESIDENCY = Residency()
