"""The Hermes form that Qwen and many others speak: JSON in ``<tool_call>`` tags, results in ``<tool_response>``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ferrule.chat.codec import Labelled
from ferrule.chat.describe import Style, check_style, fields, listing, template
from ferrule.chat.parsing import MAX_CALLS, call_from, defuse, dump, parse_json, parse_prefix
from ferrule.chat.scan import Found, assemble, join, label, note, thinking
from ferrule.core.records import Call, Message, Tool, plain_text

__all__ = ["CODEC", "Hermes"]

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
        body = dump({"name": call.name, "arguments": dict(call.arguments)}, _CLOSE)
        gap = "\n" if self.shape == "lines" else ""
        return f"{_OPEN}{gap}{body}{gap}{_CLOSE}"

    def write(self, message: Message) -> str:
        """Return the content, then one block per call."""
        gap = "\n" if self.shape == "lines" else ""
        return join(plain_text(message), [self._block(call) for call in message.calls], gap)

    def read(self, text: str) -> Message:
        """Return content and calls; broken blocks are repaired or become malformed calls."""
        return assemble(text, _scan(text), "\n" if self.shape == "lines" else "")

    def show(self, message: Message) -> str:
        """Return the result between ``<tool_response>`` tags."""
        gap = "\n" if self.shape == "lines" else ""
        return f"{_SHOW[0]}{gap}{defuse(plain_text(message), *_SHOW)}{gap}{_SHOW[1]}"

    def spans(self, text: str) -> tuple[Labelled, ...]:
        """Label think block, calls and answer."""
        return label(text, _scan(text))


def _scan(text: str) -> list[Found]:
    block = thinking(text, text.find(_OPEN))
    begin = max(block[1], 0) if block is not None else 0
    matches: list[Found] = []
    at = text.find(_OPEN, begin)
    if at < 0:
        return _unopened(text, begin)
    while at >= 0:
        if len(matches) == MAX_CALLS - 1 and text.find(_OPEN, at + 1) >= 0:
            matches.append(
                (at, len(text), Call("", raw=text[at:], problem=f"more than {MAX_CALLS} calls in one message"))
            )
            break
        stop, call = _one(text, at)
        if block is not None and block[1] < 0:
            call = note(call, "unclosed thinking")
        matches.append((at, stop, call))
        at = text.find(_OPEN, stop)
    return matches


def _one(text: str, at: int) -> tuple[int, Call]:
    """Read the block that opens at ``at``; return where it ends and its call."""
    begin = at + len(_OPEN)
    body = _skip(text, begin)
    read = parse_prefix(text, body)
    repairs: list[str] = []
    tail = read[1] if read is not None else begin
    close, following = text.find(_CLOSE, tail), text.find(_OPEN, tail)
    if close < 0 or 0 <= following < close:
        repairs.append("no closing tag")
        close = following if following >= 0 else len(text)
        stop = tail if read is not None else max(begin, len(text[:close].rstrip()))
    else:
        if read is not None and text[tail:close].strip():
            repairs.append("trailing text")
        stop = close + len(_CLOSE)
    parsed = read[0] if read is not None else parse_json(text[begin:close])
    return stop, call_from(parsed, text[at:stop], repairs)


def _unopened(text: str, begin: int) -> list[Found]:
    """Read a call whose opening tag is missing: the JSON object before a lone closing tag."""
    close = text.find(_CLOSE, begin)
    start = text.find("{", begin, close) if close >= 0 else -1
    if start < 0:
        return []
    stop = close + len(_CLOSE)
    return [(start, stop, call_from(parse_json(text[start:close]), text[start:stop], ["no opening tag"]))]


def _skip(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at


CODEC = Hermes
