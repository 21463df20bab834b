"""Small jobs of many trades: tools as programmers document them, and questions as people ask them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter

from ferrule.core.records import Tool
from ferrule.policies.pocket.corpus.draw import Draw, held_out, listed
from ferrule.policies.pocket.corpus.kit import Exercise, Kit, Parameter, Round, once, shape, tool

__all__ = ["domain", "domain_chain", "domains"]


class _Slot(BaseModel):
    """A parameter: names it may bear, the kind of its value or its choices, and what it is."""

    names: tuple[str, ...]
    value: str | tuple[str, ...]
    says: str
    optional: bool = False


class _Job(BaseModel):
    """A tool: names, descriptions and questions; what comes back, and what that is called."""

    names: tuple[str, ...]
    says: tuple[str, ...]
    parameters: dict[str, _Slot]
    returns: str = ""
    field: str = ""
    asks: tuple[str, ...]


class _Chain(BaseModel):
    """Questions for two tools, of which the second takes in ``taken`` what the first returns."""

    calls: tuple[str, str]
    taken: str
    asks: tuple[str, ...]


class _Domain(BaseModel):
    """Tools of one trade, and what takes two of them."""

    domain: str
    tools: tuple[_Job, ...]
    chains: tuple[_Chain, ...] = ()


@cache
def domains(split: str) -> tuple[_Domain, ...]:
    """Return the domains of a split; an eighth of them is kept for measuring."""
    rows = TypeAdapter(tuple[_Domain, ...]).validate_json(Path(__file__).with_suffix(".json").read_bytes())
    return tuple(row for row in rows if held_out(row.domain) == (split == "test"))


_TYPES = {
    **dict.fromkeys(("id", "small", "year"), "integer"),
    **{"amount": "number", "flag": "boolean", "persons": "strings", "words_list": "strings", "numbers": "integers"},
}
"""JSON type by kind of value; all others are strings."""


def _time(draw: Draw) -> str:
    return f"{draw.rng.randint(0, 23):02d}:{draw.rng.choice((0, 10, 15, 20, 30, 40, 45)):02d}"


def _words(draw: Draw) -> str:
    return " ".join(draw.english() for _ in range(draw.rng.randint(2, 4)))


def _several(make: Callable[[], Any], draw: Draw) -> list[Any]:
    return list(dict.fromkeys(make() for _ in range(draw.rng.randint(2, 4))))


def _name(draw: Draw) -> str:
    """Return the name of a thing, capitalised."""
    first = draw.syllables(2, 3) if draw.chance(0.6) else draw.english()
    second = f" {draw.syllables(2, 3) if draw.chance(0.5) else draw.english()}".title() if draw.chance(0.3) else ""
    return first.capitalize() + second


def _code(draw: Draw) -> str:
    """Return letters and digits, as on labels."""
    letters = "".join(draw.rng.choices("ABCDEFGHJKLMNPQRSTVWXZ", k=draw.rng.randint(1, 3)))
    return f"{letters}{draw.one('', '-', '-', '/')}{draw.number(1, 4)}" if draw.chance(0.85) else draw.letters()


_VALUES: Mapping[str, Callable[[Draw], Any]] = {
    "person": Draw.person,
    "place": Draw.city,
    "name": _name,
    "word": Draw.english,
    "words": _words,
    "id": lambda draw: draw.number(1, 5),
    "small": lambda draw: draw.rng.randint(1, 30),
    "year": lambda draw: draw.rng.randint(1950, 2035),
    "amount": lambda draw: draw.number(1, 4) if draw.chance(0.5) else draw.decimal(),
    "time": _time,
    "day": Draw.day,
    "code": _code,
    "digits": Draw.digits,
    "flag": lambda draw: draw.chance(0.5),
    "persons": lambda draw: _several(draw.person, draw),
    "words_list": lambda draw: _several(draw.english, draw),
    "numbers": lambda draw: _several(lambda: draw.number(1, 3), draw),
}
"""How the values of a kind are drawn."""


def _value(draw: Draw, slot: _Slot) -> Any:
    return draw.rng.choice(slot.value) if isinstance(slot.value, tuple) else _VALUES[slot.value](draw)


def _shown(value: Any) -> str:
    """Return a value as people write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return listed(value) if isinstance(value, list) else str(value)


@dataclass(frozen=True)
class _Offered:
    """A tool of a kit, its parameters by slot, and how it shows what it returns."""

    job: _Job
    tool: Tool
    parameters: Mapping[str, Parameter]
    show: Callable[[Any], str]

    def call(self, draw: Draw, values: Mapping[str, Any], result: Any) -> Round:
        """Return the round in which it is called with values by slot."""
        given = {self.parameters[slot].name: value for slot, value in values.items()}
        return once(self.tool, given, self.show(result))

    def result(self, draw: Draw) -> Any:
        """Return something it may return; None for a tool that does something."""
        return _VALUES[self.job.returns](draw) if self.job.returns else None


