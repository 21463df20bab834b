"""Checks before every route: API keys, the size of a request, and who may use a server without a key."""

from __future__ import annotations

import hmac
import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["AccessControl", "check_key", "loopback"]

_OPEN = ("/health",)
_SHORTEST = 8
_PATIENT = 8  # so many times the largest request is read and thrown away before the connection is closed


def loopback(host: str) -> bool:
    """True when a host name can only mean this machine."""
    if host in ("localhost", ""):
        return host == "localhost"
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_key(key: str) -> str:
    """Return an API key; raises ``ValueError`` for one that is too short or cannot be sent in a header."""
    if len(key) < _SHORTEST or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError(f"an API key has at least {_SHORTEST} printable ASCII characters and no blanks")
    return key


class AccessControl:
    """Middleware: refuses requests without the key (401), from strange origins (403) and beyond ``max_body`` (413).

    With a ``key`` every route but ``/health`` needs ``Authorization: Bearer KEY``. Without one only programs on this
    machine may connect: the ``Host`` header, and ``Origin`` where a browser sends it, must then name this
    machine, so that no web page can use the server.
    """

    def __init__(self, app: ASGIApp, *, key: str | None = None, max_body: int = 8 << 20) -> None:
        """Wrap ``app``."""
        self.app = app
        self._key = None if key is None else check_key(key).encode()
        self._max = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        headers = {name.lower(): value for name, value in scope["headers"]}
        refused = self._refused(scope["path"], headers)
        if refused is None and scope["type"] == "http":
            length = headers.get(b"content-length", b"0")
            if length.isdigit() and int(length) > self._max:
                refused = 413, f"the request has {int(length)} bytes; the most is {self._max}"
        if refused is None:
            return await self.app(scope, self._limited(receive), send)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008, "reason": refused[1]})
        from starlette.responses import JSONResponse

        await _discard(receive, _PATIENT * self._max)
        extra = {"www-authenticate": "Bearer"} if refused[0] == 401 else None
        return await JSONResponse({"error": refused[1]}, refused[0], extra)(scope, receive, send)

    def _refused(self, path: str, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        if self._key is not None:
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            if path in _OPEN or (hmac.compare_digest(given, self._key) and scheme.lower() == b"bearer"):
                return None
            return 401, "this server needs an API key: send the header Authorization: Bearer KEY"
        host = headers.get(b"host", b"").decode("latin-1")
        origin = headers.get(b"origin", b"").decode("latin-1")
        for url in (f"//{host}", *([origin] if origin else [])):
            if not loopback(_host_of(url)):
                return 403, "without an API key this server answers programs on its own machine only"
        return None

    def _limited(self, receive: Receive) -> Receive:
        """Count what arrives in pieces; past the limit the request ends with 413."""
        arrived = 0

        async def limited() -> Message:
            nonlocal arrived
            message = await receive()
            if message["type"] != "http.request":
                return message
            arrived += len(message.get("body", b""))
            if arrived > self._max:
                from starlette.exceptions import HTTPException

                if message.get("more_body", False):
                    await _discard(receive, _PATIENT * self._max)
                raise HTTPException(413, f"the request has more than {self._max} bytes")
            return message

        return limited


async def _discard(receive: Receive, most: int) -> None:
    """Read a request that is refused: a client that is still writing would otherwise never see the answer."""
    while most > 0:
        message = await receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            return
        most -= len(message.get("body", b""))


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
