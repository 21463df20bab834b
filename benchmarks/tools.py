"""Python tool calls side by side: calls a second inside running episodes, and whole five-call episodes a second.

Every call builds on the one before, and every answer is checked. Contenders run in turn, in one process, round after
round; the figures are medians over the rounds. Peers that are not installed are left out and named: install them with
`pip install smolagents ipykernel pydantic-monty`.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from common import arguments, report, spread

from ferrule.sandbox.interpreter import Interpreter
from ferrule.sandbox.pool import bubblewrap_command
from ferrule.sandbox.residency import resident_mb
from ferrule.sandbox.settings import Settings

LEVELS = (1, 8, 32, 128)
CALLS = 5
SECONDS = 1.2  # of one measurement; a contender finishes what it has begun


class Episode(Protocol):
    """One running interpreter of a contender."""

    def call(self, code: str) -> str: ...
    def close(self) -> None: ...


class Local:
    """Our isolated interpreter."""

    def __init__(self) -> None:
        self._python = Interpreter(Settings(seconds=60))

    def call(self, code: str) -> str:
        seen = self._python.run(code)
        assert seen.status == "ok", seen.text
        return str(seen.data["value"])

    def close(self) -> None:
        self._python.close()


class Again:
    """A fresh interpreter process for every call, which first repeats the calls before it."""

    def __init__(self, command: list[str]) -> None:
        self._command, self._past = command, ""

    def call(self, code: str) -> str:
        before, last = code.rsplit("\n", 1)
        self._past += before + "\n"
        done = subprocess.run(
            [*self._command, f"{self._past}print({last})"], capture_output=True, text=True, check=True, timeout=120
        )
        return done.stdout.strip()

    def close(self) -> None:
        """Nothing is left running."""


class Smolagents:
    """The local executor of smolagents: a walk over the syntax tree in this process."""

    def __init__(self) -> None:
        from smolagents.local_python_executor import LocalPythonExecutor

        self._python = LocalPythonExecutor([])
        self._python.send_tools({})

    def call(self, code: str) -> str:
        return str(self._python(code).output)

    def close(self) -> None:
        """Nothing is left running."""


class Monty:
    """A session of pydantic-monty's pool."""

    def __init__(self) -> None:
        self._checkout = monty_pool().checkout()
        self._session = self._checkout.__enter__()

    def call(self, code: str) -> str:
        return str(self._session.feed_run(code))

    def close(self) -> None:
        self._checkout.__exit__(None, None, None)


_pools: list[Any] = []
_lock = threading.Lock()


def monty_pool() -> Any:
    """The pool of workers, started once."""
    with _lock:
        if not _pools:
            import pydantic_monty

            _pools.append(pydantic_monty.Monty(max_processes=max(LEVELS)).__enter__())
        return _pools[0]


class Kernel:
    """An ipykernel of its own for every episode."""

    def __init__(self) -> None:
        from jupyter_client.manager import start_new_kernel

        self._manager, self._client = start_new_kernel(startup_timeout=120, stderr=subprocess.DEVNULL)

    def call(self, code: str) -> str:
        found: list[str] = []

        def keep(message: dict[str, Any]) -> None:
            if message["msg_type"] == "execute_result":
                found.append(message["content"]["data"]["text/plain"])

        self._client.execute_interactive(code, timeout=120, output_hook=keep)
        return found[-1]

    def close(self) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)


def contenders() -> tuple[dict[str, tuple[Callable[[], Episode], int]], list[str]]:
    """Return makers of episodes with the highest level each is measured at, and the names of what is missing."""
    plain = [sys.executable, "-I", "-c"]
    found: dict[str, tuple[Callable[[], Episode], int]] = {
        "ferrule local": (Local, 128),
        "python -I -c": (lambda: Again(plain), 128),
    }
    missing = []
    if shutil.which("bwrap"):
        command = [*bubblewrap_command(True, 64), os.path.realpath(sys.executable), "-I", "-c"]
        found["bubblewrap subprocess"] = (lambda: Again(command), 32)
    else:
        missing.append("bubblewrap")
    if importlib.util.find_spec("pydantic_monty"):
        found["pydantic-monty"] = (Monty, 128)
    else:
        missing.append("pydantic-monty")
    if importlib.util.find_spec("smolagents"):
        found["smolagents local executor"] = (Smolagents, 128)
    else:
        missing.append("smolagents")
    if importlib.util.find_spec("ipykernel"):
        found["ipykernel per episode"] = (Kernel, 8)  # more kernels at once than memory has room for
    else:
        missing.append("ipykernel")
    return found, missing


def first(episode: Episode, number: int) -> None:
    """The first call of an episode."""
    assert episode.call(f"x = {number}\nx") == str(number)


