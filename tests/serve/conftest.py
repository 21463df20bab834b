"""Other projects' programs in environments of their own, and our servers on a port of this machine."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from tests.peers import peer_python


@pytest.fixture(scope="session")
def peers() -> dict[str, Path]:
    """Interpreters of the peers' environments by name; set up on first use."""
    return peer_python("one", "two")


@pytest.fixture
def peer(peers: dict[str, Path]) -> Callable[..., Any]:
    """Return a function that runs a program in a peer's environment and returns the JSON it prints last."""

    def run(name: str, program: str, *arguments: str) -> Any:
        made = subprocess.run(
            [str(peers[name]), "-c", program, *arguments], capture_output=True, text=True, timeout=120
        )
        assert made.returncode == 0, made.stderr[-3000:]
        return json.loads(made.stdout.splitlines()[-1])

    return run


@contextlib.contextmanager
def _running(app: Any, **settings: Any) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", **settings))
    started = threading.Event()
    told = server.startup

    async def startup(*arguments: Any, **named: Any) -> None:
        await told(*arguments, **named)
        started.set()

    server.startup = startup  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert started.wait(60)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture
def serving() -> Iterator[Callable[..., str]]:
    """Return a function that serves an ASGI application on a free port and returns its URL."""
    with contextlib.ExitStack() as stack:
        yield lambda app, **settings: stack.enter_context(_running(app, **settings))
