"""Forced calls: how a codec begins a call of one tool."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from ferrule.chat.codec import Codec
from ferrule.core.arrays import nearest
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, Tool

__all__ = ["Split", "call_beginning", "forced", "tool_named"]

Split: TypeAlias = Callable[[str], Sequence[str]]
"""Cuts a text into pieces that join to it."""

_SAMPLES: dict[str, tuple[Any, ...]] = {
    "string": ("a", "b"),
    "integer": (1, 2),
    "number": (1.5, 2.5),
    "boolean": (True, False),
    "array": ([], ["a"]),
    "object": ({}, {"a": "b"}),
}


def _calls(tool: Tool) -> Iterator[Call]:
    """Yield calls that differ in everything that calls of the tool may differ in."""
    yield Call(tool.name)
    for name, schema in (tool.parameters.get("properties") or {"any": {}}).items():
        kind = schema.get("type", "string") if isinstance(schema, dict) else "string"
        for value in _SAMPLES.get(kind if isinstance(kind, str) else "string", _SAMPLES["string"]):
            yield Call(tool.name, {name: value})


def _written(codec: Codec, call: Call) -> str | None:
    try:
        return codec.write(Message("assistant", "", (call,)))
    except ValueError:
        return None  # a codec may say that it cannot carry a call


def _shared(texts: Sequence[str], split: Split) -> str:
    """Return the pieces that all texts begin with, joined."""
    rows = [split(text) for text in texts]
    same = itertools.takewhile(lambda pieces: len(set(pieces)) == 1, zip(*rows, strict=False))
    return "".join(pieces[0] for pieces in same)


def call_beginning(codec: Codec, tool: Tool, split: Split = list) -> str:
    """Return the longest text that every call of a tool begins with, as ``codec`` writes calls.

    ``split`` cuts a text into the pieces that a model reads (its tokens; by letters without): the beginning ends where
    such a piece ends in every call, so that a model goes on from a place it knows; where calls without arguments are
    cut in another way, and the tool needs some, in every other call. Raises ``ValueError`` when the codec cannot write
    calls of the tool, or begins calls of other tools alike.
    """
    written = [(call, text) for call in _calls(tool) if (text := _written(codec, call)) is not None]
    texts = [text for _, text in written]
    filled = [text for call, text in written if call.arguments or not tool.parameters.get("required")]
    longer_name = _written(codec, Call(f"{tool.name}_", {}))
    for cut, same in ((split, texts), (split, filled), (list, texts)):
        beginning = _shared(same, cut) if len(same) > 1 else ""
        if beginning and not (longer_name is not None and longer_name.startswith(beginning)):
            return beginning
    raise ValueError(f"the codec {codec.name!r} has no text that begins calls of {tool.name!r} alone")


def tool_named(ask: Ask) -> Tool:
    """Return the tool that ``Ask.must_call`` names; raises ``ValueError`` with the nearest of the tools on offer."""
    for tool in ask.tools:
        if tool.name == ask.must_call:
            return tool
    names = [tool.name for tool in ask.tools]
    raise ValueError(f"Ask.must_call is {ask.must_call!r}; {nearest(ask.must_call, names)}")


def forced(ask: Ask, codec: Codec, split: Split = list) -> Ask:
    """Return an ask whose forced call is a text the reply begins with: ``call_beginning`` as ``prefill``."""
    if not ask.must_call:
        return ask
    if ask.begun:
        raise ValueError("an ask has begun ids and must_call: a reply that is on its way cannot be made to begin anew")
    return replace(ask, must_call="", prefill=ask.prefill + call_beginning(codec, tool_named(ask), split))
