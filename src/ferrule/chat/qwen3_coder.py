"""The XML form that Qwen3-Coder, Qwen3.5 and Nemotron 3 speak: one tag for the function, one for each parameter."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ferrule.chat.codec import Labelled
from ferrule.chat.describe import Style, check_style
from ferrule.chat.native import Body, about, body_of, check_name, first_mark, framed, one_block, skip
from ferrule.chat.parsing import MAX_CALLS
from ferrule.chat.scan import THINK_CLOSE, UNFINISHED, Found, Marks, Scan, assemble, join, label, scan
from ferrule.chat.untyped import Pairs, kinds_of, pairs_from, read_value, write_value, written
from ferrule.core.records import Call, Message, Tool, plain_text

__all__ = ["CODEC", "Qwen3Coder"]

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_FUNCTION, _END = "<function=", "</function>"
_PARAMETER, _VALUE_END = "<parameter=", "</parameter>"
_MARKS = (_OPEN, _FUNCTION, _PARAMETER)
_STARTS = re.compile(f"{_OPEN}|{_FUNCTION}")
_NAMED = re.compile(r"<function=([^<>{}\[\]\n]{1,200})>")
_KEYED = re.compile(r"<parameter=([^<>{}\[\]\n]{1,200})>")
_HOW = """To call one:
<tool_call>
<function=name>
<parameter=parameter>
value
</parameter>
</function>
</tool_call>"""


@dataclass(frozen=True)
class Qwen3Coder:
    r"""Calls as ``<tool_call>\n<function=name>\n<parameter=key>\nvalue\n</parameter>\n</function>\n</tool_call>``.

    The form does not tell text from numbers: a value is JSON where it parses as JSON and text otherwise. ``texts``
    pairs tools with parameters that are always text, ``nullable`` with those that are text or null, ``others`` with the
    rest, where ``True``, ``False`` and ``None`` are read as Python writes them (``typed`` takes all from tools).
    ``several`` lets a reply hold more than one call.
    """

    style: Style = "json"
    several: bool = False
    texts: Pairs = ()
    nullable: Pairs = ()
    others: Pairs = ()
    name: str = field(default="qwen3_coder", init=False)
    inline: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        """Refuse an unknown style."""
        check_style(self.style)
        for option in ("texts", "nullable", "others"):
            object.__setattr__(self, option, pairs_from(getattr(self, option)))

    def typed(self, tools: Sequence[Tool]) -> Qwen3Coder:
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
        """Label think block, calls and answer."""
        return label(text, self._scan(text))

    def _block(self, call: Call) -> str:
        if call.problem and call.raw:
            return call.raw
        lines = [_OPEN, f"{_FUNCTION}{check_name(call.name, self.name)}>"]
        for key, value in call.arguments.items():
            shown = write_value(self, call.name, key, value, *_MARKS)
            lines += [f"{_PARAMETER}{check_name(key, self.name)}>", shown, _VALUE_END]
        return "\n".join([*lines, _END, _CLOSE])

    def _scan(self, text: str) -> Scan:
        def opens(at: int) -> int:
            mark = _STARTS.search(text, at)
            return mark.start() if mark else -1

        values = Marks(text, (_VALUE_END, _PARAMETER, _END))
        return scan(text, opens, lambda start: self._one(text, start, values))

    def _one(self, text: str, start: int, values: Marks) -> tuple[int, list[Found]]:
        """Read the block that opens at ``start``; return where it ends, and its calls."""
        opened = text.startswith(_OPEN, start)
        at = skip(text, start + len(_OPEN) if opened else start)
        calls: list[Found] = []
        while len(calls) <= MAX_CALLS and (named := _NAMED.match(text, at)) is not None:
            body = self._arguments(text, named.end(), named[1].strip(), values)
            calls.append((at, body.stop, body.call(named[1].strip(), text[at : body.stop])))
            at = skip(text, body.stop)
        end, mark = first_mark(text, (_CLOSE, _OPEN, _FUNCTION, THINK_CLOSE), at + text.startswith(_FUNCTION, at))
        if not opened and mark != _CLOSE and calls and text.endswith(_END, 0, calls[-1][1]):
            a, b, last = calls[-1]
            last = replace(last, repairs=(*last.repairs, "no opening tag"))
            return b, one_block(text, (start, b), [*calls[:-1], (a, b, last)])
        stop = end + len(_CLOSE) if mark == _CLOSE else max(len(text[:end].rstrip()), start + 1)
        notes = [] if opened else ["no opening tag"]
        if mark != _CLOSE:
            notes.append("no closing tag" if mark else UNFINISHED)
        rest = text[at:end].strip()
        if rest and "<" in rest:
            call = Call("", problem="the block holds more than calls: <function=name> is not opened or not whole")
            calls.append((at, stop, call))
        elif rest:
            notes.append("trailing text")
        if calls:
            a, b, last = calls[-1]
            calls[-1] = (a, b, replace(last, repairs=tuple(dict.fromkeys([*last.repairs, *notes]))))
        elif notes:
            calls.append((start, stop, Call("", problem="no <function=name> in the block", repairs=tuple(notes))))
        return stop, one_block(text, (start, stop), calls)

    def _arguments(self, text: str, at: int, name: str, ends: Marks) -> Body:
        """Read the parameters from ``at`` on, up to the end of the function; ``ends`` are the marks after a value."""
        values: dict[str, Any] = {}
        notes: list[str] = []
        at = skip(text, at)
        while (keyed := _KEYED.match(text, at)) is not None:
            end, mark = ends.first(keyed.end())
            if mark and mark != _VALUE_END:
                return Body(end, "", None, (), f"<parameter={keyed[1]}> is not closed")
            key = keyed[1].strip()
            notes += ["duplicate key"] * (key in values)
            inside = text[keyed.end() : end].removeprefix("\n").removesuffix("\n")
            values[key] = read_value(self, name, key, inside, *_MARKS)
            at = skip(text, end + len(mark))
        return body_of(text, at, _END, values, notes)


CODEC = Qwen3Coder
