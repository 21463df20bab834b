"""Parts of the search for rules and documents that ask a model: the calls of an agent, and a reflector's edits.

Source: "JTPRO: A Joint Tool-Prompt Reflective Optimization Framework for Language Agents" (56); prompts are our own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ferrule.agents.contexts import Case, Context, Edits, LabelledCall, Predict, Reflect, implicated
from ferrule.agents.flow import together
from ferrule.chat.describe import tool_schema
from ferrule.chat.objects import object_in
from ferrule.core.flows import Ask, Flow, ask
from ferrule.core.records import Call, Message, Tool, plain_text
from ferrule.tools.documents import about, as_lines
from ferrule.tools.overlay import Key, apply

__all__ = ["asked_calls", "asked_edits", "instructions", "read_edits", "told_case"]

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
