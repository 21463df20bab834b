"""Probing tools by programs: what a tool returns is read off the output of a small program that calls it.

Tools that need results of others are probed beside those that are known already (``agents.probe.probe_in_rounds``).

Source: "Chain of Tools: Large Language Model is an Automatic Multi-tool Learner" (21).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from ferrule.agents.attribution import mentioned
from ferrule.agents.chained import code_of, document_of, outcome_of
from ferrule.agents.probe import Probed, Trial, documents, probe_in_rounds
from ferrule.core.flows import Ask, Flow, Session, ask, use
from ferrule.core.records import Message, Observation, Tool, plain_text
from ferrule.tools.overlay import Overlay, ToolText, apply
from ferrule.tools.results import induced
from ferrule.worlds.coded import Coded

__all__ = ["DOCUMENTED", "documented", "picked_helpers", "probe_by_program", "result_of_program"]

DOCUMENTED = "documented"
"""Why probing a tool ends where it worked (``Probed.ended``)."""


def documented(probed: Probed) -> bool:
    """Return whether probing a tool gave a document of its result."""
    return probed.ended == DOCUMENTED


def picked_helpers(
    tool: Tool, known: Sequence[Tool], *, role: str = "prober", max_tokens: int = 256
) -> Flow[tuple[str, ...]]:
    """Ask which of the tools that are known already may provide what a tool needs; returns the names in the reply."""
    listed = "\n".join(f"- {other.name}: {other.description.strip().splitlines()[0]}" for other in known)
    text = (
        "This tool is to be tried out, and may need values that other tools return:\n\n"
        f"{document_of(tool, output=False)}\n\nKnown tools:\n{listed}\n\nWhich of them provide such values? Name them."
    )
    (reply,) = yield from ask(Ask((Message("user", text),), role=role, max_tokens=max_tokens))
    return mentioned(plain_text(reply.message), [other.name for other in known])


def result_of_program(observation: Observation, *, by_text: bool = True) -> tuple[bool, Any]:
    """Return whether a program printed one JSON value and no failure, and the value."""
    if outcome_of(observation, by_text=by_text) != 0:
        return False, None
    try:
        return True, json.loads(observation.data["stdout"])
    except ValueError:
        return False, None


def _tried(
    tool: Tool, others: Sequence[Tool], session: Session, *, tries: int, first: bool, by_text: bool, role: str,
    max_tokens: int,
) -> Flow[Probed]:  # fmt: skip
    """Let a prober write programs that call a tool until one prints its raw result as JSON."""
    beside = "\n\n".join(document_of(other) for other in others)
    request = _REQUEST.format(
        tool=document_of(tool, output=False), others=f"You may also call:\n\n{beside}\n\n" if beside else ""
    )
    talk = [Message("user", request)]
    trials: list[Trial] = []
    for _ in range(tries):
        (reply,) = yield from ask(Ask(tuple(talk), role=role, max_tokens=max_tokens))
        call, branch = code_of(reply), session.fork()
        try:
            (observation,) = yield from use(call, session=Coded(branch))
        finally:
            branch.close()
        good, value = result_of_program(observation, by_text=by_text)
        trials.append(Trial(tool.name, _query(plain_text(reply.message)), ((call, observation),), solved=good))
        if good:
            text = ToolText(examples=(f"```python\n{call.arguments['code']}\n```",), output=induced(value, first=first))
            return Probed(tool.name, tuple(trials), (ToolText(), text), DOCUMENTED)
        if outcome_of(observation, by_text=by_text) == 0:
            talk = [*talk, reply.message, Message("user", _PRINT)]
        else:
            talk = talk[:1]  # a program that failed is written anew, without a word about it
    return Probed(tool.name, tuple(trials), (ToolText(),), "tries")


def _query(text: str) -> str:
    said = re.search(r"Query:[ \t]*(.+)", text)
    return said[1].strip() if said else ""


def probe_by_program(
    tools: Sequence[Tool], session: Session, *, rounds: int = 3, tries: int = 3, first: bool = True,
    by_text: bool = True, role: str = "prober", max_tokens: int = 1000,
) -> Flow[tuple[list[Probed], Overlay]]:  # fmt: skip
    """Probe tools by programs, alone and then beside known ones, and return what worked and its documents.

    In the first round a prober sees one tool alone, and in ``rounds`` more the documents of the helpers that it picks.
    At most ``tries`` programs are written each time, in branches of ``session``: tools that cannot be undone are
    refused there. Schemas of results are read off the first element of a list (``first``, as published) or off all.
    """
    how: dict[str, Any] = {"tries": tries, "first": first, "by_text": by_text, "role": role, "max_tokens": max_tokens}
    by_name = {tool.name: tool for tool in tools}

    def one(tool: Tool, worked: Sequence[Probed]) -> Flow[Probed]:
        texts = {each.tool: each.texts[-1] for each in worked}
        known = apply([by_name[name] for name in texts], Overlay(texts))
        picked = (yield from picked_helpers(tool, known, role=role)) if known else ()
        if known and not picked:
            return Probed(tool.name, (), (ToolText(),), "no helper was picked")
        others = [other for other in known if other.name in picked]
        return (yield from _tried(tool, others, session, **how))

    probed = yield from probe_in_rounds(tools, one, documented, rounds=rounds)
    return probed, documents(probed)


_REQUEST = (
    "This tool is a function that Python can call by keywords:\n\n{tool}\n\n{others}Nobody knows what it returns. "
    "First write a request that a person could make of it, as 'Query: ...'. Then write a small Python program, in a "
    "```python block, that calls the tool for it and prints the raw result as JSON (json.dumps)."
)
_PRINT = "Print the raw result as JSON and nothing else: print(json.dumps(result))."
