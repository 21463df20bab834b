"""What gets into a library: a check says of an entry what is wrong with it, before it is inserted or merged.

A check may be a flow that asks a model or plays a task. What passes can still be wrong: entries know where they were
learned (``Library.prune(task=...)`` takes out all that came from an episode), and what does harm loses its credit.
Source of the obligation of a merge: "AlphaOPT: Formulating Optimization Programs with Self-Improving LLM Experience
Library" (46).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ferrule.agents.flow import returned
from ferrule.core.flows import Flow
from ferrule.core.records import Task
from ferrule.memory.entries import Change, Entry
from ferrule.memory.library import Library, preview

__all__ = ["Admitted", "Check", "Solves", "admit", "at_most", "every", "no_orders", "no_secrets", "still_solves"]

Check: TypeAlias = Callable[[Entry, Sequence[Entry]], "Flow[str] | str"]
"""Says what is wrong with an entry, in words; empty where nothing is. The others are those that it replaces."""
Solves: TypeAlias = Callable[[str, Entry], "Flow[bool] | bool"]
"""Tells whether the task of an id is solved with an entry in place of those that it replaces."""


def at_most(words: int = 64) -> Check:
    """Refuse a text of more words, and a blank one."""
    if words < 1:
        raise ValueError(f"words is {words}; the least is 1")

    def check(entry: Entry, replaced: Sequence[Entry]) -> str:
        count = len(entry.text.split())
        return "" if 0 < count <= words else f"the text has {count} words; 1 to {words} are allowed"

    return check


_MARKS = re.compile(
    r"<\|[^|>]{0,40}\|>|</?(?:s|tool_call|tool_response|function_calls?|think|answer|system|im_start)\b[^>]{0,40}>"
    r"|</?\w+_of_(?:turn|text|sequence)>|<[be]os>|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_(?:CALLS|RESULTS))\]|^\s*(?:system|assistant|user|tool|developer)\s*:",
    re.IGNORECASE | re.MULTILINE,
)
_ORDERS = re.compile(
    r"\b(?:ignore|disregard|forget|override|bypass)\b[^.]{0,40}"
    r"\b(?:instructions?|prompts?|rules?|guidelines?|previous|above|earlier|system)\b"
    r"|\b(?:you are now|act as|pretend to be|new instructions?|system prompt|do not tell|don't tell|without telling)\b"
    r"|\b(?:reveal|print|send|leak|exfiltrate|upload)\b[^.\n]{0,40}\b(?:password|secret|token|api key|credentials?)\b"
    r"|\b(?:always|just) (?:answer|reply|respond|output|say)\b",
    re.IGNORECASE,
)
_LINK = re.compile(r"\b(?:https?|ftp|file|data|javascript):\S", re.IGNORECASE)


def no_orders(entry: Entry, replaced: Sequence[Entry] = ()) -> str:
    """Refuse texts that address the model in place of saying something of tasks.

    These are: marks of roles, calls and thinking; orders to drop instructions, to pose as somebody, to hand over
    secrets, or to give one answer whatever is asked; links. A wording that this does not know passes.
    """
    given = unicodedata.normalize("NFKC", f"{entry.when}\n{entry.text}")  # wide letters and bars are letters and bars
    text = "".join(letter for letter in given if unicodedata.category(letter) != "Cf")  # nothing that is not to be seen
    if mark := _MARKS.search(text):
        return f"the text holds a mark of the conversation, {mark[0].strip()!r}"
    if order := _ORDERS.search(text):
        return f"the text orders the model about: {order[0]!r}"
    if _LINK.search(text):
        return "the text holds a link"
    return ""


def no_secrets(tasks: Iterable[Task]) -> Check:
    """Refuse texts that hold the expected answer of a task that they were learned from (3 characters or more)."""
    answers = {task.id: str(task.answer).strip() for task in tasks if task.answer is not None}

    def check(entry: Entry, replaced: Sequence[Entry]) -> str:
        for task in entry.tasks:
            answer = answers.get(task, "")
            if len(answer) > 2 and re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", entry.text):
                return f"the text holds the answer of the task {task!r}"
        return ""

    return check


def still_solves(solves: Solves) -> Check:
    """Refuse an entry with which a task that it, or what it replaces, was learned from is not solved.

    What a person added comes from no task, and has none to solve.
    """

    def check(entry: Entry, replaced: Sequence[Entry]) -> Flow[str]:
        for task in entry.tasks:
            if task and not (yield from returned(solves(task, entry))):
                return f"the task {task!r} is not solved with it"
        return ""

    return check


def every(*checks: Check) -> Check:
    """Return the check that goes through all and says what the first one says that finds something."""

    def check(entry: Entry, replaced: Sequence[Entry]) -> Flow[str]:
        for each in checks:
            if problem := (yield from returned(each(entry, replaced))):
                return problem
        return ""

    return check


@dataclass(frozen=True)
class Admitted:
    """What became of a change: the ``entry`` that it wrote, or why it was refused."""

    change: Change
    entry: Entry | None = None
    problem: str = ""


def admit(library: Library, changes: Iterable[Change], check: Check = no_orders) -> Flow[list[Admitted]]:
    """Carry changes out, each after the ones before it, where their entry passes ``check``.

    A change that names an unknown or deleted entry is refused as well. Deletions are not checked.
    """
    results = []
    for change in changes:
        try:
            old = [library[id] for id in change.ids]
            gone = next((entry.id for entry in old if entry.state == "deleted"), None)
            problem = f"entry {gone!r} was deleted" if gone else ""
        except KeyError as error:
            problem = str(error.args[0])
        if not problem and change.kind not in ("delete", "retire"):
            problem = yield from returned(check(preview(change, old), old))
        entry = None
        if not problem:
            try:
                entry = library.apply(change)
            except ValueError as error:  # another process deleted what the change is about while it was checked
                problem = str(error)
        results.append(Admitted(change, entry, problem))
    return results
