"""Code in Markdown fences: a block with the right tag is a call of the code tool."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from keyword import iskeyword
from typing import Any

from ferrule.chat.codec import Labelled
from ferrule.chat.describe import Style, check_style, fields, listing, plain_line, plan, template
from ferrule.chat.parsing import dump
from ferrule.chat.scan import THINK_CLOSE, UNFINISHED, Found, NextPlace, Scan, assemble, join, label, note, scan
from ferrule.core.records import Call, Message, Tool, plain_text

__all__ = ["CODEC", "Fence"]

_TICKS = re.compile(r"(?<!`)(`{3,})([^\n`]*)(?:\n|\Z)")
_RUN = re.compile(r"`+")
_CLOSING = re.compile(r"^[ \t]*(`{3,})[ \t]*$", re.MULTILINE)
_ALIASES = {"py": "python", "python3": "python", "tool_code": "python"}


@dataclass(frozen=True)
class Fence:
    """A fenced block tagged ``tag`` is a call of ``tool`` with the code as its argument ``argument``.

    Results are shown in a block tagged ``output``; with ``inline`` they continue the assistant's text. Blocks of
    other tags are plain content; one whose opening fence bears no tag also ends the reply, since its first line
    cannot be told from a closing fence. Code that holds fences itself is written in a longer fence.
    """

    style: Style = "signature"
    inline: bool = False
    tag: str = "python"
    tool: str = "python"
    argument: str = "code"
    output: str = "output"
    name: str = field(default="fence", init=False)

    def __post_init__(self) -> None:
        """Refuse an unknown style and tags that no fence can bear."""
        check_style(self.style)
        for option in ("tag", "output"):
            value = getattr(self, option)
            if not value.strip() or value != value.strip() or "`" in value or "\n" in value:
                raise ValueError(f"Fence.{option} is {value!r}; it must be one word without backticks")

    @property
    def stop(self) -> tuple[str, ...]:
        """The closing fence on its own line."""
        return ("\n```\n",)

    def describe(self, tools: Sequence[Tool]) -> str:
        """Return how code is run and the other tools, which code calls as functions."""
        if not tools:
            return ""
        if self.style == "call":
            return f"Tools:\n{listing(tools, 'call', self._template)}"
        text = f"To run code, write:\n```{self.tag}\n...\n```"
        others = [tool for tool in tools if tool.name != self.tool]
        return f"{text}\nIn code you may call:\n{listing(others, self.style)}" if others else text

    def _template(self, tool: Tool) -> str:
        """Return the code tool with a block, any other as code that prints a call of it."""
        if tool.name == self.tool:
            return template(tool, self.write, {self.argument: "..."})
        shown = fields(tool, _literal)
        if not all(name.isidentifier() and not iskeyword(name) for name in (tool.name, *shown)):
            return plain_line(tool)
        code = f"print({tool.name}({', '.join(f'{name}={field}' for name, field in shown.items())}))"
        return self.write(Message("assistant", plan(tool), (Call(self.tool, {self.argument: code}),))).rstrip("\n")

    def _block(self, call: Call) -> str:
        if call.problem and call.raw:
            return call.raw
        code = call.arguments.get(self.argument)
        if call.name != self.tool or len(call.arguments) != 1 or not isinstance(code, str):
            raise ValueError(
                f"the fence codec writes calls of {self.tool!r} with the one text argument {self.argument!r}, "
                f"not {call.name!r} with {sorted(call.arguments)}; pick another codec for this tool"
            )
        ticks = _ticks(code)
        return f"{ticks}{self.tag}\n{code}\n{ticks}"

    def write(self, message: Message) -> str:
        """Return the content, then one fenced block per call."""
        text = join(plain_text(message), [self._block(call) for call in message.calls])
        return text + "\n" if self.inline and message.calls else text

    def read(self, text: str) -> Message:
        """Return content and calls; open fences and other spellings of the tag are repaired."""
        return assemble(text, self._scan(text).calls)

    def show(self, message: Message) -> str:
        """Return the result in an output fence."""
        text = plain_text(message)
        ticks = _ticks(text)
        return f"{ticks}{self.output}\n{text}\n{ticks}" + ("\n" if self.inline else "")

    def spans(self, text: str) -> tuple[Labelled, ...]:
        """Label think block, calls and answer."""
        return label(text, self._scan(text))

    def _scan(self, text: str) -> Scan:
        def opens(at: int) -> int:
            opening = _TICKS.search(text, at)
            return opening.start() if opening is not None else -1

        fences = _Fences(text)
        return scan(text, opens, lambda start: self._one(text, start, fences))

    def _one(self, text: str, start: int, fences: _Fences) -> tuple[int, list[Found]]:
        opening = _TICKS.match(text, start)
        assert opening is not None
        tag = opening[2].strip()
        code, stop, repairs = _body(text, opening, fences)
        if not self._mine(tag):
            return stop, []
        call = Call(self.tool, {self.argument: code}, raw=text[start:stop], repairs=tuple(repairs))
        if tag != self.tag:
            call = note(call, "tag")
        if start and text[start - 1] != "\n":
            call = note(call, "fence in line")
        return stop, [(start, stop, call)]

    def _mine(self, tag: str) -> bool:
        lowered = tag.lower()
        return tag == self.tag or self.tag.lower() in (lowered, _ALIASES.get(lowered))


class _Fences:
    """Where the blocks of a text may end, for questions whose place only grows."""

    def __init__(self, text: str) -> None:
        self._closing = list(_CLOSING.finditer(text))
        self._starts = [mark.start() for mark in self._closing]
        self.thought = NextPlace(text, partial(text.find, THINK_CLOSE))

        # The next closing fence with more ticks, for each of them: a fence of n ticks is found in n steps.
        self._longer = [len(self._closing)] * len(self._closing)
        waiting: list[int] = []
        for i, mark in enumerate(self._closing):
            while waiting and len(self._closing[waiting[-1]][1]) < len(mark[1]):
                self._longer[waiting.pop()] = i
            waiting.append(i)

    def closing(self, begin: int, count: int) -> re.Match[str] | None:
        """Return the first closing fence of at least ``count`` ticks at or after ``begin``."""
        i = bisect_left(self._starts, begin)
        while i < len(self._closing) and len(self._closing[i][1]) < count:
            i = self._longer[i]
        return self._closing[i] if i < len(self._closing) else None


def _body(text: str, opening: re.Match[str], fences: _Fences) -> tuple[str, int, list[str]]:
    """Return the code of a block, the index after it, and what was repaired."""
    count, begin = len(opening[1]), opening.end()
    if not opening[0].endswith("\n"):
        return "", len(text), [UNFINISHED]
    closing = fences.closing(begin, count)
    if closing is not None:
        return text[begin : closing.start()].removesuffix("\n"), closing.end(), []
    inner, thought = text.find("`" * count, begin), fences.thought(begin)
    if thought < len(text) and not 0 <= inner < thought:
        return text[begin:thought], thought, ["no closing fence"]
    if inner >= 0:
        stop = inner + count
        while stop < len(text) and text[stop] == "`":
            stop += 1
        # Ticks at the very end may be the beginning of more than a closing fence.
        return text[begin:inner], stop, ["fence in line", *([UNFINISHED] if stop == len(text) else [])]
    return text[begin:], len(text), [UNFINISHED]


def _literal(value: Any) -> str:
    """Write a JSON value as Python code."""
    return repr(value) if value is None or isinstance(value, bool) else dump(value)


def _ticks(text: str) -> str:
    longest = max((len(run) for run in _RUN.findall(text)), default=0)
    return "`" * max(3, longest + 1)


CODEC = Fence
