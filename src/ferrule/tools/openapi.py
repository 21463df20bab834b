"""Tools of a web API that an OpenAPI 3 document describes: every operation is a tool that sends its request."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

import httpx

from ferrule.core.arrays import nearest
from ferrule.core.records import Effect, Observation, Tool
from ferrule.tools.openapi_document import Operation, address, checked, load_document, operations, path_name
from ferrule.tools.openapi_wire import Secret, request_of, send
from ferrule.tools.schema import resolve

__all__ = ["openapi"]

_SAFE, _TWICE = ("get", "head", "options", "trace"), ("put", "delete")


def openapi(
    document: str | Path | Mapping[str, Any],
    *,
    server: str = "",
    headers: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
    named: Callable[[Operation], str] | None = None,
    effects: Mapping[str, Effect] | None = None,
    seconds: float = 30.0,
    limit: int = 20_000,
    largest: int = 16 << 20,
) -> tuple[Tool, ...]:
    """Return a tool per operation of an OpenAPI 3 document: a file or URL of JSON or YAML, or the document itself.

    Arguments go where the document says: into the path, the query, headers, cookies or the body. Fields of a JSON
    object in the body are arguments of their own; another body is the argument ``body``. ``server`` replaces the
    first server that the document names. ``secrets`` are keys and tokens by the names of the document's security
    schemes, else the environment variables ``OPENAPI_NAME`` of these names in capitals, and no others, since a document
    must not pick what it is sent. No model reads them; redirects are not followed. ``headers`` go with every request.

    Any answer outside 2xx is an observation of status ``error`` that begins with ``HTTP 404``; ``data`` holds the code
    under ``http`` and the ``body``. A request is stopped after ``seconds``, its text cut to ``limit`` characters, and
    an answer of more than ``largest`` bytes given up. GET, HEAD, OPTIONS and TRACE read; whatever else cannot be
    undone, unless ``effects`` says otherwise by name of tool. ``named`` gives the names of the tools
    (None: the ``operationId``; where several operations have the same, ``path_name``).
    Raises ``ValueError`` for what is no OpenAPI 3 document, for one without a server, two tools of one name, and an
    unknown name in ``effects``; ``FileNotFoundError`` and ``ConnectionError`` where the document is not to be had.
    """
    if not seconds > 0 or limit < 1 or largest < 1:
        raise ValueError("seconds must be above 0, limit and largest at least 1")
    if server and not _web(server):
        raise ValueError(f"server is {server!r}; write an address such as https://example.org/v1")
    where = "the document" if isinstance(document, Mapping) else str(document)
    spec = checked(document, where) if isinstance(document, Mapping) else load_document(document)
    keys = _secrets(spec, secrets)
    tools: dict[str, Tool] = {}
    found = list(operations(spec))
    count = Counter(operation.name for operation in found)
    for operation in found:
        base = server or _server(spec, operation, where)
        build = partial(
            request_of, operation.method, base, operation.path, operation.slots, operation.media,
            headers=dict(headers or {}), secrets=_wanted(spec, operation, keys), required=operation.required,
        )  # fmt: skip
        run = _sending(build, limit, largest)
        name = named(operation) if named else operation.name if count[operation.name] == 1 else path_name(operation)
        reads = operation.method in _SAFE
        if name in tools:
            raise ValueError(f"{where} has two operations named {name!r}; give names with named=path_name")
        tools[name] = Tool(
            name, operation.description, operation.parameters, run, effects="read" if reads else "irreversible",
            seconds=seconds, idempotent=reads or operation.method in _TWICE, output=operation.output,
        )  # fmt: skip
    if not tools:
        raise ValueError(f"{where} describes no operations")
    return tuple(_declared(tools, effects or {}).values())


def _declared(tools: Mapping[str, Tool], effects: Mapping[str, Effect]) -> dict[str, Tool]:
    """Return the tools with the effects that are given for some by name."""
    changed = dict(tools)
    for name, effect in effects.items():
        if name not in tools:
            raise ValueError(f"effects names an unknown tool {name!r}; {nearest(name, list(tools))}")
        if effect not in get_args(Effect):
            raise ValueError(f"effects[{name!r}] is {effect!r}; {nearest(effect, get_args(Effect))}")
        changed[name] = replace(tools[name], effects=effect)
    return changed


def _sending(
    build: Callable[[Mapping[str, Any]], httpx.Request], limit: int, largest: int
) -> Callable[..., Coroutine[Any, Any, Observation]]:
    async def run(**given: Any) -> Observation:
        return await send(build(given), limit=limit, largest=largest)

    return run


def _server(spec: Mapping[str, Any], operation: Operation, where: str) -> str:
    servers = [address(entry) for entry in operation.entry.get("servers") or spec.get("servers") or ()]
    first = servers[0] if servers else ""
    if not _web(first):
        named = f"the server {first!r}, without a host" if first else "no server"
        raise ValueError(f"{where} names {named}; give its address: server=URL, or openapi:DOCUMENT URL in the shell")
    return first


def _web(text: str) -> bool:
    return urlsplit(text).scheme in ("http", "https") and bool(urlsplit(text).netloc)


def _secrets(spec: Mapping[str, Any], given: Mapping[str, str] | None) -> dict[str, Secret]:
    """Return how each security scheme that has a secret is sent, by name."""
    schemes = (spec.get("components") or {}).get("securitySchemes") or {}
    for name in given or {}:
        if name not in schemes:
            raise ValueError(f"secrets names an unknown security scheme {name!r}; {nearest(name, list(schemes))}")
    values = {name: (given or {}).get(name) or os.environ.get(_variable(name), "") for name in schemes}
    return {name: _secret(resolve(schemes[name], spec), value) for name, value in values.items() if value}


def _variable(name: str) -> str:
    return "OPENAPI_" + re.sub(r"\W", "_", name).upper()


def _secret(scheme: Mapping[str, Any], value: str) -> Secret:
    if scheme.get("type") == "apiKey":
        return Secret(str(scheme.get("in", "header")), str(scheme.get("name", "")), value)
    basic = scheme.get("type") == "http" and str(scheme.get("scheme", "")).lower() == "basic"
    return Secret("basic" if basic else "header", "Authorization", value if basic else f"Bearer {value}")


def _wanted(spec: Mapping[str, Any], operation: Operation, keys: Mapping[str, Secret]) -> tuple[Secret, ...]:
    """Return the secrets of the first way of signing in for which all are there; none is the last choice."""
    ways = operation.entry.get("security", spec.get("security")) or ()
    for way in sorted(ways, key=lambda way: not way):
        if all(name in keys for name in way):
            return tuple(keys[name] for name in way)
    return ()
