"""Reading the values of Gemma's calls: objects with bare keys, and text between marks."""

from __future__ import annotations

import re
from typing import Any

from ferrule.chat.native import first_mark, skip
from ferrule.chat.parsing import MAX_DEPTH, parse_prefix

__all__ = ["Reader"]

_KEY = re.compile(r"\s*([^\s:,{}\[\]<>]{1,200})\s{0,9}:")
_BARE = re.compile(r"[^,{}\[\]<>]{0,400}")
_WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}


class Reader:
    """Reads one value at ``at``; what is missing at the end of the text is left out, ``problem`` says what is wrong."""

    def __init__(self, text: str, at: int, quote: str) -> None:
        self.text, self.at, self.quote = text, at, quote
        self.problem = ""
        self.repairs: list[str] = []

    def value(self, depth: int) -> Any:
        """Read a value of any kind."""
        self.at = skip(self.text, self.at)
        if depth > MAX_DEPTH:
            return self._wrong(f"nested deeper than {MAX_DEPTH} levels")
        if self.text.startswith(self.quote, self.at):
            return self._quoted()
        if self.text.startswith("{", self.at):
            return self._entries(depth)
        if self.text.startswith("[", self.at):
            return self._list(depth)
        return self._bare()

    def _wrong(self, problem: str) -> None:
        self.problem = self.problem or problem

    def _quoted(self) -> str:
        begin = self.at + len(self.quote)
        end, mark = first_mark(self.text, (self.quote,), begin)
        self.at = end + len(mark)
        return self.text[begin:end]

    def _more(self, close: str) -> bool:
        """Say whether a further entry begins; a comma is passed, the closing bracket too."""
        self.at = skip(self.text, self.at)
        if self.problem or self.at >= len(self.text):
            return False
        if self.text[self.at] == close:
            self.at += 1
            return False
        return True

    def _between(self, close: str) -> None:
        self.at = skip(self.text, self.at)
        if self.text.startswith(",", self.at):
            self.at += 1
        elif self.at < len(self.text) and not self.text.startswith(close, self.at):
            self._wrong(f"neither ',' nor {close!r} stands before {self.text[self.at : self.at + 20]!r}")

    def _entries(self, depth: int) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        self.at += 1
        while self._more("}"):
            key = self._key()
            if self.problem or self.at >= len(self.text):
                break
            if key in entries:
                self.repairs.append("duplicate key")
            entries[key] = self.value(depth + 1)
            self._between("}")
        return entries

    def _list(self, depth: int) -> list[Any]:
        entries: list[Any] = []
        self.at += 1
        while self._more("]"):
            entries.append(self.value(depth + 1))
            self._between("]")
        return entries

    def _key(self) -> str:
        if self.text.startswith(self.quote, self.at):
            key = self._quoted()
            self.at = skip(self.text, self.at)
            if self.text.startswith(":", self.at):
                self.at += 1
            elif self.at < len(self.text):
                self._wrong(f"no ':' stands behind the key {key[:40]!r}")
            return key
        named = _KEY.match(self.text, self.at)
        if named is None:
            if "}" in self.text[self.at :] or ":" in self.text[self.at :]:
                self._wrong(f"no key stands before {self.text[self.at : self.at + 20]!r}")
            self.at = len(self.text) if not self.problem else self.at
            return ""
        self.at = named.end()
        return named[1]

    def _bare(self) -> Any:
        word = _BARE.match(self.text, self.at)
        written = word[0].strip() if word else ""
        self.at = word.end() if word else self.at
        if written in _WORDS:
            return _WORDS[written]
        read = parse_prefix(written, 0)
        if read is not None and read[1] == len(written):
            self._wrong(read[0].problem)
            return read[0].value
        if not written and self.at < len(self.text):
            self._wrong(f"no value stands before {self.text[self.at : self.at + 20]!r}")
        self.repairs.append("bare text")
        return written
