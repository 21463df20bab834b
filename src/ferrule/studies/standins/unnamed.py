"""Look-ups with made-up names whose documents say nothing, requests for them, and who reads failures of a model."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ferrule.agents.contexts import Case, Context, Edits, LabelledCall
from ferrule.core.records import Call, Tool
from ferrule.tools.documents import texts_of
from ferrule.tools.overlay import Key, apply
from ferrule.worlds.aliased import aliases

__all__ = ["BLANK", "draw_lookups", "noted_words", "requests_for", "tools_of"]

NOUNS, FIELDS = ("book", "boat", "car", "dog", "farm", "hotel"), ("age", "height", "price", "size", "speed", "weight")
BLANK = "a tool"
_PLAIN = frozenset({"what", "is", "the", "of"})


def draw_lookups(seed: int, count: int = 8) -> dict[str, tuple[str, str]]:
    """Draw look-ups: what each is for (a noun and a field) by its made-up name."""
    rng = random.Random(f"lookups/{seed}")
    pairs = rng.sample([(noun, field) for noun in NOUNS for field in FIELDS], count)
    named = [Tool(f"{noun}_{field}", BLANK, {"type": "object", "properties": {}}, run=dict) for noun, field in pairs]
    worded = apply(named, aliases(named, seed))
    return {tool.name: pair for tool, pair in zip(worded, pairs, strict=True)}


def tools_of(lookups: Mapping[str, tuple[str, str]]) -> list[Tool]:
    """Return look-ups as tools that take an id."""
    schema = {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}
    plain = Tool("", BLANK, schema, run=lambda id: id)
    return [replace(plain, name=name) for name in lookups]


def requests_for(lookups: Mapping[str, tuple[str, str]], count: int, seed: object) -> list[LabelledCall]:
    """Draw requests and the calls that answer them; every look-up is asked for equally often, but for the rest."""
    rng = random.Random(f"requests/{seed}")
    names = [list(lookups)[place % len(lookups)] for place in range(count)]
    rng.shuffle(names)
    drawn = [(name, rng.randrange(2, 100)) for name in names]
    return [
        LabelledCall(f"What is the {lookups[name][1]} of {lookups[name][0]} {number}?", Call(name, {"id": number}))
        for name, number in drawn
    ]


def noted_words(tools: Sequence[Tool], rules: bool, documents: bool, context: Context, cases: Sequence[Case]) -> Edits:
    """Read failures: the words of a request that went elsewhere go into the document of its tool, or into a rule.

    A rule says for which words to take a tool.
    """
    texts, told, current = dict[Key, str](), dict[str, str](), texts_of(tools, context.overlay)
    for case in cases:
        name = case.example.gold.name
        words = [word for word in re.findall(r"[a-z]+", case.example.query.lower()) if word not in _PLAIN]
        said = f"{' of a '.join(words)}"
        if documents:
            known = texts.get((name, "description"), current[name, "description"])
            texts[name, "description"] = said if known == BLANK else known
        if rules:
            told[name] = f"for the {said} call {name}"
    return Edits(told, texts)
