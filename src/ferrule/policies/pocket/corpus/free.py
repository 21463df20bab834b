"""Tools with free descriptions: a question shares some of the words, or says them by synonyms, in another order."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ferrule.core.records import Tool
from ferrule.policies.pocket.corpus.draw import POOLS, Draw, listed
from ferrule.policies.pocket.corpus.kit import Exercise, Kit, Parameter, once, shape, tool

__all__ = ["free", "free_chain"]

_STARTS = (
    "",
    "",
    "",
    "Return",
    "Number of",
    "How many",
    "Name of",
    "Get",
    "Find",
    "Tells",
    "The",
    "Amount of",
    "List",
    "Look up",
    "Check",
    "Show",
    "Give",
    "Set",
    "Make",
    "Add",
    "Book",
    "Send",
)
_LEADS = (
    "how many",
    "what is the",
    "which",
    "on which",
    "tell me",
    "please",
    "I need",
    "how much",
    "who",
    "when",
    "give me",
    "can you",
    "find",
    "I would like to",
    "let me know the",
    "could you please",
    "we have to",
    "",
    "",
)
_ENDINGS = ("s", "ed", "ing", "er")


@dataclass(frozen=True)
class _Free:
    """A tool, the content words of its description and the kinds of its parameters.

    ``phrases`` holds the words of all tools of the kit.
    """

    tool: Tool
    words: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    kinds: tuple[str, ...]
    show: Callable[[Any], str]
    phrases: Sequence[tuple[str, ...]]


def _phrase(draw: Draw, words: Sequence[str]) -> list[str]:
    """Put glue words between content words."""
    phrase: list[str] = []
    for word in words:
        phrase.extend(draw.rng.choice(POOLS["glue"]) for _ in range(draw.rng.choice((0, 1, 1, 2))))
        phrase.append(word)
    return phrase


def _description(draw: Draw, words: Sequence[str]) -> str:
    start = draw.rng.choice(_STARTS)
    text = " ".join(([start] if start else []) + _phrase(draw, words))
    if draw.chance(0.7):
        text = text[0].upper() + text[1:]
    if draw.chance(0.12):
        text += draw.one("; ", ", ", ": ") + " ".join(_phrase(draw, [draw.content() for _ in range(2)]))
    return text + ("." if draw.chance(0.3) else "")


def _name(kit: Kit, words: Sequence[str]) -> str:
    """Draw a name that means nothing, holds words of the description, or now and then those of another tool."""
    draw, chance = kit.draw, kit.draw.rng.random()
    others = [*(phrase for phrase in kit.phrases if phrase != words), *sorted(kit.topics)]
    if others and draw.chance(0.12):
        other = draw.rng.choice(others)
        return kit.title("_".join(draw.rng.sample(other, min(2, len(other)))), hidden=0.0)
    if chance < 0.3:
        return kit.title(draw.word())
    if chance < 0.8:
        return kit.title("_".join(draw.rng.sample(list(words), draw.rng.randint(1, min(2, len(words))))), hidden=0.0)
    return kit.title(
        f"{draw.one('get', 'find', 'do', 'run', 'make', 'show')}_{draw.rng.choice(list(words))}", hidden=0.0
    )


def _schema(draw: Draw, kind: str) -> dict[str, Any]:
    if kind == "enum":
        return {"type": "string", "enum": [draw.content() for _ in range(draw.rng.randint(2, 4))]}
    if kind in ("integers", "strings"):
        return {"type": "array", "items": {"type": kind[:-1]}}
    return {"type": kind}


def _parameter_name(kit: Kit, words: Sequence[str]) -> str:
    """Draw one of ``words`` if there are any, another word or a plain name such as ``id``."""
    draw, chance = kit.draw, kit.draw.rng.random()
    if kit.nameless:
        return draw.word()
    if words and chance < 0.25:
        return draw.rng.choice(list(words))
    return draw.content() if chance < 0.75 else draw.rng.choice(POOLS["parameters"])


def _parameters(kit: Kit, words: Sequence[str]) -> tuple[tuple[Parameter, ...], tuple[str, ...]]:
    """Draw one to four parameters of all kinds; the first is always required."""
    draw = kit.draw
    parameters: list[Parameter] = []
    kinds: list[str] = []
    names = ("string", "integer", "enum", "boolean", "number", "integers", "strings")
    for index in range(draw.rng.choice((1, 1, 1, 2, 2, 2, 3, 4))):
        weights = (5, 4, 1.6, 1.1, 0.6, 0.4, 0.4) if index else (6, 3, 0.3, 0, 0.3, 0.3, 0.3)
        (kind,) = draw.rng.choices(names, weights)
        required = index == 0 or draw.chance(0.55)
        # A word of the description that names what may be left out would read as that name in any question.
        name = draw.content() if kind == "boolean" else _parameter_name(kit, words if required else ())
        if name in {parameter.name for parameter in parameters}:
            name = draw.word()
        schema = _schema(draw, kind)
        if draw.chance(0.15):
            schema["description"] = " ".join(_phrase(draw, [draw.content()]))
        if not required and draw.chance(0.5):
            defaults = {
                "enum": schema.get("enum", [""])[0],
                "boolean": draw.chance(0.5),
                "integer": draw.rng.randint(1, 100),
                "number": draw.rng.randint(1, 100),
            }
            if kind in defaults:
                schema["default"] = defaults[kind]
        parameters.append(Parameter(name, schema, required))
        kinds.append(kind)
    return tuple(parameters), tuple(kinds)


def build(kit: Kit) -> _Free:
    """Add a tool with a free description, without anything to ask."""
    draw = kit.draw
    words = tuple(draw.content() for _ in range(draw.rng.randint(2, 6)))
    others = [phrase for phrase in kit.phrases if len(phrase) > 2]
    if others and draw.chance(0.35):
        # A question holds a word that no other tool has all of.
        words = (*words, *draw.rng.sample(draw.rng.choice(others), draw.rng.randint(1, 2)))
    kit.phrases.append(words)
    name, text = _name(kit, words), _description(draw, words)
    parameters, kinds = _parameters(kit, words)
    show = shape(draw, draw.rng.choice(words))
    return _Free(kit.add(tool(name, text, parameters)), words, parameters, kinds, show, kit.phrases)


def _alike(kind: str) -> str:
    """Return the kind of values that a question cannot tell from those of ``kind``."""
    return {"number": "integer", "integers": "integer", "strings": "string"}.get(kind, kind)


def _mention(
    draw: Draw, parameter: Parameter, kind: str, *, plain: bool, alone: bool, digits: bool = True
) -> tuple[Any, str]:
    """Return a value and how a question says it: ``plain`` without the parameter's name.

    ``alone`` says that no other parameter takes such values; beside others a value shows where it ends. ``digits``
    says that a text may hold digits only, as no number could be meant.
    """
    name = parameter.name
    if kind == "string":
        chance = draw.rng.random()
        value: Any = draw.name() if chance < 0.6 else draw.word() if chance < 0.75 else draw.english()
        if digits and 0.4 < chance < 0.6:
            value = draw.digits()
        if chance > 0.9:
            value = " ".join([value, *(draw.english() for _ in range(draw.rng.randint(1, 3)))])
        if " " in value and (chance > 0.9 or not alone):
            return value, f"'{value}'" if plain else draw.one(f'{name} "{value}"', f'the {name} "{value}"')
        if not plain:
            return value, draw.one(f"{name} {value}", f"the {name} {value}", f"{name}: {value}")
        # Beside other texts a small word without a name would read as one of the question's words.
        return value, draw.one(*((value, value) if alone or not value.islower() else ()), f"'{value}'")
    if kind in ("integer", "number"):
        value = draw.number(1, 5) if kind == "integer" or draw.chance(0.4) else draw.decimal()
        if plain:
            return value, str(value)
        forms = (f"{value} {name}", f"{name} {value}", f"for {value} {name}") if alone else (f"{name}: {value}",)
        return value, draw.one(*forms, f"{name} = {value}")
    if kind == "enum":
        value = draw.rng.choice(list(parameter.schema["enum"]))
        return value, draw.one(value, f"a {value}", f"{name} {value}", f"for a {value}", f"as {value}")
    if kind == "boolean":
        value = draw.chance(0.6)
        return value, draw.one(f"with {name}", name) if value else draw.one(f"without {name}", f"no {name}")
    value = [draw.number(1, 3) if kind == "integers" else draw.name() for _ in range(draw.rng.randint(2, 4))]
    said = listed(value if alone or kind == "integers" else [f"'{item}'" for item in value])
    return value, said if plain else f"{name} {said}"


def _inflected(draw: Draw, word: str) -> str:
    """Return the word with an ending; one that has such an ending already stays as it is."""
    ending = draw.one(*_ENDINGS)
    if word.endswith((*_ENDINGS, "y")):
        return word
    return (word[:-1] if word.endswith("e") and ending != "s" else word) + ending


def _said(draw: Draw, target: _Free) -> list[str]:
    """Return how a question says a description's words: some left out, some inflected, some by a synonym.

    At least two are kept, and not only such as another tool has too.
    """
    words = target.words
    kept: list[str] = []
    rivals = [set(phrase) for phrase in target.phrases if phrase != words]
    while len(kept) < 2 or any(rival.issuperset(kept) for rival in rivals):
        kept = [word for word in words if draw.chance(0.8)]
    if draw.chance(0.35):
        draw.rng.shuffle(kept)
    said = []
    for word in kept:
        others = draw.synonyms(word)
        if others and draw.chance(0.35):
            said.append(draw.rng.choice(others))
        else:
            inflected = _inflected(draw, word)
            said.append(inflected if draw.chance(0.12) and draw.may_say(inflected) else word)
    return said


def _body(draw: Draw, target: _Free, mentions: Sequence[str], *, among: bool, noise: bool) -> list[str]:
    """Return the description's words and the mentions behind them; ``among`` may mix them, ``noise`` add a word."""
    body = _phrase(draw, _said(draw, target))
    if not among or draw.chance(0.6):
        for said in mentions:
            body += [said] if draw.chance(0.6) else [draw.one("of", "for", "in", "and", "with"), said]
        return body
    places = sorted(draw.rng.randint(0, len(body)) for _ in mentions)
    for index, (said, place) in enumerate(zip(mentions, places, strict=True)):
        body.insert(place + index, said)
    return [*body, draw.content()] if noise and draw.chance(0.4) else body


