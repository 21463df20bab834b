"""The form of Gemma 4 and FunctionGemma: ``call:name{key:value}`` between marks, text between marks of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

from ferrule.chat.codec import Labelled
from ferrule.chat.describe import Style, check_style
from ferrule.chat.gemma_values import Reader
from ferrule.chat.native import about, check_name, first_mark, framed, skip
from ferrule.chat.parsing import dump, measure, mended
from ferrule.chat.scan import THINK_CLOSE, UNFINISHED, Found, Scan, assemble, join, label, scan
from ferrule.core.arrays import nearest
from ferrule.core.records import Call, Message, Tool, plain_text

__all__ = ["CODEC", "Gemma"]


class _Marks(NamedTuple):
    open: str
    close: str
    quote: str
    result: str
    result_end: str


_FORMS = {
    "gemma4": _Marks("<|tool_call>", "<tool_call|>", '<|"|>', "<|tool_response>", "<tool_response|>"),
    "function_gemma": _Marks(
        "<start_function_call>",
        "<end_function_call>",
        "<escape>",
        "<start_function_response>",
        "<end_function_response>",
    ),
}
_NAMED = re.compile(r"\s{0,9}call:([^\s{}<>]{1,200})\s{0,9}\{")
_PLAIN_KEY = re.compile(r"[^\s:,{}\[\]<>]{1,200}")


@dataclass(frozen=True)
class Gemma:
    """Calls as ``<|tool_call>call:name{key:value}<tool_call|>`` with text as ``<|"|>text<|"|>``.

    ``form="gemma4"`` has these marks, ``"function_gemma"`` those of FunctionGemma (``<start_function_call>``,
    ``<escape>``). Keys are bare words, or text between the marks. Text that holds such a mark cannot be written.
    """

    FORMS: ClassVar[tuple[dict[str, str], ...]] = ({"form": "gemma4"}, {"form": "function_gemma"})

    style: Style = "json"
    form: str = "gemma4"
    name: str = field(default="gemma", init=False)
    inline: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        """Refuse an unknown style or form."""
        check_style(self.style)
        if self.form not in _FORMS:
            raise ValueError(f"unknown form of Gemma calls {self.form!r}; {nearest(self.form, list(_FORMS))}")

    @property
    def _marks(self) -> _Marks:
        return _FORMS[self.form]

    @property
    def stop(self) -> tuple[str, ...]:
        """The mark that ``awaits``."""
        return (self.awaits,)

    @property
    def awaits(self) -> str:
        """The mark that begins a result, with which the model ends its calls."""
        return self._marks.result

    def describe(self, tools: Sequence[Tool]) -> str:
        """Return the tools and how one is called."""
        marks = self._marks
        how = f"{marks.open}call:name{{number:3,text:{marks.quote}...{marks.quote}}}{marks.close}"
        return about(tools, self.style, self._shown, f"To call one, write {how}")

    def _shown(self, message: Message) -> str:
        """Write a template of a call; the types of values that are no text stand bare there, not as text in a list."""
        quote = self._marks.quote
        text = self.write(message).removesuffix(self.awaits)
        return text.replace(f"[{quote}\ue000", '["\ue000').replace(f"\ue001{quote}]", '\ue001"]')

    def write(self, message: Message) -> str:
        """Return the content, then one block per call, and the mark that begins a result behind the last one.

        A text that holds its own mark is a ``ValueError``.
        """
        blocks = [self._block(call) for call in message.calls]
        wrote_it = blocks and blocks[-1].endswith(self._marks.result)
        return join(plain_text(message), [*blocks, *([self._marks.result] if blocks and not wrote_it else [])], "")

    def read(self, text: str) -> Message:
        """Return content and calls; broken ones are repaired or become malformed calls."""
        return assemble(text, self._scan(text).calls, "")

    def show(self, message: Message) -> str:
        """Return the result between ``<tool_response>`` tags."""
        return framed(message)

    def spans(self, text: str) -> tuple[Labelled, ...]:
        """Label thinking, calls and answer."""
        return label(text, self._scan(text))

    def _block(self, call: Call) -> str:
        if call.problem and call.raw:
            return call.raw
        name = check_name(call.name, self.name, "{}<> \t\n")
        return f"{self._marks.open}call:{name}{self._value(dict(call.arguments))}{self._marks.close}"

    def _value(self, value: Any) -> str:
        if isinstance(value, Mapping):
            return "{" + ",".join(f"{self._key(str(k))}:{self._value(v)}" for k, v in value.items()) + "}"
        if isinstance(value, list | tuple):
            return "[" + ",".join(self._value(entry) for entry in value) + "]"
        return self._text(value) if isinstance(value, str) else dump(value)

    def _text(self, text: str) -> str:
        if self._marks.quote in text:
            raise ValueError(f"the gemma codec cannot write the text {text[:40]!r}: it holds {self._marks.quote!r}")
        return f"{self._marks.quote}{text}{self._marks.quote}"

    def _key(self, key: str) -> str:
        return key if _PLAIN_KEY.fullmatch(key) else self._text(key)

    def _scan(self, text: str) -> Scan:
        return scan(text, lambda at: text.find(self._marks.open, at), lambda start: self._one(text, start))

    def _one(self, text: str, start: int) -> tuple[int, list[Found]]:
        """Read the block that opens at ``start``; return where it ends, and its call."""
        marks = self._marks
        named = _NAMED.match(text, start + len(marks.open))
        reader = Reader(text, named.end() - 1, marks.quote) if named else None
        arguments = reader.value(1) if reader else {}
        tail = reader.at if reader else start + len(marks.open)
        end, mark = first_mark(text, (marks.close, marks.open, marks.result, THINK_CLOSE), tail)
        stop = end + len(mark) * (mark == marks.close)
        after = skip(text, stop)
        if text.startswith(marks.result, after):  # what the model writes to wait for the result
            stop = after + len(marks.result)
        problem = reader.problem if reader else "no call:name{ at the beginning of the call"
        notes = reader.repairs if reader else []
        if mark != marks.close:
            notes = [*notes, "no closing mark" if mark else UNFINISHED]
        if not problem and text[tail:end].strip():
            problem = f"{text[tail:end].strip()[:40]!r} stands behind the arguments"
        deep, broken = measure(arguments)
        problem, arguments = problem or deep, mended(arguments) if broken else arguments
        repairs = tuple(dict.fromkeys([*notes, *(["unicode"] if broken else [])]))
        call = Call(named[1] if named else "", {} if problem else arguments, raw=text[start:stop], problem=problem)
        return stop, [(start, stop, replace(call, repairs=repairs))]


CODEC = Gemma
