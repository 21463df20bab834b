"""A real server process for tests, started as a user would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

KEY = "a-key-for-tests"


@contextmanager
def serving(*arguments: str, key: str | None = KEY) -> Iterator[httpx.Client]:
    """Run ``ferrule serve``, and give a client of it; its process is ``client.process``."""
    environment = {name: value for name, value in os.environ.items() if name != "FERRULE_API_KEY"}
    if key is not None:
        environment["FERRULE_API_KEY"] = key
    command = [sys.executable, "-m", "ferrule", "serve", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        url = process.stdout.readline().strip()
        assert url.startswith("http://"), process.stderr.read()
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        with httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False) as client:
            client.process = process  # type: ignore[attr-defined]
            yield client
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            said = process.communicate(timeout=30)[1]
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode == 0, said


def act(
    client: httpx.Client, episode: str, name: str, /, limit: float | None = None, **arguments: Any
) -> dict[str, Any]:
    """Make one plain call."""
    body = {"name": name, "arguments": arguments, **({} if limit is None else {"seconds": limit})}
    seen: dict[str, Any] = client.post(f"/episodes/{episode}/act", json=body).json()
    return seen
