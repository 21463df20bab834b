"""What a codec is, and how to get one by name.

A codec is a frozen dataclass that writes calls as text and reads them back. A module of this package that sets
``CODEC`` to its class is found by its module name; there is no list to keep.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, Protocol, runtime_checkable

from ferrule.core.arrays import nearest
from ferrule.core.records import Call, Message, Tool

__all__ = ["Codec", "Labelled", "awaited", "codec", "codec_names", "codec_type", "strict"]

Labelled = tuple[str, int, int]
"""A labelled character range ``(label, start, stop)``; labels are ``think``, ``call`` and ``answer``."""


@runtime_checkable
class Codec(Protocol):
    """How calls and their results are written as text.

    For messages that a codec can carry, ``read(write(m)) == m`` (``Call.raw`` aside) and for canonical text
    ``write(read(text)) == text``. ``stop`` lists strings that end a reply; the text a model wrote includes the stop
    string and nothing after it. ``inline`` codecs put results into the assistant's own text.
    """

    @property
    def name(self) -> str:
        """Name under which ``codec`` builds it."""
        ...

    @property
    def stop(self) -> tuple[str, ...]:
        """Strings after which nothing may follow in a reply."""
        ...

    @property
    def inline(self) -> bool:
        """True when results continue the assistant's own text."""
        ...

    def describe(self, tools: Sequence[Tool]) -> str:
        """Return the text about the tools for the system message; empty without tools."""
        ...

    def write(self, message: Message) -> str:
        """Return content and calls of an assistant message as text."""
        ...

    def read(self, text: str) -> Message:
        """Return the assistant message of a text; malformed calls carry a ``problem``. Never raises."""
        ...

    def show(self, message: Message) -> str:
        """Return the text of a tool message as the model sees it."""
        ...

    def spans(self, text: str) -> tuple[Labelled, ...]:
        """Return labelled character ranges of an assistant text, in order."""
        ...


def awaited(codec: Codec) -> str:
    """Return the mark that ends calls and begins their results, so that it stands once; empty in most forms."""
    return str(getattr(codec, "awaits", ""))


def codec_names() -> list[str]:
    """Return the names of all codecs, found by walking the package."""
    package = importlib.import_module("ferrule.chat")
    names = []
    for entry in pkgutil.iter_modules(package.__path__):
        if hasattr(importlib.import_module(f"ferrule.chat.{entry.name}"), "CODEC"):
            names.append(entry.name)
    return sorted(names)


def codec_type(name: str) -> type[Any]:
    """Return the class of a codec; an unknown name is refused with the nearest known one (``ValueError``)."""
    if name not in codec_names():
        raise ValueError(f"unknown codec {name!r}; {nearest(name, codec_names())}")
    kind: type[Any] = importlib.import_module(f"ferrule.chat.{name}").CODEC
    return kind


def codec(name: str, **options: Any) -> Codec:
    """Build a codec by name with its options, for example ``codec("hermes", style="signature")``.

    ``codec("hermes:signature")`` is the same: a description style may follow the name, so that a command line can
    give both. Unknown names raise ``ValueError`` and unknown options ``TypeError``, each with the valid ones.
    """
    name, colon, style = name.partition(":")
    if colon:
        if "style" in options:
            raise TypeError(f"style is given twice: {style!r} and {options['style']!r}")
        options["style"] = style
    kind = codec_type(name)
    known = [field.name for field in fields(kind) if field.init]
    for option in options:
        if option not in known:
            raise TypeError(f"codec {name!r} has no option {option!r}; {nearest(option, known)}")
    built: Codec = kind(**options)
    return built


def strict(message: Message) -> Message:
    """Turn every repaired call of a message into a malformed one, for training that rewards exact format only."""

    def judged(call: Call) -> Call:
        if call.problem or not call.repairs:
            return call
        return replace(call, problem=f"not in the exact format ({', '.join(call.repairs)})")

    return replace(message, calls=tuple(judged(call) for call in message.calls))
