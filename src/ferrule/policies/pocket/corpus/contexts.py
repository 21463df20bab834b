"""Reading a given text without a tool: one question on it, or several."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ferrule.policies.pocket.corpus.draw import Draw
from ferrule.policies.pocket.corpus.kit import Exercise

__all__ = ["context", "readings"]

Value = int | float | str
Pair = tuple[str, str]
Table = dict[str, dict[str, Value]]


@dataclass(frozen=True)
class _Text:
    """A text, and what draws a question on it with the answer; ``leads`` says that it always stands before it."""

    text: str
    ask: Callable[[], Pair]
    leads: bool = False

    def put(self, draw: Draw, question: str) -> str:
        """Return text and question in one message, mostly in this order."""
        first = self.leads or draw.chance(0.75)
        return f"{self.text}\n{question}" if first else f"{question}\n{self.text}"


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


def _entries(draw: Draw, count: int) -> dict[str, Value]:
    """Return so many entries; no key and no value occurs twice."""
    keys = [str(key) for key in _unlike(draw, lambda: _key(draw), count)]
    return dict(zip(keys, _unlike(draw, draw.value, count), strict=True))


def _pairs(draw: Draw, many: bool) -> _Text:
    """Key and value lines; some ask for the key of a value."""
    entries = _entries(draw, draw.rng.randint(*((4, 8) if many else (2, 7))))
    mark, gap = draw.one(": ", " = ", " - ", " -> ", "=", ":", "\t"), draw.one("\n", "\n", "; ", ", ", "\n- ")
    text = gap.join(f"{key}{mark}{value}" for key, value in entries.items())

    def ask() -> Pair:
        key, value = draw.rng.choice(list(entries.items()))
        if draw.chance(0.2):
            form = draw.one("Which entry has {}?", "Where does {} stand?", "What has the value {}?", "Key of {}?")
            return form.format(value), key
        form = draw.one("What stands beside {}?", "{}?", "Value of {}?", "Read {}.", "Which value has {}?", "Give {}.")
        return form.format(key), str(value)

    return _Text("- " + text if gap == "\n- " else text, ask)


def _ask_field(draw: Draw, name: str, column: str) -> str:
    """Return a question for one field of one thing."""
    forms = (
        *("Give the {f} of {n}.", "{f} of {n}?", "Tell me the {f} of {n}.", "Which {f} is given for {n}?"),
        *("{n}: {f}?", "What does the text say about the {f} of {n}?", "Read off the {f} of {n}.", "{n}'s {f}?"),
    )
    return draw.one(*forms).format(n=name, f=column)


def _records(draw: Draw, columns: int, rows: int) -> Table:
    """Return rows by name, each with the same columns."""
    names = [str(name) for name in _unlike(draw, lambda: _key(draw), rows)]
    fields = [str(name) for name in _unlike(draw, draw.field, columns)]
    table: Table = {name: {} for name in names}
    for field in fields:
        for name, value in zip(names, _unlike(draw, draw.value, rows), strict=True):
            table[name][field] = value
    return table


def _cell(draw: Draw, table: Table, shown: Callable[[str, str], str] | None = None) -> Callable[[], Pair]:
    """Return what asks for a cell of a table by row and column."""

    def ask() -> Pair:
        name = draw.rng.choice(list(table))
        field, answer = draw.rng.choice(list(table[name].items()))
        return shown(name, field) if shown else _ask_field(draw, name, field), str(answer)

    return ask


def _sentences(draw: Draw, many: bool) -> _Text:
    """Sentences on the fields of some things."""
    table = _records(draw, draw.rng.randint(2 if many else 1, 3), draw.rng.randint(2, 4 if many else 3))
    form = draw.one(
        "The {f} of {n} is {v}.",
        "{n} has the {f} {v}.",
        "{n}: {f} {v}.",
        "For {n} the {f} is {v}.",
        "{n} ({f} {v}).",
    )
    facts = [form.format(n=n, f=f, v=v) for n, row in table.items() for f, v in row.items()]
    draw.rng.shuffle(facts)
    return _Text(" ".join(facts), _cell(draw, table))


def _object(draw: Draw, many: bool) -> _Text:
    """One JSON object, flat or with an object inside."""
    table = _records(draw, draw.rng.randint(*((4, 7) if many else (2, 5))), 1)
    ((name, row),) = table.items()
    nested = draw.chance(0.4)
    text = json.dumps({name: row} if nested else row, indent=1 if draw.chance(0.15) else None)

    def bare(name: str, field: str) -> str:
        return draw.one("{}?", "Read {}.", "Which {} is given?", "Give the {}.").format(field)

    return _Text(text, _cell(draw, table, None if nested else bare))


def _rows(draw: Draw, many: bool) -> _Text:
    """A JSON list of rows, one named and one of its columns asked."""
    table = _records(draw, draw.rng.randint(2 if many else 1, 3), draw.rng.randint(3 if many else 2, 4))
    label = draw.one("name", "id", "key", "label")
    rows = [{label: name, **row} for name, row in table.items()]
    text = json.dumps(rows) if draw.chance(0.6) else "\n".join(json.dumps(row) for row in rows)
    return _Text(text, _cell(draw, table))


def _table(draw: Draw, many: bool) -> _Text:
    """A table in pipes, commas or aligned columns; a row and a column are asked, now and then the row of a value."""
    table = _records(draw, draw.rng.randint(2, 3), draw.rng.randint(3 if many else 2, 5))
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
    cell = _cell(draw, table)

    def ask() -> Pair:
        if draw.chance(0.85):
            return cell()
        name, field = draw.rng.choice(list(table)), draw.rng.choice(fields)
        return f"Which {label} has the {field} {table[name][field]}?", name

    return _Text(text, ask)


def _grid(draw: Draw, many: bool) -> _Text:
    """A small grid of characters: a cell, a row, the place of S, or how often a character occurs in a row."""
    rng, height, width = draw.rng, draw.rng.randint(3 if many else 2, 4), draw.rng.randint(3 if many else 2, 5)
    signs = draw.one("0123456789", "abcdefghkm", ".#X", ".#O@", "ABCDEF", ".o*")
    cells = [rng.choices(signs, k=width) for _ in range(height)]
    start = (rng.randrange(height), rng.randrange(width)) if rng.random() < 0.5 else None
    if start:
        cells[start[0]][start[1]] = "S"
    gap = draw.one("", "", " ")

    def ask() -> Pair:
        row, column, kind = rng.randrange(height), rng.randrange(width), rng.random()
        if kind < 0.3 and start:
            form = draw.one("Where is S? Say row, column.", "Row and column of S?", "Find S (row, column).")
            return form, f"{start[0] + 1}, {start[1] + 1}"
        if kind < 0.6:
            sign = rng.choice(cells[row])
            form = draw.one("How many {s} are in row {r}?", "Count {s} in row {r}.", "How often is {s} in row {r}?")
            return form.format(s=sign, r=row + 1), str(cells[row].count(sign))
        if kind < 0.75:
            form = draw.one("Copy row {}.", "Row {}?", "What stands in row {}?")
            return form.format(row + 1), gap.join(cells[row])
        form = draw.one("Row {r}, column {c}?", "What stands in row {r}, column {c}?", "Column {c} of row {r}?")
        return form.format(r=row + 1, c=column + 1), cells[row][column]

    return _Text("\n".join(gap.join(line) for line in cells), ask)


def _notes(draw: Draw, many: bool) -> _Text:
    """Notes put before the question."""
    table = _records(draw, draw.rng.randint(1, 2) if many else 1, draw.rng.randint(*((3, 5) if many else (1, 4))))
    form = draw.one("the {f} of {n} is {v}", "{n} has {f} {v}", "{f} of {n}: {v}", "{n}, {f}: {v}")
    lines = [form.format(n=n, f=f, v=v) for n, row in table.items() for f, v in row.items()]
    other = draw.one("ask {p} about {x}", "{p} likes {x}", "{x} comes later")
    if draw.chance(0.5):
        lines.insert(draw.rng.randint(0, len(lines)), other.format(p=draw.person(), x=draw.content()))
    if draw.chance(0.6):
        opening = draw.one("Notes:", "Known:", "From earlier:", "Memory:", "Remember:")
        text = "\n- ".join([opening, *lines])
    else:
        text = draw.one("From earlier: ", "Known: ", "Notes: ", "You wrote: ") + "; ".join(lines) + "."
    return _Text(text, _cell(draw, table), leads=True)


def _short(draw: Draw, many: bool) -> _Text:
    """The largest, smallest, first or last of a short list."""
    most = draw.rng.randint(4 if many else 2, 6)
    if draw.chance(0.5):
        numbers = draw.rng.sample(range(1, draw.rng.choice((20, 100, 1000))), most)

        def ask_number() -> Pair:
            rule, words = draw.rng.choice(((max, ("largest", "highest", "greatest")), (min, ("smallest", "lowest"))))
            form = draw.one("Which is the {}?", "Say the {}.", "The {} number?")
            return form.format(draw.one(*words)), str(rule(numbers))

        return _Text(draw.one(", ", " ", "\n").join(map(str, numbers)), ask_number)
    keys, field = [_key(draw) for _ in range(most)], draw.field()
    table = dict(zip(keys, draw.rng.sample(range(1, 1000), len(keys)), strict=True))
    bare = draw.chance(0.5)
    text = draw.one("\n", ", ").join(keys if bare else [f"{key}: {value}" for key, value in table.items()])

    def ask() -> Pair:
        if bare:
            place = draw.one("first", "last")
            form = draw.one("Which is {}?", "Name the {} one.", "The {} entry?")
            return form.format(place), keys[0 if place == "first" else -1]
        high = draw.chance(0.5)
        word = draw.one("highest", "largest") if high else draw.one("lowest", "smallest")
        return f"Which has the {word} {field}?", (max if high else min)(table, key=lambda key: table[key])

    return _Text(text, ask)


def _member(draw: Draw, many: bool) -> _Text:
    """Whether something is in a list, or how many entries it has."""
    keys = [str(key) for key in _unlike(draw, lambda: _key(draw) if draw.chance(0.7) else draw.number(1, 3), 7)]
    keys = keys[: draw.rng.randint(4 if many else 2, 7)]

    def ask() -> Pair:
        if draw.chance(0.2):
            return draw.one("How many entries?", "Count them.", "How many are listed?"), str(len(keys))
        inside = draw.chance(0.5)
        thing = draw.rng.choice(keys) if inside else draw.word() if draw.chance(0.5) else draw.english()
        form = draw.one("Is {} in the list?", "Is {} there? yes or no", "Is {} among them?", "Is {} in it?")
        return form.format(thing), "yes" if inside else "no"

    return _Text(draw.one(", ", "\n", " | ", "\n- ").join(keys), ask)


_READING: Sequence[tuple[Callable[[Draw, bool], _Text], int, int]] = (
    *((_pairs, 6, 8), (_sentences, 6, 8), (_object, 5, 5), (_rows, 4, 8), (_table, 5, 8)),
    *((_grid, 2, 6), (_notes, 5, 6), (_short, 2, 2), (_member, 1, 4)),
)
"""Kinds of texts, how often they are drawn, and the most questions that are asked on one."""


def _reading(draw: Draw, many: bool) -> tuple[_Text, int]:
    """Draw a text, larger where ``many`` questions follow, and the most questions on it."""
    make, _, most = draw.rng.choices(_READING, [weight for _, weight, _ in _READING])[0]
    return make(draw, many), most


def context(draw: Draw) -> Exercise:
    """Return a text with a question that it answers: pairs, sentences, JSON, tables, grids, notes or lists."""
    given, _ = _reading(draw, many=False)
    question, answer = given.ask()
    return Exercise("context", given.put(draw, question), (), answer)


def _and(question: str) -> str:
    """Return a question as one that goes on from another; a name at its beginning keeps its capital."""
    worded = re.match(r"(Give|Tell|Which|What|Read|Where|Copy|Count|How|Is|Name|Say) ", question)
    return f"And {question[0].lower() if worded else question[0]}{question[1:]}"


def readings(draw: Draw, count: int) -> tuple[str, list[Exercise]]:
    """Return a text for the system message and so many exercises, most of them on one text.

    A text stands with the first question on it, or in a quarter of the cases in the system message, which is empty
    otherwise.
    """
    system = ""
    exercises: list[Exercise] = []
    while len(exercises) < count:
        given, most = _reading(draw, many=True)
        told = not exercises and draw.chance(0.25)
        system = given.text if told else system
        answers: list[str] = []
        for place in range(min(most, count - len(exercises))):
            question, answer = given.ask()
            while answer in answers and draw.chance(0.8):
                question, answer = given.ask()
            answers.append(answer)
            if place == 0 and not told:
                question = given.put(draw, question)
            elif place and draw.chance(0.25):
                question = _and(question)
            exercises.append(Exercise("context", question, (), answer))
    return system, exercises
