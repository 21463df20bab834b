"""Text files of rows: their encoding, JSON (lines or one list) and CSV, every row with its line."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["csv_rows", "decoded", "json_rows"]

# The longer marks come first: that of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_AROUND = ("data", "rows", "examples", "samples", "instances", "items", "train", "test")
_BREAK = re.compile(r"\r\n|\n|\r")
_BLANK = re.compile(r"\s*")

Placed = tuple[str, Mapping[str, Any]]


def decoded(data: bytes, label: str) -> str:
    """Return the text of a file in UTF-8, or in the encoding that its byte order mark names, without the mark.

    Raises ``ValueError`` with ``label``, the line and the byte that are not of the encoding.
    """
    mark, encoding = next(((mark, name) for mark, name in _MARKS if data.startswith(mark)), (b"", "utf-8"))
    body = data[len(mark) :]
    try:
        text = body.decode(encoding)
    except UnicodeDecodeError as error:
        before = body[: error.start].decode(encoding, errors="replace")
        line = len(_BREAK.findall(before)) + 1
        raise ValueError(
            f"{label}, line {line}: byte 0x{body[error.start]:02x} is not {encoding.upper()}; save the file as UTF-8"
        ) from None
    if "\0" in text:
        line = len(_BREAK.findall(text[: text.index("\0")])) + 1
        raise ValueError(f"{label}, line {line}: a null byte, as in UTF-16 without its mark; save the file as UTF-8")
    return text


def json_rows(text: str, label: str) -> Iterator[Placed]:
    """Yield the rows of JSON lines, of one JSON list, or of the only list in a JSON object; blank lines are skipped."""
    begin = _end_of_blank(text, 0)
    if text.startswith("[", begin):
        yield from _listed(text, begin, label)
        return
    lines = _BREAK.split(text)
    first = next((line for line in lines if line.strip()), "")
    if text.startswith("{", begin) and (whole := _object(text)) is not None and not _is_row(_object(first)):
        yield from _of_object(whole, label)
        return
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _checked(_loaded(line, f"{label}, line {number}"), f"{label}, line {number}", line)


def _is_row(line: dict[str, Any] | None) -> bool:
    """Say whether the first line of a file is a row by itself, and not an object around a list of rows."""
    return line is not None and not any(name in _AROUND and isinstance(value, list) for name, value in line.items())


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _of_object(whole: dict[str, Any], label: str) -> Iterator[Placed]:
    lists = {key: value for key, value in whole.items() if isinstance(value, list)}
    if len(lists) != 1:
        raise ValueError(
            f"{label}: one JSON object with {len(lists)} lists in it; a file of rows has one list, or an object a line"
        )
    for key, rows in lists.items():
        for i, row in enumerate(rows):
            yield _checked(row, f"{label}, {key}[{i}]", "")


def _loaded(text: str, where: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not JSON ({error})") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _checked(row: Any, where: str, text: str) -> Placed:
    if not isinstance(row, dict):
        raise ValueError(f"{where}: a row must be a JSON object, not {type(row).__name__}")
    if "\\u" in text:
        try:
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            broken = f"\\u{ord(error.object[error.start]):04x}"
            raise ValueError(f"{where}: {broken} is half a character (a lone surrogate)") from None
    return where, row


def _end_of_blank(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    return match.end() if match else at


def _listed(text: str, begin: int, label: str) -> Iterator[Placed]:
    """Yield the entries of a list with the lines they begin on."""
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    at, line, counted = _end_of_blank(text, begin + 1), 1, 0
    while not text.startswith("]", at):
        line, counted = line + len(_BREAK.findall(text, counted, at)), at
        where = f"{label}, line {line}"
        try:
            row, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where}: not JSON ({error})") from None
        yield _checked(row, where, text[at:end])
        at = _end_of_blank(text, end)
        if text.startswith(",", at):
            at = _end_of_blank(text, at + 1)
        elif not text.startswith("]", at):
            raise ValueError(f"{where}: after the row that begins here stands neither ',' nor ']'")
    if _end_of_blank(text, at + 1) < len(text):
        raise ValueError(f"{label}: something stands after the list of rows")


def csv_rows(text: str, label: str) -> Iterator[Placed]:
    """Yield the rows of a CSV file, whose first line names the columns; an empty cell is null.

    The separator is the comma, or the semicolon or tab where the first line has no comma.
    """
    csv.field_size_limit(2**31 - 1)
    head = _BREAK.split(text, maxsplit=1)[0]
    mark = next((mark for mark in ",;\t" if mark in head), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
    names: list[str] = []
    line = 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise ValueError(f"{label}, line {line}: not CSV ({error})") from None
        if cells is None:
            return
        where, line = f"{label}, line {line}", reader.line_num + 1
        if not cells:
            continue
        if not names:
            names = [cell.strip() for cell in cells]
            if "" in names or len(set(names)) < len(names):
                raise ValueError(f"{where}: columns need names, each a different one: {', '.join(map(repr, names))}")
            continue
        if len(cells) != len(names):
            raise ValueError(f"{where}: {len(cells)} cells for {len(names)} columns ({', '.join(names)})")
        yield where, {name: cell if cell else None for name, cell in zip(names, cells, strict=True)}
