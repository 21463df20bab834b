"""Thought / Action / Action Input / Observation lines, closed by ``Final Answer`` (ReAct, arXiv 2210.03629)."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ferrule.chat.codec import Labelled
from ferrule.chat.describe import Style, check_style, fields, listing, template
from ferrule.chat.objects import call_from
from ferrule.chat.parsing import Parsed, dump, open_ended, parse_json, parse_row
from ferrule.chat.scan import THINK_CLOSE, UNFINISHED, Found, Scan, assemble, join, label, note, scan
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
        matches = self._scan(text).calls
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
        scanned = self._scan(text)
        marks = [m for m in _LABEL.finditer(text) if m["word"].lower() == "final answer"]
        if scanned.calls or not marks:
            return label(text, scanned)
        return label(text, scanned, (marks[-1].end(), len(text.rstrip())) if text[marks[-1].end() :].strip() else None)

    def _scan(self, text: str) -> Scan:
        marks = [m for m in _LABEL.finditer(text) if m["word"].lower() != "thought"]
        actions = [i for i, mark in enumerate(marks) if mark["word"].lower().startswith("action")]
        starts = [marks[i].start() for i in actions]

        def opens(at: int) -> int:
            place = bisect_left(starts, at)
            return starts[place] if place < len(starts) else -1

        def one(start: int) -> tuple[int, list[Found]]:
            i = actions[bisect_left(starts, start)]
            stop, call = self._one(text, *marks[i : i + 2])
            return stop, [(start, stop, call)]

        scanned = scan(text, opens, one)
        answered = next((m.start() for m in marks if m["word"].lower() == "final answer"), len(text))
        begin = scanned.thoughts[-1][1] if scanned.thoughts else 0
        if begin <= answered < (scanned.calls[0][0] if scanned.calls else 0):
            beside = tuple((start, stop, note(call, "answer beside call")) for start, stop, call in scanned.calls)
            return replace(scanned, calls=beside)
        return scanned

    def _one(self, text: str, mark: re.Match[str], after: re.Match[str] | None = None) -> tuple[int, Call]:
        """Read the action at a label, which ``after`` follows; return the index after it and the call."""
        start = mark.start()
        given = after if after is not None and after["word"].lower() == "action input" else None
        repairs = ["label"] if _odd(mark) or (given is not None and _odd(given)) else []
        line = _line_end(text, mark.end())
        if mark["word"].lower() == "action input":
            return line, Call("", raw=text[start:line], problem="Action Input without an Action before it")
        name = text[mark.end() : line].strip()
        if given is None:
            open_end = [UNFINISHED] if after is None and THINK_CLOSE not in text[line:] else []
            return line, call_from(Parsed({"name": name}), text[start:line], [*repairs, *open_end])
        if text[line : given.start()].strip():
            problem = "text stands between Action and Action Input; write the input in the line after its action"
            stop = _line_end(text, given.end())
            return stop, Call(name, raw=text[start:stop], problem=problem)
        stop, parsed, more = self._input(text, given.end())
        value = {"name": name, "arguments": parsed.value}
        call = call_from(replace(parsed, value=value, doubled=frozenset()), text[start:stop], [*repairs, *more])
        return stop, call

    def _input(self, text: str, begin: int) -> tuple[int, Parsed, list[str]]:
        """Read an input; return the index after it, its value as an object or list, and what was repaired."""
        row = parse_row(text, begin)
        if row and isinstance(row[0][0].value, dict | list | str):
            tail = _line_end(text, row[-1][2])
            rest = text[row[-1][2] : tail]
            if len(row) > 1 or any(bracket in rest for bracket in "{["):
                return tail, Parsed(problem="Action Input holds more than one object; write one action for each"), []
            if rest.strip():
                return self._as_object(row[0][0], tail, ["trailing text"])
            return self._as_object(row[0][0], row[0][2], [])
        following = _LABEL.search(text, begin)
        ends = [following.start()] if following is not None else []
        ends += [at] if (at := text.find(THINK_CLOSE, begin)) >= 0 else []
        stop = max(len(text[: min(ends, default=len(text))].rstrip()), begin)
        body = text[begin:stop].strip()
        parsed = self._loose(body)
        whole = isinstance(parsed.value, dict | list) and not open_ended(body.removesuffix("```"))
        return self._as_object(parsed, stop, [] if ends or whole else [UNFINISHED])

    def _as_object(self, parsed: Parsed, stop: int, repairs: list[str]) -> tuple[int, Parsed, list[str]]:
        """Turn a text into the argument it stands for; an empty one is no arguments."""
        text = parsed.value
        if isinstance(text, str):
            value, read = ({self.text_argument: text}, "text input") if text.strip() else ({}, "no arguments")
            parsed = Parsed(value, (*parsed.repairs, read), parsed.problem)
        return stop, parsed, repairs

    def _loose(self, body: str) -> Parsed:
        """Read an input that does not begin with JSON: fenced JSON, broken JSON, or plain text."""
        fenced = _FENCE.match(body)
        if fenced is not None:
            inner = parse_json(fenced[1])
            return Parsed(inner.value, (*inner.repairs, "fence"), inner.problem)
        return parse_json(body) if body.startswith(("{", "[")) else Parsed(body)


def _odd(mark: re.Match[str]) -> bool:
    return mark[0].rstrip() != {"action": "Action:", "action input": "Action Input:"}.get(mark["word"].lower())


def _lines(call: Call) -> str:
    if call.problem and call.raw:
        return call.raw
    return f"Action: {call.name}\nAction Input: {dump(dict(call.arguments), THINK_CLOSE)}"


def _line_end(text: str, at: int) -> int:
    """Return where a line ends, or where thinking is closed in it."""
    end = text.find("\n", at)
    end = end if end >= 0 else len(text)
    thought = text.find(THINK_CLOSE, at, end)
    return thought if thought >= 0 else end


CODEC = React
