"""The check of a chat template: whether prompts that grow turn by turn have the right text, and what it leaves out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ferrule.chat.codec import Codec
from ferrule.chat.layout import BARE, USER, WRAPPED, Entry, Layout, standing_in
from ferrule.chat.probe import has_form
from ferrule.chat.renderer import added, after_results
from ferrule.chat.template import Template
from ferrule.core.records import Call, Message, Tool

__all__ = ["PROBE_TOOL", "Header", "TemplateRefused", "TemplateReport", "check_template", "checked", "header"]


class TemplateRefused(ValueError):
    """A chat template that cannot carry tool conversations; the message says why and what to do."""


class Header(NamedTuple):
    """What stands between a question and the reply to it, and the part of that which the generation prompt adds."""

    after: str
    added: str


@dataclass(frozen=True)
class TemplateReport:
    """What a template that passed does: its end-of-turn text, the header of a reply, and the conversations compared.

    ``end_ids`` are the token ids of ``end`` (empty when the tokenizer cannot be called); more than one id means that a
    reply is ended by its last one.
    """

    end: str
    header: Header
    conversations: int
    end_ids: tuple[int, ...] = ()


PROBE_TOOL = Tool(
    "probe_tool",
    "Describe the probe.",
    {
        "type": "object",
        "properties": {"query": {"type": "string", "description": "What the probe asks."}},
        "required": ["query"],
    },
    print,
)
_SYSTEM = "Probe system text."
_ASKED = ("First probe question?", "Second probe question?", "Third probe question?")
# What a template might quote, escape or cut: quotes, line breaks, a tag, JSON, letters beyond ASCII.
_RESULT = 'Probe result {i}: "é" <b>&amp;</b>\n{{"of": [{i}]}} end {i}.'


def _reply(codec: Codec, i: int, thinking: str = "") -> Message:
    """Return a reply with a call that the codec can write, or without one."""
    content = f"{thinking}Probe reply {i}."
    for call in (Call("probe_tool", {"query": f"probe {i}"}), Call("python", {"code": f"print({i})"})):
        message = Message("assistant", content, (call,))
        try:
            codec.write(message)
        except ValueError:
            try:
                codec.write(Message("assistant", thinking, (call,)))
            except ValueError:
                continue
            return Message("assistant", thinking, (call,))
        return message
    return Message("assistant", content)


def _conversations(codec: Codec) -> dict[str, list[Message]]:
    """Return the conversations that a template must carry, by what is special about each."""
    thought = "<think>\nProbe thought.\n</think>\n\n"
    asked = [Message("user", text) for text in _ASKED]
    results = [Message("tool", _RESULT.format(i=i), name="probe_tool") for i in range(6)]
    system, last = Message("system", _SYSTEM), Message("assistant", "Probe answer.")
    replies = [_reply(codec, i) for i in range(6)]
    thoughts = [_reply(codec, i, thought) for i in range(6)]
    return {
        "plain turns": [asked[0], last, asked[1], Message("assistant", "Probe more."), asked[2]],
        "a system message and a call": [system, asked[0], replies[0], results[0]],
        "calls in a row": [
            asked[0], replies[0], results[0], replies[1], results[1], results[2], replies[2], results[3],
        ],
        "thinking before calls": [system, asked[0], thoughts[0], results[0], thoughts[1], results[1], last, asked[1]],
        "a question after results": [
            system, asked[0], thoughts[0], results[0], asked[1], replies[1], results[1], last, asked[2],
            thoughts[2], results[2], results[3],
        ],
    }  # fmt: skip


def check_template(tokenizer: Any, codec: Codec, layout: Layout = WRAPPED) -> TemplateReport:
    """Check the chat template of a tokenizer for a codec and one layout (``checked``)."""
    return checked(Template(tokenizer, codec, layout))


def checked(template: Template) -> TemplateReport:
    """Build the prompts of several conversations piece by piece and compare them with what they must hold.

    Every system message, question and result must be there once, in order and as written; no result may be put into
    two forms; the generation header must follow the last of them; and each extension must be what the template itself
    writes there after the whole conversation. Replies stay as sampled, so what a template makes of earlier ones later
    on (leaving their thinking out) does not count. Raises ``TemplateRefused``.
    """
    if not getattr(template.tokenizer, "chat_template", None):
        raise TemplateRefused("the tokenizer has no chat template")
    conversations = _conversations(template.codec)
    try:
        head = header(template)
        _right_form(template)
        for label, messages in conversations.items():
            _grows(template, label, messages, head)
        _tools(template)
    except TemplateRefused:
        raise
    except Exception as error:  # a template is a program: whatever it raises is a reason to refuse it
        raise TemplateRefused(f"the chat template fails: {type(error).__name__}: {error}") from error
    return TemplateReport(template.end, head, len(conversations), _ids(template.tokenizer, template.end))


def _between(text: str, before: str, after: str = "") -> str:
    """Return what stands between two texts, the last of the first; all after it without a second."""
    rest = text.rpartition(before)[2]
    return rest.partition(after)[0] if after else rest


def header(template: Template) -> Header:
    """Return what the template puts between a question and a reply that is to be written.

    Raises ``TemplateRefused`` when a finished reply does not stand behind it (a thinking block that it opens aside).
    """
    asked: list[Entry] = [{"role": "user", "content": _ASKED[0]}]
    bare, opened = template.render(asked, False), template.render(asked, True)
    finished = template.render([*asked, {"role": "assistant", "content": "Probe answer."}], False)
    if _ASKED[0] not in opened:
        raise TemplateRefused("the chat template drops messages of role 'user'")
    if "Probe answer." not in finished:
        raise TemplateRefused("the chat template drops messages of role 'assistant'")
    head, before = _between(opened, _ASKED[0]), _between(finished, _ASKED[0], "Probe answer.")
    if not before.startswith(head.partition("<think>")[0].rstrip()):
        raise TemplateRefused(
            f"in the chat template a finished reply does not continue the generation prompt {head!r} but {before!r}"
        )
    if bare == opened and before.strip() != head.strip():
        raise TemplateRefused("the chat template ignores add_generation_prompt")
    if not template.end:
        raise TemplateRefused("the chat template does not close assistant turns, and the tokenizer has no eos_token")
    ended = bare.removesuffix(str(getattr(template.tokenizer, "eos_token", None) or ""))
    return Header(head, opened.removeprefix(ended) if opened.startswith(ended) else head)


def _right_form(template: Template) -> None:
    """Refuse a layout that puts results into two forms, or gives the role tool to what is shown as the user's words."""
    if template.codec.inline or template.native or template.layout.name == USER.name:
        return
    entries: list[Entry] = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "Probe answer."}]
    if template.layout.name == WRAPPED.name and has_form(template):
        raise TemplateRefused(f"the chat template puts results into a form itself; the tool role is {BARE.name!r}")
    (result,) = template.layout.results(template.codec, [Message("tool", "Probe.", name=PROBE_TOOL.name)])
    texts = [template.render([*entries, {**result, "role": role}], True) for role in ("user", "tool")]
    if texts[0] == texts[1]:
        raise TemplateRefused(f"the chat template shows results as user messages; the tool role is {USER.name!r}")


