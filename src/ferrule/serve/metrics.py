"""Counting what a host does, for ``GET /metrics`` in the Prometheus text form."""

from __future__ import annotations

import os
import time
from pathlib import Path

from ferrule.core.records import Call, Observation, Tool
from ferrule.serve.host import Forking, Host, Managed
from ferrule.serve.wire import host_reason, refusal

__all__ = ["Counted", "tree_memory"]

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_PAGE = os.sysconf("SC_PAGE_SIZE")
_GAUGES = {
    "live": ("ferrule_live_episodes", "Episodes that are open"),
    "pending": ("ferrule_pending_calls", "Calls that wait or run"),
    "waiting": ("ferrule_queue_depth", "Calls that wait for their turn"),
    "running": ("ferrule_running_calls", "Calls that run"),
    "workers": ("ferrule_workers", "Worker processes that take new episodes"),
    "restarts": ("ferrule_worker_restarts", "Worker processes that were replaced since the start"),
    "draining": ("ferrule_draining", "1 while the server is shutting down"),
    "memory": ("ferrule_resident_memory_bytes", "Resident memory of the server and all its child processes"),
}


class Counted:
    """``host`` with every call counted by tool and status, and its seconds put into a histogram by tool.

    Needs ``pip install "ferrule[serve]"``.
    """

    def __init__(self, host: Host) -> None:
        """Make a separate registry, so that several servers can live in one process."""
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._host = host
        self._known = {tool.name for tool in host.tools}
        self._registry = CollectorRegistry()
        self._calls = Counter("ferrule_calls", "Calls by tool and status", ["tool", "status"], registry=self._registry)
        self._refused = Counter("ferrule_host_answers", "Calls the host answered itself", ["reason"],
                                registry=self._registry)  # fmt: skip
        self._seconds = Histogram(
            "ferrule_call_seconds", "Seconds from the request to the observation", ["tool"], buckets=_BUCKETS,
            registry=self._registry,
        )  # fmt: skip
        self._gauges = {
            key: Gauge(name, text, registry=self._registry) for key, (name, text) in _GAUGES.items()
        }  # fmt: skip

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools on offer."""
        return self._host.tools

    async def act(self, episode: str, call: Call, seconds: float | None = None) -> Observation:
        """Run one call and count it."""
        began = time.perf_counter()
        observation = await self._host.act(episode, call, seconds)
        tool = call.name if call.name in self._known else "unknown"  # a model's spelling must not create new series
        self._calls.labels(tool, observation.status).inc()
        self._seconds.labels(tool).observe(time.perf_counter() - began)
        if reason := host_reason(observation):
            self._refused.labels(reason).inc()
        return observation

    async def end(self, episode: str) -> None:
        """Close an episode."""
        await self._host.end(episode)

    async def fork(self, episode: str) -> Observation:
        """Branch an episode, when the host can."""
        if not isinstance(self._host, Forking):
            return refusal("unsupported", f"{type(self._host).__name__} cannot branch episodes")
        return await self._host.fork(episode)

    def figures(self) -> dict[str, float]:
        """Return the host's figures, missing ones as 0."""
        figures = self._host.figures() if isinstance(self._host, Managed) else {}
        named = {key: float(figures.get(key, 0.0)) for key in _GAUGES if key not in ("memory", "waiting")}
        return {**named, "waiting": max(0.0, named["pending"] - named["running"])}

    def problems(self) -> tuple[str, ...]:
        """Return what is wrong with the host at present."""
        return self._host.problems() if isinstance(self._host, Managed) else ()

    def text(self) -> bytes:
        """Return everything in the Prometheus text form."""
        from prometheus_client import generate_latest

        for key, value in {**self.figures(), "memory": float(tree_memory(os.getpid()))}.items():
            self._gauges[key].set(value)
        return generate_latest(self._registry)


def tree_memory(root: int) -> int:
    """Return the resident memory of a process and all its descendants (bytes).

    Pages that several of them share are counted once for each.
    """
    children: dict[int, list[int]] = {}
    size: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            pages = int((folder / "statm").read_text().split()[1])
        except (OSError, IndexError, ValueError):
            continue  # it ended meanwhile
        children.setdefault(parent, []).append(int(folder.name))
        size[int(folder.name)] = pages * _PAGE
    total, todo = 0, [root]
    while todo:
        pid = todo.pop()
        total += size.get(pid, 0)
        todo += children.get(pid, [])
    return total
