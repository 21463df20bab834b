"""The ATEM form of Muse Glimmer: messages with recipients; a call is a block of XML in a message to its tool."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from ferrule.chat.channels import Kind, Part, labelled, outside, reply_from, thought_apart
from ferrule.chat.codec import Labelled
from ferrule.chat.describe import Style, check_style
from ferrule.chat.native import Body, about, body_of, check_name, framed, one_block, skip
from ferrule.chat.parsing import MAX_CALLS
from ferrule.chat.scan import CLOSES, UNFINISHED, Found, Marks, NextPlace, Scan, scan
from ferrule.chat.untyped import Pairs, kinds_of, pairs_from, read_value, write_value, written
from ferrule.core.records import Call, Message, Tool, plain_text

__all__ = ["CODEC", "Atem"]

_START, _MESSAGE, _EOM, _EOT = "<|start|>", "<|message|>", "<|eom|>", "<|eot|>"
_ENDS = (_EOM, _EOT, _START)
_NEXT = "<|start|>assistant"
_OPEN, _CLOSE = "<atem:function_calls>", "</atem:function_calls>"
_INVOKE_END, _VALUE_END = "</atem:invoke>", "</atem:parameter>"
_MARKS = (_START, _MESSAGE, _EOM, _EOT, "<atem:")
_HEAD = re.compile(r"(?:<\|start\|>assistant)?(?: ?\bto=(?P<to>[^\s<>]{1,200}))?<\|message\|>")
_BEGUN = re.compile(r"(?:^|<\|start\|>assistant) ?to=(?P<to>[^\s<>]{1,200})(?:<[|a-z]{0,8})?\Z")
_INVOKE = re.compile(r'<atem:invoke name="([^"<>\n]{1,200})">')
_PARAMETER = re.compile(r'<atem:parameter name="([^"<>\n]{1,200})">')
_KINDS: dict[str, Kind] = {"self": "think", "user": "answer"}
_HOW = """To call one, write to it:
 to=name<|message|><atem:function_calls>
