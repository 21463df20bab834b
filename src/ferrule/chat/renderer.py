"""Lay messages out as prompt text: one opening, then extensions that are only ever appended.

Every text is tokenised on its own (the opening once, each extension once), so token ids are append-only by
construction. For replies in canonical form the pieces join to the text of a full rendering:
``opening(m[:k]) + sampled + extension(m[k+1:]) == opening(m)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Protocol, runtime_checkable

from ferrule.chat.codec import Codec
from ferrule.chat.parsing import defuse
from ferrule.core.records import Call, Message, Tool

__all__ = ["ChatML", "Renderer", "Template", "with_tools"]


@runtime_checkable
class Renderer(Protocol):
    """Prompt text for messages; see ``ChatML`` and ``Template``."""

    @property
    def codec(self) -> Codec:
        """How calls and results are written."""
        ...

    @property
    def end(self) -> str:
        """Text of the end-of-turn token."""
        ...

    def opening(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> str:
        """Return the whole prompt, up to where the assistant writes."""
        ...

    def extension(self, messages: Sequence[Message], closed: bool) -> str:
        """Return what follows a sampled reply, up to where the assistant writes again.

        ``closed`` says whether the reply ended with the end-of-turn token; if not, the turn is closed first
        (inline codecs leave it open for results).
        """
        ...


def with_tools(messages: Sequence[Message], codec: Codec, tools: Sequence[Tool], default: str = "") -> list[Message]:
    """Put the tool description at the end of the system message, which is added when it is missing and needed."""
    text = codec.describe(tools)
    given = list(messages)
    system = given.pop(0) if given and given[0].role == "system" else Message("system", default)
    if text:
        content = system.content
        if isinstance(content, str):
            system = replace(system, content=f"{content}\n\n{text}" if content else text)
        else:
            system = replace(system, content=(*content, f"\n\n{text}"))
    return [system, *given] if system.content or len(given) < len(messages) else given


def _text(message: Message, image: str, *markers: str) -> str:
    """Return a message's text with images as ``image`` and control markers of foreign text broken."""
    parts = (message.content,) if isinstance(message.content, str) else message.content
    texts = []
    for part in parts:
        if isinstance(part, str):
            texts.append(defuse(part, *markers))
        elif image:
            texts.append(image)
        else:
            raise ValueError("a message holds an image, and this renderer has no image text; set image=...")
    return "".join(texts)


def _answers(messages: Sequence[Message], start: int) -> int:
    """Return the index after the run of tool messages that begins at ``start``."""
    stop = start
    while stop < len(messages) and messages[stop].role == "tool":
        stop += 1
    return stop


