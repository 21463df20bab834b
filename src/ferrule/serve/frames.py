"""Length-prefixed JSON frames over a stream: four bytes of length (big endian), then so many bytes of one object."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Mapping
from typing import Any

from ferrule.core.exact import line_of, write
from ferrule.core.records import Observation
from ferrule.serve.wire import refusal

__all__ = ["LARGEST", "FrameError", "pack", "pack_observation", "read_frame"]

LARGEST = 32 << 20
"""Most bytes in one frame."""
_LENGTH = struct.Struct(">I")
_KEPT = 100_000  # characters of a text whose frame would be too large


class FrameError(Exception):
    """Bytes that are not a frame, or a frame beyond the limit."""


def pack(message: Mapping[str, Any], largest: int = LARGEST) -> bytes:
    """Return the frame of a message; raises ``FrameError`` when it is too large."""
    body = line_of(message)
    if len(body) > largest:
        raise FrameError(f"a message of {len(body)} bytes; the most is {largest}")
    return _LENGTH.pack(len(body)) + body


def pack_observation(number: int, observation: Observation, largest: int = LARGEST, **more: Any) -> bytes:
    """Return the frame of an answer; one that would be too large becomes an error of reason ``too_large``."""
    try:
        return pack({"id": number, "observation": write(observation), **more}, largest)
    except FrameError as problem:
        text = f"the result is too large to be sent ({problem}); its text began:\n{observation.text[:_KEPT]}"
        small = refusal("too_large", text[: largest // 16], "error")
        return pack({"id": number, "observation": write(small), **more}, largest)


async def read_frame(reader: asyncio.StreamReader, largest: int = LARGEST) -> dict[str, Any] | None:
    """Return the next message, None at the end of the stream; raises ``FrameError`` for anything else."""
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        if length > largest:
            raise FrameError(f"a frame of {length} bytes; the most is {largest}")
        message = json.loads(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    except (ValueError, RecursionError) as problem:
        raise FrameError(f"a frame that is not JSON: {problem}") from None
    if not isinstance(message, dict):
        raise FrameError(f"a frame that holds {type(message).__name__}, not an object")
    return message