def _parameter(kit: Kit, slot: _Slot, taken: Sequence[Parameter]) -> Parameter:
    choices = slot.value if isinstance(slot.value, tuple) else ()
    kind = "string" if choices else _TYPES.get(str(slot.value), "string")
    default = choices[0] if choices and slot.optional and kit.draw.chance(0.4) else None
    return kit.parameter(
        slot.names, kind, slot.says, taken=taken, choices=choices, required=not slot.optional, default=default
    )


def _offered(kit: Kit, job: _Job) -> _Offered:
    """Add a tool to the kit."""
    draw, parameters = kit.draw, dict[str, Parameter]()
    for name, slot in job.parameters.items():
        parameters[name] = _parameter(kit, slot, list(parameters.values()))
    text = draw.one(*job.says)
    text = text.rstrip(".") + draw.one("", ".") if draw.chance(0.5) else text
    added = kit.add(tool(kit.title(*job.names, hidden=0.15), text, list(parameters.values())))
    done = draw.one("done", "ok", '{"ok": true}', "saved", "true")
    if not job.returns:
        return _Offered(job, added, parameters, lambda value: done)
    column = job.field.replace(" ", "_")
    lists = job.returns in ("persons", "words_list", "numbers", "flag")
    return _Offered(job, added, parameters, json.dumps if lists else shape(draw, column))


def _said(draw: Draw, job: _Job, ask: str) -> tuple[str, dict[str, Any]]:
    """Fill in a question: what stands in brackets is said for the optional parameters that are given."""
    values = {name: _value(draw, slot) for name, slot in job.parameters.items() if not slot.optional}
    given = {name for name, slot in job.parameters.items() if slot.optional and draw.chance(0.55)}

    def bracket(found: re.Match[str]) -> str:
        flag, text = _flagged(job, found[1])
        names = [flag] if flag else re.findall(r"\{(\w+)\}", text)
        if not given.issuperset(names):
            return ""
        for name in names:
            values[name] = True if flag else _value(draw, job.parameters[name])
        return text

    ask = re.sub(r"\[([^\]]*)\]", bracket, ask)
    return _filled(ask, values), {name: values[name] for name in job.parameters if name in values}


def _flagged(job: _Job, text: str) -> tuple[str, str]:
    """Return the flag that a bracket stands for, and what is said where it is set: ``urgent: , at once``."""
    found = re.match(r"(\w+): ?", text)
    if not (found and found[1] in job.parameters):
        return "", text
    rest = text[found.end() :]
    return found[1], rest if rest[:1] in {",", ";", ".", "(", " "} else f" {rest}"


def _filled(ask: str, values: Mapping[str, Any]) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: _shown(values[found[1]]), ask)


def _single(draw: Draw, offered: _Offered) -> Exercise:
    """Ask for one tool."""
    ask, values = _said(draw, offered.job, draw.one(*offered.job.asks))
    result = offered.result(draw)
    answer = "Done." if result is None else _shown(result)
    return Exercise("domain", ask, (offered.call(draw, values, result),), answer)


def _chained(draw: Draw, chain: _Chain, first: _Offered, second: _Offered) -> Exercise:
    """Ask for what takes two tools, the second with what the first returns."""
    values = [
        {name: _value(draw, slot) for name, slot in each.job.parameters.items() if not slot.optional}
        for each in (first, second)
    ]
    between, result = first.result(draw), second.result(draw)
    values[1].pop(chain.taken, None)
    ask = _filled(draw.one(*chain.asks), {**values[0], **values[1]})
    taken = {name: between if name == chain.taken else values[1].get(name) for name in second.job.parameters}
    given = {name: value for name, value in taken.items() if value is not None}
    rounds = (first.call(draw, values[0], between), second.call(draw, given, result))
    return Exercise("domain chain", ask, rounds, "Done." if result is None else _shown(result))


def domain(kit: Kit) -> None:
    """Add tools of one domain and what can be asked of them."""
    _add(kit, chained=kit.draw.chance(0.5))


def domain_chain(kit: Kit) -> None:
    """Add tools of one domain, two of which make a chain."""
    _add(kit, chained=True)


def _add(kit: Kit, *, chained: bool) -> None:
    """Add one to six tools of a domain, once: tools of two trades may do the same."""
    if "domain" in kit.texts:
        return
    kit.texts.add("domain")
    draw = kit.draw
    chosen = draw.rng.choice([row for row in domains(draw.split) if row.chains or not chained])
    first = [*draw.rng.choice(chosen.chains).calls] if chained else []
    others = [job.names[0] for job in chosen.tools if job.names[0] not in first]
    draw.rng.shuffle(others)
    names = [*first, *others][: max(len(first), draw.rng.choice((1, 2, 3, 3, 4, 4, 5, 6)))]
    offered = {job.names[0]: _offered(kit, job) for job in chosen.tools if job.names[0] in names}
    for each in offered.values():
        kit.can(("domain",), partial(_single, draw, each))
    for chain in chosen.chains:
        if {*chain.calls} <= offered.keys():
            kit.can(("domain chain",), partial(_chained, draw, chain, *(offered[name] for name in chain.calls)))