@dataclass(frozen=True)
class ChatML:
    r"""The ChatML layout, and by its markers any layout of the same build.

    One turn is ``header.format(role=...) + content + end + gap``. ``default_system`` is used when the messages have
    no system message; tools are described at the end of it. Results of calls that follow each other share one turn
    of role ``tool_role``. ``image`` is the text that stands for an image; empty refuses images (``ValueError``).
    For small vocabularies the markers can be single tokens:
    ``ChatML(codec, header="<|{role}|>", end="<|end|>", gap="")``.
    Markers inside messages are broken by a space, so that no content can forge a turn.
    """

    codec: Codec
    default_system: str = ""
    header: str = "<|im_start|>{role}\n"
    end: str = "<|im_end|>"
    gap: str = "\n"
    tool_role: Literal["tool", "user"] = "tool"
    image: str = ""

    def __post_init__(self) -> None:
        """Refuse a header without its role and an empty end."""
        if "{role}" not in self.header:
            raise ValueError(f"ChatML.header is {self.header!r}; it must contain {{role}}")
        if not self.end:
            raise ValueError("ChatML.end is empty; a turn needs an end-of-turn text")

    def _head(self, role: str) -> str:
        return self.header.replace("{role}", role)

    @property
    def _markers(self) -> tuple[str, ...]:
        if self.header.startswith("{role}") or not self.header.split("{role}")[0].strip():
            return (self.end,)
        before = self.header.split("{role}")[0]
        if before.startswith("<|") and before != "<|":
            return (before, self.end)
        return (*(self._head(role) for role in ("system", "user", "assistant", "tool")), self.end)

    def _turns(self, messages: Sequence[Message], open_turn: bool) -> tuple[str, bool]:
        """Return the text of the messages and whether the last assistant turn is still open."""
        pieces: list[str] = []
        i = 0
        while i < len(messages):
            message = messages[i]
            if message.role == "tool":
                stop = _answers(messages, i)
                pieces.append(self._results(messages[i:stop], open_turn))
                open_turn = self.codec.inline
                i = stop
                continue
            if message.role == "assistant":
                if not open_turn:
                    pieces.append(self._head("assistant"))
                pieces.append(defuse(self.codec.write(message), *self._markers))
                open_turn = self.codec.inline and i + 1 < len(messages) and messages[i + 1].role == "tool"
            else:
                if open_turn:
                    pieces.append(self.end + self.gap)
                pieces.append(self._head(message.role) + _text(message, self.image, *self._markers))
                open_turn = False
            if not open_turn:
                pieces.append(self.end + self.gap)
            i += 1
        return "".join(pieces), open_turn

    def _results(self, messages: Sequence[Message], open_turn: bool) -> str:
        shown = [self.codec.show(_flat(m, self.image, *self._markers)) for m in messages]
        if self.codec.inline:
            return ("" if open_turn else self._head("assistant")) + "".join(shown)
        return self._head(self.tool_role) + "\n".join(shown) + self.end + self.gap

    def opening(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> str:
        """Return all turns and the assistant header (left out while an inline result keeps the turn open)."""
        text, open_turn = self._turns(with_tools(messages, self.codec, tools, self.default_system), False)
        return text if open_turn else text + self._head("assistant")

    def extension(self, messages: Sequence[Message], closed: bool) -> str:
        """Return the text after a reply: its end if missing, the new turns, the next assistant header."""
        inline = self.codec.inline and bool(messages) and messages[0].role == "tool" and not closed
        begin = "" if inline else (self.gap if closed else self.end + self.gap)
        text, open_turn = self._turns(messages, inline)
        return begin + (text if open_turn else text + self._head("assistant"))


def _flat(message: Message, image: str, *markers: str) -> Message:
    return replace(message, content=_text(message, image, *markers))


_PROBE = "\u2402ferrule probe\u2403"


def _own(codec: Codec) -> str:
    """Return text with every tag that a codec writes by itself; such tags must reach the model whole."""
    texts = ["<think></think>", *codec.stop, codec.show(Message("tool", "x"))]
    for call in (Call("search", {"query": "x"}), Call("python", {"code": "x"})):
        with suppress(ValueError):
            texts.append(codec.write(Message("assistant", "", (call,))))
    return "\n".join(texts)


@dataclass(frozen=True)
class Template:
    """Any Hugging Face chat template; an extension is the difference between two renderings.

    ``tokenizer`` needs ``apply_chat_template``. Tools are described by the codec in the system message (the
    template's own tool section is not used), results are messages of role ``tool_role``. Run
    ``ferrule.chat.check.check_template`` once per tokenizer: it refuses templates this cannot be true for.
    """

    tokenizer: Any
    codec: Codec
    tool_role: Literal["tool", "user"] = "tool"
    default_system: str = ""
    image: str = ""

    def _render(self, messages: Sequence[dict[str, str]], prompt: bool) -> str:
        text = self.tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=prompt)
        return str(text)

    @cached_property
    def _markers(self) -> tuple[str, ...]:
        """Special tokens of the tokenizer, but for those that the codec itself writes."""
        special = getattr(self.tokenizer, "all_special_tokens", None) or ()
        codec_text = _own(self.codec)
        return tuple(str(token) for token in special if str(token) not in codec_text)

    def _dicts(self, messages: Sequence[Message]) -> tuple[list[dict[str, str]], str]:
        """Return messages for the template, and the text of an assistant turn that stays open (inline results)."""
        dicts: list[dict[str, str]] = []
        pending = ""
        markers = self._markers
        i = 0
        while i < len(messages):
            message = messages[i]
            stop = _answers(messages, i) if message.role == "tool" else i + 1
            if message.role == "tool":
                shown = [self.codec.show(_flat(m, self.image, *markers)) for m in messages[i:stop]]
                if self.codec.inline:
                    pending += "".join(shown)
                else:
                    dicts.append({"role": self.tool_role, "content": "\n".join(shown)})
            elif message.role == "assistant":
                pending += defuse(self.codec.write(message), *markers)
                if not (self.codec.inline and stop < len(messages) and messages[stop].role == "tool"):
                    dicts.append({"role": "assistant", "content": pending})
                    pending = ""
            else:
                if pending:
                    dicts.append({"role": "assistant", "content": pending})
                    pending = ""
                dicts.append({"role": message.role, "content": _text(message, self.image, *markers)})
            i = stop
        return dicts, pending

    @cached_property
    def end(self) -> str:
        """Text of the end-of-turn token: what closes an assistant turn, without the blanks after it."""
        text = self._render([{"role": "user", "content": "x"}, {"role": "assistant", "content": _PROBE}], False)
        close = text.partition(_PROBE)[2]
        eos = str(getattr(self.tokenizer, "eos_token", "") or "")
        return eos if eos and close.startswith(eos) else close.rstrip()

    def opening(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> str:
        """Return the rendered conversation with the generation prompt."""
        dicts, pending = self._dicts(with_tools(messages, self.codec, tools, self.default_system))
        return self._render(dicts, True) + pending

    def extension(self, messages: Sequence[Message], closed: bool) -> str:
        """Return the text after a reply, as the difference between renderings with and without ``messages``."""
        begin = ""
        rest = list(messages)
        if self.codec.inline and not closed and rest and rest[0].role == "tool":
            stop = _answers(rest, 0)
            begin = "".join(self.codec.show(_flat(m, self.image, *self._markers)) for m in rest[:stop])
            rest = rest[stop:]
            if not rest:
                return begin
        dicts, pending = self._dicts(rest)
        probe = [{"role": "user", "content": "x"}, {"role": "assistant", "content": _PROBE}]
        suffix = self._render([*probe, *dicts], True).partition(_PROBE)[2]
        end = self.end
        if closed and not suffix.startswith(end):
            raise ValueError(f"the chat template does not close an assistant turn with {end!r}; run check_template")
        return begin + (suffix[len(end) :] if closed else suffix) + pending
