"""What an isolated interpreter may use, and the error for isolation that the host does not offer."""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

from ferrule.core.arrays import nearest

__all__ = ["Isolation", "IsolationUnavailable", "Mode", "Settings", "image", "view"]

Isolation = Literal["auto", "namespaces", "bubblewrap", "none"]
Mode = Literal["namespaces", "bubblewrap", "none"]


class IsolationUnavailable(RuntimeError):
    """Isolation that was asked for and that this host does not offer; the message names what is missing."""

    def __init__(self, isolation: str, missing: str) -> None:
        """Build the message from the setting and what the host lacks (kept as ``missing``)."""
        self.missing = missing
        super().__init__(
            f"isolation={isolation!r} is not available here: {missing}. "
            "Run `ferrule doctor` to see what this host offers; "
            f'isolation="none" runs code without isolation and must be asked for explicitly.'
        )


@dataclass(frozen=True)
class Settings:
    """Limits of one isolated interpreter.

    ``isolation``: ``auto`` takes namespaces, else bubblewrap, and refuses when the host has neither. ``seconds`` is
    the wall time of one call, ``cpu_seconds`` the processor time of an interpreter's whole life. ``memory_mb`` (MiB)
    limits the address space of each process and its private folder together, as the folder lies in memory; ``disk_mb``
    of them are for the folder (None: 64, at most a quarter of all). ``tasks`` limits the number of threads and
    processes, to which ``branches`` living branches of an episode are added. ``output_limit`` is how many bytes of
    each output stream and how many characters of a value are kept, ``artifact_limit`` how many bytes of files a call
    may bring along. ``allow_processes`` permits child processes. ``packages`` shows the installed Python packages, of
    which ``preload`` are imported before the start; None takes those of numpy and sympy that the first code names.
    """

    isolation: Isolation = "auto"
    seconds: float = 10.0
    memory_mb: int = 1024
    disk_mb: int | None = None
    cpu_seconds: int = 600
    tasks: int = 64
    output_limit: int = 64_000
    artifact_limit: int = 1_000_000
    allow_processes: bool = False
    packages: bool = True
    preload: tuple[str, ...] | None = None
    branches: int = 256

    def __post_init__(self) -> None:
        """Refuse values that no interpreter could run with, naming the field."""
        if self.isolation not in get_args(Isolation):
            raise ValueError(f"isolation is {self.isolation!r}; {nearest(str(self.isolation), get_args(Isolation))}")
        least = {"memory_mb": 64, "cpu_seconds": 1, "tasks": 1, "output_limit": 100}
        least |= {"artifact_limit": 0, "branches": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ValueError(f"{name} is {getattr(self, name)}; the least is {bound}")
        for name, bound in {"output_limit": 4_000_000, "artifact_limit": 16_000_000, "branches": 4096}.items():
            if getattr(self, name) > bound:
                raise ValueError(f"{name} is {getattr(self, name)}; the most is {bound}")
        if self.disk_mb is not None and not 1 <= self.disk_mb <= self.memory_mb // 2:
            raise ValueError(
                f"disk_mb is {self.disk_mb}; the least is 1, the most half of memory_mb ({self.memory_mb // 2}), "
                "as the folder lies in memory"
            )
        if not self.seconds > 0:
            raise ValueError(f"seconds is {self.seconds}; it must be above 0")
        if self.preload and not self.packages:
            raise ValueError("preload would do nothing with packages=False")
        for name in self.preload or ():
            if importlib.util.find_spec(name.partition(".")[0]) is None:
                raise ValueError(f"preload names the module {name!r}, which is not installed")

    @property
    def folder_mb(self) -> int:
        """How much the private folder may hold (MiB)."""
        return min(64, self.memory_mb // 4) if self.disk_mb is None else self.disk_mb


def image(settings: Settings, code: str) -> tuple[str, ...]:
    """Return the modules that a process which starts with ``code`` should be forked with.

    Starting from the smallest image keeps starts fast for code that needs no packages; what is not in the image can
    still be imported, only slower.
    """
    if settings.preload is not None or not settings.packages:
        return settings.preload or ()
    # sympy brings numpy's users along often enough, and the other way round seldom
    wanted = ("numpy", "sympy") if "sympy" in code else ("numpy",) if "numpy" in code else ()
    return tuple(name for name in wanted if _installed(name))


@lru_cache(maxsize=8)
def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def view(packages: bool) -> tuple[list[str], dict[str, str], list[str]]:
    """Return what isolated code may see: folders to bind read-only, links among them, and its package folders.

    System libraries, this Python's standard library and, with ``packages``, the installed packages; nothing else of
    the host.
    """
    package_folders = [path for path in sys.path if os.path.basename(path) in ("site-packages", "dist-packages")]
    folders = package_folders if packages else []
    wanted = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime"]
    wanted += [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), *folders]
    if os.path.realpath(sys.base_prefix) not in ("/", os.path.realpath(os.path.expanduser("~"))):
        wanted.append(sys.base_prefix)
    binds: list[str] = []
    links: dict[str, str] = {}
    for path in wanted:
        real = os.path.realpath(path)
        if os.path.exists(real):
            binds.append(real)
            if real != path:
                links[path] = real
    kept: list[str] = []
    for path in sorted(set(binds)):
        if not any(path.startswith(f"{outer}/") for outer in kept):
            kept.append(path)
    return kept, links, folders
