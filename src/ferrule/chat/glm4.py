"""The XML form of GLM 4.5 to 4.7: the name behind the opening tag, then a tag for each key and each value."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ferrule.chat.codec import Labelled
from ferrule.chat.describe import Style, check_style
from ferrule.chat.native import Body, about, check_name, first_mark, framed
from ferrule.chat.parsing import measure, mended
from ferrule.chat.scan import THINK_CLOSE, UNFINISHED, Found, Marks, Scan, assemble, join, label, scan
from ferrule.chat.untyped import Pairs, kinds_of, pairs_from, read_value, write_value, written
from ferrule.core.records import Call, Message, Tool, plain_text

__all__ = ["CODEC", "Glm4"]

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_KEY, _VALUE, _VALUE_END = "<arg_key>", "<arg_value>", "</arg_value>"
_MARKS = (_OPEN, _KEY, _VALUE)
_NAMED = re.compile(r"\s{0,9}([^\s<>{}\[\]]{1,200})")
_KEYED = re.compile(r"\s{0,9}<arg_key>([^<>\n]{1,200})</arg_key>\s{0,9}<arg_value>")
_HOW = """To call one:
<tool_call>name
<arg_key>parameter</arg_key>
<arg_value>value</arg_value>
</tool_call>"""


@dataclass(frozen=True)
class Glm4:
    r"""Calls as ``<tool_call>name\n<arg_key>key</arg_key>\n<arg_value>value</arg_value>\n</tool_call>``.

    The form does not tell text from numbers; ``texts``, ``nullable`` and ``others`` say which parameters are text, as
    for ``qwen3_coder`` (``typed`` takes them from tools). ``several`` lets a reply hold more than one call.
    """

    style: Style = "json"
    several: bool = False
    texts: Pairs = ()
    nullable: Pairs = ()
    others: Pairs = ()
    name: str = field(default="glm4", init=False)
    inline: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        """Refuse an unknown style."""
        check_style(self.style)
        for option in ("texts", "nullable", "others"):
            object.__setattr__(self, option, pairs_from(getattr(self, option)))

    def typed(self, tools: Sequence[Tool]) -> Glm4:
        """Return the codec that knows which parameters of these tools are text."""
        return replace(self, **kinds_of(tools))

    @property
    def stop(self) -> tuple[str, ...]:
        """The closing tag, unless several calls are allowed."""
        return () if self.several else (_CLOSE,)

    def describe(self, tools: Sequence[Tool]) -> str:
        """Return the tools and how one is called."""
        return about(tools, self.style, self.write, _HOW, written)

    def write(self, message: Message) -> str:
        """Return the content, then one block per call."""
        return join(plain_text(message), [self._block(call) for call in message.calls])

    def read(self, text: str) -> Message:
        """Return content and calls; broken blocks are repaired or become malformed calls."""
        return assemble(text, self._scan(text).calls)

    def show(self, message: Message) -> str:
        """Return the result between ``<tool_response>`` tags."""
        return framed(message)

    def spans(self, text: str) -> tuple[Labelled, ...]:
        """Label thinking, calls and answer."""
        return label(text, self._scan(text))

    def _block(self, call: Call) -> str:
        if call.problem and call.raw:
            return call.raw
        lines = [_OPEN + check_name(call.name, self.name, "<>{}[] \t\n")]
        for key, value in call.arguments.items():
            lines.append(f"{_KEY}{check_name(key, self.name, '<>' + chr(10))}</arg_key>")
            lines.append(f"{_VALUE}{write_value(self, call.name, key, value, *_MARKS)}{_VALUE_END}")
        return "\n".join([*lines, _CLOSE])

    def _scan(self, text: str) -> Scan:
        values = Marks(text, (_VALUE_END, _KEY, _CLOSE))
        return scan(text, lambda at: text.find(_OPEN, at), lambda start: self._one(text, start, values))

    def _one(self, text: str, start: int, values: Marks) -> tuple[int, list[Found]]:
        """Read the block that opens at ``start``; return where it ends, and its call."""
        named = _NAMED.match(text, start + len(_OPEN))
        name = named[1] if named else ""
        body = self._arguments(text, named.end(), name, values) if named else Body(start + len(_OPEN))
        end, mark = first_mark(text, (_CLOSE, _OPEN, THINK_CLOSE), body.stop)
        stop = end + len(_CLOSE) if mark == _CLOSE else max(len(text[:end].rstrip()), start + 1)
        notes = () if mark == _CLOSE else ("no closing tag" if mark else UNFINISHED,)
        rest = text[body.stop : end].strip()
        if not body.problem and rest:
            if "<" in rest or named is None:
                body = replace(body, problem="the block holds more than a name, and keys with values")
            else:
                notes = ("trailing text", *notes)
        return stop, [(start, stop, body.call(name, text[start:stop], notes))]

    def _arguments(self, text: str, at: int, name: str, ends: Marks) -> Body:
        """Read keys and values from ``at`` on; ``ends`` are the marks after a value."""
        values: dict[str, Any] = {}
        notes: list[str] = []
        while (keyed := _KEYED.match(text, at)) is not None:
            end, mark = ends.first(keyed.end())
            if mark and mark != _VALUE_END:
                return Body(end, "", None, tuple(notes), f"the value of {keyed[1]!r} is not closed")
            key = keyed[1].strip()
            notes += ["duplicate key"] * (key in values)
            values[key] = read_value(self, name, key, text[keyed.end() : end], *_MARKS)
            at = end + len(mark)
        problem, broken = measure(values)
        if problem:
            return Body(at, "", None, tuple(notes), problem)
        if broken:
            notes, values = [*notes, "unicode"], mended(values)
        return Body(at, "", values, tuple(notes))


CODEC = Glm4
