"""JTPRO: A Joint Tool-Prompt Reflective Optimization Framework for Language Agents (56), April 2026.

https://arxiv.org/abs/2604.19821

Among hundreds of tools an agent takes the wrong look-alike, or fills slots wrongly. Instructions carry conventions that
all tools share (how dates are written), documents what tells tools apart, and each needs the other. JTPRO searches
for both together by labelled calls: it rolls a context out on a few of them, diagnoses what was wrong, lets a reflector
edit rules and documents, joins the edits with the best context, lifts what recurs across tools into rules, and keeps
the result where validation does not fall. No weight changes.

Departures from the paper, of which there is no public code and for which only outlines and results were at hand:

1. How scores are aggregated is our reading: slots count over calls of the right tool, as the share of equal ones among
   those of either call (``rewards.slots``). Calls right as a whole select, as the weights of the objective are not
   published.
2. Candidates are picked as in the code of GEPA, on which the method builds (``agents.text_search.by_item``).
3. Edits of different texts are united and the newer one wins on the same text. The best context is the last that did
   not fall; one that fell is dropped and never picked.
4. Rules across tools come from equal descriptions of parameters, in small letters and with single spaces, of at least
   two tools (``tools.documents.lifted``), never from names; a model may bring paraphrases into the same words before.
5. The prompts are our own; sizes of minibatches (16) and rounds (8) are those of the claim, and the reflector is any
   policy under that role. An edit longer than ``longest`` words is left out, as words of failing requests pile up.
6. What a call brings about is not looked at: tools are not executed. A call is right where it is the labelled one.
7. The claim has scripted reflectors and an agent that chooses by words, in the part ``pocket`` a model; every arm gets
   the same number of reflections.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

from ferrule.agents.contexts import (
    Case,
    Context,
    Edits,
    LabelledCall,
    Optimised,
    Predict,
    Reflect,
    implicated,
    search_contexts,
)
from ferrule.agents.flow import returned, together
from ferrule.chat.describe import tool_schema
from ferrule.chat.objects import object_in
from ferrule.core.flows import Ask, Flow, Policy, Session, ask
from ferrule.core.records import Call, Message, Tool, plain_text
from ferrule.evaluate.probed import played_flow, tools_world
from ferrule.rewards.slots import SlotScores, signals, slot_scores
from ferrule.studies.paper import Paper
from ferrule.tools.documents import about, as_lines, lifted
from ferrule.tools.overlay import Key, apply

__all__ = [
    "PAPER", "asked_calls", "asked_edits", "instructions", "inventory", "optimised", "read_edits", "scored",
    "told_case",
]  # fmt: skip

_CALL = "Answer the request with one call of a tool."
_REFLECT = (
    "An agent chooses a tool and fills in its arguments, by the rules and the documents below. It made mistakes.\n\n"
    "Rules:\n{rules}\n\nDocuments of the tools concerned:\n{tools}\n\nMistakes:\n{cases}\n\n"
    "Propose few, local edits that would have prevented them. Put what holds for all tools into a rule, and what tells "
    "a tool from its look-alikes into its document. Reply with JSON: "
    '{{"rules": {{name: text, or null to take it away}}, '
    '"tools": {{name: {{"description": text, "parameters": {{name: text}}}}}}}}.'
)


def instructions(context: Context, system: str = _CALL) -> str:
    """Return what an agent is told in a context: a system text and the rules, one a line."""
    return "\n".join(filter(None, (system, as_lines(context.rules))))


def asked_calls(tools: Sequence[Tool], *, role: str = "solver", system: str = _CALL, max_tokens: int = 256) -> Predict:
    """Return what asks a model for the call of each request, side by side; its first call counts."""

    def one(context: Context, item: LabelledCall, worded: tuple[Tool, ...]) -> Flow[Call | None]:
        messages = (Message("system", instructions(context, system)), Message("user", item.query))
        (reply,) = yield from ask(Ask(messages, tools=worded, role=role, max_tokens=max_tokens))
        return next(iter(reply.message.calls), None)

    def predict(context: Context, items: Sequence[LabelledCall]) -> Flow[Sequence[Call | None]]:
        worded = apply(tools, context.overlay)
        return (yield from together(*(one(context, item, worded) for item in items)))

    return predict


def told_case(case: Case) -> str:
    """Return a failure as text: the request, both calls, and what was wrong."""

    def told(call: Call | None) -> str:
        return "none" if call is None else f"{call.name}({json.dumps(dict(call.arguments), ensure_ascii=False)})"

    wrong = ", ".join(map(str, case.signals))
    return f"- {case.example.query}\n  called {told(case.call)}, right is {told(case.example.gold)}: {wrong}"


def asked_edits(
    tools: Sequence[Tool], *, role: str = "reflector", longest: int = 60, max_tokens: int = 1024
) -> Reflect:
    """Return what asks a reflector for edits: it is shown failures by signal, and the documents of the tools concerned.

    Texts of more than ``longest`` words are left out. A reply that cannot be read proposes nothing.
    """

    def reflect(context: Context, cases: Sequence[Case]) -> Flow[Edits]:
        names = implicated(cases)
        shown = [tool for tool in apply(tools, context.overlay) if tool.name in names]
        ordered = sorted(cases, key=lambda case: case.signals[0].kind)
        text = _REFLECT.format(
            rules=as_lines(context.rules) or "none",
            tools="\n".join(json.dumps(tool_schema(tool)["function"], ensure_ascii=False) for tool in shown),
            cases="\n".join(map(told_case, ordered)),
        )
        (reply,) = yield from ask(Ask((Message("user", text),), role=role, max_tokens=max_tokens))
        return read_edits(plain_text(reply.message), tools, longest=longest)

    return reflect


def read_edits(text: str, tools: Sequence[Tool], *, longest: int = 60) -> Edits:
    """Read edits from JSON; what names no tool or parameter, is no text, or has too many words is left out."""
    said, _ = object_in(text)
    known = {tool.name: tool.parameters.get("properties", {}) for tool in tools}

    def good(value: Any) -> bool:
        return isinstance(value, str) and 0 < len(value.split()) <= longest

    rules = {str(name): rule for name, rule in _mapping(said.get("rules")).items() if rule is None or good(rule)}
    texts: dict[Key, str] = {}
    for name, entry in _mapping(said.get("tools")).items():
        if name in known:
            parts = _mapping(entry)
            inner = {
                about(key): value for key, value in _mapping(parts.get("parameters")).items() if key in known[name]
            }
            pairs = {"description": parts.get("description"), **inner}
            texts |= {(name, key): value for key, value in pairs.items() if good(value)}
    return Edits(rules, texts)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def inventory(tools: Sequence[Tool], others: Sequence[Tool], count: int, *, seed: int = 0) -> list[Tool]:
    """Return ``tools`` among distractors drawn from ``others``, ``count`` in all, shuffled.

    Raises ``ValueError`` where there are too few, or ``tools`` alone are more.
    """
    names = {tool.name for tool in tools}
    spare = [tool for tool in others if tool.name not in names]
    if not len(tools) <= count <= len(tools) + len(spare):
        raise ValueError(f"count is {count}; with {len(spare)} distractors it lies from {len(tools)} on")
    rng = random.Random(seed)
    return rng.sample(drawn := [*tools, *rng.sample(spare, count - len(tools))], len(drawn))


def optimised(
    tools: Sequence[Tool], examples: Sequence[LabelledCall], policy: Policy | Mapping[str, Policy], *,
    judge: float = 0.5, seed: int = 0, **settings: Any,
) -> Optimised:  # fmt: skip
    """Search for rules and documents of tools by labelled calls; the roles are ``solver`` and ``reflector``.

    The share ``judge`` of the examples (at least one) validates, drawn by ``seed``, the others are learned from.
    ``settings`` are those of ``agents.contexts.search_contexts``. Raises ``ValueError`` for fewer than two examples.
    """
    if len(examples) < 2:
        raise ValueError(f"{len(examples)} examples; one is needed to learn from and another to validate on")
    places = random.Random(seed).sample(range(len(examples)), len(examples))
    cut = min(max(1, round(judge * len(places))), len(places) - 1)
    how = {"size": min(16, len(places) - cut), "seed": seed, **settings}

    def flow(session: Session) -> Flow[Optimised]:
        return (yield from search_contexts(
            tools, asked_calls(tools), asked_edits(tools), examples, learn=places[cut:], judge=places[:cut], **how
        ))  # fmt: skip

    return played_flow(flow, tools_world(tools), policy, seed=seed, temperature=0.0)


def scored(
    tools: Sequence[Tool], context: Context, examples: Sequence[LabelledCall], policy: Policy, *, seed: int = 0
) -> SlotScores:
    """Let a policy make the call of every example in a context; return the shares of right tools, slots and calls."""

    def flow(session: Session) -> Flow[Sequence[Call | None]]:
        return (yield from returned(asked_calls(tools)(context, examples)))

    calls = played_flow(flow, tools_world(tools), policy, seed=seed, temperature=0.0)
    return slot_scores(calls, [example.gold for example in examples])


PAPER = Paper(
    number=56,
    slug="jtpro",
    title="JTPRO: A Joint Tool-Prompt Reflective Optimization Framework for Language Agents",
    date="2026-04",
    url="https://arxiv.org/abs/2604.19821",
    pieces={
        "search": search_contexts,
        "optimise": optimised,
        "calls": asked_calls,
        "edits": asked_edits,
        "rules": lifted,
        "signals": signals,
        "scores": slot_scores,
        "score": scored,
        "inventory": inventory,
    },
    summary="Searches for rules and tool documents together, by what was wrong with labelled calls.",
)