def _grows(template: Template, label: str, messages: Sequence[Message], head: Header | None) -> None:
    """Build one conversation from an opening and extensions, and check the prompt before every reply."""
    replies = [i for i, message in enumerate(messages) if message.role == "assistant"]
    built = template.opening(messages[: replies[0]])
    _holds(template, label, messages[: replies[0]], built, head)
    for here, after in zip(replies, [*replies[1:], len(messages)], strict=True):
        new, written = messages[here + 1 : after], template.reply(messages[here])
        more = added(template, written, new)
        answers = new[0].role == "tool"
        goes_on = template.codec.inline and answers
        if not goes_on:
            _continues(template, label, messages[: here + 1], new, more)
        stays_open = goes_on or (template.native and answers)
        if not stays_open and template.closing and not more.lstrip().startswith(template.closing):
            raise TemplateRefused(
                f"the chat template does not always close a reply with {template.closing!r} ({label})"
            )
        built += written + more
        _holds(template, label, messages[:after], built, None if goes_on and new[-1].role == "tool" else head)


def _holds(template: Template, label: str, messages: Sequence[Message], built: str, head: Header | None) -> None:
    """Refuse a prompt that lacks a text, has it twice, changed or in another place, or does not end in the header."""
    at = 0
    for message in messages:
        text = _shown(template, message, built)
        what = f"messages of role {message.role!r}"
        if text not in built:
            gone = str(message.content)[:12] not in built
            raise TemplateRefused(f"the chat template {'drops' if gone else 'changes'} {what} ({label})")
        if message.role != "assistant" and built.count(text) != 1:
            raise TemplateRefused(f"the chat template repeats {what} ({label})")
        at = built.find(text, at)
        if at < 0:
            raise TemplateRefused(f"the chat template moves {what} ({label})")
        at += len(text)
    if head is not None and not _opened(template, messages, built[at:], head):
        raise TemplateRefused(f"no assistant turn is opened after messages of role {messages[-1].role!r} ({label})")


