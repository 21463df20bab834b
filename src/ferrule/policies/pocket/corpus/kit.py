"""What a conversation is made of: tools that are schemas alone, exercises on them, and the kit that collects both."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ferrule.core.records import Tool
from ferrule.policies.pocket.corpus.draw import Draw

__all__ = ["Exercise", "Kit", "Maker", "Parameter", "Round", "alone", "once", "record", "shape", "tool"]


@dataclass(frozen=True)
class Round:
    """One reply with calls and what came back; a reply that is not ``learned`` is shown only.

    ``plan`` is what the reply writes before the calls; None stands for the descriptions of the called tools.
    """

    calls: tuple[tuple[Tool, Mapping[str, Any]], ...]
    results: tuple[str, ...]
    learned: bool = True
    plan: str | None = None


@dataclass(frozen=True)
class Exercise:
    """A user message, the rounds of calls it takes, and the last reply."""

    family: str
    ask: str
    rounds: tuple[Round, ...]
    answer: str


def once(tool: Tool, arguments: Mapping[str, Any], result: Any, *, learned: bool = True) -> Round:
    """Return a round of one call, its arguments in the order in which the tool lists them."""
    ordered = {name: arguments[name] for name in tool.parameters["properties"] if name in arguments}
    return Round(((tool, {**ordered, **arguments}),), (str(result),), learned)


@dataclass(frozen=True)
class Parameter:
    """A parameter by name and JSON schema; optional ones may carry a default in the schema."""

    name: str
    schema: Mapping[str, Any]
    required: bool = True


_MARKS = ("answer", "think", "result", "python")
"""Names that mark something else in one of the written forms."""


def tool(name: str, description: str, parameters: Sequence[Parameter] = ()) -> Tool:
    """Return a tool that is a schema alone: it can be offered, and a call of it is refused."""
    schema = {
        "type": "object",
        "properties": {parameter.name: dict(parameter.schema) for parameter in parameters},
        "required": [parameter.name for parameter in parameters if parameter.required],
        "additionalProperties": False,
    }
    return Tool.from_schema({"name": name, "description": description, "parameters": schema})


def _adorned(draw: Draw, text: str) -> str:
    """Return a description with an example, a remark or a limit behind it, as people write them."""
    word, name = draw.english(), draw.name()
    more = draw.one(
        *(f" (e.g. {name})", f", for example {name}", f", such as {name}", f". Example: {name}", f", like {name!r}"),
        *(f" ({word})", f", {word} first", f"; {word} by default", f" - {word} only", f" [{word}]", f" / {word}"),
        *(f", at most {draw.number(1, 3)}", f" (in {word}s)", f", {draw.number(1, 2)} to {draw.number(2, 3)}"),
    )
    return text.rstrip(".") + more + ("." if text.endswith(".") else "")


@dataclass(frozen=True)
class Maker:
    """Draws exercises on tools of the kit; ``joins`` says whether they may be one of two requests in a message."""

    families: tuple[str, ...]
    make: Callable[[], Exercise]
    joins: bool = True


@dataclass
class Kit:
    """The tools of one conversation and what can be asked of them.

    ``hidden`` is the share of tool names that mean nothing; ``nameless`` says that parameters bear such names too.
    ``topics`` (things with a field), ``phrases`` (words of a
    description) and ``texts`` are what its tools are about already. ``due`` draws what a conversation has to ask.
    """

    draw: Draw
    tools: list[Tool] = field(default_factory=list)
    makers: list[Maker] = field(default_factory=list)
    hidden: float = 0.35
    nameless: bool = False
    topics: set[tuple[str, str]] = field(default_factory=set)
    phrases: list[tuple[str, ...]] = field(default_factory=list)
    texts: set[str] = field(default_factory=set)
    due: list[Callable[[], Exercise]] = field(default_factory=list)

    def noun(self) -> str:
        """Return a thing, in half of the cases one that other tools know."""
        known = sorted({noun for noun, _ in self.topics})
        return self.draw.rng.choice(known) if known and self.draw.chance(0.5) else self.draw.noun()

    def topic(self, noun: str = "", column: str = "") -> tuple[str, str]:
        """Return a thing and a field of it that no tool reads yet, often a thing or a field that other tools know.

        Tools that differ in one word only are what a choice is learned from.
        """
        draw = self.draw
        columns = sorted({known for _, known in self.topics})
        while True:
            old_column = draw.chance(0.35)
            chosen_noun = noun or self.noun()
            chosen_column = column or (draw.rng.choice(columns) if columns and old_column else draw.field())
            known = (chosen_noun, chosen_column) in self.topics or chosen_noun == chosen_column
            if not known or (noun and column):
                self.topics.add((chosen_noun, chosen_column))
                return chosen_noun, chosen_column

    def title(self, *options: str, hidden: float | None = None) -> str:
        """Return an unused tool name: one of the telling ones, or with probability ``hidden`` an invented word."""
        draw, taken = self.draw, {*_MARKS, *(tool.name for tool in self.tools)}
        hidden = self.hidden if hidden is None or self.hidden == 1.0 else hidden
        while True:
            name = draw.word() if draw.chance(hidden) else draw.one(*options)
            if "_" in name and draw.chance(0.2):
                first, *rest = name.split("_")
                name = first + "".join(part.capitalize() for part in rest)
            if name not in taken:
                return name
            hidden = 1.0

    def parameter(
        self,
        options: Sequence[str],
        kind: str,
        text: str = "",
        *,
        taken: Sequence[Parameter] = (),
        choices: Sequence[str] = (),
        required: bool = True,
        default: Any = None,
    ) -> Parameter:
        """Return a parameter with a telling name, or an invented one: in a quarter of the cases, or where all are.

        ``kind`` is a JSON type, or ``integers`` and ``strings`` for lists. Beside another one of its type an invented
        name is mostly described; where it is not, the order of the parameters tells.
        """
        draw, used = self.draw, {parameter.name for parameter in taken}
        name = draw.word() if draw.chance(1.0 if self.nameless else 0.25) else draw.rng.choice(list(options))
        while name in used:
            name = draw.word()
        lists = {"integers": "integer", "strings": "string"}
        schema: dict[str, Any] = {"type": "array", "items": {"type": lists[kind]}} if kind in lists else {"type": kind}
        twin = name not in options and any(other.schema["type"] == schema["type"] for other in taken)
        if text and draw.chance(0.65 if twin else 0.35):
            schema["description"] = text
        if choices:
            schema["enum"] = list(choices)
        if default is not None:
            schema["default"] = default
        return Parameter(name, schema, required and default is None)

    def add(self, tool: Tool, *, adorned: float = 0.12) -> Tool:
        """Put a tool into the kit and return it, with probability ``adorned`` with more said in its description."""
        if self.draw.chance(adorned):
            tool = replace(tool, description=_adorned(self.draw, tool.description))
        self.tools.append(tool)
        return tool

    def can(self, families: Sequence[str], make: Callable[[], Exercise], *, joins: bool = True) -> None:
        """Say what can be asked."""
        self.makers.append(Maker(tuple(families), make, joins))


def alone(draw: Draw, column: str) -> Callable[[Any], str]:
    """Return how a tool shows one value and no other: bare, as JSON, or in words."""
    chance = draw.rng.random()
    if chance < 0.57:
        return str
    if chance < 0.74:
        return lambda value: json.dumps({column: value})
    if chance < 0.82:
        return lambda value: json.dumps({"result": value})
    if chance < 0.92:
        return lambda value: f"{column}: {value}"
    return lambda value: f"The {column} is {value}."


def shape(draw: Draw, column: str) -> Callable[[Any], str]:
    """Return how a tool shows one value: alone, or in a fifth of the cases in a row among other columns."""
    if draw.chance(0.2):
        near = (f"old_{column}", f"last_{column}", f"{column}_before", f"max_{column}")
        return record(draw, column, near if draw.chance(0.4) else ())
    return alone(draw, column)


def record(draw: Draw, column: str, near: Sequence[str]) -> Callable[[Any], str]:
    """Return how a tool shows one value in a JSON row of two to four columns; one of ``near`` has a value like it."""
    decoys = [draw.rng.choice(near)] if near else []
    others = [draw.english() for _ in range(draw.rng.randint(0 if near else 1, 2))]

    def another(value: Any) -> Any:
        make = draw.decimal if isinstance(value, float) else draw.name
        other = draw.number(1, 4) if isinstance(value, int) else make()
        return another(value) if other == value else other

    def row(value: Any) -> str:
        alike = {name: another(value) for name in decoys}
        cells = list({**{name: draw.value() for name in others}, **alike, column: value}.items())
        draw.rng.shuffle(cells)
        return json.dumps(dict(cells), separators=(",", ":")) if draw.chance(0.5) else json.dumps(dict(cells))

    return row
