"""The forms that the pocket model reads and writes: one per codec, each with its tools listed as templates of calls.

All forms share one layout: every role header and the end mark are single tokens, results stand in a turn of their own,
and every reply ends with the end mark. Codecs that publish results inside the assistant's text are therefore not
``inline`` here: a small model sees one structure of turns, and nothing it did not write lies in its own turn. A
reply may hold several calls; with ``fence`` it ends after a block, which may call several functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ferrule.chat.codec import codec
from ferrule.chat.renderer import ChatML
from ferrule.core.arrays import nearest

__all__ = ["FORMS", "layout"]

FORMS: Mapping[str, Mapping[str, Any]] = {
    "hermes": {"style": "call", "shape": "tight", "several": True},
    "raw_json": {"style": "call"},
    "tagged": {"style": "call", "inline": False, "arguments": ()},
    "react": {"style": "call", "inline": False},
    "fence": {"style": "call", "inline": False},
}
"""Options of every codec by name; the first is the main form. ``tagged`` names every argument by a tag of its own."""


def layout(form: str) -> ChatML:
    """Return the renderer of a form; an unknown one is refused with the nearest (``ValueError``)."""
    if form not in FORMS:
        raise ValueError(f"unknown form {form!r}; {nearest(form, list(FORMS))}")
    return ChatML(codec(form, **FORMS[form]), header="<|{role}|>", end="<|end|>", gap="")
