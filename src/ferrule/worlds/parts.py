"""Contents of messages as data sets write them: text, and parts of text and images in the forms of many projects."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ferrule.core.records import Image, Part

__all__ = ["content_of", "image_of"]

_TEXTS = ("text", "input_text", "output_text", "refusal")
_SOURCES = ("image_url", "image", "url", "path", "base64", "source")
_IMAGES = ("image", "image_url", "input_image")
_SIGNS = ((b"\x89PNG", "image/png"), (b"\xff\xd8", "image/jpeg"), (b"GIF8", "image/gif"), (b"RIFF", "image/webp"))


def content_of(content: Any, where: str, images: Iterator[Any] | None = None) -> str | tuple[Part, ...]:
    """Return the content of a message: a text, or parts of which each is a text or an image.

    ``images`` gives the next image to a part that names none. Raises ``ValueError`` with ``where`` for anything else.
    """
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, Sequence):
        raise ValueError(f"{where}: content is of type {type(content).__name__}; it must be text or a list of parts")
    return tuple(_part(part, where, images) for part in content)


def _part(part: Any, where: str, images: Iterator[Any] | None) -> Part:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        raise ValueError(f"{where}: a part is of type {type(part).__name__}; it must be text or an object with a type")
    kind = part.get("type")
    if kind in _TEXTS:
        text = part.get("refusal" if kind == "refusal" else "text")
        return "" if text is None else str(text)
    if kind not in _IMAGES:
        raise ValueError(f"{where}: unknown part type {kind!r}; valid: {', '.join((*_TEXTS, *_IMAGES))}")
    key = next((key for key in _SOURCES if part.get(key) is not None), "")
    if not key and (images is None or (waiting := next(images, None)) is None):
        raise ValueError(f"{where}: an image part names no image, and the row's images are used up")
    try:
        return image_of(base64.b64decode(part[key]) if key == "base64" else part[key] if key else waiting)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def image_of(value: Any) -> Image:
    """Return an image from a path, a URL, bytes, ``{"url"}``, ``{"bytes", "path"}``, ``{"data"}`` or a Pillow image.

    Bytes become a ``data:`` URL. Raises ``ValueError`` for anything else.
    """
    if isinstance(value, Image):
        return value
    if isinstance(value, Mapping):
        inner = next((value[key] for key in ("url", "bytes", "path") if value.get(key) is not None), None)
        if inner is None and isinstance(value.get("data"), str):
            return Image(
                f"data:{value.get('media_type', 'image/png')};base64,{value['data']}",
                value.get("media_type", "image/png"),
            )
        value = inner
    if isinstance(value, bytes):
        media = next((media for sign, media in _SIGNS if value.startswith(sign)), "image/png")
        return Image(f"data:{media};base64,{base64.b64encode(value).decode('ascii')}", media)
    if isinstance(value, str) and value:
        media = value[5:].partition(";")[0] if value.startswith("data:image/") else _media(value)
        return Image(value, media)
    if hasattr(value, "save"):
        buffer = io.BytesIO()
        value.save(buffer, format="PNG")
        return image_of(buffer.getvalue())
    raise ValueError(f"an image is of type {type(value).__name__}; it must be a path, a URL, bytes or a Pillow image")


def _media(path: str) -> str:
    """Return the media type that the ending of a path or URL says."""
    import mimetypes

    kind = mimetypes.guess_type(path)[0] or ""
    return kind if kind.startswith("image/") else "image/png"
