"""Search, call and fold as marks in one stream of text, with results inside the assistant's own text.

Source: "DeepAgent: A General Reasoning Agent with Scalable Toolsets" (36).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ferrule.chat.codec import Labelled
from ferrule.chat.describe import Style, check_style, fields, listing, template
from ferrule.chat.hermes import read_block
from ferrule.chat.parsing import defuse, dump
from ferrule.chat.scan import THINK_CLOSE, Found, Scan, assemble, join, label, scan
from ferrule.core.records import Call, Message, Tool, plain_text

__all__ = ["CODEC", "InStreamCodec", "last_block"]

_CALL, _CALL_END = "<tool_call>", "</tool_call>"


def last_block(text: str, name: str = "tool_call") -> str:
    """Return the body of the last closed block ``<name>...</name>`` of a text, trimmed; empty without one."""
    end = text.rfind(f"</{name}>")
    start = text.rfind(f"<{name}>", 0, max(end, 0))
    return text[start + len(name) + 2 : end].strip() if 0 <= start < end else ""


@dataclass(frozen=True)
class InStreamCodec:
    """``<tool_search>query</tool_search>``, JSON in ``<tool_call>``, the mark ``<fold_thought>``: each ends a reply.

    Calls of ``search`` with a query alone, and of ``fold`` without arguments, have marks of their own; all others are
    JSON as in ``ferrule.chat.hermes``. Results stand in ``<tool_search_result>`` and ``<tool_call_result>``. Spans of
    searches and folds are labelled ``search`` and ``fold``.
    """

    style: Style = "json"
    search: str = "tool_search"
    fold: str = "fold_thought"
    name: str = field(default="in_stream", init=False)
    inline: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        """Refuse an unknown style, and names that cannot be marks."""
        check_style(self.style)
        for name in (self.search, self.fold):
            if re.fullmatch(r"[A-Za-z_]\w*", name) is None or name == "tool_call":
                raise ValueError(f"InStreamCodec cannot use {name!r} as a mark; a mark is letters, digits and _")

    @property
    def _marks(self) -> tuple[str, str, str]:
        return f"<{self.search}>", f"</{self.search}>", f"<{self.fold}>"

    @property
    def stop(self) -> tuple[str, ...]:
        """The two closing marks and the fold mark."""
        _, search_end, fold = self._marks
        return search_end, _CALL_END, fold

    def describe(self, tools: Sequence[Tool]) -> str:
        """Return the tools and how each kind of action is written."""
        if not tools:
            return ""
        names = {tool.name for tool in tools}
        search, search_end, fold = self._marks
        lines = [f'To call a tool, write {_CALL}{{"name": ..., "arguments": {{...}}}}{_CALL_END}.']
        if self.search in names:
            lines.append(f"To look for tools, write {search}what it should do{search_end}. Tools that are found can be "
                         "called.")  # fmt: skip
        if self.fold in names:
            lines.append(f"To put short memories in the place of the history, write {fold}.")
        listed = [tool for tool in tools if tool.name not in (self.search, self.fold)]
        shown = f"Tools:\n{listing(listed, self.style, self._template)}\n" if listed else ""
        return f"{shown}{' '.join(lines)} Results come back in the text, and you go on from there."

    def _template(self, tool: Tool) -> str:
        return template(tool, self.write, fields(tool), _CALL_END)

    def write(self, message: Message) -> str:
        """Return the content, then one mark per call."""
        return join(plain_text(message), [self._block(call) for call in message.calls])

    def _block(self, call: Call) -> str:
        if call.problem and call.raw:
            return call.raw
        search, search_end, fold = self._marks
        query = call.arguments.get("query") if call.name == self.search and len(call.arguments) == 1 else None
        if isinstance(query, str) and query.strip() == query and query and not re.search(r"[<>]", query):
            return f"{search}{query}{search_end}"
        if call.name == self.fold and not call.arguments:
            return fold
        body = dump({"name": call.name, "arguments": dict(call.arguments)}, _CALL_END, search_end, THINK_CLOSE)
        body = body.replace(fold, f"\\u003c{fold[1:]}")  # it stands in a string, and would end the reply
        return f"{_CALL}{body}{_CALL_END}"

    def read(self, text: str) -> Message:
        """Return content and calls; a search that is never closed is content, and a call is read as Hermes reads it."""
        return assemble(text, self._scan(text).calls)

    def show(self, message: Message) -> str:
        """Return the result in the marks of what it answers; that of a fold as it is."""
        text = plain_text(message)
        if message.name == self.fold:
            return f"\n{text}\n"
        name = self.search if message.name == self.search else "tool_call"
        opening, close = f"<{name}_result>", f"</{name}_result>"
        return f"\n{opening}{defuse(text, opening, close)}{close}\n"

    def spans(self, text: str) -> tuple[Labelled, ...]:
        """Label thinking, searches, calls, folds, and the answer where there is no action."""
        scanned = self._scan(text)
        kinds = {(start, stop): self._kind(text, start) for start, stop, _ in scanned.calls}
        return tuple((kinds.get((a, b), what), a, b) for what, a, b in label(text, scanned))

    def _kind(self, text: str, start: int) -> str:
        search, _, fold = self._marks
        return "search" if text.startswith(search, start) else "fold" if text.startswith(fold, start) else "call"

    def _scan(self, text: str) -> Scan:
        opens = re.compile("|".join(map(re.escape, (self._marks[0], self._marks[2], _CALL))))

        def place(at: int) -> int:
            mark = opens.search(text, at)
            return mark.start() if mark else -1

        last = text.rfind(self._marks[1])  # beyond it no search is closed, and none is looked for
        return scan(text, place, lambda start: self._one(text, start, last))

    def _one(self, text: str, start: int, last: int) -> tuple[int, list[Found]]:
        """Read the action that is opened at a place; return the index after it, and its calls."""
        search, search_end, fold = self._marks
        if text.startswith(fold, start):
            stop = start + len(fold)
            return stop, [(start, stop, Call(self.fold, {}, raw=fold))]
        if text.startswith(_CALL, start):
            stop, found = read_block(text, start)
            if text.endswith(fold) and stop > len(text) - len(fold) and found:  # the mark ended the reply in the call
                problem = f"the call ended at {fold}; write \\u003c{fold[1:]} for it inside a call"
                cut = replace(found[-1][2], problem=problem, raw=text[start:])
                return len(text), [(start, len(text), cut)]
            return stop, found
        begin = start + len(search)
        end = text.find(search_end, begin) if begin <= last else -1
        if end < 0:
            return begin, []
        start = text.rfind(search, start, end)  # what was opened twice begins where it was opened last
        stop, query = end + len(search_end), text[start + len(search) : end].strip()
        return stop, [(start, stop, Call(self.search, {"query": query}, raw=text[start:stop]))]


CODEC = InStreamCodec
