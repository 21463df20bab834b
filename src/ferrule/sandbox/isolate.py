"""What isolation this host offers, found by trying it, and the choice of a mode."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ferrule.sandbox import kernel, landlock
from ferrule.sandbox.frames import ProtocolError, Stream
from ferrule.sandbox.process import LiveProcess
from ferrule.sandbox.settings import IsolationUnavailable, Mode, Settings

__all__ = ["Feature", "Report", "choose", "probe"]


@dataclass(frozen=True)
class Feature:
    """One thing a host may offer: whether it does, and how that was found."""

    name: str
    available: bool
    detail: str


@dataclass(frozen=True)
class Report:
    """All isolation features of a host, and the mode that ``auto`` takes (None: it refuses)."""

    features: tuple[Feature, ...]
    auto: Mode | None

    def __getitem__(self, name: str) -> Feature:
        """Return one feature by name; ``KeyError`` lists the known names."""
        for feature in self.features:
            if feature.name == name:
                return feature
        raise KeyError(f"no feature {name!r}; known: {', '.join(feature.name for feature in self.features)}")


def choose(settings: Settings) -> Mode:
    """Return the mode that ``settings`` get on this host; raises ``IsolationUnavailable`` instead of taking less.

    ``auto`` means namespaces where they work, else bubblewrap, and never ``none``.
    """
    if settings.isolation == "none":
        return "none"
    wanted: tuple[Mode, ...] = ("namespaces", "bubblewrap") if settings.isolation == "auto" else (settings.isolation,)
    missing = []
    for mode in wanted:
        lacking = _lacking(mode)
        if not lacking:
            return mode
        missing.append(f"{mode}: {lacking}")
    raise IsolationUnavailable(settings.isolation, "; ".join(missing))


@lru_cache(maxsize=4)
def _lacking(mode: Mode) -> str:
    """Return what keeps ``mode`` from working here, found by starting a session in it; empty when it works."""
    if not sys.platform.startswith("linux"):
        return f"Linux is needed, this is {sys.platform}"
    if kernel.MACHINE not in kernel.AUDIT_ARCH:
        return f"no system call filter for {kernel.MACHINE} machines"
    return _attempt(mode)


def probe() -> Report:
    """Try every isolation feature and report what works. The first call takes a fraction of a second."""
    features = []
    lacking = {mode: _lacking(mode) for mode in ("namespaces", "bubblewrap")}
    for mode, problem in lacking.items():
        features.append(Feature(mode, not problem, problem or "an isolated interpreter was started and answered"))
    abi = landlock.version() if sys.platform.startswith("linux") else 0
    features.append(Feature("landlock", abi > 0, f"ABI {abi}" if abi else "the kernel has none, or it is switched off"))
    features.append(_seccomp())
    features.append(_cgroups())
    program = shutil.which("bwrap")
    features.append(Feature("bwrap program", program is not None, _version(program) if program else "not on PATH"))
    auto: Mode | None = next((mode for mode in ("namespaces", "bubblewrap") if not lacking[mode]), None)
    return Report(tuple(features), auto)


def _seccomp() -> Feature:
    try:
        actions = Path("/proc/sys/kernel/seccomp/actions_avail").read_text(encoding="ascii").split()
    except OSError:
        return Feature("seccomp", False, "the kernel lists no filter actions")
    return Feature("seccomp", "errno" in actions, f"actions: {' '.join(actions)}")


def _cgroups() -> Feature:
    """Control groups are reported only: limits here are per process and need no rights on the host."""
    root = Path("/sys/fs/cgroup")
    kinds = [name for name in ("cgroup.controllers", "unified", "memory") if (root / name).exists()]
    return Feature("cgroups", bool(kinds), f"found {', '.join(kinds)} (not used)" if kinds else "not mounted")


def _version(program: str) -> str:
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.strip()


def _attempt(mode: Mode) -> str:
    """Start a process in ``mode``, let it add two numbers, and return what went wrong (empty: nothing)."""
    streams = [Stream(2000), Stream(2000)]
    try:
        live = LiveProcess(mode, Settings(isolation=mode))
    except (OSError, IsolationUnavailable) as problem:
        return problem.missing if isinstance(problem, IsolationUnavailable) else str(problem)
    try:
        answer = live.ask({"op": "run", "code": "1 + 1", "cap": 100, "room": 0}, 20.0, streams)
        trouble = "no answer within 20 s" if answer is None else "" if answer["value"] == "2" else "a wrong answer"
    except (ProtocolError, OSError):
        trouble = "the process ended at once"
    live.end(0.1, streams)
    return (
        f"{trouble}: {streams[1].text().strip().splitlines()[-1]}" if trouble and streams[1].body.strip() else trouble
    )
