"""Frames between this side and an isolated process, checked as untrusted data, and captured output."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["LateAnswer", "ProtocolError", "Stream", "as_frame", "checked_run", "count", "framed", "take_frame"]


class ProtocolError(Exception):
    """The connection carried something other than the answer to the question."""


class LateAnswer(ProtocolError):
    """A second answer to the question before this one: the process was still at work when it was asked."""


@dataclass
class Stream:
    """One captured output stream: the first ``cap`` bytes, and how many more there were."""

    cap: int
    body: bytearray = field(default_factory=bytearray)
    dropped: int = 0

    def add(self, chunk: bytes) -> None:
        """Keep the bytes up to the cap and count the rest."""
        room = max(0, self.cap - len(self.body))
        self.body += chunk[:room]
        self.dropped += max(0, len(chunk) - room)

    def text(self) -> str:
        """The text, with a marker when bytes were dropped."""
        text = self.body.decode("utf-8", "replace")
        return f"{text}\n[... {self.dropped} bytes of output left out ...]" if self.dropped else text


def framed(request: Mapping[str, Any]) -> bytes:
    """Return a request as one frame: four bytes of length, big-endian, and JSON."""
    return as_frame(json.dumps(request).encode())


def as_frame(body: bytes) -> bytes:
    """Return JSON as one frame."""
    return struct.pack(">I", len(body)) + body


def take_frame(received: bytearray, most: int) -> Any:
    """Take the JSON of a complete frame off ``received``; None while it is incomplete; raises on anything else."""
    if len(received) < 4:
        return None
    size = int(struct.unpack(">I", received[:4])[0])
    if size > most:
        raise ProtocolError(f"an answer of {size} bytes was announced (the most is {most})")
    if len(received) < 4 + size:
        return None
    body = received[4 : 4 + size]
    del received[: 4 + size]
    try:
        return json.loads(body.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        raise ProtocolError("an answer was not JSON") from None


def count(value: object) -> bool:
    """True for a whole number that can be a size or a line."""
    return type(value) is int and 0 <= value < 1 << 60


def checked_run(answer: dict[str, Any], cap: int) -> dict[str, Any]:
    """Check the answer to ``run`` field by field, as it comes from where untrusted code runs."""
    texts = [answer.get(name) for name in ("value", "exception", "kind")]
    dropped, files = answer.get("dropped"), answer.get("files")
    sound = (
        answer.get("status") in ("ok", "error")
        and all(text is None or (isinstance(text, str) and len(text) <= cap + 200) for text in texts)
        and (answer.get("line") is None or count(answer.get("line")))
        and count(answer.get("peak"))
        and isinstance(dropped, list)
        and len(dropped) == 2
        and all(count(size) for size in dropped)
        and isinstance(files, list)
        and len(files) <= 64
        and all(_file(entry) for entry in files)
        and _late(answer.get("late", ()), cap)
    )
    if not sound:
        raise ProtocolError("an answer had unexpected fields")
    return answer


def _late(texts: object, cap: int) -> bool:
    if texts == ():
        return True
    return (
        isinstance(texts, list) and len(texts) == 2 and all(isinstance(t, str) and len(t) <= cap + 200 for t in texts)
    )


def _file(entry: object) -> bool:
    if not isinstance(entry, dict) or not count(entry.get("size")):
        return False
    name, body = entry.get("name"), entry.get("body")
    return _inside(name) and (body is None or (isinstance(body, str) and len(body) % 4 == 0 and bool(_BASE64(body))))


def _inside(name: object) -> bool:
    """True for the name of a file below the working folder, which leads nowhere else when it is joined to a path."""
    sound = isinstance(name, str) and len(name) <= 4096 and "\0" not in name
    return sound and all(part not in ("", ".", "..") for part in str(name).split("/"))


_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}").fullmatch
