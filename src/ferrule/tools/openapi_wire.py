"""How a call of an OpenAPI operation travels: arguments into a request, and an answer into an observation."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from ferrule.core.clip import clip
from ferrule.core.hosts import on_this_machine
from ferrule.core.records import Artifact, Observation

__all__ = ["Secret", "Slot", "request_of", "send"]

_SEPARATORS = {"spaceDelimited": " ", "pipeDelimited": "|"}
_BINARY = 1 << 20  # bytes of a file that come along with an observation


@dataclass(frozen=True)
class Slot:
    """Where an argument goes: ``place`` is path, query, header, cookie or body, and ``name`` its name there.

    ``style`` and ``explode`` are those of OpenAPI; ``media`` is the media type of a parameter that has one. An empty
    ``name`` is the whole body.
    """

    argument: str
    name: str
    place: str
    style: str = "form"
    explode: bool = True
    media: str = ""


@dataclass(frozen=True)
class Secret:
    """A key or token: ``place`` is header, query, cookie or basic (``user:password``), ``name`` its name there."""

    place: str
    name: str
    value: str = field(repr=False)


def request_of(
    method: str, server: str, path: str, slots: Sequence[Slot], media: str, given: Mapping[str, Any], *,
    headers: Mapping[str, str] | None = None, secrets: Sequence[Secret] = (), required: bool = False,
) -> httpx.Request:  # fmt: skip
    """Return the request of a call: ``given`` are its checked arguments by name.

    A ``required`` body is sent although no field of it is given. A query that the path has already is kept.
    Raises ``ValueError`` for an argument of the path that would lead elsewhere (empty, ``.`` or ``..``).
    """
    query: list[tuple[str, str | int | float | bool | None]] = []
    cookies: dict[str, str] = {}
    sent = httpx.Headers(dict(headers or {}))
    fields: dict[str, Any] = {}
    whole: list[Any] = []
    for slot in slots:
        if slot.argument not in given:
            continue
        value = given[slot.argument]
        if slot.place == "path":
            path = path.replace(f"{{{slot.name}}}", _in_path(slot, value))
        elif slot.place == "query":
            query += _in_query(slot, value)
        elif slot.place == "header":
            sent[slot.name] = _joined(slot, value)
        elif slot.place == "cookie":
            cookies[slot.name] = _joined(slot, value)
        elif slot.name:
            fields[slot.name] = value
        else:
            whole.append(value)
    for secret in secrets:
        if secret.place == "query":
            query.append((secret.name, secret.value))
        elif secret.place == "cookie":
            cookies[secret.name] = secret.value
        elif secret.place == "basic":
            sent[secret.name] = f"Basic {base64.b64encode(secret.value.encode()).decode()}"
        else:
            sent[secret.name] = secret.value
    if cookies:
        sent["cookie"] = "; ".join(f"{name}={quote(value, safe='')}" for name, value in cookies.items())
    body = _body(media, whole or ([fields] if fields or required else []))
    if "content" in body:
        sent["content-type"] = media
    url = f"{server.rstrip('/')}/{path.lstrip('/')}"
    target = httpx.URL(url).copy_merge_params(query) if query else url
    return httpx.Request(method.upper(), target, headers=sent, **body)


def _in_path(slot: Slot, value: Any) -> str:
    text = _joined(slot, value)
    if text in ("", ".", ".."):
        raise ValueError(f"{slot.argument} is {text!r}, which would lead to another path")
    return {"label": ".", "matrix": f";{slot.name}="}.get(slot.style, "") + quote(text, safe=",")


def _in_query(slot: Slot, value: Any) -> list[tuple[str, str]]:
    if slot.media:
        return [(slot.name, _json_text(value))]
    if isinstance(value, Mapping) and slot.style == "deepObject":
        return [(f"{slot.name}[{key}]", _text(item)) for key, item in value.items()]
    if isinstance(value, Mapping) and slot.explode:
        return [(str(key), _text(item)) for key, item in value.items()]
    if isinstance(value, list | tuple) and slot.explode:
        return [(slot.name, _text(item)) for item in value]
    return [(slot.name, _joined(slot, value))]


def _joined(slot: Slot, value: Any) -> str:
    """Return a value as one text: lists and objects with commas, or the separator of their style."""
    if slot.media:
        return _json_text(value)
    mark = _SEPARATORS.get(slot.style, ",")
    if isinstance(value, Mapping):
        pairs = ((str(key), _text(item)) for key, item in value.items())
        return mark.join(f"{key}={item}" if slot.explode else f"{key}{mark}{item}" for key, item in pairs)
    return mark.join(map(_text, value)) if isinstance(value, list | tuple) else _text(value)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else _json_text(value)


def _json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _body(media: str, given: Sequence[Any]) -> dict[str, Any]:
    """Return the body of a request in its media type, as httpx takes it; ``given`` holds its value, or nothing."""
    kind = media.split(";")[0].strip()
    if not media or not given:
        return {}
    value = given[0]
    if kind == "application/x-www-form-urlencoded" and isinstance(value, Mapping):
        return {"data": {name: [_text(each) for each in item] if isinstance(item, list) else _text(item)
                         for name, item in value.items()}}  # fmt: skip
    if kind == "multipart/form-data" and isinstance(value, Mapping):
        parts = [(name, each) for name, item in value.items() for each in (item if isinstance(item, list) else [item])]
        return {"files": [(name, (None, _text(each))) for name, each in parts]}
    content = _json_text(value) if kind.endswith("json") else _text(value)
    return {"content": content.encode()}


@cache
def _trust() -> Any:
    """Return the certificates that this machine trusts, read once."""
    return httpx.create_ssl_context()


async def send(request: httpx.Request, *, limit: int, largest: int) -> Observation:
    """Send a request and return what came back; whoever runs the tool holds its time limit."""
    host = request.url.host
    try:
        async with httpx.AsyncClient(timeout=None, trust_env=not on_this_machine(host), verify=_trust()) as client:
            response = await client.send(request, stream=True)
            body = bytearray()
            async for block in response.aiter_bytes():
                body += block
                if len(body) > largest:
                    await response.aclose()
                    text = f"HTTP {response.status_code}: the answer is longer than {largest} bytes"
                    return Observation(text, "error", data={"http": response.status_code})
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        text = f"no answer from {host}: {type(error).__name__}: {error}".rstrip(": ")
        return Observation(clip(text, limit), "error", data={"http": None})
    return _observation(response, bytes(body), limit)


def _observation(response: httpx.Response, body: bytes, limit: int) -> Observation:
    code, kind = response.status_code, response.headers.get("content-type", "").split(";")[0].strip().lower()
    line = f"HTTP {code} {response.reason_phrase}".strip()
    value: Any = None
    if kind and not _readable(kind) and response.is_success:
        source = f"data:{kind};base64,{base64.b64encode(body).decode()}" if len(body) <= _BINARY else ""
        name = urlsplit(str(response.url)).path.rpartition("/")[2] or "answer"
        return Observation(
            f"[{kind}, {len(body)} bytes]", data={"http": code}, artifacts=(Artifact(name, kind, len(body), source),)
        )
    try:
        text = body.decode(response.charset_encoding or "utf-8", "replace").strip()
    except LookupError:  # an encoding that nobody knows
        text = body.decode("utf-8", "replace").strip()
    if kind.endswith("json") or not kind:
        try:
            value = json.loads(text, parse_constant=_refused)
            text = _json_text(value)
            text.encode()
        except (ValueError, RecursionError):
            value = None
    if response.is_success:
        return Observation(clip(text or line, limit), data={"http": code, "body": value})
    leads = f" (leads to {response.headers['location']})" if "location" in response.headers else ""
    return Observation(clip(f"{line}{leads}: {text}".rstrip(": "), limit), "error", data={"http": code, "body": value})


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _readable(kind: str) -> bool:
    return kind.startswith("text/") or kind.endswith(("json", "xml", "yaml", "x-www-form-urlencoded", "javascript"))