def question(draw: Draw, target: _Free) -> tuple[str, dict[str, Any]]:
    """Return a question for a tool and the arguments it asks for, in the order of the parameters.

    What may be left out is said by name, and no word of the description or added to it stands where a value could.
    """
    arguments: dict[str, Any] = {}
    mentions: list[str] = []
    plain: list[tuple[str, str]] = []
    alike = [_alike(kind) for kind in target.kinds]
    noise = True
    for parameter, kind in zip(target.parameters, target.kinds, strict=True):
        group = _alike(kind)
        if not parameter.required and draw.chance(0.5):
            noise = noise and group != "string"
            continue
        several = kind.endswith("s") and group in [other for other, _ in plain]
        bare = parameter.required and kind not in ("enum", "boolean") and not several and draw.chance(0.45)
        arguments[parameter.name], said = _mention(
            draw, parameter, kind, plain=bare, alone=alike.count(group) == 1, digits=not bare or "integer" not in alike
        )
        mentions.append(said)
        plain += [(group, said)] if bare else []
    loose = [said for group, said in plain if group == "string" and said[0] != "'" and re.search(r"\b[a-z]", said)]
    # Values without a name and of one kind could not be told apart in another order.
    if len({group for group, _ in plain}) == len(plain) and draw.chance(0.4):
        draw.rng.shuffle(mentions)
    body = _body(draw, target, mentions, among=not loose, noise=noise)
    text = " ".join([*draw.rng.choice(_LEADS).split(), *body])
    if not text.startswith(tuple(mentions)):
        text = text[0].upper() + text[1:]
    return text + draw.one("?", "?", ".", ""), arguments


