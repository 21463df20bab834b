"""Look-ups by number, by name and by a code of digits, and notes that save a call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ferrule.core.records import Tool
from ferrule.policies.pocket.corpus.draw import Draw
from ferrule.policies.pocket.corpus.kit import Exercise, Kit, Parameter, once, shape, tool

__all__ = ["LookUp", "codes", "look_up", "question"]


@dataclass(frozen=True)
class LookUp:
    """A tool that reads ``column`` of a ``noun``; ``extra`` is its second parameter.

    ``by`` says what the noun is given by: a ``number``, a ``name``, or a ``code``, which is a text of digits.
    """

    tool: Tool
    noun: str
    column: str
    by: str
    key: Parameter
    extra: Parameter | None
    kind: str
    show: Callable[[Any], str]
    hidden: bool

    def subject(self, draw: Draw) -> Any:
        """Return a fresh number, name or code to look up."""
        if self.by == "name":
            return draw.label()
        return draw.number(1, 5) if self.by == "number" else draw.digits()


def _key(kit: Kit, noun: str, by: str) -> Parameter:
    if by != "name":
        kind = "integer" if by == "number" else "string"
        return kit.parameter(("id", f"{noun}_id", "number", noun, "no", "index"), kind, f"number of the {noun}")
    return kit.parameter(("name", f"{noun}_name", noun, "key", "query"), "string", f"name of the {noun}")


def _extra(kit: Kit, key: Parameter) -> tuple[str, Parameter | None, str]:
    """Return kind, parameter and the end of the description of a second argument; mostly there is none."""
    draw, taken = kit.draw, (key,)
    if not draw.chance(0.4):
        return "", None, ""
    kind = draw.one("place", "year", "unit", "flag", "top")
    if kind == "place":
        return kind, kit.parameter(("city", "place", "town", "region"), "string", "place", taken=taken), " in a city"
    if kind == "year":
        return kind, kit.parameter(("year",), "integer", "year", taken=taken, required=draw.chance(0.5)), " for a year"
    if kind == "unit":
        choices = [draw.word() if draw.chance(0.5) else draw.english() for _ in range(draw.rng.randint(2, 4))]
        names = ("unit", "scale", "format", "currency")
        return kind, kit.parameter(names, "string", "unit", choices=choices, required=False, taken=taken), ", in a unit"
    if kind == "flag":
        word = draw.word() if draw.chance(0.5) else draw.english()
        flag = kit.parameter((word, f"with_{word}"), "boolean", f"include {word}", required=False, taken=taken)
        return kind, flag, f", with or without {word}"
    return kind, kit.parameter(("limit", "top", "most"), "integer", "limit", required=False, taken=taken), ""


def look_up(kit: Kit, noun: str = "", column: str = "", by: str = "", *, plain: bool = False) -> LookUp:
    """Add a look-up; ``plain`` leaves the second argument out."""
    draw = kit.draw
    noun, column = kit.topic(noun, column)
    by = by or draw.one("number", "name")
    name = kit.title(f"{noun}_{column}", f"get_{noun}_{column}", f"{column}_of_{noun}", f"read_{column}_{noun}", column)
    key = _key(kit, noun, by)
    kind, extra, tail = ("", None, "") if plain else _extra(kit, key)
    article = draw.one("a", "the", "a given", "one")
    text = draw.one(
        f"{column} of {article} {noun}",
        f"Return the {column} of {article} {noun}",
        f"Look up the {column} of {article} {noun}",
        f"Tells the {column} for {article} {noun}",
        f"Get {noun} {column}",
        f"{noun} {column} by {'name' if by == 'name' else 'number'}",
    )
    parameters = (key, extra) if extra else (key,)
    offered = kit.add(tool(name, text + tail + draw.one("", "", "."), parameters))
    lookup = LookUp(offered, noun, column, by, key, extra, kind, shape(draw, column), column not in name.lower())
    families = ("typed",) if extra else ("described",) if lookup.hidden else ("lookup",)
    kit.can(families, lambda: asked(draw, lookup))
    kit.can(("notes",), lambda: remembered(draw, lookup), joins=False)
    return lookup


def codes(kit: Kit) -> None:
    """Add two look-ups of one thing that differ in the type of its number: an integer, and a text of digits."""
    first = look_up(kit, by="number", plain=True)
    look_up(kit, first.noun, by="code", plain=True)


def _second(draw: Draw, lookup: LookUp) -> tuple[dict[str, Any], str]:
    """Return the second argument, if one is given, and how the question says it."""
    extra = lookup.extra
    if extra is None or (not extra.required and draw.chance(0.4)):
        return {}, ""
    if lookup.kind == "place":
        place = draw.city()
        return {extra.name: place}, f" in {place}"
    if lookup.kind == "year":
        year = draw.rng.randint(1950, 2049)
        return {extra.name: year}, f" {draw.one('for', 'in')} {year}"
    if lookup.kind == "unit":
        unit = draw.rng.choice(list(extra.schema["enum"]))
        return {extra.name: unit}, f" {draw.one('in', 'as')} {unit}"
    if lookup.kind == "flag":
        word, wanted = lookup.tool.description.rstrip(".").rsplit(" ", 1)[-1], draw.chance(0.55)
        return {extra.name: wanted}, f" {'with' if wanted else 'without'} {word}"
    count = draw.rng.randint(1, 20)
    return {extra.name: count}, f", at most {count}"


def question(draw: Draw, lookup: LookUp, key: Any, said: str = "") -> tuple[str, dict[str, Any]]:
    """Return a question for one look-up and the arguments that answer it."""
    second, tail = _second(draw, lookup)
    who = said or draw.one(f"{lookup.noun} {key}", f"the {lookup.noun} {key}", f"{lookup.noun} {key}")
    if not said and lookup.by != "name" and draw.chance(0.25):
        who = f"{lookup.noun} {draw.one('number', 'no', 'id')} {key}"
    column = lookup.column
    ask = draw.one(
        f"Tell me the {column} of {who}{tail}.",
        f"{column.capitalize()} of {who}{tail}?",
        f"I need the {column} of {who}{tail}.",
        f"Find out the {column} of {who}{tail}, please.",
        f"What {column} does {who} have{tail}?",
        f"Can you look up the {column} of {who}{tail}?",
        f"What's the {column} for {who}{tail}?",
        f"Give me {who}'s {column}{tail}.",
        f"Which {column} belongs to {who}{tail}?",
        f"Please say what {column} {who} has{tail}.",
    )
    return ask, {lookup.key.name: key, **second}


def asked(draw: Draw, lookup: LookUp) -> Exercise:
    """One look-up."""
    key, value = lookup.subject(draw), draw.value()
    ask, arguments = question(draw, lookup, key)
    family = "typed" if lookup.extra else "described" if lookup.hidden else "lookup"
    return Exercise(family, ask, (once(lookup.tool, arguments, lookup.show(value)),), str(value))


def remembered(draw: Draw, lookup: LookUp) -> Exercise:
    """Notes before the question hold the answer already, or other entries only; their number does not tell."""
    key, value = lookup.subject(draw), draw.value()
    ask, arguments = question(draw, lookup, key)
    known = draw.chance(0.6) and not (lookup.extra and len(arguments) > 1)
    others = [lookup.subject(draw) for _ in range(draw.rng.randint(0 if known else 1, 2))]
    entries = [(other, draw.value()) for other in others if other != key] + [(key, value)] * known
    lines = [f"{lookup.column} of {lookup.noun} {subject}: {said}" for subject, said in entries]
    draw.rng.shuffle(lines)
    notes = "Notes:\n" + "\n".join(f"- {line}" for line in lines)
    rounds = () if known else (once(lookup.tool, arguments, lookup.show(value)),)
    return Exercise("notes", f"{notes}\n{ask}", rounds, str(value))