def calls(make: Callable[[], Episode], level: int, seconds: float) -> dict[str, float]:
    """Calls a second in ``level`` running episodes; latencies in milliseconds."""
    took: list[float] = []
    episodes = [make() for _ in range(level)]

    def work(number: int) -> None:
        value, mine = number, []
        while time.perf_counter() < end or not mine:
            began = time.perf_counter()
            value += 1
            assert episodes[number].call("x = x + 1\nx") == str(value)
            mine.append(1000 * (time.perf_counter() - began))
        took.extend(mine)

    with ThreadPoolExecutor(level) as pool:
        list(pool.map(first, episodes, range(level)))
        began = time.perf_counter()
        end = began + seconds
        list(pool.map(work, range(level)))
        whole = time.perf_counter() - began
        list(pool.map(lambda episode: episode.close(), episodes))
    took.sort()
    return {"per second": len(took) / whole, "p50 ms": took[len(took) // 2], "p99 ms": took[int(0.99 * len(took))]}


def whole_episodes(make: Callable[[], Episode], level: int, seconds: float) -> dict[str, float]:
    """Episodes of five calls a second, start and end included, ``level`` of them at a time."""
    took: list[float] = []

    def play(number: int) -> None:
        while True:
            began = time.perf_counter()
            episode = make()
            first(episode, number)
            for step in range(1, CALLS):
                assert episode.call("x = x + 1\nx") == str(number + step)
            episode.close()
            took.append(1000 * (time.perf_counter() - began))
            if time.perf_counter() >= end:
                return

    began = time.perf_counter()
    end = began + seconds
    with ThreadPoolExecutor(level) as pool:
        list(pool.map(play, range(level)))
    whole = time.perf_counter() - began
    took.sort()
    return {"per second": len(took) / whole, "p50 ms": took[len(took) // 2], "p99 ms": took[int(0.99 * len(took))]}


def branching(rounds: int) -> dict[str, list[float]]:
    """Milliseconds to fork an episode that holds 50 MB, and to make the first call in the branch."""
    python = Interpreter(Settings(seconds=60))
    python.run("data = bytearray(50 * 2**20)\nfor i in range(0, len(data), 4096): data[i] = 1")
    fork, call = [], []
    for _ in range(rounds):
        began = time.perf_counter()
        twin = python.fork()
        fork.append(1000 * (time.perf_counter() - began))
        began = time.perf_counter()
        assert twin.run("data[4096] + len(data)").text == str(1 + 50 * 2**20)
        call.append(1000 * (time.perf_counter() - began))
        twin.close()
        time.sleep(0.05)
    python.close()
    return {"fork ms": fork, "first call ms": call}


def crowd(count: int) -> dict[str, float]:
    """Start ``count`` episodes that stay alive: seconds for all, and memory of each (proportional set size, MiB)."""
    began = time.perf_counter()
    many = [Interpreter(Settings(seconds=60)) for _ in range(count)]
    for number, one in enumerate(many):
        one.run(f"x = {number}")
    took = time.perf_counter() - began
    held = sum(resident_mb(one.pid) for one in many)
    assert [one.run("x").text for one in many] == [str(number) for number in range(count)]
    for one in many:
        one.close()
    return {"alive": count, "seconds to start all": round(took, 2), "MiB each": round(held / count, 2)}


def main() -> None:
    """Measure everybody in turn, ``--rounds`` times."""
    options = arguments(__doc__ or "", rounds=7, forks=40, crowd=300)
    found, missing = contenders()
    rows: dict[str, dict[str, list[float]]] = {}
    for turn in range(options.rounds + 1):
        seconds = SECONDS if turn else 0.2  # the first round warms up
        for level in LEVELS:
            for name, (make, most) in found.items():
                if level > most or (not turn and level > 8):
                    continue
                for kind, measure in (("calls", calls), ("episodes", whole_episodes)):
                    figures = measure(make, level, seconds)
                    for what, value in figures.items():
                        if turn:
                            rows.setdefault(f"{name}, {kind}, {level} at once", {}).setdefault(what, []).append(value)
        print(json.dumps({"round": turn, "load": os.getloadavg()[0]}), file=sys.stderr, flush=True)
    out = {name: {what: spread(values) for what, values in row.items()} for name, row in rows.items()}
    out["ferrule local, branch of 50 MB"] = {what: spread(values) for what, values in branching(options.forks).items()}
    out["ferrule local, many alive"] = crowd(options.crowd)
    most = {name: level for name, (_, level) in found.items()}
    figures = {"rows": out, "not installed": missing, "measured up to": most, "seconds a measurement": SECONDS}
    report("tools", figures, options.json)


if __name__ == "__main__":
    main()
