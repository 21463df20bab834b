"""Look-ups by number and by name, changes, chains of two and three calls, and notes that save a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ferrule.core.records import Tool
from ferrule.policies.pocket.corpus.draw import Draw
from ferrule.policies.pocket.corpus.errors import refusal
from ferrule.policies.pocket.corpus.kit import Exercise, Kit, Parameter, Round, once, shape, tool

__all__ = ["LookUp", "hop", "look_up", "trio"]


@dataclass(frozen=True)
class LookUp:
    """A tool that reads ``column`` of a ``noun``, given by number or name; ``extra`` is its second parameter."""

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
        """Return a fresh number or name to look up."""
        return draw.number(1, 5) if self.by == "number" else draw.name()


def _key(kit: Kit, noun: str, by: str) -> Parameter:
    if by == "number":
        return kit.parameter(("id", f"{noun}_id", "number", noun, "no", "index"), "integer", f"number of the {noun}")
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
        return kind, kit.parameter(("year",), "integer", taken=taken, required=draw.chance(0.5)), " for a year"
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
        f"{noun} {column} by {'number' if by == 'number' else 'name'}",
    )
    parameters = (key, extra) if extra else (key,)
    offered = kit.add(tool(name, text + tail + draw.one("", "", "."), parameters))
    lookup = LookUp(offered, noun, column, by, key, extra, kind, shape(draw, column), column not in name.lower())
    families = ("typed",) if extra else ("described",) if lookup.hidden else ("lookup",)
    kit.can(families, lambda: asked(draw, lookup))
    kit.can(("notes",), lambda: remembered(draw, lookup), joins=False)
    return lookup


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
    if not said and lookup.by == "number" and draw.chance(0.25):
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
    """A note before the question holds the answer already, or another entry only."""
    key, value, other = lookup.subject(draw), draw.value(), draw.value()
    ask, arguments = question(draw, lookup, key)
    right = f"{lookup.column} of {lookup.noun} {key}: {value}"
    wrong = f"{lookup.column} of {lookup.noun} {lookup.subject(draw)}: {other}"
    known = draw.chance(0.6) and not (lookup.extra and len(arguments) > 1)
    lines = [right, wrong] if known else [wrong]
    draw.rng.shuffle(lines)
    notes = "Notes:\n" + "\n".join(f"- {line}" for line in lines)
    rounds = () if known else (once(lookup.tool, arguments, lookup.show(value)),)
    return Exercise("notes", f"{notes}\n{ask}", rounds, str(value))


@dataclass(frozen=True)
class _Change:
    """A tool that sets ``column`` of a ``noun`` given by number."""

    tool: Tool
    key: str
    value: str
    done: str


def _change(kit: Kit, noun: str, column: str) -> _Change:
    draw = kit.draw
    key = kit.parameter(("id", f"{noun}_id", "number", noun), "integer", f"number of the {noun}")
    value = kit.parameter(("value", column, "new", "to"), "integer", f"new {column}", taken=(key,))
    text = draw.one(
        f"change the {column} of a {noun}", f"Set {column} of a {noun} to a value", f"Update a {noun}'s {column}"
    )
    telling = any("description" in p.schema or p.name in ("id", "value", "new", column) for p in (key, value))
    order = (value, key) if telling and draw.chance(0.3) else (key, value)
    name = kit.title(f"set_{noun}_{column}", f"change_{column}", f"update_{noun}_{column}", f"put_{column}")
    return _Change(
        kit.add(tool(name, text, order)), key.name, value.name, draw.one("done", "ok", "changed", '{"ok": true}')
    )


def _changed(draw: Draw, noun: str, column: str, change: _Change) -> Exercise:
    number, value = draw.number(1, 4), draw.number(1, 4)
    ask = draw.one(
        f"Change the {column} of {noun} {number} to {value}.",
        f"Make {value} the {column} of {noun} {number}.",
        f"Put the {column} of {noun} {number} at {value}.",
        f"Give {noun} {number} the {column} {value}.",
        f"Update {noun} {number}: {column} {value}.",
    )
    return Exercise(
        "lookup", ask, (once(change.tool, {change.key: number, change.value: value}, change.done),), "Done."
    )


def trio(kit: Kit) -> None:
    """Add tools that find a thing's number by name, read a field by number and, half of the time, change it."""
    draw = kit.draw
    noun, column = draw.noun(), draw.field()
    key = kit.parameter(("name", f"{noun}_name", "query", "title"), "string", f"name of the {noun}")
    text = draw.one(
        f"id of a {noun} by name",
        f"Find the id of a {noun}",
        f"number of the {noun} with a name",
        f"Search a {noun}, gives its id",
        f"Which id has a {noun}",
    )
    finder = kit.add(tool(kit.title(f"find_{noun}", f"{noun}_id", f"search_{noun}", f"lookup_{noun}"), text, (key,)))
    show = shape(draw, "id")
    read = look_up(kit, noun, column, "number", plain=True)
    change = _change(kit, noun, column) if draw.chance(0.5) else None

    def find(name: str, number: int) -> Round:
        return once(finder, {key.name: name}, show(number))

    kit.can(("chain",), lambda: _find_and_read(draw, read, find))
    kit.can(("repair",), lambda: _name_for_number(draw, read, find), joins=False)
    kit.can(("notes",), lambda: _noted_number(draw, read), joins=False)
    kit.can(("lookup",), lambda: _only_find(draw, noun, find))
    if change is not None:
        kit.can(("lookup",), lambda: _changed(draw, noun, column, change))
        kit.can(("chain",), lambda: _find_and_change(draw, read, change, find))
        if draw.chance(0.5):
            other = look_up(kit, noun, "", "number", plain=True)
            kit.can(("chain",), lambda: _change_and_read(draw, change, column, other))


