"""Rows of a file or a data set as tasks: their fields, their checks, and the split that a single file is given."""

from __future__ import annotations

import ast
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeVar

from ferrule.core.arrays import nearest
from ferrule.core.records import Message, Task, Tool, plain_text
from ferrule.worlds.cells import asked, cell, offered_of
from ferrule.worlds.files import Row

__all__ = ["FIELDS", "SPLITS", "VERIFIERS", "Shape", "divided", "tasks_of"]

VERIFIERS = ("exact", "numeric", "near", "math-verify", "regex", "python", "words", "plain", "f1", "mentions", "grids")
"""Names that a row or a world may give for the comparison of answers."""
SPLITS = ("train", "test")
"""Names of the splits."""
FIELDS = ("calls", "entities", "images", "level", "meta", "source", "system", "tools")
"""Fields of known meaning beside prompt, answer and verifier; all others go to ``Task.meta`` as they are."""
_ASKED = ("tools", "images", "system", "input", "meta")
_TEST_SHARE = 5
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Shape:
    """How rows become tasks: the fields for prompt, answer and verifier, and how an answer text is read.

    ``fields`` are the columns of further meanings (see ``ferrule.worlds.columns``), None where a data set of known
    shape has none; ``keep`` are those that go to ``Task.meta`` (None: all).
    """

    prompt_field: str = "prompt"
    answer_field: str = "answer"
    verifier: str = "exact"
    verifier_field: str = "verifier"
    answer: Callable[[Any], Any] = lambda value: value
    keep: tuple[str, ...] | None = None
    fields: Mapping[str, str] | None = None

    @property
    def named(self) -> tuple[str, str, str]:
        """The fields that hold prompt, answer and verifier."""
        return self.prompt_field, self.answer_field, self.verifier_field

    def __post_init__(self) -> None:
        """Refuse an unknown verifier."""
        _check_verifier(self.verifier, "verifier")


def _check_verifier(verifier: Any, where: str) -> None:
    if verifier not in VERIFIERS:
        raise ValueError(f"{where}: unknown verifier {verifier!r}; {nearest(str(verifier), VERIFIERS)}")


def _field(row: Row, name: str, where: str, option: str) -> Any:
    if name not in row:
        known = list(row)
        raise ValueError(f"{where}: no field {name!r}; {nearest(name, known)}; name another with {option}=...")
    return row[name]


def _check_fields(row: Row, shape: Shape, where: str) -> None:
    """Refuse a field whose name is nearly that of a known one which the row lacks: it is most often misspelt."""
    if shape.fields is None:
        return
    read = {*shape.named, *shape.fields.values()}
    lacking = [name for name in (*shape.named, *FIELDS) if row.get(name) is None]
    for name in row:
        if name not in read and (near := get_close_matches(name.lower(), lacking, n=1, cutoff=0.85)):
            raise ValueError(
                f"{where}: unknown field {name!r}; did you mean {near[0]!r}? Put a field of your own of such a name "
                "under 'meta'"
            )
    meta = cell(row, shape.fields, "meta")
    if not isinstance(meta, dict | None):
        raise ValueError(f"{where}: the field 'meta' must be a JSON object, not {type(meta).__name__}")


def _meta(row: Row, shape: Shape, verifier: str) -> dict[str, Any]:
    """Return what of a row goes to ``Task.meta``; what stands under ``meta`` stands beside it."""
    fields = shape.fields or {}
    left_out = {*shape.named, *(fields[name] for name in _ASKED if name in fields)}
    if "input" in fields and not isinstance(cell(row, fields, "input"), str):  # no text, so no part of the prompt
        left_out.discard(fields["input"])
    kept = {k: v for k, v in row.items() if k not in left_out and (shape.keep is None or k in shape.keep)}
    if shape.fields is None:
        return {**kept, "verifier": verifier}
    meanings = {column: meaning for meaning, column in fields.items()}
    meanings.pop(fields.get("input", ""), None)
    kept = {meanings.get(name, name): value for name, value in kept.items() if value is not None}
    return {**(cell(row, fields, "meta") or {}), **kept, "verifier": verifier}


