"""Rows of a data set as records: one type per format, read from the columns that ``ferrule.worlds.columns`` knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ferrule.core.arrays import nearest
from ferrule.core.records import Message, Tool
from ferrule.worlds.cells import Said, asked, cell, conversation_of, offered_of, said
from ferrule.worlds.columns import Columns
from ferrule.worlds.files import Row, Table

__all__ = [
    "AS_WRITTEN", "Completion", "Conversation", "Labelled", "Preference", "Prompt", "Record", "Steps", "Text",
    "records",
]  # fmt: skip

AS_WRITTEN = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
"""A chat template that adds nothing: texts in which every token stands already."""


@dataclass(frozen=True)
class Text:
    """A text to be learned as it is."""

    text: str


@dataclass(frozen=True)
class Conversation:
    """A conversation with the tools on offer; ``learned`` says for each message whether it may be learned."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    learned: tuple[bool, ...] = ()


@dataclass(frozen=True)
class Prompt:
    """A prompt alone."""

    prompt: Said
    tools: tuple[Tool, ...] = ()


@dataclass(frozen=True)
class Completion:
    """A prompt and what follows it, both texts or both messages."""

    prompt: Said
    completion: Said
    tools: tuple[Tool, ...] = ()


@dataclass(frozen=True)
class Preference:
    """A prompt and two ways to go on, the first preferred; all three texts or all three messages.

    ``origin`` says where a preference that was made comes from: its task, episode and step. ``spelled_out`` says of
    texts that every token stands in them: neither a layout nor an end token is added.
    """

    prompt: Said
    chosen: Said
    rejected: Said
    tools: tuple[Tool, ...] = ()
    origin: Mapping[str, Any] = field(default_factory=dict, hash=False)
    spelled_out: bool = False


@dataclass(frozen=True)
class Labelled:
    """A prompt, one way to go on, and whether it is good; ``spelled_out`` is as in ``Preference``."""

    prompt: Said
    completion: Said
    label: bool
    tools: tuple[Tool, ...] = ()
    spelled_out: bool = False


@dataclass(frozen=True)
class Steps:
    """A prompt and the steps of a solution, each with whether it is right."""

    prompt: Said
    completions: tuple[str, ...]
    labels: tuple[bool, ...]


Record: TypeAlias = Text | Conversation | Prompt | Completion | Preference | Labelled | Steps


def records(table: Table, columns: Columns, tools: Sequence[Tool] = ()) -> Iterator[Record]:
    """Yield a record per row of a table whose columns ``recognise`` has read.

    ``tools`` are on offer in every conversation; a row with tools of its own has those, names among them being looked
    up in ``tools``. Raises ``ValueError`` with the row's place for one that cannot be read, and for a format that has
    no record (``tasks``: ``ferrule.worlds.user.from_file`` makes a world of those).
    """
    if columns.format not in _READERS:
        raise ValueError(
            f"rows of format {columns.format!r} make no records; {nearest(columns.format, list(_READERS))}"
        )
    reader = _READERS[columns.format]
    for where, row in table.rows:
        try:
            yield reader(row, columns.fields, _offered(row, columns.fields, tools))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None


def _offered(row: Row, fields: Mapping[str, str], tools: Sequence[Tool]) -> tuple[Tool, ...]:
    entries = offered_of(row, fields)
    if entries is None:
        return tuple(tools)
    known = {tool.name: tool for tool in tools}
    for entry in entries:
        if isinstance(entry, str) and entry not in known:
            raise ValueError(f"the row offers the tool {entry!r} by name; {nearest(entry, list(known))}")
    return tuple(known[entry] if isinstance(entry, str) else Tool.from_schema(entry) for entry in entries)


def _text(row: Row, fields: Mapping[str, str], tools: tuple[Tool, ...]) -> Text:
    value = cell(row, fields, "text")
    if not isinstance(value, str) or not value:
        raise ValueError(f"the field {fields['text']!r} must be a text that is not empty")
    return Text(value)


def _conversation(row: Row, fields: Mapping[str, str], tools: tuple[Tool, ...]) -> Conversation:
    messages, learned = conversation_of(row, fields, tools)
    _check_replies(messages, fields["messages"])
    return Conversation(messages, tools, () if all(learned) else learned)


def _check_replies(messages: Sequence[Message], name: str) -> None:
    """Refuse a conversation that nobody answers, or that begins with an answer."""
    roles = [message.role for message in messages]
    if "assistant" not in roles:
        raise ValueError(f"the field {name!r} has no message of the assistant, so there is nothing to learn")
    if roles[0] == "assistant":
        raise ValueError(f"the field {name!r} begins with a message of the assistant; put what it answers before it")


def _prompt(row: Row, fields: Mapping[str, str], tools: tuple[Tool, ...]) -> Prompt:
    return Prompt(asked(row, fields, tools, spoken=_spoken(row, fields, tools)), tools)


def _completion(row: Row, fields: Mapping[str, str], tools: tuple[Tool, ...]) -> Completion:
    return Completion(*_both(row, fields, tools), tools)


def _labelled(row: Row, fields: Mapping[str, str], tools: tuple[Tool, ...]) -> Labelled:
    return Labelled(*_both(row, fields, tools), _truth(cell(row, fields, "label"), fields["label"]), tools)


