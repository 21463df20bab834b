"""Rows of a file or a data set as tasks: their fields, their checks, and the split that a single file is given."""

from __future__ import annotations

import ast
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferrule.core.arrays import nearest
from ferrule.core.records import Task

__all__ = ["FIELDS", "SPLITS", "VERIFIERS", "Row", "Shape", "divided", "read_rows", "tasks_of"]

VERIFIERS = ("exact", "numeric", "math-verify", "regex", "python", "words")
"""Names that a row or a world may give for the comparison of answers."""
SPLITS = ("train", "test")
"""Names of the splits."""
FIELDS = ("calls", "entities", "level", "meta", "source", "tools")
"""Fields that a row of a file may have beside prompt, answer and verifier; fields of your own stand under ``meta``."""
_TEST_SHARE = 5

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Shape:
    """How rows become tasks: the fields for prompt, answer and verifier, and how an answer text is read.

    ``fields`` are the further ones that a row may have (None: any), ``keep`` those that go to ``Task.meta`` (None:
    all).
    """

    prompt_field: str = "prompt"
    answer_field: str = "answer"
    verifier: str = "exact"
    verifier_field: str = "verifier"
    answer: Callable[[Any], Any] = lambda value: value
    keep: tuple[str, ...] | None = None
    fields: tuple[str, ...] | None = None

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


def read_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """Yield the rows of a JSONL file with their places."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}; give a JSONL file with one task per line")
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: not JSON ({error})") from None
            if not isinstance(row, dict):
                raise ValueError(f"{path}, line {number}: a row must be a JSON object, not {type(row).__name__}")
            yield f"{path}, line {number}", row


def _field(row: Row, name: str, where: str, option: str) -> Any:
    if name not in row:
        known = list(row)
        raise ValueError(f"{where}: no field {name!r}; {nearest(name, known)}; name another with {option}=...")
    return row[name]


def _check_fields(row: Row, shape: Shape, where: str) -> None:
    """Refuse fields that nothing reads; most of them are a known name, misspelt."""
    known = [] if shape.fields is None else [*shape.named, *shape.fields]
    for name in row if known else ():
        if name not in known:
            cure = "; put fields of your own under 'meta'" if "meta" in known else ""
            raise ValueError(f"{where}: unknown field {name!r}; {nearest(name, known)}{cure}")
    if not isinstance(row.get("meta", {}), dict) and known:
        raise ValueError(f"{where}: the field 'meta' must be a JSON object, not {type(row['meta']).__name__}")


def _offered(row: Row, where: str) -> tuple[str, ...] | None:
    tools = row.get("tools")
    if tools is not None and not (isinstance(tools, list) and all(isinstance(name, str) for name in tools)):
        raise ValueError(f"{where}: the field 'tools' must be a list of names of tools")
    return None if tools is None else tuple(tools)


def _meta(row: Row, shape: Shape, verifier: str) -> dict[str, Any]:
    """Return what of a row goes to ``Task.meta``; where fields are checked, those under ``meta`` stand beside them."""
    left_out = {*shape.named, *(("meta", "tools") if shape.fields is not None else ())}
    kept = {k: v for k, v in row.items() if k not in left_out and (shape.keep is None or k in shape.keep)}
    return {**(row.get("meta", {}) if shape.fields is not None else {}), **kept, "verifier": verifier}


def tasks_of(world: str, rows: Iterable[tuple[str, Row]], shape: Shape, part: str) -> tuple[Task, ...]:
    """Turn rows into tasks with ids ``world/part/index``; an invalid row is refused with its place.

    A row that is equal to an earlier one is left out.
    """
    tasks: list[Task] = []
    known: set[str] = set()
    for index, (where, row) in enumerate(rows):
        prompt = _field(row, shape.prompt_field, where, "prompt_field")
        if not isinstance(prompt, str) or not prompt.strip():
            raise ValueError(f"{where}: the field {shape.prompt_field!r} must be a text that is not empty")
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
        tools = _offered(row, where) if shape.fields is not None else None
        if (content := repr((prompt, answer, tools, meta))) not in known:
            known.add(content)
            tasks.append(Task(f"{world}/{part}/{index}", prompt, answer, world, tools, meta))
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


def divided(tasks: Sequence[Task]) -> dict[str, tuple[Task, ...]]:
    """Cut tasks into ``train`` and ``test`` by the CRC-32 of their prompts: a fifth is ``test``.

    Of few tasks each split still gets one, that of the lowest or the highest CRC-32; a single task is for ``test``.
    """
    crc = {task.id: zlib.crc32(task.prompt.encode()) for task in tasks}
    test = {task.id for task in tasks if crc[task.id] % _TEST_SHARE == 0}
    if tasks and not test:
        test = {min(crc, key=crc.__getitem__)}
    if len(tasks) > 1 and len(test) == len(tasks):
        test -= {max(crc, key=crc.__getitem__)}
    parts = {"train": [task for task in tasks if task.id not in test], "test": [t for t in tasks if t.id in test]}
    return {split: tuple(part) for split, part in parts.items()}
