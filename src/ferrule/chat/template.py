"""A Hugging Face chat template as a renderer: the text that is added is the difference between two renderings."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ferrule.chat.codec import Codec, awaited
from ferrule.chat.describe import tool_schema
from ferrule.chat.layout import WRAPPED, Entry, Layout, standing_in
from ferrule.chat.parsing import defuse
from ferrule.chat.renderer import added, after_results, flat, text_of, with_tools
from ferrule.chat.reply import open_thought
from ferrule.chat.scan import CLOSES, THINK_OPEN, THINKING, rethought, thinking
from ferrule.core.records import Call, Message, Tool, plain_text

__all__ = ["Template"]

_PROBE = "\u2402ferrule probe\u2403"
_THOUGHT = "ferrule thinks"
_ARGUMENT = "ferrule stands in"
_CLOSED = re.compile(rf"\s*(?:{CLOSES.pattern})\s*")
_INSIDE = re.compile(r'[:,\[{]\s*"\Z')
_USER: Entry = {"role": "user", "content": "x"}
_CLOCK = re.compile(r"""\bstrftime_now\(\s*(?P<quote>["'])(?P<form>[^"']*)(?P=quote)\s*\)""")


def _own(codec: Codec) -> str:
    """Return text with every tag that a codec writes by itself; such tags must reach the model whole."""
    texts = [*(mark for pair in THINKING for mark in pair), *codec.stop, codec.show(Message("tool", "x"))]
    for call in (Call("search", {"query": "x"}), Call("python", {"code": "x"})):
        with suppress(ValueError):
            texts.append(codec.write(Message("assistant", "<think>x</think>x", (call, call))))
    return "\n".join(texts)


def _special(tokenizer: Any) -> tuple[str, ...]:
    """Return the control tokens of a tokenizer, longest first: its named special tokens and all added as special."""
    added = getattr(tokenizer, "added_tokens_decoder", None) or {}
    named = getattr(tokenizer, "all_special_tokens", None) or ()
    texts = {str(token) for token in named} | {str(token) for token in added.values() if token.special}
    return tuple(sorted((text for text in texts if text), key=lambda text: (-len(text), text)))


def _defused(value: Any, *markers: str) -> Any:
    """Return a JSON value with the markers in all its texts broken."""
    if isinstance(value, str):
        return defuse(value, *markers)
    if isinstance(value, Mapping):
        return {defuse(str(key), *markers): _defused(inner, *markers) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_defused(inner, *markers) for inner in value]
    return value


def _put_back(text: str, held: Mapping[str, Entry], frame: str) -> str:
    """Put contents where their marks stand in a rendering.

    Replies go without the template's frame; results escaped inside a JSON object, and without quotes where the template
    writes all of one as a JSON text.
    """
    if not held:
        return text
    pieces = re.split(f"({'|'.join(map(re.escape, held))})", text)
    for i in range(1, len(pieces), 2):
        entry, before, after = held[pieces[i]], pieces[i - 1], pieces[i + 1]
        pieces[i] = content = entry["content"]
        if entry["role"] == "assistant":
            pieces[i - 1] = before.removesuffix(frame)
        elif before.endswith('"') and after.startswith('"'):
            if _INSIDE.search(before):
                pieces[i] = json.dumps(content, ensure_ascii=False)[1:-1]
            else:
                pieces[i - 1], pieces[i + 1] = before[:-1], after[1:]
    return "".join(pieces)


@dataclass(frozen=True)
class Template:
    """Any Hugging Face chat template; ``ferrule.chat.fitted`` builds one whose text is checked.

    ``tokenizer`` needs ``apply_chat_template``. ``layout`` says what messages become before the template sees them.
    ``default_system`` begins a system message that is made for the tools alone. With ``own_tools`` the template
    describes the tools itself, else the codec does in the system message. ``date`` (ISO) stands for today wherever the
    template asks for the day in a form written out in it; empty is the day of each rendering.

    An extension is rendered after a short conversation in place of the real one, so that it does not depend on what a
    template makes of earlier turns, such as leaving their thinking out. Results keep their text: where a template
    would write all of one as a JSON text it stands without quotes, inside a JSON object it is escaped.
    """

    tokenizer: Any
    codec: Codec
    layout: Layout = WRAPPED
    default_system: str = ""
    own_tools: bool = False
    image: str = ""
    date: str = ""

    @cached_property
    def _dated(self) -> dict[str, str]:
        """The argument that gives the tokenizer its template with the date written in; empty where there is none."""
        given = getattr(self.tokenizer, "chat_template", None)
        if not self.date or not isinstance(given, str):
            return {}
        day = datetime.date.fromisoformat(self.date)
        dated = _CLOCK.sub(lambda found: repr(day.strftime(found["form"])), given)
        return {} if dated == given else {"chat_template": dated}

    @property
    def dated(self) -> bool:
        """Say whether the template puts the date into the prompt."""
        return bool(_CLOCK.search(str(getattr(self.tokenizer, "chat_template", "") or "")))

    def render(self, entries: Sequence[Entry], prompt: bool, tools: Sequence[Mapping[str, Any]] = ()) -> str:
        """Return what the template makes of entries, with its generation prompt or without."""
        more = {**self._dated, **({"tools": list(tools)} if tools else {})}
        frame = self.codec.write(Message("assistant", ""))
        held: dict[str, Entry] = {}
        given = list(entries)
        for i, entry in enumerate(given):  # a mark stands for each result, and each reply that the codec frames itself
            marked = entry["role"] == "tool" or (entry["role"] == "assistant" and frame)
            if marked and entry.get("content") and isinstance(entry["content"], str):
                mark = f"\u2402{entry['role']} {i}\u2403"
                held[mark], given[i] = entry, {**entry, "content": mark}
        arranged = self.layout.arranged(given)
        text = str(self.tokenizer.apply_chat_template(arranged, tokenize=False, add_generation_prompt=prompt, **more))
        return _put_back(text, held, frame)

    @property
    def native(self) -> bool:
        """Say whether replies before results are given to the template with their calls as data."""
        return self.layout.calls and not self.codec.inline

    @property
    def takes_text(self) -> bool:
        """Say whether the template takes the arguments of calls as JSON text only; ``ValueError`` if it takes none."""
        return isinstance(self._stand_in[0], str)

    @cached_property
    def special(self) -> tuple[str, ...]:
        """Control tokens of the tokenizer, longest first."""
        return _special(self.tokenizer)

    @cached_property
    def _markers(self) -> tuple[str, ...]:
        """Control tokens that system text and replies must not hold: all but those that the codec itself writes."""
        codec_text = _own(self.codec)
        return tuple(token for token in self.special if token not in codec_text)

    @cached_property
    def _foreign(self) -> tuple[str, ...]:
        """Control tokens that users' text and results must not hold: all but thinking and the codec's frame."""
        frame = "<think></think>" + self.codec.show(Message("tool", "x"))
        return tuple(token for token in self.special if token not in frame)

    def _entries(self, messages: Sequence[Message]) -> tuple[list[Entry], str]:
        """Return entries for the template, and the text of an assistant turn that stays open (inline results)."""
        entries: list[Entry] = []
        pending = ""
        markers = self._markers
        i = 0
        while i < len(messages):
            message = messages[i]
            stop = after_results(messages, i) if message.role == "tool" else i + 1
            if message.role == "tool":
                results = [flat(m, self.image, *self._foreign) for m in messages[i:stop]]
                if self.codec.inline:
                    pending += "".join(self.codec.show(m) for m in results)
                else:
                    entries += self.layout.results(self.codec, results)
            elif message.role == "assistant":
                pending += defuse(self._written(message), *markers)
                if not (self.codec.inline and stop < len(messages) and messages[stop].role == "tool"):
                    entries.append({"role": "assistant", "content": pending})
                    pending = ""
            else:
                if pending:
                    entries.append({"role": "assistant", "content": pending})
                    pending = ""
                broken = self._foreign if message.role == "user" else markers
                entries.append({"role": message.role, "content": text_of(message, self.image, *broken)})
            i = stop
        return entries, pending

    @cached_property
    def closing(self) -> str:
        """What the template puts after a reply to end its turn; empty where the next turn's header alone does."""
        probe: list[Entry] = [{"role": "user", "content": "x"}, {"role": "assistant", "content": _PROBE}]
        last = self.render(probe, False).partition(_PROBE)[2]
        followed = self.render([*probe, {"role": "user", "content": "y"}], True).partition(_PROBE)[2]
        if not last.strip():
            return ""
        first = followed.lstrip()
        return next((token for token in self.special if first.startswith(token)), last.rstrip())

    @cached_property
    def opens(self) -> str:
        """The mark of thinking that the generation prompt opens; empty where it leaves that to the model."""
        text = self.render([{"role": "user", "content": "x"}], True)
        return open_thought(text)

    @cached_property
    def around_thought(self) -> tuple[str, str]:
        """What the family writes before and behind thinking, line breaks included; two empty texts where unknown.

        A template that is given thinking as data shows it; one that shows none may still name the mark that closes it.
        """
        call = {"type": "function", "id": "000000000", "function": {"name": "a", "arguments": {"mark": _ARGUMENT}}}
        reply: Entry = {"role": "assistant", "content": _PROBE, "reasoning_content": _THOUGHT, "reasoning": _THOUGHT}
        further: tuple[Entry, ...] = ({}, {"thinking": _THOUGHT}, {"tool_calls": [call]})
        for more in further:
            with suppress(Exception):  # a template may raise anything
                before, _, behind = self.render([_USER, {**reply, **more}], False).partition(_THOUGHT)
                opening = next((mark for mark, _ in THINKING if before.rstrip().endswith(mark)), "")
                close = _CLOSED.match(behind)
                if opening and close:
                    begin, head = before.rindex(opening), self.render([_USER], True)
                    blank = before.startswith(head) and not before[len(head) : begin].strip()
                    return before[min(len(head), begin) if blank else begin :], close[0]
        source = str(getattr(self.tokenizer, "chat_template", "") or "")
        named = next((pair for pair in THINKING if pair[1] in source), None)
        return (f"{named[0]}\n", f"\n{named[1]}") if named is not None and named[0] != THINK_OPEN else ("", "")

    def _written(self, message: Message) -> str:
        """Return a reply in the form of the codec, with its thinking in that of the family."""
        if any(self.around_thought) and not self.codec.inline:
            text = rethought(plain_text(message), *self.around_thought)
            message = replace(message, content=text)
        return self.codec.write(message)

    def reply(self, message: Message) -> str:
        """Return a reply in the forms of codec and family, less the mark of thinking that the generation prompt wrote.

        Where that opens thinking and the reply has none, thinking is closed at once.
        """
        text = self._written(message)
        opened = self.opens.rstrip()
        if not opened or self.codec.inline:
            return text
        if text.startswith(opened):
            return text[len(opened) :].removeprefix(self.opens[len(opened) :])
        closed = self.around_thought[1] or f"\n{dict(THINKING).get(opened, '')}\n\n"
        return text if thinking(text) else closed + text

    @cached_property
    def end(self) -> str:
        """Text of the end-of-turn token: what closes a reply, else the tokenizer's end of text.

        The latter also where what closes a turn ends the parts of a reply (``INSIDE`` of the codec).
        """
        closing = "" if self.closing in getattr(self.codec, "INSIDE", ()) else self.closing
        return closing or str(getattr(self.tokenizer, "eos_token", "") or "")

    def opening(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> str:
        """Return the rendered conversation with the generation prompt.

        Under a layout with calls as data, what follows the first reply with results is put together from pieces.
        """
        if self.native:
            for i, message in enumerate(messages):
                if message.role == "assistant" and after_results(messages, i + 1) > i + 1:
                    return self.opening(messages[:i], tools) + self._grown(messages[i:])
        if self.own_tools:
            entries, pending = self._entries(messages)
            return self.render(entries, True, [_defused(tool_schema(tool), *self._markers) for tool in tools]) + pending
        entries, pending = self._entries(with_tools(messages, self.codec, tools, self.default_system))
        return self.render(entries, True) + pending

    def _grown(self, messages: Sequence[Message]) -> str:
        """Return the text of messages from a reply on: what the replies are, each with its extension."""
        replies = [i for i, message in enumerate(messages) if message.role == "assistant"]
        pieces = []
        for here, after in zip(replies, [*replies[1:], len(messages)], strict=True):
            written = defuse(self.reply(messages[here]), *self._markers)
            pieces += [written, added(self, written, messages[here + 1 : after])]
        return "".join(pieces)

    @cached_property
    def _stand_in(self) -> tuple[Any, bool]:
        """The arguments of calls as data that the template takes, and whether it shows several calls of a reply."""
        results = [Message("tool", "x", name="a"), Message("tool", "y", name="b")]
        for arguments in ({"mark": _ARGUMENT}, json.dumps({"mark": _ARGUMENT})):
            for count in (2, 1):
                shown = self.layout.results(self.codec, results[:count])
                entries = [_USER, standing_in(results[:count], arguments), *shown]
                with suppress(Exception):  # a template may raise anything
                    if self.render(entries, True).count(_ARGUMENT) == count:
                        return arguments, count == 2
        raise ValueError("the chat template does not show calls given as data")

    def _behind(self, results: Sequence[Message], entries: Sequence[Entry], prompt: bool) -> str:
        """Return what the template writes for entries behind the calls that the results answer."""
        text = self.render([_USER, standing_in(results, self._stand_in[0]), *entries], prompt)
        at = text.rfind(_ARGUMENT)
        ends = [stop for label, start, stop in self.codec.spans(text) if label == "call" and start <= at < stop]
        if not ends:
            raise ValueError(f"the chat template does not write calls in the form of the codec {self.codec.name!r}")
        mark = awaited(self.codec)
        return (mark if text[: ends[0]].endswith(mark) else "") + text[ends[0] :]

    def _answers(self, results: Sequence[Message], rest: Sequence[Entry]) -> str:
        """Return what follows calls: their results, the rest, and where the assistant writes again."""
        shown = self.layout.results(self.codec, results)
        if self._stand_in[1]:
            return self._behind(results, [*shown, *rest], True)
        alone = [self._behind([result], self.layout.results(self.codec, [result]), False) for result in results[:-1]]
        first, *others = [*alone, self._behind(results[-1:], [shown[-1], *rest], True)]
        ended = self._behind(results[:1], (), False)
        return first + "".join(part.removeprefix(ended) for part in others)

    def extension(self, messages: Sequence[Message], closed: bool) -> str:
        """Return the text after a reply, as the difference between renderings with and without ``messages``."""
        begin = ""
        rest = list(messages)
        if self.native and rest and rest[0].role == "tool":
            stop = after_results(rest, 0)
            entries, pending = self._entries(rest[stop:])
            results = [flat(m, self.image, *self._foreign) for m in rest[:stop]]
            text = self._answers(results, entries) + pending
            return text.removeprefix(self.closing) if closed else text
        if self.codec.inline and not closed and rest and rest[0].role == "tool":
            stop = after_results(rest, 0)
            begin = "".join(self.codec.show(flat(m, self.image, *self._foreign)) for m in rest[:stop])
            rest = rest[stop:]
            if not rest:
                return begin
        entries, pending = self._entries(rest)
        probe: list[Entry] = [_USER, {"role": "assistant", "content": _PROBE}]
        suffix = self.render([*probe, *entries], True).partition(_PROBE)[2]
        if closed and self.closing:
            before, close, suffix = suffix.partition(self.closing)
            if before.strip() or not close:
                raise ValueError(f"the chat template does not close an assistant turn with {self.closing!r}")
        return begin + suffix + pending