def _spoken(row: Row, fields: Mapping[str, str], tools: Sequence[Tool]) -> bool:
    """Whether a row of texts is meant as messages: an instruction is, and so is what tools are offered for."""
    return bool(tools) or fields["prompt"].lower() == "instruction"


def _part(row: Row, fields: Mapping[str, str], meaning: str, tools: Sequence[Tool]) -> Said:
    try:
        return said(cell(row, fields, meaning), tools)
    except ValueError as error:
        raise ValueError(f"the field {fields[meaning]!r}: {error}") from None


def _both(row: Row, fields: Mapping[str, str], tools: Sequence[Tool]) -> tuple[Said, Said]:
    completion = _part(row, fields, "completion", tools)
    spoken = not isinstance(completion, str) or _spoken(row, fields, tools)
    prompt = asked(row, fields, tools, spoken=spoken)
    if isinstance(prompt, str):
        return prompt, completion
    _check_replies((*prompt, *(answer := _answer(completion))), fields["completion"])
    return prompt, answer


def _answer(value: Said) -> tuple[Message, ...]:
    return (Message("assistant", value),) if isinstance(value, str) else value


def _preference(row: Row, fields: Mapping[str, str], tools: tuple[Tool, ...]) -> Preference:
    if cell(row, fields, "layout") is not None:
        return _spelled_out(row, fields)
    chosen, rejected = (_part(row, fields, meaning, tools) for meaning in ("chosen", "rejected"))
    if isinstance(chosen, str) is not isinstance(rejected, str):
        raise ValueError("one of chosen and rejected is a text and the other messages; both must be of one kind")
    spoken = not isinstance(chosen, str) or _spoken(row, {"prompt": "", **fields}, tools)
    prompt: Said = asked(row, fields, tools, spoken=spoken) if cell(row, fields, "prompt") is not None else ""
    if not prompt or (not isinstance(chosen, str) and chosen[0].role != "assistant"):
        prompt, chosen, rejected = _shared(prompt, chosen, rejected)
    if isinstance(prompt, str):
        return Preference(prompt, chosen, rejected, tools)
    answers = _answer(chosen), _answer(rejected)
    for meaning, answer in zip(("chosen", "rejected"), answers, strict=True):
        _check_replies((*prompt, *answer), fields[meaning])
    return Preference(prompt, *answers, tools)


def _spelled_out(row: Row, fields: Mapping[str, str]) -> Preference:
    """Read texts with a chat template that adds nothing; any other layout would have to be that of the model."""
    if cell(row, fields, "layout") != {"chat_template": AS_WRITTEN}:
        raise ValueError(
            f"the field {fields['layout']!r} asks for another layout than the model's, which only the template "
            f"{AS_WRITTEN!r} can; take the column out"
        )
    sides = [cell(row, fields, meaning) for meaning in ("prompt", "chosen", "rejected")]
    try:
        prompt, chosen, rejected = (str(message["content"]) for (message,) in sides)
    except (TypeError, ValueError, KeyError):
        raise ValueError("rows with a chat template that adds nothing have one message in each column") from None
    return Preference(prompt, chosen, rejected, spelled_out=True)


def _shared(prompt: Said, chosen: Said, rejected: Said) -> tuple[Said, Said, Said]:
    """Return what both answers begin with as the prompt, and the rest of each: whole messages, or a text's words."""
    same = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), None)
    shared = min(len(chosen), len(rejected)) if same is None else same
    if isinstance(chosen, str):
        if shared and chosen[shared - 1] == " ":
            shared -= 1  # the blank belongs to the word after it, as tokenizers have it
    else:
        while shared and chosen[shared - 1].role == "assistant":
            shared -= 1
    if not shared:
        raise ValueError("chosen and rejected share no beginning that could be the prompt; give a column 'prompt'")
    begin = chosen[:shared]
    system = prompt[:1] if isinstance(prompt, tuple) and prompt[0].role == "system" else ()
    if isinstance(begin, tuple) and begin[0].role != "system":
        begin = (*system, *begin)
    return begin, chosen[shared:], rejected[shared:]


def _truth(value: Any, name: str) -> bool:
    """Return a label as a truth value: booleans, 0 and 1, and their texts."""
    known = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
    if (truth := known.get(str(value).strip().lower())) is None:
        raise ValueError(f"the field {name!r} is {value!r}; it must be true or false (or 1 or 0)")
    return truth


def _steps(row: Row, fields: Mapping[str, str], tools: tuple[Tool, ...]) -> Steps:
    texts, labels = cell(row, fields, "completions"), cell(row, fields, "labels")
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts) or not texts:
        raise ValueError(f"the field {fields['completions']!r} must be a list of texts")
    if not isinstance(labels, list) or len(labels) != len(texts):
        raise ValueError(f"the field {fields['labels']!r} must be a list of {len(texts)} labels, one per step")
    return Steps(asked(row, fields), tuple(texts), tuple(_truth(label, fields["labels"]) for label in labels))


_READERS: Mapping[str, Callable[[Row, Mapping[str, str], tuple[Tool, ...]], Record]] = {
    "preference": _preference,
    "steps": _steps,
    "labelled": _labelled,
    "messages": _conversation,
    "completion": _completion,
    "text": _text,
    "prompt": _prompt,
}
