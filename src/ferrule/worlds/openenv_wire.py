"""The wire of an OpenEnv client: one WebSocket connection, frames out and in, and the server's action schema."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import httpx

from ferrule.core.hosts import on_this_machine

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

__all__ = ["Broken", "Link", "Refusal", "action_schema"]

_MISSING = 'an OpenEnv world needs websockets: pip install "ferrule[serve]"'


class Broken(ConnectionError):
    """The connection to the server is closed, or was never established; the message says why."""


class Refusal(Exception):
    """The server answered a frame with an error."""


class Link:
    """One connection: a frame out, its answer in. Every failure in between closes it, so answers never shift."""

    def __init__(self, url: str, *, headers: Mapping[str, str], seconds: float, largest: int) -> None:
        try:
            from websockets.exceptions import ConnectionClosed, WebSocketException
            from websockets.sync.client import connect
        except ImportError:
            raise ImportError(_MISSING) from None
        self.url = _at(url, "ws", "/ws")
        self._seconds = seconds
        self._closed = ConnectionClosed
        self._failures = (WebSocketException, OSError, EOFError)
        self.why = ""
        self._open = contextlib.ExitStack()
        try:
            opening = connect(
                self.url,
                open_timeout=seconds,
                close_timeout=1.0,
                max_size=largest,
                additional_headers=dict(headers),
                proxy=None if on_this_machine(urlsplit(self.url).hostname or "") else True,
            )
            self._socket: ClientConnection = self._open.enter_context(opening)
        except self._failures as problem:
            raise Broken(f"no OpenEnv server at {self.url}: {problem}") from None

    def ask(self, kind: str, data: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send a frame and return its answer's data; raises ``Refusal``, ``TimeoutError`` or ``Broken``."""
        if self.why:
            raise Broken(self.why)
        frame = {"type": kind} if data is None else {"type": kind, "data": data}
        done = False
        try:
            with contextlib.suppress(self._closed):  # a server that refused us has said why before it closed
                self._socket.send(json.dumps(frame))
            answer = json.loads(self._socket.recv(timeout=self._seconds))
            if not isinstance(answer, dict) or not isinstance(answer.get("data"), dict):
                raise ValueError("a frame without data")
            done = True
        except TimeoutError:
            self.why = f"the server did not answer a {kind} within {self._seconds:g} s; the connection is closed"
            raise
        except self._failures as problem:
            self.why = f"the server closed the connection: {problem}"
        except (ValueError, RecursionError) as problem:
            self.why = f"the server sent what is no frame of the protocol: {problem}"
        finally:  # also when this thread is told to stop in the middle
            if not done:
                self.close(self.why or "a step was given up; the connection is closed")
        if self.why:
            raise Broken(self.why)
        if answer.get("type") == "error":
            message, code = answer["data"].get("message", "unknown error"), answer["data"].get("code", "")
            raise Refusal(f"the server refused: {message} ({code})")
        return dict(answer["data"])

    def close(self, why: str = "the session is closed") -> None:
        """Close the connection; later frames say why."""
        self.why = self.why or why
        with contextlib.suppress(*self._failures):
            self._open.close()


def action_schema(url: str, *, headers: Mapping[str, str], seconds: float) -> dict[str, Any]:
    """Read the action's schema from the server; a server without one takes any object."""
    try:
        here = on_this_machine(urlsplit(url).hostname or "")
        with httpx.Client(timeout=seconds, headers=dict(headers), trust_env=not here) as client:
            answer = client.get(_at(url, "http", "/schema"))
        action = answer.json().get("action") if answer.is_success else None
    except (httpx.HTTPError, ValueError, AttributeError):
        action = None
    return action if isinstance(action, dict) else {"type": "object", "properties": {}, "additionalProperties": True}


def _at(url: str, scheme: str, path: str) -> str:
    """Return the address of ``path`` on the server, for ``ws`` or ``http``, secure when ``url`` is."""
    parts = urlsplit(url)
    secure = "s" if parts.scheme in ("https", "wss") else ""
    return urlunsplit((scheme + secure, parts.netloc, parts.path.rstrip("/") + path, "", ""))
