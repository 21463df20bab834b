"""Tools that do an everyday thing, described and asked for in plain English with other words for the same verb."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from ferrule.policies.pocket.corpus.draw import Draw, listed
from ferrule.policies.pocket.corpus.kit import Exercise, Kit, Parameter, alone, once, shape, tool

__all__ = ["action"]


@dataclass(frozen=True)
class _Slot:
    """A parameter: names it may bear, its JSON kind, and clauses that say its value ("{v}")."""

    names: tuple[str, ...]
    kind: str
    clauses: tuple[str, ...]
    text: str = ""


@dataclass(frozen=True)
class _Action:
    """Ways to name, describe and ask; ``needs`` are slots that the question always says, ``may`` may be left out.

    ``reads`` is what a result is called where the tool returns one.
    """

    names: tuple[str, ...]
    says: tuple[str, ...]
    asks: tuple[str, ...]
    needs: tuple[str, ...] = ()
    may: tuple[str, ...] = ()
    reads: str = ""


@dataclass(frozen=True)
class _Tables:
    """All of ``actions.json``; ``choices`` are values of enumerations."""

    slots: Mapping[str, _Slot]
    choices: tuple[tuple[str, ...], ...]
    actions: tuple[_Action, ...]


_TABLES = TypeAdapter(_Tables).validate_json(Path(__file__).with_suffix(".json").read_bytes())


def _value(draw: Draw, slot: str, parameter: Parameter) -> Any:
    """Draw a value for a slot."""
    if "enum" in parameter.schema:
        return draw.rng.choice(list(parameter.schema["enum"]))
    if slot in ("place", "target"):
        return draw.city()
    if slot == "person":
        return draw.person()
    if slot == "people":
        return list(dict.fromkeys(draw.person() for _ in range(draw.rng.randint(1, 3))))
    if slot == "day":
        return draw.day()
    if slot == "time":
        return f"{draw.rng.randint(0, 23):02d}:{draw.rng.choice((0, 15, 30, 45)):02d}"
    if slot == "text":
        return " ".join(draw.english() for _ in range(draw.rng.randint(1, 4)))
    if slot == "amount":
        return draw.number(1, 4) if draw.chance(0.6) else draw.decimal()
    if slot in ("count", "minutes", "most"):
        return draw.number(1, 3)
    if slot == "id":
        return draw.number(1, 5) if parameter.schema["type"] == "integer" else draw.label()
    return draw.label() if draw.chance(0.6) else draw.english()


def _parameter(kit: Kit, slot: str, taken: Sequence[Parameter], noun: str, *, required: bool) -> Parameter:
    """Draw the parameter of a slot; one that may be left out has a default now and then."""
    draw = kit.draw
    if slot == "id":
        names = (f"{noun}_id", "id", noun, "number")
        return kit.parameter(names, draw.one("integer", "integer", "string"), f"the {noun}", taken=taken)
    row = _TABLES.slots[slot]
    choices: Sequence[str] = ()
    if row.kind == "enum":
        usual = draw.rng.choice(_TABLES.choices)
        choices = usual if draw.chance(0.4) else [draw.english() for _ in range(draw.rng.randint(2, 4))]
    kind = "string" if row.kind == "enum" else row.kind
    default = choices[0] if choices and not required and draw.chance(0.4) else None
    parameter = kit.parameter(
        row.names, kind, row.text, taken=taken, choices=choices, required=required, default=default
    )
    if row.kind == "boolean" and parameter.name not in row.names:
        return Parameter(draw.english(), parameter.schema, parameter.required)
    return parameter


def _parameters(kit: Kit, needs: Sequence[str], may: Sequence[str], noun: str) -> dict[str, Parameter]:
    """Draw the parameters of a tool by slot."""
    parameters: dict[str, Parameter] = {}
    for slot in (*needs, *may):
        parameters[slot] = _parameter(kit, slot, list(parameters.values()), noun, required=slot in needs)
    return parameters


def _clause(draw: Draw, slot: str, parameter: Parameter, value: Any) -> str:
    if slot == "flag":
        word = parameter.name
        return draw.one(f", {word}", f" and {word}") if value else draw.one(f", not {word}", f" and not {word}")
    said = listed(value) if isinstance(value, list) else value
    return draw.one(*_TABLES.slots[slot].clauses).format(v=said, n=parameter.name)


def action(kit: Kit) -> None:
    """Add a tool that does an everyday thing and ask for it."""
    draw = kit.draw
    field = draw.field()
    while True:
        chosen, noun = draw.rng.choice(_TABLES.actions), kit.noun()
        plain = chosen.says[0].format(n=noun, f=field)
        if plain not in kit.texts:
            break
    kit.texts.add(plain)
    kit.topics.add((noun, field))
    name = kit.title(*(text.format(n=noun, f=field) for text in chosen.names), hidden=0.25)
    text = draw.one(*chosen.says).format(n=noun, f=field)
    may = [slot for slot in chosen.may if draw.chance(0.35)]
    parameters = _parameters(kit, chosen.needs, may, noun)
    offered = kit.add(tool(name, text + draw.one("", "", "."), list(parameters.values())))
    # Which of several columns answers is known from the description only.
    column = chosen.reads.format(n=noun, f=field)
    show = (shape if column in text else alone)(draw, column)
    done = draw.one("done", "ok", '{"ok": true}', "saved", "true")

    def make() -> Exercise:
        ask = draw.one(*chosen.asks)
        begins = ask.startswith("{v:")
        values = {slot: _value(draw, slot, parameters[slot]) for slot in chosen.needs}
        for slot in chosen.needs:
            ask = ask.replace(f"{{v:{slot}}}", str(values[slot]))
            if slot != "id" and f"{{{slot}}}" in ask:
                ask = ask.replace(f"{{{slot}}}", _clause(draw, slot, parameters[slot], values[slot]))
        ask = ask.replace("{id}", str(values.get("id", ""))).replace("{n}", noun).replace("{f}", field)
        end = "?" if ask.endswith("?") else draw.one(".", ".", "", ", please.")
        ask = ask.rstrip("?")
        for slot in may:
            if draw.chance(0.55):
                values[slot] = draw.chance(0.7) if slot == "flag" else _value(draw, slot, parameters[slot])
                ask += _clause(draw, slot, parameters[slot], values[slot])
        arguments = {parameters[slot].name: values[slot] for slot in parameters if slot in values}
        out = draw.value()
        result, answer = (show(out), str(out)) if chosen.reads else (done, "Done.")
        ask = ask if begins else ask[0].upper() + ask[1:]
        return Exercise("action", ask + end, (once(offered, arguments, result),), answer)

    kit.can(("action",), make)
