"""Lay messages out as prompt text: one opening, then extensions that are only ever appended.

Every text is tokenised on its own (the opening once, each extension once), so token ids are append-only by
construction. For replies in canonical form the pieces join to the text of a full rendering:
``opening(m[:k]) + sampled + extension(m[k+1:]) == opening(m)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, runtime_checkable

from ferrule.chat.codec import Codec, awaited
from ferrule.chat.parsing import defuse
from ferrule.core.records import Message, Tool

__all__ = ["ChatML", "Renderer", "added", "after_results", "flat", "text_of", "with_tools"]


@runtime_checkable
class Renderer(Protocol):
    """Prompt text for messages; see ``ChatML`` and ``chat.template.Template``."""

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

    def reply(self, message: Message) -> str:
        """Return a reply as the model would write it there, less the end of its turn."""
        ...

    def extension(self, messages: Sequence[Message], closed: bool) -> str:
        """Return what follows a sampled reply, up to where the assistant writes again.

        ``closed`` says whether the reply ended with the end-of-turn token; if not, the turn is closed first
        (inline codecs leave it open for results).
        """
        ...


def added(renderer: Renderer, written: str, messages: Sequence[Message], closed: bool = False) -> str:
    """Return what follows the text of a reply: its extension, less the mark of a result that the reply ends with."""
    text = renderer.extension(messages, closed)
    return text.removeprefix(mark) if (mark := awaited(renderer.codec)) and written.endswith(mark) else text


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


def text_of(message: Message, image: str, *markers: str) -> str:
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


def flat(message: Message, image: str, *markers: str) -> Message:
    """Return a message whose content is its text (``text_of``)."""
    return replace(message, content=text_of(message, image, *markers))


def after_results(messages: Sequence[Message], start: int) -> int:
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
    def markers(self) -> tuple[str, ...]:
        """What no content may hold whole: the beginnings of turns, and their end."""
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
                stop = after_results(messages, i)
                pieces.append(self._results(messages[i:stop], open_turn))
                open_turn = self.codec.inline
                i = stop
                continue
            if message.role == "assistant":
                if not open_turn:
                    pieces.append(self._head("assistant"))
                pieces.append(defuse(self.codec.write(message), *self.markers))
                open_turn = self.codec.inline and i + 1 < len(messages) and messages[i + 1].role == "tool"
            else:
                if open_turn:
                    pieces.append(self.end + self.gap)
                pieces.append(self._head(message.role) + text_of(message, self.image, *self.markers))
                open_turn = False
            if not open_turn:
                pieces.append(self.end + self.gap)
            i += 1
        return "".join(pieces), open_turn

    def _results(self, messages: Sequence[Message], open_turn: bool) -> str:
        shown = [self.codec.show(flat(m, self.image, *self.markers)) for m in messages]
        if self.codec.inline:
            return ("" if open_turn else self._head("assistant")) + "".join(shown)
        return self._head(self.tool_role) + "\n".join(shown) + self.end + self.gap

    def opening(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> str:
        """Return all turns and the assistant header (left out while an inline result keeps the turn open)."""
        text, open_turn = self._turns(with_tools(messages, self.codec, tools, self.default_system), False)
        return text if open_turn else text + self._head("assistant")

    def reply(self, message: Message) -> str:
        """Return the content and calls in the form of the codec."""
        return self.codec.write(message)

    def extension(self, messages: Sequence[Message], closed: bool) -> str:
        """Return the text after a reply: its end if missing, the new turns, the next assistant header."""
        inline = self.codec.inline and bool(messages) and messages[0].role == "tool" and not closed
        begin = "" if inline else (self.gap if closed else self.end + self.gap)
        text, open_turn = self._turns(messages, inline)
        return begin + (text if open_turn else text + self._head("assistant"))
