"""Preferences as rows of a file with the columns that other trainers read: ``prompt``, ``chosen``, ``rejected``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ferrule.chat.entries import native_messages
from ferrule.core.records import Message
from ferrule.data.formats import Pair, Row
from ferrule.data.records import AS_WRITTEN, Preference
from ferrule.tools.schema import as_openai

__all__ = ["preference_row", "spelled_out", "write_preferences"]


def spelled_out(
    pair: Pair, encode: Callable[[str], Sequence[int]], decode: Callable[[Sequence[int]], str], **origin: Any
) -> Preference | None:
    """Return a pair of ids as the texts that they stand for, with every token in them, and none besides.

    Where a reply ends in a call, or in the middle as fragments do, no end token follows it. None where the texts are
    other ids when they are read again, which sampled ids may be. Raises ``ValueError`` for rows of several turns, of
    which texts cannot say what is learned, and for rows that do not begin with the same prompt.
    """
    (prompt, chosen), (other, rejected) = _divided(pair.chosen), _divided(pair.rejected)
    if prompt != other:
        raise ValueError("the rows of the pair begin with different prompts")
    before, better, worse = (decode(ids) for ids in (prompt, chosen, rejected))
    texts = {before: prompt, better: chosen, worse: rejected}
    texts |= {before + better: (*prompt, *chosen), before + worse: (*prompt, *rejected)}
    if any(tuple(encode(text)) != ids for text, ids in texts.items()):
        return None
    return Preference(before, better, worse, origin=origin, spelled_out=True)


def _divided(row: Row) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the ids before what is learned, and those that are learned."""
    first = next((place for place, turn in enumerate(row.turn) if turn >= 0), len(row.ids))
    if len({*row.turn[first:]}) > 1:
        raise ValueError("a row has several turns; only pairs of single replies can be spelled out")
    return row.ids[:first], row.ids[first:]


def preference_row(preference: Preference) -> dict[str, Any]:
    """Return the columns of a preference: three texts or three lists of messages, ``tools`` and ``origin``.

    Arguments of calls, and ``tools``, are JSON texts: in a table an object gets the keys that other rows have. Texts
    that are spelled out are messages as well, with a chat template that adds nothing (``chat_template_kwargs``). Raises
    ``ValueError`` for a reply with a call that could not be read: the text of such a call is in its ids alone.
    """
    sides = {name: getattr(preference, name) for name in ("prompt", "chosen", "rejected")}
    columns: dict[str, Any] = {}
    if preference.spelled_out:
        roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
        columns = {name: [{"role": roles[name], "content": text}] for name, text in sides.items()}
        columns["chat_template_kwargs"] = {"chat_template": AS_WRITTEN}
    else:
        columns = {name: side if isinstance(side, str) else _entries(side) for name, side in sides.items()}
    if preference.tools:
        columns["tools"] = json.dumps([as_openai(tool) for tool in preference.tools])
    return columns | ({"origin": dict(preference.origin)} if preference.origin else {})


def _entries(messages: Sequence[Message]) -> list[Mapping[str, Any]]:
    if any(call.problem for message in messages for call in message.calls):
        raise ValueError("a call could not be read; lay the preference out and spell it out (data.written.spelled_out)")
    entries = native_messages(messages)
    return [
        entry | ({"name": message.name} if message.name else {})
        for entry, message in zip(entries, messages, strict=True)
    ]


def write_preferences(path: str | Path, preferences: Iterable[Preference]) -> int:
    """Write preferences to a JSONL file, and return how many there are.

    ``ferrule prefer`` reads the file, and so does TRL's ``DPOTrainer``. Raises what ``preference_row`` raises, and
    ``ValueError`` where only some are spelled out: the rows of a file have the same columns.
    """
    listed = list(preferences)
    if len({preference.spelled_out for preference in listed}) > 1:
        raise ValueError("some preferences are spelled out and some are not; write them to two files")
    lines = [json.dumps(preference_row(preference), ensure_ascii=False) + "\n" for preference in listed]
    Path(path).write_text("".join(lines), encoding="utf-8")
    return len(listed)