def free(kit: Kit) -> None:
    """Add a tool with a free description and ask for it."""
    target = build(kit)
    draw = kit.draw

    def make() -> Exercise:
        ask, arguments = question(draw, target)
        value = draw.value()
        result = draw.one("done", "ok") if draw.chance(0.15) else None
        if result:
            return Exercise("free", ask, (once(target.tool, arguments, result),), "Done.")
        return Exercise("free", ask, (once(target.tool, arguments, target.show(value)),), str(value))

    kit.can(("free",), make)


def free_chain(kit: Kit) -> None:
    """Add two tools with free descriptions; the second takes what the first returned as its first argument."""
    draw, first, second = kit.draw, build(kit), build(kit)
    kind, name = second.kinds[0], second.parameters[0].name
    if kind not in ("string", "integer") or "?" in name:
        return

    def make() -> Exercise:
        ask, arguments = question(draw, first)
        middle, value = (draw.name() if kind == "string" else draw.number(1, 4)), draw.value()
        later = " ".join(_phrase(draw, _said(draw, second)))
        rest: Mapping[str, Any] = {}
        tail = ""
        for parameter, other in list(zip(second.parameters, second.kinds, strict=True))[1:]:
            if parameter.required:
                given, said = _mention(draw, parameter, other, plain=False, alone=False)
                rest = {**rest, parameter.name: given}
                tail += f" {said}"
        joined = draw.one("then", "with that,", "and for it", "with the result", "next")
        ask = f"{ask.rstrip('?.')}, {joined} {later}{tail}{draw.one('?', '.')}"
        rounds = (
            once(first.tool, arguments, first.show(middle)),
            once(second.tool, {name: middle, **rest}, second.show(value)),
        )
        return Exercise("chain", ask, rounds, str(value))

    kit.can(("chain",), make, joins=False)