def _only_find(draw: Draw, noun: str, find: Callable[[str, int], Round]) -> Exercise:
    name, number = draw.name(), draw.number(1, 4)
    ask = draw.one(
        f"Which id does the {noun} {name} have?", f"I need the number of the {noun} {name}.", f"Id of {noun} {name}?"
    )
    return Exercise("lookup", ask, (find(name, number),), str(number))


def _find_and_read(draw: Draw, read: LookUp, find: Callable[[str, int], Round]) -> Exercise:
    name, number, value = draw.name(), draw.number(1, 4), draw.value()
    ask, arguments = question(draw, read, number, said=draw.one(f"the {read.noun} {name}", f"{read.noun} {name}"))
    return Exercise("chain", ask, (find(name, number), once(read.tool, arguments, read.show(value))), str(value))


def _name_for_number(draw: Draw, read: LookUp, find: Callable[[str, int], Round]) -> Exercise:
    """The name is given where a number is wanted, and looked up after the refusal."""
    chain = _find_and_read(draw, read, find)
    ((_, arguments),) = chain.rounds[0].calls
    (name,) = arguments.values()
    wrong = {read.key.name: name}
    first = once(read.tool, wrong, refusal(read.tool, wrong), learned=False)
    return Exercise("repair", chain.ask, (first, *chain.rounds), chain.answer)


def _noted_number(draw: Draw, read: LookUp) -> Exercise:
    """The number stands in a note, so the first of two calls is saved."""
    name, number, value = draw.name(), draw.number(1, 4), draw.value()
    lines = [f"{read.noun} {name} has id {number}", f"{read.noun} {draw.name()} has id {draw.number(1, 4)}"]
    draw.rng.shuffle(lines)
    ask, arguments = question(draw, read, number, said=f"the {read.noun} {name}")
    notes = draw.one("Notes:\n", "You know:\n", "From before:\n") + "\n".join(f"- {line}" for line in lines)
    return Exercise("notes", f"{notes}\n{ask}", (once(read.tool, arguments, read.show(value)),), str(value))


def _find_and_change(draw: Draw, read: LookUp, change: _Change, find: Callable[[str, int], Round]) -> Exercise:
    name, number, value = draw.name(), draw.number(1, 4), draw.number(1, 4)
    noun, column = read.noun, read.column
    if draw.chance(0.6):
        ask = draw.one(
            f"Change the {column} of the {noun} {name} to {value}.",
            f"Make {value} the {column} of {noun} {name}.",
            f"Put the {column} of the {noun} {name} at {value}.",
        )
        setting = once(change.tool, {change.key: number, change.value: value}, change.done)
        return Exercise("chain", ask, (find(name, number), setting), "Done.")
    target = draw.number(1, 4)
    ask = draw.one(
        f"Give {noun} {target} the same {column} as the {noun} {name}.",
        f"Copy the {column} of the {noun} {name} to {noun} {target}.",
    )
    rounds = (
        find(name, number),
        once(read.tool, {read.key.name: number}, read.show(value)),
        once(change.tool, {change.key: target, change.value: value}, change.done),
    )
    return Exercise("chain", ask, rounds, "Done.")


def _change_and_read(draw: Draw, change: _Change, column: str, other: LookUp) -> Exercise:
    number, value, out = draw.number(1, 4), draw.number(1, 4), draw.value()
    ask = draw.one(
        f"Change the {column} of {other.noun} {number} to {value}, then tell me its {other.column}.",
        f"Make {value} the {column} of {other.noun} {number}. And which {other.column} has it?",
        f"Put the {column} of {other.noun} {number} at {value}. I also need its {other.column}.",
        f"First give {other.noun} {number} the {column} {value}. Then what {other.column} does it have?",
    )
    changed: Mapping[str, Any] = {change.key: number, change.value: value}
    rounds = (once(change.tool, changed, change.done), once(other.tool, {other.key.name: number}, other.show(out)))
    return Exercise("chain", ask, rounds, str(out))


def hop(kit: Kit) -> None:
    """Add two look-ups where the second takes what the first returned."""
    draw = kit.draw
    first = look_up(kit, plain=True)
    second = look_up(kit, first.column, "", "name", plain=True)

    def make() -> Exercise:
        key, middle, value = first.subject(draw), draw.name(), draw.value()
        who = draw.one(f"{first.noun} {key}", f"the {first.noun} {key}")
        ask, arguments = question(draw, second, middle, said=f"the {first.column} of {who}")
        begin = once(first.tool, {first.key.name: key}, first.show(middle))
        return Exercise("chain", ask, (begin, once(second.tool, arguments, second.show(value))), str(value))

    kit.can(("chain",), make)
