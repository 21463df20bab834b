"""Model Context Protocol results as observations: text, images and files of a tool call's answer."""

from __future__ import annotations

import base64
import binascii
import json
import mimetypes
from collections.abc import Mapping
from typing import Any

from ferrule.core.clip import clean, clip
from ferrule.core.records import Artifact, Observation

__all__ = ["REVISIONS", "observation"]

REVISIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
"""Revisions of the protocol that the handshake can agree on, oldest first."""


def observation(result: Mapping[str, Any], limit: int | None = None) -> Observation:
    """Turn the result of ``tools/call`` into an observation.

    Text blocks are joined by newlines, ``structuredContent`` becomes ``data`` (and the text, when there is no other),
    images, sounds and binary resources become artifacts with one line of text each, and ``isError`` becomes the
    status ``error``. ``limit`` cuts the text, in characters. A block that is not understood is named, not dropped.
    """
    lines: list[str] = []
    files: list[Artifact] = []
    blocks = result.get("content")
    for block in blocks if isinstance(blocks, list) else []:
        line, file = _block(block if isinstance(block, Mapping) else {}, len(files) + 1)
        lines.append(line)
        if file is not None:
            files.append(file)
    data = result.get("structuredContent")
    if data is not None and not lines:
        lines.append(json.dumps(data, ensure_ascii=False, separators=(",", ":")))
    text = clip(clean("\n".join(lines)), limit, "middle")
    return Observation(text, "error" if result.get("isError") is True else "ok", data, tuple(files))


def _block(block: Mapping[str, Any], number: int) -> tuple[str, Artifact | None]:
    kind = block.get("type")
    if kind == "text":
        return str(block.get("text", "")), None
    if kind in ("image", "audio"):
        return _file(str(kind), str(block.get("mimeType", "application/octet-stream")), block.get("data"), number)
    if kind == "resource_link":
        return f"[{block.get('name', 'resource')}: {block.get('uri', '')}]", None
    if kind == "resource" and isinstance(block.get("resource"), Mapping):
        inner = block["resource"]
        if "text" in inner:
            return str(inner["text"]), None
        name = str(inner.get("uri", "resource")).rstrip("/").rsplit("/", 1)[-1]
        media = str(inner.get("mimeType", "application/octet-stream"))
        return _file(name, media, inner.get("blob"), number, named=True)
    return f"[content of an unknown kind: {kind}]", None


def _file(label: str, media: str, data: Any, number: int, named: bool = False) -> tuple[str, Artifact | None]:
    try:
        size = len(base64.b64decode(data, validate=True))
    except (binascii.Error, ValueError, TypeError):
        return f"[{label} that cannot be read]", None
    name = label if named else f"{label}-{number}{mimetypes.guess_extension(media) or ''}"
    return f"[{name}: {media}, {size} bytes]", Artifact(name, media, size, f"data:{media};base64,{data}")
