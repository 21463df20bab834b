"""A writer of tool documents: it thinks of a use, compares the document with what came back, and writes it anew.

Source: "From Exploration to Mastery: Enabling LLMs to Master Tools via Self-Driven Interactions" (37).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ferrule.agents.probe import Ended, Idea, Trial
from ferrule.chat.describe import tool_schema
from ferrule.chat.objects import arguments_from, object_in
from ferrule.core.flows import Ask, Flow, ask
from ferrule.core.records import Message, Tool, plain_text
from ferrule.tools.effects import result_of
from ferrule.tools.overlay import ToolText
from ferrule.tools.results import induced

__all__ = ["Documenter", "example_of", "overview", "read_idea", "results_schema", "told_trial", "unchanged"]

_INVENT = (
    "Here is a tool:\n{record}\n\nThink of a request that a person could make and that one call of this tool answers. "
    "Write it in everyday words, without the name of the tool, and with concrete values. Take values that the document "
    'gives where you cannot know any. Reply with JSON: {{"query": the request, "arguments": {{the arguments}}}}.'
)
_COMPARE = (
    "Here is a tool:\n{record}\n\nIt was tried:\n{trial}\n\n{history}What should its description say that it does not, "
    "or say otherwise? It must agree with the result, be complete (what is needed, in which form, what comes back) "
    'and short. Reply with JSON: {{"suggestions": the changes}}.'
)
_REWRITE = (
    "Here is a tool:\n{record}\n\nIt was tried:\n{trial}\n\nSuggestions:\n{said}\n\n{history}Write its description "
    "anew, and say which use of it should be tried next, because the description leaves it open. Reply with JSON: "
    '{{"description": the new description, "explore": what to try next}}.'
)
_OVERVIEW = (
    "These functions belong to one tool, {name}:\n{lines}\n\nWrite its description: what it is for, how many functions "
    'it has, and one line about each. Reply with JSON: {{"description": the description}}.'
)


def read_idea(text: str) -> Idea:
    """Read a request and its arguments: JSON with ``query`` and ``arguments``, which may be missing."""
    said, problem = object_in(text)
    query = said.get("query")
    if problem or not isinstance(query, str) or not query.strip():
        return Idea(problem=f"The reply holds no request: {problem or 'no text under the key query'}.")
    if "arguments" not in said:
        return Idea(query.strip())
    arguments, _, wrong = arguments_from(said["arguments"])
    return Idea(query.strip(), arguments, wrong and f"The request cannot be tried: {wrong}.")


def told_trial(trial: Trial) -> str:
    """Return a trial as text: the request, each call, and what came back."""
    lines = [f"Request: {trial.query}"]
    for call, observation in trial.calls:
        lines.append(f"Arguments: {json.dumps(dict(call.arguments), ensure_ascii=False)}")
        lines.append(f"Result ({observation.status}): {observation.text}")
    return "\n".join(lines)


def example_of(trials: Sequence[Trial]) -> tuple[str, ...]:
    """Return the last trial whose call ran as an example of a document; nothing where none did."""
    for trial in reversed(trials):
        for call, observation in reversed(trial.calls):
            if observation.status == "ok":
                said = json.dumps(dict(call.arguments), ensure_ascii=False)
                return (f"{trial.query} -> {said}",)
    return ()


def results_schema(trials: Sequence[Trial]) -> dict[str, Any] | None:
    """Return the schema of what the calls that ran returned; None where none did, or a result was no JSON data."""
    results = [
        result_of(observation) for trial in trials for _, observation in trial.calls if observation.status == "ok"
    ]
    try:
        return induced(*results) if results else None
    except TypeError:
        return None


@dataclass
class Documenter:
    """Thinks of uses for one tool and writes its description from what came back: parts of ``agents.probe.probe``.

    The roles are ``prober`` (thinks of a request with arguments), ``analyst`` (says what the document lacks) and
    ``writer`` (writes it, and says in ``hint`` what to try next). With ``examples`` the last call that ran is kept as
    an example. With ``returns`` the schema of all results is kept as well (``ferrule.tools.results``). A reply
    that cannot be read leaves the text as it is, and ``wrote`` says whether the last one could be.
    """

    max_tokens: int = 2000
    examples: bool = True
    returns: bool = False
    hint: str = ""
    wrote: bool = False

    def invent(self, tool: Tool, trials: Sequence[Trial], complaint: str) -> Flow[Idea]:
        """Ask for a request and its arguments."""
        text = _INVENT.format(record=_record(tool))
        if any(trial.query for trial in trials):
            tried = "\n".join(f"- {trial.query}" for trial in trials if trial.query)
            text += f"\n\nRequests that were tried, from which yours must differ:\n{tried}"
        for more in filter(None, (self.hint and f"To be tried next: {self.hint}", complaint)):
            text += f"\n\n{more}"
        return read_idea((yield from self._ask("prober", text)))

    def learn(self, tool: Tool, texts: Sequence[ToolText], trials: Sequence[Trial]) -> Flow[ToolText]:
        """Let the last trial be compared with the document, and the description be written anew."""
        earlier = [text.description for text in texts if text.description is not None]
        history = "Earlier descriptions:\n" + "\n".join(f"- {text}" for text in earlier) + "\n\n" if earlier else ""
        bare = replace(tool, description=earlier[-1]) if earlier else tool
        known = {"record": _record(bare), "trial": told_trial(trials[-1]), "history": history}
        compared, _ = object_in((yield from self._ask("analyst", _COMPARE.format(**known))))
        request = _REWRITE.format(**known, said=_words(compared.get("suggestions")) or "none")
        written, _ = object_in((yield from self._ask("writer", request)))
        self.hint = _words(written.get("explore")) or self.hint
        said = _words(written.get("description"))
        self.wrote, description = bool(said), said or texts[-1].description
        examples = example_of(trials) if self.examples else texts[-1].examples
        output = results_schema(trials) if self.returns else texts[-1].output
        return replace(texts[-1], description=description, examples=examples, output=output)

    def _ask(self, role: str, text: str) -> Flow[str]:
        (reply,) = yield from ask(Ask((Message("user", text),), role=role, max_tokens=self.max_tokens))
        return plain_text(reply.message)


def _record(tool: Tool) -> str:
    return json.dumps(tool_schema(tool)["function"], ensure_ascii=False)


def _words(value: Any) -> str:
    """Return a part of a reply as text: a list or an object, in which models put several suggestions, as JSON."""
    if value is None or isinstance(value, str):
        return (value or "").strip()
    return json.dumps(value, ensure_ascii=False)


def unchanged(tool: Tool, change: Callable[[str, str], float], *, limit: float = 0.75) -> Ended:
    """Return the rule that ends probing once a rewrite changes little: ``change(before, after)`` is above ``limit``.

    It looks at the wording alone, so a round that learns nothing new ends it too.
    """

    def ended(texts: Sequence[ToolText], trials: Sequence[Trial]) -> str:
        if len(texts) < 2 or trials[-1].problem:
            return ""
        before, after = (tool.description if text.description is None else text.description for text in texts[-2:])
        return "settled" if change(before, after) > limit else ""

    return ended


def overview(name: str, functions: Mapping[str, str], *, role: str = "writer", max_tokens: int = 2000) -> Flow[str]:
    """Ask for a description of several functions that belong together; empty where the reply cannot be read."""
    lines = "\n".join(f"- {function}: {text}" for function, text in functions.items())
    request = Message("user", _OVERVIEW.format(name=name, lines=lines))
    (reply,) = yield from ask(Ask((request,), role=role, max_tokens=max_tokens))
    said, _ = object_in(plain_text(reply.message))
    return _words(said.get("description"))
