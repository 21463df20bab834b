"""A worker process: ``python -m ferrule.serve.worker FD`` runs the episodes of one link, until the link ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
from typing import Any

from ferrule.core.exact import read, write
from ferrule.core.paths import by_path
from ferrule.core.records import Call, Observation
from ferrule.serve.episodes import Lost
from ferrule.serve.frames import FrameError, pack, pack_observation, read_frame
from ferrule.serve.threads import Threads
from ferrule.serve.wire import refusal

__all__ = ["main"]

_PATIENCE = 3.0  # seconds that closing the sessions may take once the link has ended


def main(descriptor: int) -> None:
    """Serve the link on ``descriptor``; never returns."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when a worker ends
    os.dup2(2, 1)  # what tools print must not get into a protocol on the parent's standard output
    try:
        threads = asyncio.run(_serve(socket.socket(fileno=descriptor)))
    except (KeyboardInterrupt, OSError):
        os._exit(1)
    if threads is not None:
        closing = threading.Thread(target=threads.close_all, daemon=True)
        closing.start()
        closing.join(_PATIENCE)
    os._exit(0)  # threads that were left behind would keep the process


async def _serve(link: socket.socket) -> Threads | None:
    reader, writer = await asyncio.open_unix_connection(sock=link)
    with contextlib.suppress(FrameError):
        hello = await read_frame(reader)
        if hello is None:
            return None
        try:
            threads = await asyncio.to_thread(_prepare, hello, writer)
        except (Exception, SystemExit) as problem:
            writer.write(pack({"failed": f"{type(problem).__name__}: {problem}"}))
            await writer.drain()
            return None
        tasks: set[asyncio.Task[None]] = set()
        while (message := await read_frame(reader)) is not None:
            task = asyncio.ensure_future(_answer(threads, message, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        return threads
    return None


def _prepare(hello: dict[str, Any], writer: asyncio.StreamWriter) -> Threads:
    """Build what opens the sessions, try it out, and report the tools."""
    for path in reversed(hello["path"]):
        if path not in sys.path:
            sys.path.insert(0, path)
    source = by_path(hello["factory"])(**hello["options"])
    if hasattr(source, "warm"):
        source.warm()
    tools = [write(tool) for tool in source.tools]
    writer.write(pack({"ready": tools}))
    return Threads(source.open, hello["seconds"], hello["slack"])


async def _answer(threads: Threads, message: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    """Carry out one request and answer it under its number."""
    number, episode, lost = message["id"], message["episode"], False
    try:
        if message["do"] == "act":
            observation = await threads.run(episode, read(Call, message["call"]), message["seconds"])
        elif message["do"] == "fork":
            observation = await threads.fork(episode, message["twin"])
        else:
            await threads.end(episode)
            observation = Observation("")
    except Lost as loss:
        observation, lost = loss.observation, True
    except Exception as problem:
        observation = refusal("host_failed", f"the worker failed: {type(problem).__name__}: {problem}", "error")
    with contextlib.suppress(ConnectionError):  # the reading side notices as well, and ends the process
        writer.write(pack_observation(number, observation, lost=lost))
        await writer.drain()


if __name__ == "__main__":
    main(int(sys.argv[1]))
