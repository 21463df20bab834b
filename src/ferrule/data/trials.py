"""Trials of tools as data: which are kept, how their requests are put in other words, and what is learned of them.

Source: "LLMs in the Imaginarium: Tool Learning through Simulated Trial and Error" (19).
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from ferrule.agents.documenter import told_trial
from ferrule.agents.probe import Trial
from ferrule.core.flows import Ask, Flow, ask
from ferrule.core.records import Message, Task, Tool, plain_text
from ferrule.data.records import Completion
from ferrule.rewards.tooleval import read_label
from ferrule.tools.alike import Alike, by_words

__all__ = [
    "ASPECTS", "judged_trial", "paraphrase_count", "paraphrases", "read_aspects", "shown_trials", "trial_messages",
    "trial_records", "usable",
]  # fmt: skip

ASPECTS = (
    "the answer tells the person what they asked for",
    "the answer says what the results say",
    "the tool is the right one for the request, and was called as its document asks",
)
"""What a judge is asked of a trial, each to be answered with Yes or No."""


def usable(trial: Trial) -> bool:
    """Say whether a trial came to an answer, and made a call that could be read."""
    return trial.answer is not None and _last(trial) is not None


def _last(trial: Trial) -> int | None:
    """Return the place of the last well-formed call."""
    places = [place for place, (_, observation) in enumerate(trial.calls) if observation.executed]
    return places[-1] if places else None


def read_aspects(text: str, count: int = len(ASPECTS)) -> bool | None:
    """Read a judge's lines of Yes and No: whether there is no No among them; None where there are fewer than ``count``.

    A line is read by its first word.
    """
    said = [label for line in text.splitlines() if (label := read_label(_first_word(line), ("yes", "no")))]
    return None if len(said) < count else "no" not in said


def _first_word(line: str) -> str:
    words = re.search(r"[A-Za-z]+", line)
    return words[0] if words else ""


def judged_trial(
    tool: Tool, trial: Trial, *, role: str = "judge", max_tokens: int = 64,
    read: Callable[[str], bool | None] = read_aspects,
) -> Flow[bool | None]:  # fmt: skip
    """Ask a judge whether a trial is a good example, by ``ASPECTS``; None where the reply cannot be read."""
    lines = "\n".join(f"{place}. {aspect}" for place, aspect in enumerate(ASPECTS, start=1))
    text = (
        f"Tool: {tool.name}: {tool.description}\n\n{told_trial(trial)}\nAnswer: {trial.answer}\n\n"
        f"Is it so that\n{lines}\n\nReply with one line each: Yes or No."
    )
    (reply,) = yield from ask(Ask((Message("user", text),), role=role, max_tokens=max_tokens))
    return read(plain_text(reply.message))


def paraphrase_count(trials: int, *, target: int = 150, most: int = 6) -> int:
    """Return how often each request of a tool is put in other words, to come near ``target`` items of ``trials``.

    ``min(round(target / (trials + 0.001)) - 1, most)``, and at least 1.
    """
    if trials < 1:
        raise ValueError(f"trials is {trials}; the least is 1")
    return max(1, min(round(target / (trials + 0.001)) - 1, most))


def paraphrases(query: str, count: int, *, role: str = "paraphraser", max_tokens: int = 256) -> Flow[list[str]]:
    """Ask for other words for a request, ``count`` times; equal ones and the request itself are left out."""
    text = f"Say this request in other words, with the same values. Reply with the request alone.\n\n{query}"
    replies = yield from ask(Ask((Message("user", text),), n=count, role=role, max_tokens=max_tokens, temperature=1.0))
    said = dict.fromkeys(plain_text(reply.message).strip() for reply in replies)
    return [other for other in said if other and other != query]


def trial_messages(trial: Trial, query: str | None = None) -> tuple[Message, ...]:
    """Return a trial as request, call, result and answer: of its calls the last well-formed one.

    ``query`` stands in place of the request. Raises ``ValueError`` for a trial that is not ``usable``.
    """
    place = _last(trial)
    if place is None or trial.answer is None:
        raise ValueError(f"the trial {trial.query!r} has no call that ran, or no answer")
    call, observation = trial.calls[place]
    call = replace(call, id=call.id or "call_0", raw="")
    return (
        Message("user", trial.query if query is None else query),
        Message("assistant", "", (call,)),
        Message("tool", observation.text, name=call.name, call_id=call.id),
        Message("assistant", trial.answer),
    )


def trial_records(tool: Tool, trial: Trial, queries: Sequence[str] = ()) -> list[Completion]:
    """Return what is learned of a trial, for its request and those in other words: the call, and then the answer."""
    items = []
    for query in (trial.query, *queries):
        request, call, result, answer = trial_messages(trial, query)
        items.append(Completion((request,), (call,), (tool,)))
        items.append(Completion((request, call, result), (answer,), (tool,)))
    return items


def shown_trials(task: Task, trials: Sequence[Trial], *, count: int = 8, alike: Alike = by_words) -> Task:
    """Return a task with the trials whose requests are most like its prompt before it, the most similar one last.

    With ``ferrule.worlds.wrap.Worded`` any agent plays a world so.
    """
    nearest = heapq.nlargest(count, filter(usable, trials), key=lambda trial: alike(task.prompt, trial.query))
    shown = [message for trial in reversed(nearest) for message in trial_messages(trial)]
    system = [message for message in task.conversation if message.role == "system"]
    rest = [message for message in task.conversation if message.role != "system"]
    return replace(task, messages=(*system, *shown, *rest)) if shown else task
