"""Thought / Action / Action Input / Observation lines, closed by ``Final Answer`` (ReAct, arXiv 2210.03629)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ferrule.chat.codec import Labelled
from ferrule.chat.describe import Style, check_style, fields, listing, template
from ferrule.chat.parsing import MAX_CALLS, Parsed, call_from, dump, parse_json, parse_prefix
from ferrule.chat.scan import Found, assemble, join, label, note, thinking
from ferrule.core.records import Call, Message, Tool, plain_text

__all__ = ["CODEC", "React"]

_THOUGHT = "Thought: "
_ANSWER = "Final Answer: "
_SEEN = "Observation:"
_LABEL = re.compile(
    r"^[ \t]*(?P<mark>\**)(?P<word>action input|action|observation|thought|final answer)(?P<number>[ \t]*\d{0,3})"
    r"[ \t]*:(?P<more>\**)[ \t]*",
    re.MULTILINE | re.IGNORECASE,
)
_FENCE = re.compile(r"\A```[a-z]*\n(.*?)\n?```\Z", re.DOTALL)


@dataclass(frozen=True)
class React:
    """Actions as labelled lines with JSON input.

    Content is the thought. A message without calls is a final answer and is written with its label unless the
    content bears one on a line. ``inline`` (the published form) lets results follow ``Observation:`` in the same
    text; otherwise they are messages of their own. An input that is plain text becomes the argument ``text_argument``.
    """

    style: Style = "signature"
    inline: bool = True
    text_argument: str = "input"
    name: str = field(default="react", init=False)

    def __post_init__(self) -> None:
        """Refuse an unknown style."""
        check_style(self.style)

    @property
    def stop(self) -> tuple[str, ...]:
        """The label that only the tool may fill in."""
        return (f"\n{_SEEN}",)

    def describe(self, tools: Sequence[Tool]) -> str:
        """Return the tools and the labels."""
        if not tools:
            return ""
        if self.style == "call":
            return f"Tools:\n{listing(tools, 'call', self._template)}\nTo answer:\n{_ANSWER}..."
        form = (
            "Thought: ...\nAction: tool name\nAction Input: JSON arguments\nObservation: result\n...\nFinal Answer: ..."
        )
        return f"Tools:\n{listing(tools, self.style)}\nUse this form:\n{form}"

    def _template(self, tool: Tool) -> str:
        return template(tool, self.write, fields(tool), f"\n{_SEEN}")

    def write(self, message: Message) -> str:
        """Return thought and actions, or the final answer."""
        content = plain_text(message)
        if not message.calls:
            labelled = any(m["word"].lower() == "final answer" for m in _LABEL.finditer(content))
            return content if labelled else _ANSWER + content
        text = join(_THOUGHT + content if content else "", [_lines(call) for call in message.calls])
        return f"{text}\n{_SEEN}" if self.inline else text

    def read(self, text: str) -> Message:
        """Return the thought and its calls, or the answer."""
        matches = self._scan(text)
        if not matches:
            rest = text.removeprefix(_ANSWER)
            labels = sum(m["word"].lower() == "final answer" for m in _LABEL.finditer(text))
            return Message("assistant", rest if labels == 1 else text)
        body = text.rstrip().removesuffix(_SEEN)
        if len(body) < matches[-1][1]:
            body = text
        message = assemble(body, matches)
        content = plain_text(message)
        if content.startswith(_THOUGHT.strip()):
            content = content.removeprefix(_THOUGHT.strip()).removeprefix(" ")
        return Message("assistant", content, message.calls)

    def show(self, message: Message) -> str:
        """Return the result; inline it follows the label that the model wrote."""
        text = plain_text(message)
        return f" {text}\n" if self.inline else f"{_SEEN} {text}"

    def spans(self, text: str) -> tuple[Labelled, ...]:
        """Label think block, calls, and the text after the last ``Final Answer:``."""
        matches = self._scan(text)
        marks = [m for m in _LABEL.finditer(text) if m["word"].lower() == "final answer"]
        if matches or not marks:
            return label(text, matches)
        return label(text, matches, (marks[-1].end(), len(text.rstrip())) if text[marks[-1].end() :].strip() else None)

    def _scan(self, text: str) -> list[Found]:
        block = thinking(text, text.find("Action:"))
        begin = max(block[1], 0) if block is not None else 0
        marks = [m for m in _LABEL.finditer(text, begin) if m["word"].lower() != "thought"]
        matches: list[Found] = []
        at = begin
        for i, mark in enumerate(marks):
            word = mark["word"].lower()
            if mark.start() < at or not word.startswith("action"):
                continue
            if len(matches) == MAX_CALLS - 1:
                problem = f"more than {MAX_CALLS} calls in one message"
                matches.append((mark.start(), len(text), Call("", raw=text[mark.start() :], problem=problem)))
                break
            given = next((m for m in marks[i + 1 : i + 2] if m["word"].lower() == "action input"), None)
            at, call = self._one(text, mark, given)
            if block is not None and block[1] < 0:
                call = note(call, "unclosed thinking")
            if any(m["word"].lower() == "final answer" for m in marks[:1]):
                call = note(call, "answer beside call")
            matches.append((mark.start(), at, call))
        return matches

    def _one(self, text: str, mark: re.Match[str], given: re.Match[str] | None) -> tuple[int, Call]:
        """Read one action; return the index after it and the call."""
        start = mark.start()
        repairs = ["label"] if _odd(mark) or (given is not None and _odd(given)) else []
        line = _line_end(text, mark.end())
        if mark["word"].lower() == "action input":
            return line, Call("", raw=text[start:line], problem="Action Input without an Action before it")
        name = text[mark.end() : line].strip()
        if given is None or text[line : given.start()].strip():
            return line, call_from(Parsed({"name": name}), text[start:line], repairs)
        read = parse_prefix(text, given.end())
        if read is not None and isinstance(read[0].value, dict | list | str):
            parsed, stop = read
            tail = _line_end(text, stop)
            if text[stop:tail].strip():
                repairs, stop = [*repairs, "trailing text"], tail
        else:
            following = _LABEL.search(text, given.end())
            stop = len(text[: following.start()].rstrip()) if following is not None else len(text.rstrip())
            stop = max(stop, given.end())
            parsed = self._loose(text[given.end() : stop].strip())
        if isinstance(parsed.value, str):
            parsed = Parsed({self.text_argument: parsed.value}, (*parsed.repairs, "text input"), parsed.problem)
        value = {"name": name, "arguments": parsed.value}
        return stop, call_from(Parsed(value, parsed.repairs, parsed.problem), text[start:stop], repairs)

    def _loose(self, body: str) -> Parsed:
        """Read an input that does not begin with JSON: fenced JSON, broken JSON, or plain text."""
        fenced = _FENCE.match(body)
        if fenced is not None:
            inner = parse_json(fenced[1])
            return Parsed(inner.value, (*inner.repairs, "fence"), inner.problem)
        return parse_json(body) if body.startswith(("{", "[")) or not body else Parsed(body)


def _odd(mark: re.Match[str]) -> bool:
    return mark[0].rstrip() != {"action": "Action:", "action input": "Action Input:"}.get(mark["word"].lower())


def _lines(call: Call) -> str:
    if call.problem and call.raw:
        return call.raw
    return f"Action: {call.name}\nAction Input: {dump(dict(call.arguments))}"


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return end if end >= 0 else len(text)


CODEC = React