<atem:invoke name="name">
<atem:parameter name="parameter">value</atem:parameter>
</atem:invoke>
</atem:function_calls>"""


@dataclass(frozen=True)
class Atem:
    r"""Messages with recipients, as they follow ``<|start|>assistant``.

    A call is `` to=name<|message|><atem:function_calls>\n<atem:invoke name="name">\n``, lines of ``<atem:parameter
    name="key">value</atem:parameter>``, and both ends. A message to ``self`` is thinking, which stands as
    ``<think>...</think>`` before the content of a message; one to ``user`` is content. The form does not tell text from
    numbers: ``texts``, ``nullable`` and ``others`` are as in the codec ``qwen3_coder``, taken from tools by ``typed``.
    """

    INSIDE: ClassVar[tuple[str, ...]] = (_EOM,)
    """Marks that end parts of a reply, so that they do not end the reply."""

    style: Style = "json"
    texts: Pairs = ()
    nullable: Pairs = ()
    others: Pairs = ()
    name: str = field(default="atem", init=False)
    inline: bool = field(default=False, init=False)
    stop: tuple[str, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        """Refuse an unknown style."""
        check_style(self.style)
        for option in ("texts", "nullable", "others"):
            object.__setattr__(self, option, pairs_from(getattr(self, option)))

    def typed(self, tools: Sequence[Tool]) -> Atem:
        """Return the codec that knows which parameters of these tools are text."""
        return replace(self, **kinds_of(tools))

    def describe(self, tools: Sequence[Tool]) -> str:
        """Return the tools and how one is called."""
        return about(tools, self.style, self.write, _HOW, written)

    def write(self, message: Message) -> str:
        """Return the messages of thinking, content and calls."""
        thought, content = thought_apart(plain_text(message))
        parts = [] if thought is None else [f" to=self{_MESSAGE}{thought}"]
        if content or not message.calls:
            parts.append(f" to=user{_MESSAGE}{content}")
        return f"{_EOM}{_NEXT}".join([*parts, *(self._block(call) for call in message.calls)])

    def read(self, text: str) -> Message:
        """Return thinking, content and calls; broken calls are repaired or malformed, text without messages content."""
        return reply_from(text, *self._scan(text), _NEXT)

    def show(self, message: Message) -> str:
        """Return the result between ``<tool_response>`` tags."""
        return framed(message)

    def spans(self, text: str) -> tuple[Labelled, ...]:
        """Label the bodies of thinking and of the answer, and the calls."""
        return labelled(text, *self._scan(text))

    def _block(self, call: Call) -> str:
        if call.problem and call.raw:
            return call.raw
        name = check_name(call.name, self.name, '"<> \t\n')
        if _KINDS.get(name) == "think":
            raise ValueError(f"the {self.name} codec cannot write the name {name!r}: what is written to it is thinking")
        lines = [f" to={name}{_MESSAGE}{_OPEN}", f'<atem:invoke name="{name}">']
        for key, value in call.arguments.items():
            shown = write_value(self, name, key, value, *_MARKS)
            lines.append(
                f'<atem:parameter name="{check_name(key, self.name, chr(34) + "<>" + chr(10))}">{shown}{_VALUE_END}'
            )
        return "\n".join([*lines, _INVOKE_END, _CLOSE])

    def _scan(self, text: str) -> tuple[Scan, list[Part]]:
        """Return calls and thinking in tags, and the messages without calls outside such thinking."""
        parts: dict[int, Part] = {}
        ends, values = Marks(text, _ENDS), Marks(text, (_VALUE_END, *_ENDS))
        block_at = NextPlace(text, lambda at: text.find(_OPEN, at))
        begun = _BEGUN.search(text[-300:])
        called = begun is not None and begun["to"] not in _KINDS and (begun.start() or len(text) <= 300)
        last = begun.start() + max(0, len(text) - 300) if begun and called else -1

        def opens(at: int) -> int:
            head = _HEAD.search(text, at)
            places = [place for place in (head.start() if head else -1, last) if place >= at]
            first = min([*places, block_at(at)])
            return first if first < len(text) else -1

        def one(start: int) -> tuple[int, list[Found]]:
            head = _HEAD.match(text, start)
            if head is None and not text.startswith(_OPEN, start):
                problem = "the header of the call is not finished"
                call = Call("", raw=text[start:], problem=problem, repairs=(UNFINISHED,))
                return len(text), [(start, len(text), call)]
            to, begin = (head["to"] or "user", head.end()) if head else ("", start)
            if to not in _KINDS or (to == "user" and text.startswith(_OPEN, skip(text, begin))):
                return self._calls(text, start, begin, to, ends, values)
            end, mark = ends.first(begin)
            stop = end + len(mark) * (mark != _START)
            parts[start] = Part(start, begin, end, stop, _KINDS[to])
            return stop, []

        scanned = scan(text, opens, one)
        return scanned, outside(parts.values(), scanned)

    def _calls(self, text: str, start: int, begin: int, to: str, ends: Marks, values: Marks) -> tuple[int, list[Found]]:
        """Read the block behind a header (``begin``); return where its message ends, and its calls."""
        at = skip(text, begin)
        opened = text.startswith(_OPEN, at)
        at = skip(text, at + len(_OPEN) * opened)
        calls: list[Found] = []
        while len(calls) <= MAX_CALLS and (named := _INVOKE.match(text, at)) is not None:
            body = self._arguments(text, named.end(), named[1].strip(), values)
            wrong = ["other recipient"] if to not in ("", named[1].strip()) else []
            calls.append((at, body.stop, body.call(named[1].strip(), text[at : body.stop], wrong)))
            at = skip(text, body.stop)
        closed = text.startswith(_CLOSE, at)
        end, mark = ends.first(at)
        if thought := CLOSES.search(text, at, end):  # a message inside thinking in tags ends with it
            end, mark = thought.start(), ""
        rest = text[at + len(_CLOSE) * closed : end].strip()
        notes = ["no opening tag"] * (not opened) + ["no recipient"] * (not to) + ["trailing text"] * bool(rest)
        notes += [] if closed else ["no closing tag" if mark else UNFINISHED]
        stop = end + len(mark) * (mark != _START)
        if "<" in rest or not calls:
            calls.append((at, stop, Call("", problem='the message holds no whole <atem:invoke name="...">')))
        a, b, last = calls[-1]
        calls[-1] = (a, b, replace(last, repairs=tuple(dict.fromkeys([*last.repairs, *notes]))))
        return stop, one_block(text, (start, stop), calls)

    def _arguments(self, text: str, at: int, name: str, ends: Marks) -> Body:
        """Read the parameters from ``at`` on, up to the end of the call; ``ends`` are the marks after a value."""
        values: dict[str, Any] = {}
        notes: list[str] = []
        at = skip(text, at)
        while (keyed := _PARAMETER.match(text, at)) is not None:
            end, mark = ends.first(keyed.end())
            if mark and mark != _VALUE_END:
                return Body(end, "", None, tuple(notes), f"the parameter {keyed[1]!r} is not closed")
            notes += [] if mark else [UNFINISHED]
            notes += ["duplicate key"] * (keyed[1] in values)
            values[keyed[1]] = read_value(self, name, keyed[1], text[keyed.end() : end], *_MARKS)
            at = skip(text, end + len(mark))
        return body_of(text, at, _INVOKE_END, values, notes)


CODEC = Atem
