"""Chains of two and three calls: names looked up for numbers, fields of fields, changes, and notes that save a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ferrule.core.records import Tool
from ferrule.policies.pocket.corpus.draw import Draw
from ferrule.policies.pocket.corpus.errors import refusal
from ferrule.policies.pocket.corpus.kit import Exercise, Kit, Round, once, record, shape, tool
from ferrule.policies.pocket.corpus.lookups import LookUp, look_up, question

__all__ = ["hop", "trio"]


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


def _id(kit: Kit, read: LookUp) -> Callable[[Any], str]:
    """Return how the number of a thing is shown: alone, or in half of the cases in a row with a number of another.

    The key of the right one is ``id``, or the name of the parameter that takes it.
    """
    draw, noun = kit.draw, read.noun
    if draw.chance(0.5):
        return shape(draw, "id")
    key = read.key.name if read.key.name in (f"{noun}_id", "number", "no") else "id"
    near = ("old_id", "owner_id", "parent_id", "group_id", f"{draw.noun()}_id")
    return record(draw, key, near)


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
    read = look_up(kit, noun, column, "number", plain=True)
    show = _id(kit, read)
    change = _change(kit, noun, column) if draw.chance(0.5) else None

    def find(name: str, number: int) -> Round:
        return once(finder, {key.name: name}, show(number))

    kit.can(("chain",), lambda: _find_and_read(draw, read, find))
    kit.can(("repair",), lambda: _name_for_number(draw, read, find), joins=False)
    kit.can(("notes",), lambda: _noted_number(draw, read), joins=False)
    kit.can(("lookup",), lambda: _only_find(draw, noun, find))
    if draw.chance(0.35):
        last = look_up(kit, column, "", "name", plain=True)
        kit.can(("chain",), lambda: _find_and_read_twice(draw, read, last, find))
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


def _find_and_read_twice(draw: Draw, read: LookUp, last: LookUp, find: Callable[[str, int], Round]) -> Exercise:
    """The field that is read is a name, of which another field is read."""
    name, number, middle, value = draw.name(), draw.number(1, 4), draw.name(), draw.value()
    who = draw.one(f"the {read.noun} {name}", f"{read.noun} {name}")
    ask, arguments = question(draw, last, middle, said=f"the {read.column} of {who}")
    rounds = (
        find(name, number),
        once(read.tool, {read.key.name: number}, read.show(middle)),
        once(last.tool, arguments, last.show(value)),
    )
    return Exercise("chain", ask, rounds, str(value))


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
    """Add two or three look-ups of which each takes what the one before returned."""
    draw = kit.draw
    lookups = [look_up(kit, plain=True)]
    shows = []
    for _ in range(2 if draw.chance(0.4) else 1):
        column = lookups[-1].column
        near = (f"old_{column}", f"{column}_before", f"other_{column}", f"second_{column}")
        shows.append(record(draw, column, near) if draw.chance(0.5) else lookups[-1].show)
        lookups.append(look_up(kit, column, "", "name", plain=True))

    def make() -> Exercise:
        key, value = lookups[0].subject(draw), draw.value()
        who, rounds = draw.one(f"{lookups[0].noun} {key}", f"the {lookups[0].noun} {key}"), []
        for lookup, show in zip(lookups, shows, strict=False):
            middle = draw.label()
            rounds.append(once(lookup.tool, {lookup.key.name: key}, show(middle)))
            key, who = middle, f"the {lookup.column} of {who}"
        ask, arguments = question(draw, lookups[-1], key, said=who)
        rounds.append(once(lookups[-1].tool, arguments, lookups[-1].show(value)))
        return Exercise("chain", ask, tuple(rounds), str(value))

    kit.can(("chain",), make)
