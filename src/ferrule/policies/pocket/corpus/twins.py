"""Twins: two tools whose descriptions differ in one word, and questions that hold it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ferrule.core.records import Tool
from ferrule.policies.pocket.corpus.kit import Exercise, Kit

__all__ = ["twin"]

_FAMILIES = {"action", "free", "lookup", "described", "typed"}
_SCHEMA = frozenset(
    [
        *("type", "string", "integer", "number", "boolean", "array", "object", "null", "true", "false"),
        *("items", "enum", "properties", "required", "description", "default"),
    ]
)
"""Words of JSON schemas: to change one would change what a parameter takes."""


def _places(word: str, text: str) -> list[str]:
    """Return the word wherever it stands in a text or in a name of several words."""
    return re.findall(rf"(?<![A-Za-z]){word}(?![A-Za-z])", text, re.IGNORECASE)


def _swapped(old: str, new: str, text: str) -> str:
    """Return the text with one word for another; a capital stays one."""
    pattern = rf"(?<![A-Za-z]){old}(?![A-Za-z])"
    return re.sub(pattern, lambda match: new.capitalize() if match[0][0].isupper() else new, text, flags=re.IGNORECASE)


def _word(kit: Kit, exercise: Exercise) -> str:
    """Return a drawn word that the description of the called tool holds once and the question too, "" for none."""
    if len(exercise.rounds) != 1:
        return ""
    ((called, _),) = exercise.rounds[0].calls
    words = {word.lower() for word in re.findall(r"[A-Za-z]{4,}", called.description)}
    drawn = [word for word in sorted(words) if word not in _SCHEMA and kit.draw.gave(word)]
    drawn = [word for word in drawn if len(_places(word, called.description)) == 1]
    held = [word for word in drawn if _places(word, exercise.ask)]
    return kit.draw.rng.choice(held) if held else ""


def _copy(kit: Kit, original: Tool, old: str, new: str) -> Tool:
    """Add the twin of a tool: its name, its description and its parameters with the new word."""
    schema = json.loads(_swapped(old, new, json.dumps(dict(original.parameters))))
    name = _swapped(old, new, original.name)
    name = kit.draw.word() if name == original.name else name
    return kit.add(
        replace(
            original,
            name=kit.title(name, hidden=0.0),
            description=_swapped(old, new, original.description),
            parameters=schema,
        ),
        adorned=0.0,
    )


def _asked(make: Callable[[], Exercise], word: str) -> Exercise:
    """Draw until the question holds the word that tells the twins apart."""
    while True:
        exercise = make()
        if _places(word, exercise.ask):
            return exercise


def _moved(exercise: Exercise, twin: Tool, old: str, new: str) -> Exercise:
    """Return the exercise with the twin called in place of the tool, and the new word everywhere."""
    (turn,) = exercise.rounds
    ((_, given),) = turn.calls
    arguments: dict[str, Any] = json.loads(_swapped(old, new, json.dumps(dict(given))))
    results = tuple(_swapped(old, new, result) for result in turn.results)
    rounds = (replace(turn, calls=((twin, arguments),), results=results),)
    return Exercise(exercise.family, _swapped(old, new, exercise.ask), rounds, _swapped(old, new, exercise.answer))


def _paired(kit: Kit, place: int, original: Tool, old: str) -> None:
    """Add the twin of a tool, and let its maker and the twin's ask by the words that tell them apart."""
    draw, maker = kit.draw, kit.makers[place]
    nouns, fields = ({topic[i] for topic in kit.topics} for i in range(2))
    new = draw.noun() if old in nouns else draw.field() if old in fields else draw.content()
    other = _copy(kit, original, old, new)
    first = replace(maker, make=lambda: _asked(maker.make, old))
    second = replace(maker, make=lambda: _moved(first.make(), other, old, new))
    kit.makers[place] = first
    kit.makers.append(second)
    kit.due += [first.make, second.make]


def twin(kit: Kit) -> None:
    """Add a twin of a tool, which differs in its name and in one word of its description; both have to be asked for.

    Nothing is added where no question holds a word of its tool's description.
    """
    order = [place for place, maker in enumerate(kit.makers) if _FAMILIES & {*maker.families}]
    kit.draw.rng.shuffle(order)
    for place in order:
        exercise = kit.makers[place].make()
        word = _word(kit, exercise)
        if word:
            ((original, _),) = exercise.rounds[0].calls
            _paired(kit, place, original, word)
            return