def _asked(row: Row, shape: Shape, where: str) -> tuple[str, tuple[Message, ...]]:
    """Return the prompt of a row and, where it is more than one text, its messages."""
    _field(row, shape.prompt_field, where, "prompt_field")
    try:
        prompt = asked(row, {**(shape.fields or {}), "prompt": shape.prompt_field})
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if isinstance(prompt, str):
        return prompt, ()
    if prompt[-1].role not in ("user", "tool"):
        raise ValueError(f"{where}: the prompt ends with a message of role {prompt[-1].role!r}; a user's must be last")
    return plain_text(prompt[-1]), prompt if len(prompt) > 1 or not isinstance(prompt[0].content, str) else ()


def _tools(row: Row, shape: Shape, where: str) -> tuple[tuple[str, ...] | None, list[dict[str, Any]]]:
    """Return the names of the tools that a row offers, None for all, and the schemas that it brings."""
    try:
        entries = offered_of(row, shape.fields or {})
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if entries is None:
        return None, []
    schemas = [entry for entry in entries if isinstance(entry, dict)]
    return tuple(entry if isinstance(entry, str) else Tool.from_schema(entry).name for entry in entries), schemas


def tasks_of(world: str, rows: Iterable[tuple[str, Row]], shape: Shape, part: str) -> tuple[Task, ...]:
    """Turn rows into tasks with ids ``world/part/index``; an invalid row is refused with its place.

    A row that is equal to an earlier one is left out. Schemas of tools that a row brings stand in ``meta["tools"]``.
    """
    tasks: list[Task] = []
    known: set[str] = set()
    for index, (where, row) in enumerate(rows):
        prompt, messages = _asked(row, shape, where)
        answer = _field(row, shape.answer_field, where, "answer_field")
        if answer is None or (isinstance(answer, str) and not answer.strip()):
            raise ValueError(f"{where}: the field {shape.answer_field!r} is empty; every task needs an answer")
        verifier = row.get(shape.verifier_field) or shape.verifier
        _check_verifier(verifier, where)
        try:
            answer = shape.answer(answer)
            _check_answer(answer, verifier)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        _check_fields(row, shape, where)
        meta = _meta(row, shape, verifier)
        tools, schemas = _tools(row, shape, where)
        if schemas:
            meta["tools"] = schemas
        if (content := repr((prompt, answer, tools, meta, messages))) not in known:
            known.add(content)
            tasks.append(Task(f"{world}/{part}/{index}", prompt, answer, world, tools, meta, messages))
    if not tasks:
        raise ValueError(f"{world}: no rows in {part!r}")
    return tuple(tasks)


def _check_answer(answer: Any, verifier: str) -> None:
    """Refuse an expected answer for which the verifier could accept nothing."""
    for gold in answer if isinstance(answer, list | tuple) else [answer]:
        if verifier == "numeric" and (isinstance(gold, bool) or not re.search(r"\d", str(gold))):
            raise ValueError(f"the answer {gold!r} is not a number, which the verifier 'numeric' needs")
        try:
            if verifier == "regex":
                re.compile(str(gold))
            if verifier == "python":
                ast.parse(str(gold).strip(), mode="eval")
        except (re.error, SyntaxError) as error:
            what = "regular expression" if verifier == "regex" else "Python expression"
            raise ValueError(f"the answer {gold!r} is not a {what} ({error})") from None


def divided(
    items: Sequence[_Item], prompt: Callable[[_Item], str] = lambda task: task.prompt  # type: ignore[attr-defined]
) -> dict[str, tuple[_Item, ...]]:  # fmt: skip
    """Cut tasks into ``train`` and ``test`` by the CRC-32 of their prompts: a fifth is ``test``.

    Of few tasks each split still gets one, that of the lowest or the highest CRC-32; a single task is for ``test``.
    ``prompt`` says what the prompt of anything else is.
    """
    crc = [zlib.crc32(prompt(item).encode()) for item in items]
    places = range(len(items))
    test = {place for place in places if crc[place] % _TEST_SHARE == 0}
    if items and not test:
        test = {min(places, key=crc.__getitem__)}
    if len(items) > 1 and len(test) == len(items):
        test -= {max(places, key=crc.__getitem__)}
    train = (items[place] for place in places if place not in test)
    return {"train": tuple(train), "test": tuple(items[place] for place in sorted(test))}
