"""Reading a given text and copying from it, both without a tool."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from ferrule.policies.pocket.corpus.draw import Draw, listed
from ferrule.policies.pocket.corpus.kit import Exercise

__all__ = ["context", "copy"]

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh")
Value = int | float | str
Pair = tuple[str, str]


def _key(draw: Draw) -> str:
    """Return a name for an entry."""
    return draw.name() if draw.chance(0.5) else draw.english()


def _unlike(draw: Draw, make: Callable[[], Value], count: int) -> list[Value]:
    """Return so many values of which no two look alike."""
    values: list[Value] = []
    while len(values) < count:
        value = make()
        if str(value) not in [str(other) for other in values]:
            values.append(value)
    return values


def _entries(draw: Draw) -> dict[str, Value]:
    """Return two to seven entries; no key and no value occurs twice."""
    count = draw.rng.randint(2, 7)
    keys = [str(key) for key in _unlike(draw, lambda: _key(draw), count)]
    return dict(zip(keys, _unlike(draw, draw.value, count), strict=True))


def _put(draw: Draw, text: str, question: str) -> str:
    """Return text and question in one message, mostly in this order."""
    return f"{text}\n{question}" if draw.chance(0.75) else f"{question}\n{text}"


def _pairs(draw: Draw) -> Pair:
    """Key and value lines; some ask for the key of a value."""
    entries = _entries(draw)
    mark, gap = draw.one(": ", " = ", " - ", " -> ", "=", ":", "\t"), draw.one("\n", "\n", "; ", ", ", "\n- ")
    text = gap.join(f"{key}{mark}{value}" for key, value in entries.items())
    text = "- " + text if gap == "\n- " else text
    key, value = draw.rng.choice(list(entries.items()))
    if draw.chance(0.2):
        ask = draw.one("Which entry has {}?", "Where does {} stand?", "What has the value {}?", "Key of {}?")
        return _put(draw, text, ask.format(value)), key
    ask = draw.one("What stands beside {}?", "{}?", "Value of {}?", "Read {}.", "Which value has {}?", "Give {}.")
    return _put(draw, text, ask.format(key)), str(value)


def _ask_field(draw: Draw, name: str, column: str) -> str:
    """Return a question for one field of one thing."""
    forms = (
        *("Give the {f} of {n}.", "{f} of {n}?", "Tell me the {f} of {n}.", "Which {f} is given for {n}?"),
        *("{n}: {f}?", "What does the text say about the {f} of {n}?", "Read off the {f} of {n}.", "{n}'s {f}?"),
    )
    return draw.one(*forms).format(n=name, f=column)


def _records(draw: Draw, columns: int, rows: int) -> dict[str, dict[str, Value]]:
    """Return rows by name, each with the same columns."""
    names = [str(name) for name in _unlike(draw, lambda: _key(draw), rows)]
    fields = [str(name) for name in _unlike(draw, draw.field, columns)]
    table: dict[str, dict[str, Value]] = {name: {} for name in names}
    for field in fields:
        for name, value in zip(names, _unlike(draw, draw.value, rows), strict=True):
            table[name][field] = value
    return table


def _sentences(draw: Draw) -> Pair:
    """Sentences on the fields of some things."""
    table = _records(draw, draw.rng.randint(1, 3), draw.rng.randint(2, 3))
    form = draw.one(
        "The {f} of {n} is {v}.",
        "{n} has the {f} {v}.",
        "{n}: {f} {v}.",
        "For {n} the {f} is {v}.",
        "{n} ({f} {v}).",
    )
    facts = [(name, field, value) for name, row in table.items() for field, value in row.items()]
    draw.rng.shuffle(facts)
    name, field, answer = draw.rng.choice(facts)
    text = " ".join(form.format(n=n, f=f, v=v) for n, f, v in facts)
    return _put(draw, text, _ask_field(draw, name, field)), str(answer)


def _object(draw: Draw) -> Pair:
    """One JSON object, flat or with an object inside."""
    table = _records(draw, draw.rng.randint(2, 5), 1)
    ((name, row),) = table.items()
    field, answer = draw.rng.choice(list(row.items()))
    nested = draw.chance(0.4)
    text = json.dumps({name: row} if nested else row, indent=1 if draw.chance(0.15) else None)
    ask = draw.one("{}?", "Read {}.", "Which {} is given?", "Give the {}.").format(field)
    ask = _ask_field(draw, name, field) if nested else ask
    return _put(draw, text, ask), str(answer)


def _rows(draw: Draw) -> Pair:
    """A JSON list of rows, one named and one of its columns asked."""
    table = _records(draw, draw.rng.randint(1, 3), draw.rng.randint(2, 4))
    label = draw.one("name", "id", "key", "label")
    rows = [{label: name, **row} for name, row in table.items()]
    text = json.dumps(rows) if draw.chance(0.6) else "\n".join(json.dumps(row) for row in rows)
    name = draw.rng.choice(list(table))
    field, answer = draw.rng.choice(list(table[name].items()))
    return _put(draw, text, _ask_field(draw, name, field)), str(answer)


def _table(draw: Draw) -> Pair:
    """A table in pipes, commas or aligned columns; a row and a column are asked."""
    table = _records(draw, draw.rng.randint(2, 3), draw.rng.randint(2, 5))
    label, kind = draw.one("name", "id", "item", "label"), draw.rng.randrange(3)
    fields = list(next(iter(table.values())))
    lines = [[label, *fields], *([name, *(str(row[field]) for field in fields)] for name, row in table.items())]
    if kind == 0:
        lines.insert(1, ["---"] * len(lines[0]))
        text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    elif kind == 1:
        text = "\n".join(",".join(line) for line in lines)
    else:
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        text = "\n".join(
            "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines
        )
    name, field = draw.rng.choice(list(table)), draw.rng.choice(fields)
    if draw.chance(0.15):
        value = table[name][field]
        return _put(draw, text, f"Which {label} has the {field} {value}?"), name
    return _put(draw, text, _ask_field(draw, name, field)), str(table[name][field])


def _grid(draw: Draw) -> Pair:
    """A small grid of characters: a cell, the place of one, or how often one occurs in a row."""
    rng, height, width = draw.rng, draw.rng.randint(2, 4), draw.rng.randint(2, 5)
    signs = draw.one("0123456789", "abcdefghkm", ".#X", ".#O@", "ABCDEF", ".o*")
    cells = [rng.choices(signs, k=width) for _ in range(height)]
    row, column, kind = rng.randrange(height), rng.randrange(width), rng.random()
    if kind < 0.3:
        cells[row][column] = "S"
    gap = draw.one("", "", " ")
    text = "\n".join(gap.join(line) for line in cells)
    if kind < 0.3:
        ask = draw.one("Where is S? Say row, column.", "Row and column of S?", "Find S (row, column).")
        return _put(draw, text, ask), f"{row + 1}, {column + 1}"
    if kind < 0.6:
        sign = rng.choice(cells[row])
        ask = draw.one("How many {s} are in row {r}?", "Count {s} in row {r}.", "How often is {s} in row {r}?")
        return _put(draw, text, ask.format(s=sign, r=row + 1)), str(cells[row].count(sign))
    if kind < 0.75:
        ask = draw.one("Copy row {}.", "Row {}?", "What stands in row {}?").format(row + 1)
        return _put(draw, text, ask), gap.join(cells[row])
    ask = draw.one("Row {r}, column {c}?", "What stands in row {r}, column {c}?", "Column {c} of row {r}?")
    return _put(draw, text, ask.format(r=row + 1, c=column + 1)), cells[row][column]


def _notes(draw: Draw) -> Pair:
    """Notes put before the question."""
    table = _records(draw, 1, draw.rng.randint(1, 4))
    facts = [(name, *next(iter(row.items()))) for name, row in table.items()]
    name, field, answer = draw.rng.choice(facts)
    form = draw.one("the {f} of {n} is {v}", "{n} has {f} {v}", "{f} of {n}: {v}", "{n}, {f}: {v}")
    lines = [form.format(n=n, f=f, v=v) for n, f, v in facts]
    other = draw.one("ask {p} about {x}", "{p} likes {x}", "{x} comes later")
    if draw.chance(0.5):
        lines.insert(draw.rng.randint(0, len(lines)), other.format(p=draw.person(), x=draw.content()))
    if draw.chance(0.6):
        opening = draw.one("Notes:", "Known:", "From earlier:", "Memory:", "Remember:")
        text = "\n- ".join([opening, *lines])
    else:
        text = draw.one("From earlier: ", "Known: ", "Notes: ", "You wrote: ") + "; ".join(lines) + "."
    return f"{text}\n{_ask_field(draw, name, field)}", str(answer)


def _short(draw: Draw) -> Pair:
    """The largest, smallest, first or last of a short list."""
    if draw.chance(0.5):
        numbers = draw.rng.sample(range(1, draw.rng.choice((20, 100, 1000))), draw.rng.randint(2, 6))
        rule, words = draw.rng.choice(((max, ("largest", "highest", "greatest")), (min, ("smallest", "lowest"))))
        ask = draw.one("Which is the {}?", "Say the {}.", "The {} number?").format(draw.one(*words))
        return _put(draw, draw.one(", ", " ", "\n").join(map(str, numbers)), ask), str(rule(numbers))
    keys = [_key(draw) for _ in range(draw.rng.randint(2, 6))]
    table = dict(zip(keys, draw.rng.sample(range(1, 1000), len(keys)), strict=True))
    if draw.chance(0.5):
        high, field = draw.chance(0.5), draw.field()
        word = draw.one("highest", "largest") if high else draw.one("lowest", "smallest")
        text = draw.one("\n", ", ").join(f"{key}: {value}" for key, value in table.items())
        return _put(draw, text, f"Which has the {word} {field}?"), (max if high else min)(table, key=lambda k: table[k])
    text, place = draw.one(", ", "\n", "; ").join(keys), draw.one("first", "last")
    return _put(draw, text, draw.one("Which is {}?", "Name the {} one.", "The {} entry?").format(place)), keys[
        0 if place == "first" else -1
    ]


def _member(draw: Draw) -> Pair:
    """Whether something is in a list, or how many entries it has."""
    keys = [str(key) for key in _unlike(draw, lambda: _key(draw) if draw.chance(0.7) else draw.number(1, 3), 7)]
    keys = keys[: draw.rng.randint(2, 7)]
    text = draw.one(", ", "\n", " | ", "\n- ").join(keys)
    if draw.chance(0.2):
        return _put(draw, text, draw.one("How many entries?", "Count them.", "How many are listed?")), str(len(keys))
    inside = draw.chance(0.5)
    thing = draw.rng.choice(keys) if inside else draw.word() if draw.chance(0.5) else draw.english()
    ask = draw.one("Is {} in the list?", "Is {} there? yes or no", "Is {} among them?", "Is {} in it?").format(thing)
    return _put(draw, text, ask), "yes" if inside else "no"


_READING: Sequence[tuple[Callable[[Draw], Pair], int]] = (
    *((_pairs, 6), (_sentences, 6), (_object, 5), (_rows, 4), (_table, 5), (_grid, 2), (_notes, 5), (_short, 2)),
    (_member, 1),
)


def context(draw: Draw) -> Exercise:
    """Return a text with a question that it answers: pairs, sentences, JSON, tables, grids, notes or lists."""
    makers, weights = zip(*_READING, strict=True)
    ask, answer = draw.rng.choices(makers, weights)[0](draw)
    return Exercise("context", ask, (), answer)


def _unseen(draw: Draw) -> str:
    """Return a word, code or number of three to nine characters."""
    while True:
        chance = draw.rng.random()
        word = draw.word() if chance < 0.6 else str(draw.number(3, 6)) if chance < 0.8 else draw.name()
        if 3 <= len(word) <= 9 and " " not in word:
            return word


def _whole(draw: Draw) -> Pair:
    """Copy all that is given, one word or several."""
    text = draw.one(" ", ", ", " ", "\n").join(_unseen(draw) for _ in range(draw.rng.choice((1, 1, 2, 3, 4, 5, 6))))
    form = draw.one("Repeat: {}", "Copy this: {}", "Say exactly: {}", 'Write "{}"', "Echo {}", "Say {}", "Copy:\n{}")
    return form.format(text), text


def _nth(draw: Draw) -> Pair:
    """Copy one of several, which begin alike now and then."""
    items = [_unseen(draw) for _ in range(draw.rng.randint(2, 6))]
    if draw.chance(0.3):
        items = [items[0], *(draw.near(items[0]) for _ in items[1:])]
        draw.rng.shuffle(items)
    place = draw.rng.randrange(len(items))
    word = "last" if place == len(items) - 1 and draw.chance(0.5) else _ORDINALS[place]
    form = draw.one("Say the {p} of {l}.", "Which is the {p} of these: {l}", "{l}: the {p}?", "The {p} of {l}, please.")
    return form.format(p=word, l=listed(items) if draw.chance(0.5) else ", ".join(items)), items[place]


def _spelled(draw: Draw) -> Pair:
    """Copy one word in another shape."""
    word = draw.word() if draw.chance(0.5) else draw.english()
    form, change = draw.rng.choice(
        (
            ("Write {} in capitals.", str.upper),
            ("{} in upper case?", str.upper),
            ("Spell {} with dashes.", "-".join),
            ("Spell {} letter by letter, with spaces.", " ".join),
            ("Write {} twice.", lambda text: f"{text} {text}"),
            ("Put {} in quotes.", lambda text: f'"{text}"'),
            ("First letter of {}?", lambda text: text[0]),
            ("Last letter of {}?", lambda text: text[-1]),
        )
    )
    return form.format(word), change(word)


def _order(draw: Draw) -> Pair:
    """Copy two or three in another order, or one beside a sign."""
    first, second, third = _unseen(draw), _unseen(draw), _unseen(draw)
    return draw.rng.choice(
        (
            (f"Say {first}, then {second}.", f"{first} {second}"),
            (f"Before {first} say {second}.", f"{second} {first}"),
            (f"Swap {first} and {second}.", f"{second} {first}"),
            (f"In reverse order: {first}, {second}, {third}", f"{third}, {second}, {first}"),
            (f"Join {first} and {second} with a plus.", f"{first}+{second}"),
            (f"Leave out {second}: {first}, {second}, {third}", f"{first}, {third}"),
            (f"Not {first} but {second}: which one?", second),
            (f'{draw.person()} said "{first} {second}" about {third}. Quote it.', f"{first} {second}"),
            (f"What comes after {first} in {first} {second} {third}?", second),
            (f"What stands between {first} and {third} in {first} {second} {third}?", second),
        )
    )


def copy(draw: Draw) -> Exercise:
    """Return an exercise whose answer is copied exactly: words, codes and numbers that were never met."""
    ask, answer = draw.rng.choices((_whole, _nth, _spelled, _order), (5, 4, 2, 3))[0](draw)
    return Exercise("copy", ask, (), answer)
