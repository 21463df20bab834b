"""Conversations of the embedded model's corpus: which skills, how often, and how an exercise becomes messages."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from keyword import iskeyword
from typing import Any

from ferrule.chat.describe import plan
from ferrule.core.records import Call, Message, Tool
from ferrule.policies.pocket.corpus.actions import action
from ferrule.policies.pocket.corpus.chains import hop, trio
from ferrule.policies.pocket.corpus.contexts import context, readings
from ferrule.policies.pocket.corpus.copies import copy
from ferrule.policies.pocket.corpus.domains import domain, domain_chain
from ferrule.policies.pocket.corpus.draw import Draw
from ferrule.policies.pocket.corpus.errors import spoilt
from ferrule.policies.pocket.corpus.free import free, free_chain
from ferrule.policies.pocket.corpus.jobs import JOBS, both
from ferrule.policies.pocket.corpus.kit import Exercise, Kit, Round
from ferrule.policies.pocket.corpus.lookups import codes, look_up
from ferrule.policies.pocket.corpus.programs import program_tool
from ferrule.policies.pocket.corpus.skills import chat, instruction, refuse
from ferrule.policies.pocket.corpus.sums import head, sums_tool
from ferrule.policies.pocket.corpus.texts import text_tool
from ferrule.policies.pocket.corpus.twins import twin

__all__ = ["CALLING", "FAMILIES", "Conversation", "conversation"]

CALLING = (
    "action",
    "free",
    "lookup",
    "described",
    "typed",
    "calc",
    "chain",
    "pair",
    "repair",
    "notes",
    "program",
    "texts",
    "domain",
    "domain chain",
)
"""Families in which tools are on offer."""
FAMILIES = (*CALLING, "refuse", "instruct", "notool", "context", "copy", "head")
"""All families, as they are measured."""

_SHARES = {
    **{"tools": 46, "domain": 8, "domain chain": 3, "chain": 9, "program": 4, "instruct": 9},
    **{"head": 11, "context": 16, "copy": 5, "notool": 2},
}
_FORMS = {"hermes": 80, "raw_json": 5, "react": 5, "tagged": 5, "fence": 5}


def _sums(kit: Kit) -> None:
    """Add arithmetic tools, once."""
    if "sums" not in kit.texts:
        kit.texts.add("sums")
        sums_tool(kit)


def _programs(kit: Kit) -> None:
    """Add a tool that runs programs, half of the time beside arithmetic tools, which then do the sums."""
    together = "sums" in kit.texts or kit.draw.chance(0.5)
    program_tool(kit, sums=not together)
    if together:
        _sums(kit)
    kit.texts.add("sums")


_BUILDERS: Mapping[Callable[[Kit], Any], float] = {
    free: 3.0,
    action: 4.5,
    look_up: 3.5,
    trio: 2.4,
    free_chain: 2.0,
    hop: 1.5,
    codes: 0.5,
    _sums: 2.4,
    _programs: 0.9,
    text_tool: 1.2,
    domain: 1.5,
    **dict.fromkeys(JOBS, 0.25),
}
_PROVIDERS: Mapping[str, Sequence[Callable[[Kit], Any]]] = {
    "action": (action,),
    "free": (free,),
    "lookup": (look_up, trio),
    "described": (look_up,),
    "typed": (look_up, *JOBS),
    "calc": (_sums,),
    "chain": (trio, trio, hop, free_chain),
    "pair": (look_up, free, action, trio),
    "repair": (look_up, free, action, trio),
    "notes": (look_up, trio),
    "program": (_programs,),
    "texts": (text_tool,),
    "domain": (domain,),
    "domain chain": (domain_chain,),
    "refuse": (look_up, free),
    "instruct": (look_up, free, action, trio),
}
_PICKS: Mapping[str, float] = {
    "chain": 3.0,
    "notes": 0.55,
    "repair": 1.8,
    "typed": 1.5,
    "calc": 1.0,
    "program": 1.0,
    "domain chain": 1.5,
}
"""How often what a tool offers is asked for, by its first family; 1 where nothing is said."""
_SMALL = (free, action, look_up)
"""Builders that add one tool."""
_SINGLE = {*JOBS, _programs, _sums, text_tool, domain, domain_chain}
_GREETINGS = ("You are a helpful assistant.", "You help with tools.", "Answer shortly.")
_BUDGET = 2_150
"""Characters of listing and exercises of one conversation, about."""


@dataclass(frozen=True)
class Conversation:
    """Messages with the tools on offer; ``learned`` says of each assistant message whether it is to be imitated.

    ``family`` is the skill of its first exercise and ``form`` the codec in which it is written.
    """

    family: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]
    learned: tuple[bool, ...]
    form: str = "hermes"


def _kit(draw: Draw, family: str | None, least: int, most: int) -> Kit:
    """Draw ``least`` to ``most`` tools, of which one at least gives exercises of ``family``."""
    rng = draw.rng
    nameless = draw.chance(0.2)
    kit = Kit(draw, hidden=1.0 if nameless or family == "described" else 0.35, nameless=nameless)
    used: set[Any] = set()

    def add(builder: Callable[[Kit], Any]) -> None:
        if family == "refuse" and builder is text_tool:
            return  # what finds texts might answer any question
        if builder not in used or builder not in _SINGLE:
            used.add(builder)
            builder(kit)

    if family is not None:
        for _ in range(12):
            add(rng.choice(list(_PROVIDERS[family])))
            if _makers(kit, family):
                break
    count = min(most, max(least, rng.choice((1, 2, 3, 3, 4, 4, 5, 6, 8, 10, 12))))
    twins = draw.chance(0.27)
    while len(kit.tools) < count - twins or not kit.makers:
        room = count - len(kit.tools) > 3
        add(rng.choices(list(_BUILDERS), list(_BUILDERS.values()))[0] if room else rng.choice(_SMALL))
    if twins:
        twin(kit)
    while len(kit.tools) < count:
        rng.choice(_SMALL)(kit)
    rng.shuffle(kit.tools)
    return kit


def _makers(kit: Kit, family: str | None) -> list[Any]:
    if family in (None, "repair", "pair", "instruct", "refuse"):
        return kit.makers
    return [maker for maker in kit.makers if family in maker.families]


def _pair(kit: Kit) -> Exercise | None:
    makers = [maker for maker in kit.makers if maker.joins and "chain" not in maker.families]
    if not makers:
        return None
    first, second = kit.draw.rng.choice(makers).make(), kit.draw.rng.choice(makers).make()
    return both(kit.draw, first, second) if first.rounds and second.rounds else None


def _exercise(kit: Kit, family: str | None) -> Exercise | None:
    """Draw an exercise of a family, or of any; None when the draw does not give one."""
    draw = kit.draw
    if family == "pair" or (family is None and draw.chance(0.07)):
        return _pair(kit)
    if family == "refuse" or (family is None and draw.chance(0.06)):
        # A tool that finds texts might answer any question.
        return None if any("texts" in maker.families for maker in kit.makers) else refuse(kit)
    if family is None and draw.chance(0.04):
        return chat(draw)
    if family is None and draw.chance(0.03):
        return head(draw, 2 if "sums" in kit.texts else 3)
    makers = _makers(kit, family)
    (maker,) = draw.rng.choices(makers, [_PICKS.get(maker.families[0], 1.0) for maker in makers])
    exercise: Exercise = maker.make()
    if family == "repair" or (family is None and draw.chance(0.22)):
        return spoilt(kit, exercise)
    return None if family in CALLING and exercise.family != family else exercise


def _perhaps_spoilt(kit: Kit, exercise: Exercise) -> Exercise:
    """Return the exercise, in a fifth of the cases after a failed call where there can be one."""
    return (spoilt(kit, exercise) if kit.draw.chance(0.2) else None) or exercise


def _drawn(kit: Kit, family: str | None) -> Exercise:
    for _ in range(60):
        exercise = _exercise(kit, family)
        if exercise is not None:
            return exercise
    return replace(kit.draw.rng.choice(kit.makers).make(), family=family or "free")


def _literal(value: Any) -> str:
    return str(value) if isinstance(value, bool) else json.dumps(value, ensure_ascii=False)


def _call(tool: Tool, given: Mapping[str, Any], index: int, form: str) -> Call:
    """Return a call; in the form of fenced code it is a program that prints what the tool returns."""
    if form != "fence":
        return Call(tool.name, dict(given), id=f"call_{index}")
    code = next(iter(given.values()), "")
    if not (isinstance(code, str) and "print(" in code):
        code = f"print({tool.name}({', '.join(f'{name}={_literal(value)}' for name, value in given.items())}))"
    return Call("python", {"code": code}, id=f"call_{index}")


def _replies(exercise: Exercise, form: str) -> list[tuple[Round | None, Message]]:
    """Return the messages of an exercise; an assistant message comes with its round, the last one with None."""
    messages: list[tuple[Round | None, Message]] = [(None, Message("user", exercise.ask))]
    for turn in exercise.rounds:
        if form == "fence" and not turn.learned:
            continue  # such failures are worded otherwise where calls are code
        text = turn.plan if turn.plan is not None else " ".join(plan(tool) for tool, _ in turn.calls)
        calls = tuple(_call(tool, given, i, form) for i, (tool, given) in enumerate(turn.calls))
        messages.append((turn, Message("assistant", text, calls)))
        for call, result in zip(calls, turn.results, strict=True):
            messages.append((None, Message("tool", result, name=call.name, call_id=call.id)))
    return [*messages, (None, Message("assistant", exercise.answer))]


def _told(family: str, system: str, exercises: Sequence[Exercise], kit: Kit | None, form: str) -> Conversation:
    messages = [Message("system", system)] if system else []
    learned: list[bool] = []
    names = [name for tool in kit.tools for name in (tool.name, *tool.parameters["properties"])] if kit else []
    if form == "fence" and not all(name.isidentifier() and not iskeyword(name) for name in names):
        form = "hermes"
    for exercise in exercises:
        for turn, message in _replies(exercise, form):
            messages.append(message)
            if message.role == "assistant":
                learned.append(turn is None or turn.learned)
    return Conversation(family, tuple(messages), tuple(kit.tools) if kit else (), tuple(learned), form)


def _greeting(draw: Draw) -> str:
    return draw.one("", "", "", "", *_GREETINGS, "Use the tools.")


_DRILLS = {"context": (4, 8), "copy": (8, 20), "head": (5, 24), "notool": (1, 4)}
"""Families of exercises without a call, and how many of them make a conversation."""


def _drill(draw: Draw, family: str, form: str, *, single: bool) -> Conversation:
    """Return a conversation of exercises without a call, now and then beside tools that do not help."""
    make = {"context": context, "copy": copy, "head": head, "notool": chat}[family]
    kit = None
    if draw.chance(0.2):
        kit = Kit(draw)
        for _ in range(draw.rng.randint(1, 3)):
            draw.rng.choice(_SMALL)(kit)
    count, system = 1 if single else draw.rng.randint(*_DRILLS[family]), _greeting(draw)
    if family == "context" and not single:
        given, exercises = readings(draw, count)
        return _told(family, "\n".join(text for text in (system, given) if text), exercises, kit, form)
    return _told(family, system, [make(draw) for _ in range(count)], kit, form)


def conversation(
    seed: int, split: str = "train", family: str | None = None, *, form: str | None = None, most: int = 12
) -> Conversation:
    """Return the conversation of a seed, of the mixture or of one family (then it has one exercise).

    ``split`` is ``train`` or ``test`` (words that training never sees), ``most`` the largest number of tools.
    """
    rng = random.Random(f"pocket/{split}/{seed}/{family}")
    draw = Draw(rng, split)
    kind = rng.choices(list(_SHARES), list(_SHARES.values()))[0] if family is None else family
    form = form or ("hermes" if family else rng.choices(list(_FORMS), list(_FORMS.values()))[0])
    single = family is not None
    if kind in _DRILLS:
        return _drill(draw, kind, form, single=single)
    first = None if kind == "tools" else kind
    kit = _kit(draw, first, 2 if single else 1, most)
    system, change = _greeting(draw), None
    if kind == "instruct":
        rule = instruction(draw, kit)
        system = f"{draw.one(*_GREETINGS)} {rule.text}" if draw.chance(1 / 3) else rule.text
        change = rule.change
    size = sum(len(tool.description) + 60 * len(tool.parameters["properties"]) + 60 for tool in kit.tools)
    exercises = [] if single else [_perhaps_spoilt(kit, make()) for make in kit.due]
    if first or not exercises:
        exercises.insert(0, _drawn(kit, None if kind == "instruct" else first))
    count = 1 if single else rng.randint(4, 7)
    while len(exercises) < count:
        size += len(exercises[-1].ask) + 120 * (1 + len(exercises[-1].rounds))
        if size > _BUDGET and len(exercises) > 1:
            break
        exercises.append(_drawn(kit, None))
    if not first:
        rng.shuffle(exercises)
    if change is not None:
        exercises = [change(exercise) for exercise in exercises]
    return _told(kind if first else exercises[0].family, system, exercises, kit, form)
