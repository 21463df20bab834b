"""``ferrule serve``: toolsets and worlds for programs that are written elsewhere."""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ferrule.cli.options import guarded

__all__ = ["command"]


def _options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return one decorator of many options, shown in this order."""
    return lambda function: functools.reduce(lambda inner, option: option(inner), reversed(options), function)


_ADDRESS = _options(
    click.option("--host", default="127.0.0.1", show_default=True, help="Address; others need an API key."),
    click.option("--port", default=0, show_default=True, help="Port; 0 takes a free one."),
    click.option(
        "--api-key-file",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="File that holds the API key [default: the variable FERRULE_API_KEY, else no key].",
    ),
    click.option("--max-body", default=8 << 20, show_default=True, help="Largest request in bytes."),
    click.option(
        "--max-connections", default=1024, show_default=True, type=click.IntRange(1), help="Most open connections."
    ),
    click.option("--drain-seconds", default=30.0, show_default=True, help="Time for running calls at the end."),
)
_HOSTING = _options(
    click.option("--workers", default=2, show_default=True, help="Worker processes."),
    click.option("--max-episodes", default=512, show_default=True, help="Most live episodes."),
    click.option("--queue", default=4096, show_default=True, help="Most calls that wait or run."),
    click.option("--idle-seconds", default=600.0, show_default=True, help="Idle episodes are closed after this."),
    click.option("--seconds", default=10.0, show_default=True, help="Time limit of a call that names none (python)."),
    click.option("--max-seconds", default=60.0, show_default=True, help="Largest time limit a call may name."),
    click.option("--worker-memory", default=2048, show_default=True, help="MiB beyond which a worker is replaced."),
)


@click.group("serve")
def command() -> None:
    """Serve tools over HTTP and MCP, or a world over OpenEnv."""


@command.command("tools")
@click.argument("toolsets", nargs=-1, required=True, metavar="TOOLSET...")
@_ADDRESS
@_HOSTING
@click.option("--done-if-invalid", is_flag=True, help="End a trajectory whose text no tool can read.")
@guarded
def tools(
    toolsets: tuple[str, ...],
    host: str,
    port: int,
    api_key_file: Path | None,
    max_body: int,
    max_connections: int,
    drain_seconds: float,
    done_if_invalid: bool,
    **hosting: Any,
) -> None:
    """Serve TOOLSET... over HTTP: plain calls, batches of raw model texts, and MCP at /mcp.

    TOOLSET is python, calculator, search:FOLDER_OR_JSONL, sql:DATABASE, a Python file with @tool functions,
    module:function, mcp:COMMAND or mcp:URL.
    """
    _need("starlette", "uvicorn", "prometheus_client")
    from ferrule.serve.app import tools_app
    from ferrule.serve.clients import ClientLimits
    from ferrule.serve.mcp import mcp_routes
    from ferrule.serve.metrics import Counted
    from ferrule.serve.run import bind, serve

    key = _key(api_key_file)
    listening = bind(host, port, key=key)

    async def main() -> None:
        async with _workers(toolsets, **hosting) as workers:
            counted = Counted(workers)
            app = tools_app(
                counted, key=key, max_body=max_body, done_if_invalid=done_if_invalid, routes=mcp_routes(counted)
            )
            clients = ClientLimits(connections=max_connections)
            await serve(app, listening, host=workers, drain_seconds=drain_seconds, clients=clients, ready=_say)

    with listening:
        _run(main())


@command.command("mcp")
@click.argument("toolsets", nargs=-1, required=True, metavar="TOOLSET...")
@_HOSTING
@guarded
def mcp(toolsets: tuple[str, ...], **hosting: Any) -> None:
    """Serve TOOLSET... over MCP on standard input and output, for a program that starts this one."""
    from ferrule.serve.mcp import run_stdio

    async def main() -> None:
        async with _workers(toolsets, **hosting) as workers:
            await run_stdio(workers)

    _run(main())


@command.command("world")
@click.argument("name")
@_ADDRESS
@guarded
def world(
    name: str,
    host: str,
    port: int,
    api_key_file: Path | None,
    max_body: int,
    max_connections: int,
    drain_seconds: float,
) -> None:
    """Serve the world NAME over OpenEnv (reset, step, state over a WebSocket)."""
    _need("starlette", "uvicorn", "websockets")
    from ferrule.cli.options import make_world
    from ferrule.serve.access import AccessControl
    from ferrule.serve.clients import ClientLimits
    from ferrule.serve.openenv import openenv_app
    from ferrule.serve.run import bind, serve

    key = _key(api_key_file)
    app = AccessControl(openenv_app(make_world([name])), key=key, max_body=max_body)
    listening = bind(host, port, key=key)
    with listening:
        clients = ClientLimits(connections=max_connections)
        _run(serve(app, listening, drain_seconds=drain_seconds, clients=clients, ready=_say))


def _need(*modules: str) -> None:
    """Refuse to begin without the libraries of the extra."""
    for name in modules:
        if importlib.util.find_spec(name) is None:
            raise click.UsageError(f'this needs {name}: pip install "ferrule[serve]"')


def _say(url: str) -> None:
    click.echo(url)


def _key(path: Path | None) -> str | None:
    """Return the API key: from the file, else from the environment, else none."""
    from ferrule.serve.access import check_key

    key = path.read_text(encoding="utf-8").strip() if path is not None else os.environ.get("FERRULE_API_KEY", "")
    if path is None and not key:
        return None
    return check_key(key)


def _workers(
    toolsets: tuple[str, ...],
    *,
    workers: int,
    max_episodes: int,
    queue: int,
    idle_seconds: float,
    seconds: float,
    max_seconds: float,
    worker_memory: int,
) -> Any:
    """Return the host that serves the toolsets."""
    from ferrule.serve.host import Limits
    from ferrule.serve.workers import Source, Workers

    limits = Limits(episodes=max_episodes, queue=queue, idle_seconds=idle_seconds, seconds=max(seconds, max_seconds))
    names = [str(Path(name).resolve()) if name.endswith(".py") else name for name in toolsets]
    source = Source("ferrule.serve.toolset:Toolset", {"names": names, "seconds": seconds})
    return Workers(source, workers, limits=limits, memory_mb=worker_memory)


def _run(work: Any) -> None:
    """Run until the end; a worker that cannot start is the user's business to know."""
    from ferrule.serve.process import WorkerFailed

    try:
        asyncio.run(work)
    except WorkerFailed as problem:
        raise click.UsageError(str(problem)) from None
