"""Tagged XML: the tag is the tool, its body the one text argument or a list of parameter tags."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ferrule.chat.codec import Labelled
from ferrule.chat.describe import Style, check_style, fields, listing, takes_text, template
from ferrule.chat.parsing import defuse, parse_json
from ferrule.chat.scan import THINK_CLOSE, UNFINISHED, Found, Scan, assemble, join, label, scan, thinking
from ferrule.chat.untyped import as_text, as_value, safe, written
from ferrule.core.records import Call, Message, Tool, plain_text

__all__ = ["CODEC", "Tagged"]

_NAME = r"[A-Za-z_][\w.-]{0,63}"
_TAG = re.compile(rf"<({_NAME})>")
_ANY = re.compile(rf"<(/?)({_NAME})(\s[^<>]*)?>")
_THOUGHTS = {"think", "thinking"}


@dataclass(frozen=True)
class Tagged:
    """Calls as ``<search>query</search>``.

    ``arguments`` pairs tools with the argument that a plain body fills (``Tagged.of(tools)`` takes them from the
    tools). Other arguments are written as parameter tags, ``<find><name>x</name><top>3</top></find>``, whose
    values are JSON where they parse as JSON and text otherwise (``texts`` pairs tools with parameters that are always
    text); names that cannot be tags there (a parameter named as
    its tool, or with spaces) are written as a JSON object in the body. With ``known_only`` tags of other tools are
    content. Results are shown in ``result`` tags, by default inside the assistant's text. A message without calls is
    an answer and is written in ``answer`` tags ("" writes it bare).
    """

    style: Style = "signature"
    inline: bool = True
    arguments: tuple[tuple[str, str], ...] = (("search", "query"), ("python", "code"), ("calculator", "expression"))
    known_only: bool = False
    result: str = "result"
    answer: str = "answer"
    texts: tuple[tuple[str, str], ...] = ()
    name: str = field(default="tagged", init=False)

    def __post_init__(self) -> None:
        """Refuse an unknown style and names that cannot be tags."""
        check_style(self.style)
        for option in ("arguments", "texts"):  # settings read from JSON bring lists
            object.__setattr__(self, option, tuple((str(tool), str(key)) for tool, key in getattr(self, option)))
        names = [tool for tool, _ in self.arguments] + [key for _, key in self.arguments if key] + [self.result]
        for name in [*names, *([self.answer] if self.answer else [])]:
            if re.fullmatch(_NAME, name) is None:
                raise ValueError(f"Tagged cannot use {name!r} as a tag; a tag is a letter, then letters, digits, _ . -")
        clash = {tool for tool, _ in self.arguments} & self._reserved
        if clash:
            raise ValueError(f"Tagged.arguments names {sorted(clash)}, which are tags of their own")

    @classmethod
    def of(cls, tools: Sequence[Tool], **options: Any) -> Tagged:
        """Build the codec for tools: a plain body fills the first required text argument, other tags are content."""
        arguments = tuple((tool.name, _main(tool.parameters)) for tool in tools)
        return cls(arguments=arguments, known_only=True, **options).typed(tools)

    def typed(self, tools: Sequence[Tool]) -> Tagged:
        """Return the codec that knows these tools: their names, and which parameters are text.

        A text stays as it was written, and a tag that is never closed is read as an unfinished call.
        """
        pairs = [(tool, key) for tool in tools for key in tool.parameters.get("properties", {})]
        texts = tuple((tool.name, key) for tool, key in pairs if takes_text(tool, key))
        known = {tool for tool, _ in self.arguments} | self._reserved
        new = [tool.name for tool in tools if tool.name not in known and re.fullmatch(_NAME, tool.name)]
        arguments = self.arguments if self.known_only else (*self.arguments, *((name, "") for name in new))
        return replace(self, texts=texts, arguments=arguments)

    @property
    def _reserved(self) -> set[str]:
        return {*_THOUGHTS, self.result, *([self.answer] if self.answer else [])}

    @property
    def stop(self) -> tuple[str, ...]:
        """The closing tags of the known tools."""
        return tuple(f"</{tool}>" for tool, _ in self.arguments)

    def describe(self, tools: Sequence[Tool]) -> str:
        """Return the tools and how each is called."""
        if not tools:
            return ""
        known = dict(self.arguments)
        last = f"\nTo answer: <{self.answer}>...</{self.answer}>" if self.answer else ""
        if self.style == "call":
            return f"Tools:\n{listing(tools, 'call', self._template)}{last}"
        forms = [_form(tool, known.get(tool.name, "")) for tool in tools]
        return f"Tools:\n{listing(tools, self.style)}\nTo call:\n" + "\n".join(forms) + last

    def _template(self, tool: Tool) -> str:
        """Return the template of a tool; a plain body bears the name of its argument."""
        shown = fields(tool, written)
        key = dict(self.arguments).get(tool.name, "")
        if list(shown) == [key] and takes_text(tool, key):
            shown = {key: f"{key}: {shown[key]}"}
        return template(tool, self.write, shown)

    def write(self, message: Message) -> str:
        """Return the content and one tag per call, or the answer in its tags."""
        content = plain_text(message)
        if message.calls:
            return join(content, [self._block(call) for call in message.calls])
        if not self.answer or f"<{self.answer}>" in content:
            return content
        block = thinking(content)
        begin = max(block[1], 0) if block is not None else 0
        return f"{content[:begin]}<{self.answer}>{content[begin:]}</{self.answer}>"

    def read(self, text: str) -> Message:
        """Return content and calls; a known tag that is never closed is repaired."""
        matches = self._scan(text).calls
        opening, close = f"<{self.answer}>", f"</{self.answer}>"
        if not matches and self.answer and text.startswith(opening) and text.endswith(close):
            inner = text[len(opening) : len(text) - len(close)]
            if opening not in inner and close not in inner and len(text) >= len(opening) + len(close):
                return Message("assistant", inner)
        return assemble(text, matches)

    def show(self, message: Message) -> str:
        """Return the result in its tags."""
        opening, close = f"<{self.result}>", f"</{self.result}>"
        text = f"{opening}{defuse(plain_text(message), opening, close)}{close}"
        return f"\n{text}\n" if self.inline else text

    def spans(self, text: str) -> tuple[Labelled, ...]:
        """Label think block, calls, and the body of the last answer tag."""
        scanned = self._scan(text)
        opening, close = f"<{self.answer}>", f"</{self.answer}>"
        start = text.rfind(opening) if self.answer else -1
        if start < 0:
            return label(text, scanned)
        begin = start + len(opening)
        stop = text.find(close, begin)
        return label(text, scanned, (begin, stop if stop >= 0 else len(text)))

    def _block(self, call: Call) -> str:
        if call.problem and call.raw:
            return call.raw
        if re.fullmatch(_NAME, call.name) is None or call.name in self._reserved:
            raise ValueError(f"the tagged codec cannot write a call of {call.name!r}: not usable as a tag")
        if self.known_only and call.name not in dict(self.arguments):
            known = [tool for tool, _ in self.arguments]
            raise ValueError(f"the tagged codec was made for the tools {known}, not {call.name!r}")
        body = self._body(call.name, dict(call.arguments))
        if body is None:
            raise ValueError(f"the tagged codec cannot write the argument names {sorted(call.arguments)} as tags")
        return f"<{call.name}>{body}</{call.name}>"

    def _body(self, name: str, arguments: dict[str, Any]) -> str | None:
        key = dict(self.arguments).get(name)
        value = arguments.get(key) if key else None
        plain = key and len(arguments) == 1 and isinstance(value, str) and f"</{name}>" not in value
        if plain and self._read_body(name, str(value)) == (arguments, ()):
            return str(value)
        if not arguments:
            return "{}"
        if name not in arguments and all(re.fullmatch(_NAME, k) for k in arguments):
            return "".join(f"<{k}>{written(v)}</{k}>" for k, v in arguments.items())
        return safe(arguments) if not key or key in arguments else None

    def _read_body(self, name: str, body: str) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Return arguments and repairs of a body."""
        stripped = body.strip()
        if stripped == "{}":
            return {}, ()
        nested = _parameters(body, {key for tool, key in self.texts if tool == name})
        if nested is not None:
            return nested
        key = dict(self.arguments).get(name)
        if key:
            value = as_value(stripped) if stripped.startswith("{") else None
            return (value if isinstance(value, dict) and key in value else {key: body}), ()
        if not stripped:
            return {}, ()
        if stripped.startswith("{"):
            parsed = parse_json(stripped)
            if isinstance(parsed.value, dict):
                return parsed.value, parsed.repairs
        return {"input": body}, ("bare body",)

    def _scan(self, text: str) -> Scan:
        known = dict(self.arguments)
        tags = [tag for tag in _ANY.finditer(text) if not tag[3] or tag[2] in known]
        closers: dict[str, list[int]] = {}
        for tag in tags:
            if tag[1]:
                closers.setdefault(tag[2], []).append(tag.start())

        def close_of(tag: re.Match[str]) -> int:
            ends = closers.get(tag[2], [])
            place = bisect_left(ends, tag.end())
            return ends[place] if place < len(ends) else -1

        openers = [tag for tag in tags if not tag[1] and self._opens(tag[2], close_of(tag))]
        starts = [tag.start() for tag in openers]

        def opens(at: int) -> int:
            place = bisect_left(starts, at)
            return starts[place] if place < len(starts) else -1

        def one(start: int) -> tuple[int, list[Found]]:
            tag = openers[bisect_left(starts, start)]
            return self._one(text, tag, close_of(tag))

        return scan(text, opens, one)

    def _opens(self, name: str, close: int) -> bool:
        """Say whether a tag opens a call, or a part in which none is read; one that is not known must be closed."""
        if name in self._reserved:
            return name not in _THOUGHTS and close >= 0
        return name in dict(self.arguments) or (close >= 0 and not self.known_only)

    def _one(self, text: str, tag: re.Match[str], close: int) -> tuple[int, list[Found]]:
        """Read what a tag opens; return the index after it and its call, if it is one."""
        name, start = tag[2], tag.start()
        if name in self._reserved:
            return close, []
        end, repairs = close, list[str]()
        if close < 0:
            thought = text.find(THINK_CLOSE, tag.end())
            end, repairs = (thought, ["no closing tag"]) if thought >= 0 else (len(text), [UNFINISHED])
        stop = end + len(name) + 3 if close >= 0 else end
        arguments, more = self._read_body(name, text[tag.end() : end])
        call = Call(name, arguments, raw=text[start:stop], repairs=(*more, *repairs))
        if tag[3]:
            problem = f"arguments are written between <{name}> and </{name}>, not inside the tag"
            call = replace(call, arguments={}, problem=problem)
        return stop, [(start, stop, call)]