def _opened(template: Template, messages: Sequence[Message], rest: str, head: Header) -> bool:
    """Say whether the text after the last message of a prompt lets the assistant write.

    After results it may go on in its turn without a header; then a finished reply stands right there.
    """
    if messages[-1].role == "user" or template.layout.name == USER.name:
        return rest == head.after
    if head.added and rest.endswith(head.added):
        return True
    first = len(messages) - next(i for i, m in enumerate(reversed(messages)) if m.role != "tool")
    reply = Message("assistant", "Probe answer.")
    open_text = template.extension(messages[first:], closed=False)
    finished = template.extension([*messages[first:], reply], closed=False)
    goes_on = finished.removeprefix(open_text) if finished.startswith(open_text) else ""
    return goes_on.lstrip().startswith(template.codec.write(reply))


def _shown(template: Template, message: Message, built: str) -> str:
    """Return the text that a message must leave in a prompt; a result may stand inside a JSON object there."""
    if message.role == "assistant":
        return template.reply(message).strip()
    if message.role == "tool":
        text = template.codec.show(message) if template.codec.inline else _content(template, message)
        escaped = json.dumps(text, ensure_ascii=False)
        return escaped if escaped in built and text not in built else text.strip()
    return str(message.content)


def _content(template: Template, message: Message) -> str:
    return str(template.layout.results(template.codec, [message])[0]["content"])


def _continues(template: Template, label: str, past: Sequence[Message], new: Sequence[Message], more: str) -> None:
    """Refuse an extension that is not what the template writes after the whole conversation."""
    behind_calls = template.native and new[0].role == "tool"
    last = replace(past[-1], content="") if behind_calls else past[-1]
    reply = template.codec.write(last).rpartition("</think>")[2].strip()
    whole = _native(template, [*past, *new]) if template.native else template.opening([*past, *new])
    if reply not in whole:
        raise TemplateRefused(f"the chat template changes messages of role 'assistant' ({label})")
    there = whole.rpartition(reply)[2]
    if there.strip() != more.strip() and _unmarked(template, there) != _unmarked(template, more):
        at = next((i for i, (a, b) in enumerate(zip(there, more, strict=False)) if a != b), 0)
        saw, now = (text[max(0, at - 20) : at + 30] for text in (more, there))
        raise TemplateRefused(
            f"the chat template is not prefix stable ({label}): alone {saw!r}, in the whole conversation {now!r}"
        )


def _unmarked(template: Template, text: str) -> str:
    """Return a text without the control tokens of results, which some templates write around the first ones only."""
    turns = template.render([{"role": "user", "content": "x"}, {"role": "assistant", "content": "x"}] * 2, True)
    for token in template.special:
        text = text if token in turns else text.replace(token, "")
    return text.strip()


def _native(template: Template, messages: Sequence[Message]) -> str:
    """Return what the template makes of a whole conversation with calls as data."""
    entries: list[Entry] = []
    i = 0
    while i < len(messages):
        message, stop = messages[i], i + 1
        if message.role == "tool":
            stop = after_results(messages, i)
            entries += template.layout.results(template.codec, messages[i:stop])
        elif message.role == "assistant" and message.calls:
            answers = messages[stop : after_results(messages, stop)]
            arguments = dict(message.calls[0].arguments)
            entries.append(standing_in(answers, json.dumps(arguments) if template.takes_text else arguments))
        elif message.role == "assistant":
            entries.append({"role": message.role, "content": template.codec.write(message)})
        else:
            entries.append({"role": message.role, "content": str(message.content)})
        i = stop
    return template.render(entries, True)


def _tools(template: Template) -> None:
    """Refuse a template that loses the tools, or the system text beside them."""
    for messages in ([Message("user", _ASKED[0])], [Message("system", _SYSTEM), Message("user", _ASKED[0])]):
        text = template.opening(messages, [PROBE_TOOL])
        wanted = [_SYSTEM if len(messages) == 2 else template.default_system]
        if template.own_tools:
            wanted += [PROBE_TOOL.name, PROBE_TOOL.description, "What the probe asks."]
        else:
            wanted.append(template.codec.describe([PROBE_TOOL]).strip())
        lost = [part for part in wanted if part not in text]
        if lost:
            raise TemplateRefused(f"the chat template drops {'the tools' if lost[0] != wanted[0] else 'system text'}")
        _holds(template, "tools", messages if template.own_tools else messages[-1:], text, header(template))


def _ids(tokenizer: Any, end: str) -> tuple[int, ...]:
    if not callable(tokenizer):
        return ()
    return tuple(int(i) for i in tokenizer(end, add_special_tokens=False)["input_ids"])
