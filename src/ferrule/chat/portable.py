"""A renderer as a chat template, so that other programs lay conversations out as Ferrule does."""

from __future__ import annotations

import json
from importlib.resources import files

from ferrule.chat.hermes import Hermes
from ferrule.chat.renderer import ChatML, Renderer

__all__ = ["chat_template", "written_here"]

_FIRST = "{%- set head = "


def chat_template(renderer: Renderer) -> str | None:
    """Return the Jinja template whose text equals the renderer's for text conversations with tools, calls and results.

    There is one for ``ChatML`` with a ``Hermes`` codec that lists tools as templates of calls, which is what the pocket
    model speaks; None for any other. Calls are read as OpenAI writes them, with arguments as an object, or as JSON text
    that is taken as it is.
    """
    codec = renderer.codec
    if not isinstance(renderer, ChatML) or not isinstance(codec, Hermes) or codec.style != "call" or renderer.image:
        return None
    settings = {
        "head": renderer.header.split("{role}"),
        "end": renderer.end,
        "markers": renderer.markers,
        "gap": renderer.gap,
        "joint": "\n" if codec.shape == "lines" else "",
        "tool_role": renderer.tool_role,
        "system": renderer.default_system,
    }
    lines = (f"{{%- set {name} = {json.dumps(value)} -%}}\n" for name, value in settings.items())
    return "".join(lines) + files("ferrule.chat").joinpath("hermes.jinja").read_text(encoding="utf-8")


def written_here(template: str | None) -> bool:
    """Tell whether a tokenizer's chat template may be written anew: there is none, or ``chat_template`` wrote it."""
    return not template or template.startswith(_FIRST)
