"""Small jobs: messages, switches, lists, units, bookings, and two requests in one message."""

from __future__ import annotations

from ferrule.policies.pocket.corpus.draw import Draw, listed
from ferrule.policies.pocket.corpus.kit import Exercise, Kit, once, shape, tool

__all__ = ["JOBS", "both"]

_DONE = ("done", "ok", "sent", "accepted", '{"ok": true}', '{"status": "done"}')


def message(kit: Kit) -> None:
    """Add a tool that sends a text to somebody."""
    draw = kit.draw
    to = kit.parameter(("to", "person", "recipient", "user"), "string", "who gets it")
    text = kit.parameter(("text", "message", "body", "content"), "string", "what to say", taken=(to,))
    telling = any("description" in p.schema or p.name in ("to", "text", "message", "person") for p in (to, text))
    order = (text, to) if telling and draw.chance(0.3) else (to, text)
    says = draw.one(
        "Send a message to somebody", "Send a text to a person", "Write to a contact", "Post a note to somebody"
    )
    offered = kit.add(tool(kit.title("send_message", "notify", "write_to", "send", "post"), says, order))
    done = draw.one(*_DONE)

    def make() -> Exercise:
        who = draw.person() if draw.chance(0.6) else draw.name()
        words = [
            draw.english() if draw.chance(0.6) else draw.one("the", "is", "late", "at", "me", "home", "my", "new")
            for _ in range(draw.rng.randint(2, 5))
        ]
        said = " ".join(words)
        ask = draw.one(
            f"Send {who} the message '{said}'.",
            f"Tell {who}: '{said}'",
            f"Write '{said}' to {who}.",
            f'Let {who} know: "{said}"',
            f'Send the text "{said}" to {who}.',
        )
        return Exercise("typed", ask, (once(offered, {to.name: who, text.name: said}, done),), "Done.")

    kit.can(("typed",), make)


def switch(kit: Kit) -> None:
    """Add a tool that turns something on or off."""
    draw = kit.draw
    noun = draw.noun()
    key = kit.parameter(("device", "name", noun), "string", f"name of the {noun}")
    state = kit.parameter(("on", "state", "active", "enabled"), "boolean", "true for on", taken=(key,))
    offered = kit.add(
        tool(kit.title(f"switch_{noun}", f"toggle_{noun}", f"{noun}_power"), f"Turn a {noun} on or off", (key, state))
    )
    done = draw.one(*_DONE)

    def make() -> Exercise:
        name, on = draw.name(), draw.chance(0.5)
        word = "on" if on else "off"
        ask = draw.one(
            f"Turn the {noun} {name} {word}.", f"Switch {word} the {noun} {name}.", f"Please turn {word} {noun} {name}."
        )
        return Exercise("typed", ask, (once(offered, {key.name: name, state.name: on}, done),), "Done.")

    kit.can(("typed",), make)


def numbers(kit: Kit) -> None:
    """Add a tool that works on a list of numbers."""
    draw = kit.draw
    how = draw.one("largest", "smallest", "mean", "sum", "sorted")
    key = kit.parameter(("values", "numbers", "items", "list"), "integers", "the numbers")
    text = {"sorted": "Sort a list of numbers"}.get(how, f"{how.capitalize()} of a list of numbers")
    offered = kit.add(tool(kit.title(how, f"{how}_of", f"list_{how}"), text, (key,)))
    show = shape(draw, "result")

    def make() -> Exercise:
        values = [draw.number(1, 3) for _ in range(draw.rng.randint(2, 5))]
        results = {
            "largest": max(values),
            "smallest": min(values),
            "sum": sum(values),
            "mean": round(sum(values) / len(values), 1),
            "sorted": sorted(values),
        }
        said = listed(values)
        asks = [f"Give me the {how} of {said}.", f"I need the {how} of the numbers {said}.", f"{how} of {said}?"]
        if how == "sorted":
            asks = [f"Sort {said}.", f"Put {said} in order."]
        ask = draw.one(*asks)
        return Exercise("typed", ask, (once(offered, {key.name: values}, show(results[how])),), str(results[how]))

    kit.can(("typed",), make)


