"""The Hermes form that Qwen and many others speak: JSON in ``<tool_call>`` tags, results in ``<tool_response>``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ferrule.chat.codec import Labelled
from ferrule.chat.describe import Style, check_style, fields, listing, template
from ferrule.chat.objects import call_from
from ferrule.chat.parsing import MAX_CALLS, Parsed, defuse, dump, parse_json, parse_row
from ferrule.chat.scan import THINK_CLOSE, UNFINISHED, Found, Scan, assemble, join, label, scan
from ferrule.core.records import Call, Message, Tool, plain_text

__all__ = ["CODEC", "Hermes", "read_block"]

_OPEN = "<tool_call>"
_CLOSE = "</tool_call>"
_SHOW = ("<tool_response>", "</tool_response>")
_SPACE = re.compile(r"\s*")

_LONG = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a JSON object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""


@dataclass(frozen=True)
class Hermes:
    """JSON calls in ``<tool_call>`` tags.

    ``style`` picks how tools are described, ``several`` lets a reply hold more than one call (it then ends at the
    end-of-turn token, not at the first closing tag), ``shape`` is ``"lines"`` (tags on their own lines) or
    ``"tight"`` (no newlines inside, for very small models).
    """

    style: Style = "json"
    several: bool = False
    shape: str = "lines"
    name: str = field(default="hermes", init=False)
    inline: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        """Refuse an unknown style or shape."""
        check_style(self.style)
        if self.shape not in ("lines", "tight"):
            raise ValueError(f"Hermes.shape is {self.shape!r}; valid: 'lines', 'tight'")

    @property
    def stop(self) -> tuple[str, ...]:
        """The closing tag, unless several calls are allowed."""
        return () if self.several else (_CLOSE,)

    def describe(self, tools: Sequence[Tool]) -> str:
        """Return the tool section of the system message."""
        if not tools:
            return ""
        if self.style == "json":
            return _LONG.format(tools=listing(tools, "json"))
        return f"Tools:\n{listing(tools, self.style, self._template)}"

    def _template(self, tool: Tool) -> str:
        gap = "\n" if self.shape == "lines" else ""
        return template(tool, self.write, fields(tool), gap + _CLOSE)

    def _block(self, call: Call) -> str:
        if call.problem and call.raw:
            return call.raw
        body = dump({"name": call.name, "arguments": dict(call.arguments)}, _CLOSE, THINK_CLOSE)
        gap = "\n" if self.shape == "lines" else ""
        return f"{_OPEN}{gap}{body}{gap}{_CLOSE}"

    def write(self, message: Message) -> str:
        """Return the content, then one block per call."""
        gap = "\n" if self.shape == "lines" else ""
        return join(plain_text(message), [self._block(call) for call in message.calls], gap)

    def read(self, text: str) -> Message:
        """Return content and calls; broken blocks are repaired or become malformed calls."""
        return assemble(text, _scan(text).calls, "\n" if self.shape == "lines" else "")

    def show(self, message: Message) -> str:
        """Return the result between ``<tool_response>`` tags."""
        gap = "\n" if self.shape == "lines" else ""
        return f"{_SHOW[0]}{gap}{defuse(plain_text(message), *_SHOW)}{gap}{_SHOW[1]}"

    def spans(self, text: str) -> tuple[Labelled, ...]:
        """Label think block, calls and answer."""
        return label(text, _scan(text))


def _scan(text: str) -> Scan:
    scanned = scan(text, lambda at: text.find(_OPEN, at), lambda start: read_block(text, start))
    if scanned.calls or _OPEN in text:
        return scanned
    return replace(scanned, calls=_unopened(text, scanned.thoughts[-1][1] if scanned.thoughts else 0))


def read_block(text: str, start: int) -> tuple[int, list[Found]]:
    """Read the block that opens at ``start``; return where it ends and its calls: all of them, or a malformed one."""
    begin = start + len(_OPEN)
    row = parse_row(text, _skip(text, begin))
    tail = row[-1][2] if row else begin
    # A block ends where it is closed, where the next one opens, and where thinking is closed around it.
    ends = [(at, mark) for mark in (_CLOSE, _OPEN, THINK_CLOSE) if (at := text.find(mark, tail)) >= 0]
    end, mark = min(ends, default=(len(text), ""))
    repairs = [] if mark == _CLOSE else ["no closing tag" if mark else UNFINISHED]
    rest = text[tail:end].strip()
    stop = end + len(_CLOSE) if mark == _CLOSE else max(begin, len(text[:end].rstrip()))
    if not row:
        return stop, [(start, stop, call_from(parse_json(text[begin:end]), text[start:stop], repairs))]
    if any(bracket in rest for bracket in "{["):
        problem = "the block holds more than its first call, and what follows cannot be read"
        return stop, [(start, stop, Call("", raw=text[start:stop], problem=problem, repairs=tuple(repairs)))]
    if mark != _CLOSE:
        stop = tail
    elif rest:
        repairs.append("trailing text")
    return stop, _calls(text, (start, stop), row, repairs)


def _calls(text: str, block: tuple[int, int], row: list[tuple[Parsed, int, int]], repairs: list[str]) -> list[Found]:
    """Return the calls of one block, which holds objects in a row or a list of them; repairs belong to the last.

    A malformed one among several makes the block one malformed call.
    """
    start, stop = block
    parsed = row[0][0]
    entries = parsed.value[: MAX_CALLS + 1] if len(row) == 1 and isinstance(parsed.value, list) else []
    if entries and all(isinstance(entry, dict) for entry in entries):
        items = [(replace(parsed, value=entry), dump(entry), stop, stop) for entry in entries]
        items[0] = (*items[0][:2], start, stop)
    else:
        edges = [start, *(at for _, at, _ in row[1:]), stop]
        items = [(item[0], text[a:b].rstrip(), a, b) for item, a, b in zip(row, edges[:-1], edges[1:], strict=True)]
    last = len(items) - 1
    calls = [(a, b, call_from(item, raw, repairs if i == last else [])) for i, (item, raw, a, b) in enumerate(items)]
    broken = next((call for _, _, call in calls if call.problem), None)
    if broken is not None:
        return [(start, stop, replace(broken, raw=text[start:stop], repairs=(*broken.repairs, *repairs)))]
    return calls


def _unopened(text: str, begin: int) -> tuple[Found, ...]:
    """Read a call whose opening tag is missing: the JSON object before a lone closing tag."""
    close = text.find(_CLOSE, begin)
    start = text.find("{", begin, close) if close >= 0 else -1
    if start < 0:
        return ()
    stop = close + len(_CLOSE)
    return ((start, stop, call_from(parse_json(text[start:close]), text[start:stop], ["no opening tag"])),)


def _skip(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at


CODEC = Hermes
