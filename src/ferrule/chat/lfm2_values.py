"""Reading the arguments of LFM2's calls: names before Python strings, words and numbers, and lists and objects."""

from __future__ import annotations

import ast
import re
import warnings
from typing import Any

from ferrule.chat.native import skip
from ferrule.chat.parsing import MAX_DEPTH, measure, mended, parse_json, parse_prefix
from ferrule.chat.scan import UNFINISHED
from ferrule.core.records import Call

__all__ = ["Reader"]

_KEYED = re.compile(r"\s{0,9}([^\s()\[\]{}<>,='\"]{1,200})\s{0,9}=")
_BARE = re.compile(r"[^,()\[\]{}'\"<>]{1,200}")
_WORDS = {"True": True, "true": True, "False": False, "false": False, "None": None, "null": None}
_AFTER = re.compile(r"\s{0,9}(?:[,)\]}:]|\Z)")
_BRACKETS = {"(": ")", "[": "]", "{": "}"}


class Reader:
    """Reads the named arguments of one call; ``problem`` says what is wrong."""

    def __init__(self, text: str, at: int) -> None:
        self.text, self.at, self.problem = text, at, ""
        self.repairs: list[str] = []

    def call(self, name: str, arguments: dict[str, Any], raw: str) -> Call:
        """Return the call with these arguments."""
        deep, broken = measure(arguments)
        self.problem = self.problem or deep
        notes = [*self.repairs, *(["unicode"] if broken else [])]
        given = {} if self.problem else mended(arguments) if broken else arguments
        return Call(name, given, raw=raw, problem=self.problem, repairs=tuple(dict.fromkeys(notes)))

    def arguments(self) -> dict[str, Any]:
        """Read up to the closing bracket; a text that ends before it is unfinished."""
        values: dict[str, Any] = {}
        while not self.problem:
            self.at = skip(self.text, self.at)
            if self.text.startswith(")", self.at):
                self.at += 1
                return values
            if self.at >= len(self.text):
                break
            keyed = _KEYED.match(self.text, self.at)
            if keyed is None:
                self.problem = f"arguments need their names, not {self.text[self.at : self.at + 20]!r}"
                break
            self.at = keyed.end()
            self.repairs += ["duplicate key"] * (keyed[1] in values)
            values[keyed[1]] = self.value()
            self.at = skip(self.text, self.at)
            if self.text.startswith(",", self.at):
                self.at += 1
            elif self.at < len(self.text) and not self.text.startswith(")", self.at) and not self.problem:
                self.problem = f"neither ',' nor ')' stands before {self.text[self.at : self.at + 20]!r}"
        if not self.problem:
            self.repairs.append(UNFINISHED)
        return values

    def value(self) -> Any:
        """Read one value."""
        self.at = skip(self.text, self.at)
        letter = self.text[self.at : self.at + 1]
        if letter in ("'", '"'):
            return self._quoted(letter)
        if letter in ("[", "{", "("):
            return self._nested()
        word = _BARE.match(self.text, self.at)
        written = word[0].strip() if word else ""
        self.at = word.end() if word else self.at
        if written in _WORDS:
            return _WORDS[written]
        read = parse_prefix(written, 0)
        if read is not None and read[1] == len(written) and not read[0].problem:
            return read[0].value
        if written:
            self.repairs.append("bare text")
        elif self.at < len(self.text):
            self.problem = f"no value stands before {self.text[self.at : self.at + 20]!r}"
        return written

    def _quoted(self, quote: str) -> str:
        """Read a string; a quote that nothing fitting follows belongs to the text."""
        begin, end = self.at + 1, _string_end(self.text, self.at)
        if end < 0:
            self.at = len(self.text)
            return self.text[begin:]
        self.at = end + 1
        return self._text(self.text[begin:end], quote)

    def _text(self, inside: str, quote: str) -> str:
        """Return what a Python string stands for; one that Python cannot read is taken as it is written."""
        if quote in re.sub(r"\\.", "", inside, flags=re.DOTALL):
            self.repairs.append("quotes")
            inside = re.sub(rf"\\.|{quote}", lambda found: found[0] if found[0] != quote else f"\\{quote}", inside)
        if "\\" not in inside:
            return inside
        plain = inside.replace("\r", "\\r").replace("\n", "\\n").replace("\0", "\\x00")
        read = _literal(f"{quote}{plain}{quote}")
        return read if isinstance(read, str) else inside

    def _nested(self) -> Any:
        """Read a list, an object or a tuple, as JSON or else as Python."""
        read = parse_prefix(self.text, self.at)
        if read is not None:
            self.at, self.problem = read[1], read[0].problem
            self.repairs += read[0].repairs
            return read[0].value
        end = _bracket_end(self.text, self.at)
        if end < 0:
            self.at = len(self.text)
            return None
        written, self.at = self.text[self.at : end], end
        value = _literal(written)
        if value is not None:
            return _as_json(value)
        parsed = parse_json(written)
        self.problem, self.repairs = parsed.problem, [*self.repairs, *parsed.repairs]
        return parsed.value


def _string_end(text: str, at: int) -> int:
    """Return where the string that begins at ``at`` is closed, -1 where it is not."""
    quote, place = text[at], at + 1
    while (place := text.find(quote, place)) >= 0:
        before = place
        while text[before - 1] == "\\" and before - 1 > at:
            before -= 1
        if (place - before) % 2 == 0 and _AFTER.match(text, place + 1):
            return place
        place += 1
    return -1


def _bracket_end(text: str, at: int) -> int:
    """Return the index after the bracket that closes the one at ``at``, -1 where none does."""
    waiting: list[str] = []
    while at < len(text) and len(waiting) <= MAX_DEPTH:
        letter = text[at]
        if letter in "'\"":
            at = _string_end(text, at)
            if at < 0:
                return -1
        elif letter in _BRACKETS:
            waiting.append(_BRACKETS[letter])
        elif waiting and letter == waiting[-1]:
            waiting.pop()
            if not waiting:
                return at + 1
        at += 1
    return -1


def _literal(source: str) -> Any:
    """Return the plain Python value that a text is; None where it is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes that Python does not know
        try:
            return ast.literal_eval(source)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            return None


def _as_json(value: Any) -> Any:
    """Return a Python value with lists for tuples and sets, and text as keys."""
    if isinstance(value, dict):
        return {str(key): _as_json(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set):
        return [_as_json(entry) for entry in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
