"""Stages that ask a model or a retriever: parts of a task, tools for a part, its calls, and the answer.

Source: "Tool Learning with Large Language Models: A Survey" (paper 30); prompts are in words of our own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ferrule.agents.flow import answered, returned
from ferrule.agents.stages import (
    Iterative,
    Plan,
    Ranking,
    Respond,
    Select,
    StageRecord,
    Stages,
    Subtask,
    Write,
    same_text,
)
from ferrule.core.flows import Ask, Flow, Leaves, Session, ask
from ferrule.core.records import Answer, Call, Message, Task, Tool, plain_text
from ferrule.tools.schema import signature
from ferrule.tools.search import Document, Retrieve, bm25

__all__ = ["InStages", "asked_stages", "inserted", "integrated", "listed", "planned", "ranked", "written"]

_PLAN = """\
{query}

Tools that could be used:
{tools}
{done}
Which parts of this {left}need a tool? Write a JSON list, such as \
[{{"id": 1, "text": "find the height of A", "after": []}}, {{"id": 2, "text": "convert it to feet", "after": [1]}}]. \
Each part needs one call; "after" lists the parts whose results it needs. Write [] if no tool is needed{more}."""
_LIST = """\
What is to be done: {part}

Tools:
{tools}

Which of these tools fit? Write their names as a JSON list, the best first."""
_CALL = "{query}\n{done}\nDo only this part now, by a call of a tool: {part}"
_ANSWER = "{query}\n{done}\nAnswer the question."


def _done(record: StageRecord) -> str:
    """Return what was done so far, a line per call."""
    texts = {part.id: part.text for part in record.subtasks}
    lines = [
        f"- {texts.get(each.subtask, '')}: {each.name} gave {each.text!r}"
        if each.status == "ok"
        else f"- {texts.get(each.subtask, '')}: {each.name}({json.dumps(dict(each.arguments))}) failed: {each.text!r}"
        for each in record.calls
    ]
    return "\n".join(["\nDone so far:", *lines, ""]) if lines else ""


def _array(text: str) -> list[Any] | None:
    """Return the last JSON list of a text, None without one."""
    last, start = None, text.find("[")
    while start >= 0:
        try:
            last, start = json.JSONDecoder().raw_decode(text, start)
        except (ValueError, RecursionError):
            start += 1
        start = text.find("[", start)
    return last


def _asked(prompt: str, role: str, max_tokens: int) -> Flow[str]:
    (reply,) = yield from ask(Ask((Message("user", prompt),), max_tokens=max_tokens, role=role))
    return plain_text(reply.message)


def planned(*, role: str = "solver", max_tokens: int = 256) -> Plan:
    """Return a plan stage that asks a model for the parts that are left, as JSON.

    What cannot be read as a list is one part: the whole task, unless something was done already.
    """

    def plan(record: StageRecord, tools: tuple[Tool, ...]) -> Flow[Sequence[Subtask]]:
        begun = bool(record.calls)
        prompt = _PLAN.format(
            query=record.task.prompt, tools="\n".join(map(signature, tools)), done=_done(record),
            left="is left to do, and " if begun else "", more=", or all is done" if begun else "",
        )  # fmt: skip
        entries = _array((yield from _asked(prompt, role, max_tokens)))
        if entries is None:
            return () if begun else (Subtask(1, record.task.prompt),)
        return tuple(_parts(entries, record.subtasks if begun else ()))

    return plan


def _parts(entries: Sequence[Any], before: Sequence[Subtask]) -> list[Subtask]:
    """Return the parts of a list; entries that are no parts are left out.

    The first that says the same as a part of ``before`` has its id, others have new ones.
    """
    kept = [e for e in entries if isinstance(e, dict) and isinstance(e.get("text"), str) and e["text"].strip()]
    first = 1 + max((part.id for part in before), default=0)
    ids: list[int] = []
    for place, e in enumerate(kept):
        known = (part.id for part in before if same_text(part.text, e["text"]) and part.id not in ids)
        ids.append(next(known, first + place))
    numbers = {
        e.get("id", place): id
        for place, (e, id) in enumerate(zip(kept, ids, strict=True))
        if _number(e.get("id", place))
    }
    return [
        Subtask(
            id, e["text"].strip(), tuple(numbers[a] for a in _entries(e.get("after")) if _number(a) and a in numbers)
        )
        for e, id in zip(kept, ids, strict=True)
    ]


def _number(value: Any) -> bool:
    return isinstance(value, int | str)


def _entries(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def ranked(make: Callable[[Sequence[Document]], Retrieve] = bm25, *, most: int = 20) -> Select:
    """Return a select stage that ranks tools by a retrieval over their documents, indexed once per set of tools."""
    indexes: dict[tuple[str, ...], Retrieve] = {}

    def select(part: Subtask, record: StageRecord, tools: tuple[Tool, ...]) -> Ranking:
        if not tools:
            return ()
        key = tuple(f"{tool.name}\n{tool.description}" for tool in tools)
        if key not in indexes:
            indexes[key] = make([Document(tool.name, tool.name.replace("_", " "), tool.description) for tool in tools])
        return tuple((document.id, float(score)) for document, score in indexes[key](part.text, most))

    return select


def listed(first: Select | None = None, *, role: str = "solver", max_tokens: int = 64) -> Select:
    """Return a select stage that asks a model for names, the best first; ``first`` leaves it fewer tools to read.

    The score of place k is ``1 / k``. Names that are not among the tools are left out.
    """

    def select(part: Subtask, record: StageRecord, tools: tuple[Tool, ...]) -> Flow[Ranking]:
        if first is not None:
            names = [name for name, _ in (yield from returned(first(part, record, tools)))]
            tools = tuple(tool for tool in tools if tool.name in names) or tools
        known = {tool.name for tool in tools}
        prompt = _LIST.format(part=part.text, tools="\n".join(map(signature, tools)))
        given = _array((yield from _asked(prompt, role, max_tokens))) or []
        fitting = dict.fromkeys(name for name in given if isinstance(name, str) and name in known)
        return tuple((name, 1.0 / place) for place, name in enumerate(fitting, 1))

    return select


def written(*, role: str = "solver", max_tokens: int = 256) -> Write:
    """Return a call stage that asks a model for calls of the chosen tools, given what was done and what failed."""

    def call(part: Subtask, record: StageRecord, tools: tuple[Tool, ...]) -> Flow[Sequence[Call]]:
        prompt = _CALL.format(query=record.task.prompt, done=_done(record), part=part.text)
        request = Ask((Message("user", prompt),), tools=tools, max_tokens=max_tokens, role=role)
        (reply,) = yield from ask(request)
        return reply.message.calls

    return call


def integrated(*, role: str = "solver", max_tokens: int = 256) -> Respond:
    """Return a respond stage that gives the results to a model, which answers."""

    def respond(record: StageRecord) -> Flow[Answer]:
        prompt = _ANSWER.format(query=record.task.prompt, done=_done(record))
        request = Ask((Message("user", prompt),), max_tokens=max_tokens, role=role)
        (reply,) = yield from ask(request)
        return answered(reply)

    return respond


def inserted(template: str = "{last}") -> Respond:
    """Return a respond stage that puts results into a text, without a model: ``{last}``, and ``{1}`` of part 1.

    A result that the template needs and that is not there leaves no answer.
    """

    def respond(record: StageRecord) -> Answer:
        results = {str(each.subtask): each.text for each in record.calls if each.status == "ok"}
        if results:
            results["last"] = next(each.text for each in reversed(record.calls) if each.status == "ok")
        wanted = re.findall(r"\{(\w+)\}", template)
        if any(name not in results for name in wanted):
            return None
        return re.sub(r"\{(\w+)\}", lambda match: results[match[1]], template)

    return respond


def asked_stages(*, role: str = "solver", most: int = 20) -> Stages:
    """Return four stages of one model: it plans, picks among the ``most`` best by BM25, calls, and answers."""
    return Stages(
        planned(role=role), listed(ranked(most=most), role=role), written(role=role), integrated(role=role)
    )  # fmt: skip


@dataclass(frozen=True)
class InStages:
    """``Iterative`` with the four stages of one model; other stages, and ``OneStep``, are set from Python."""

    k: int = 5
    steps: int = 8
    retries: int = 1

    def __post_init__(self) -> None:
        """Refuse what ``Iterative`` refuses."""
        self._agent()

    def __call__(self, task: Task, session: Session) -> Flow[Answer | Leaves]:
        """Play one episode."""
        return self._agent()(task, session)

    def _agent(self) -> Iterative:
        return Iterative(asked_stages(), self.k, self.steps, self.retries)


AGENTS = {"stages": InStages}