def _main(parameters: Mapping[str, Any]) -> str:
    """Return the parameter a plain body fills: the first required text one, else the first text one, else the first."""
    properties: Mapping[str, Any] = parameters.get("properties", {})
    if not properties:
        return ""
    texts = [key for key, schema in properties.items() if schema.get("type") == "string"]
    required = [key for key in texts if key in parameters.get("required", ())]
    return next(iter([*required, *texts, *properties]))


def _form(tool: Tool, key: str) -> str:
    names = list(tool.parameters.get("properties", {}))
    if key and names in ([key], []):
        return f"<{tool.name}>{key}</{tool.name}>"
    return f"<{tool.name}>{''.join(f'<{n}>...</{n}>' for n in names)}</{tool.name}>"


def _parameters(body: str, texts: Container[str] = ()) -> tuple[dict[str, Any], tuple[str, ...]] | None:
    """Read a body that is nothing but parameter tags; ``texts`` are the parameters that are text."""
    values: dict[str, Any] = {}
    repairs: tuple[str, ...] = ()
    at, end = len(body) - len(body.lstrip()), len(body.rstrip())
    while at < end:
        tag = _TAG.match(body, at)
        close = body.find(f"</{tag[1]}>", tag.end()) if tag is not None else -1
        if tag is None or close < 0:
            return None
        if tag[1] in values:
            repairs = ("duplicate key",)
        inside = body[tag.end() : close]
        values[tag[1]] = as_text(inside) if tag[1] in texts else as_value(inside)
        at = close + len(tag[1]) + 3
        while at < end and body[at].isspace():
            at += 1
    return (values, repairs) if values else None


CODEC = Tagged
