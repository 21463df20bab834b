"""The world ``apis`` with made-up names and documents that say nothing, and a script that writes documents from trials.

What a tool is shows in its errors: a call with an id that no table has ends in ``no entry car.1.price``.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace

from ferrule.core.flows import Ask, Session
from ferrule.core.records import Task, plain_text
from ferrule.tools.overlay import Overlay
from ferrule.worlds.aliased import Aliased, aliases
from ferrule.worlds.apis import Apis
from ferrule.worlds.wrap import Wrapped

__all__ = ["BLANK", "hidden", "peoples", "scripted_writer", "swapped"]

BLANK = "a tool"
"""What the first documents say."""
_VALUES = {"integer": 1, "string": "Oslo"}
_ENTRY = re.compile(r"no entry (\w+)\.\w+\.([a-z]+)(\.\w+)?")
_NAMED = re.compile(r"no (\w+) named")


def _named(session: Session, seed: int) -> Overlay:
    return aliases(session.tools, seed, parameters=False)


def hidden(seed: int) -> Wrapped:
    """Return the world whose tools have made-up names, the same for the same seed, and say nothing of themselves."""

    def wrap(session: Session, task: Task, _: int) -> Session:
        texts = {name: replace(text, description=BLANK) for name, text in _named(session, seed).texts.items()}
        return Aliased(session, Overlay(texts))

    return Wrapped(Apis(), wrap)


def peoples(task: Task, seed: int) -> Overlay:
    """Return the documents that people wrote of the tools of a task, by their made-up names."""
    session = Apis().start(task)
    texts = _named(session, seed).texts
    return Overlay({str(text.name): replace(text, name=None) for text in texts.values()})


def swapped(overlay: Overlay) -> Overlay:
    """Return documents of which each stands beside the next tool: as many words that fit nothing."""
    names = list(overlay.texts)
    return Overlay({name: overlay.texts[other] for name, other in zip(names, [*names[1:], *names[:1]], strict=True)})


def scripted_writer(request: Ask, sample: int) -> str:
    """Explore with values of the right types, and write down what the error tells of the tool."""
    text = plain_text(request.messages[0])
    if request.role == "prober":
        properties = json.loads(text.split("\n")[1])["parameters"]["properties"]
        arguments = {name: _VALUES.get(entry.get("type"), 1) for name, entry in properties.items()}
        return json.dumps({"query": f"What is there of {', '.join(arguments)}?", "arguments": arguments})
    if request.role == "analyst":
        return json.dumps({"suggestions": "say what is looked up"})
    return json.dumps({"description": _description(text), "explore": ""})


def _description(text: str) -> str:
    entry, named = _ENTRY.search(text), _NAMED.search(text)
    if entry is None:
        return f"Gives the id of a {named[1]} by its name." if named else BLANK
    noun, column, city = entry.groups()
    if '"value"' in text:
        return f"Sets the {column} of a {noun}."
    return f"Looks up the {column} of a {noun}{' in a city' if city else ''}."