def names(kit: Kit) -> None:
    """Add a tool that takes a list of names."""
    draw = kit.draw
    noun = draw.noun()
    key = kit.parameter(("names", "people", "items", "members"), "strings", "the names")
    offered = kit.add(
        tool(kit.title(f"invite_{noun}", f"add_{noun}s", f"{noun}_list"), f"Add several names to the {noun}", (key,))
    )
    done = draw.one(*_DONE)

    def make() -> Exercise:
        people = list(dict.fromkeys(draw.person() for _ in range(draw.rng.randint(1, 3))))
        said = listed(people)
        ask = draw.one(f"Add {said} to the {noun}.", f"Put {said} on the {noun}.", f"I want {said} in the {noun}.")
        return Exercise("typed", ask, (once(offered, {key.name: people}, done),), "Done.")

    kit.can(("typed",), make)


def convert(kit: Kit) -> None:
    """Add a tool that converts between units that nobody knows."""
    draw = kit.draw
    units = [draw.syllables(2, 3) if draw.chance(0.6) else draw.english() for _ in range(draw.rng.randint(2, 4))]
    amount = kit.parameter(("amount", "value", "x"), "number", "how much")
    old = kit.parameter(("from", "source", "unit"), "string", "old unit", choices=units, taken=(amount,))
    new = kit.parameter(("to", "target", "into"), "string", "new unit", choices=units, taken=(amount, old))
    text = draw.one("Convert an amount from one unit to another", "Change an amount into another unit")
    offered = kit.add(tool(kit.title("convert", "exchange", "convert_units"), text, (amount, old, new)))
    show = shape(draw, "result")

    def make() -> Exercise:
        value = draw.number(1, 4) if draw.chance(0.6) else draw.decimal()
        first, second = draw.rng.sample(units, 2)
        out = draw.number(1, 4)
        ask = draw.one(
            f"Convert {value} {first} to {second}.",
            f"How many {second} are {value} {first}?",
            f"{value} {first} in {second}?",
        )
        arguments = {amount.name: value, old.name: first, new.name: second}
        return Exercise("typed", ask, (once(offered, arguments, show(out)),), str(out))

    kit.can(("typed",), make)


def booking(kit: Kit) -> None:
    """Add a tool that books something for a day, with a kind and an optional number of people."""
    draw = kit.draw
    noun = draw.noun()
    kinds = [draw.english() if draw.chance(0.7) else draw.word() for _ in range(draw.rng.randint(2, 3))]
    day = kit.parameter(("date", "day", "when"), "string", "day as YYYY-MM-DD")
    kind = kit.parameter(("kind", "size", "type"), "string", f"kind of {noun}", choices=kinds, taken=(day,))
    people = kit.parameter(
        ("guests", "seats", "people"), "integer", "how many people", default=draw.rng.choice((1, 2)), taken=(day, kind)
    )
    text = draw.one(f"Book a {noun} for a day", f"Reserve a {noun} on a day", f"Order a {noun} for a date")
    offered = kit.add(tool(kit.title(f"book_{noun}", f"reserve_{noun}", f"{noun}_booking"), text, (day, kind, people)))
    done = draw.one(*_DONE)

    def make() -> Exercise:
        date, size = draw.day(), draw.rng.choice(kinds)
        arguments: dict[str, object] = {day.name: date, kind.name: size}
        tail = ""
        if draw.chance(0.5):
            arguments[people.name] = count = draw.rng.randint(1, 9)
            tail = f" for {count} people"
        ask = draw.one(
            f"Book a {size} {noun} on {date}{tail}.",
            f"I want a {size} {noun} on {date}{tail}.",
            f"Reserve one {noun}{tail}, {size}, on {date}.",
            f"On {date} we need a {size} {noun}{tail}.",
        )
        return Exercise("typed", ask, (once(offered, arguments, done),), "Done.")

    kit.can(("typed",), make)


JOBS = (message, switch, numbers, names, convert, booking)
"""One of each is enough in a kit."""


def both(draw: Draw, first: Exercise, second: Exercise) -> Exercise:
    """Return two requests as one message."""
    ask = f"{first.ask} {draw.one('Then: ', 'And: ', 'Also: ', 'Then ', '')}{second.ask}"
    answer = second.answer if first.answer == "Done." else f"{first.answer}, {second.answer}"
    return Exercise("pair", ask, first.rounds + second.rounds, answer)
