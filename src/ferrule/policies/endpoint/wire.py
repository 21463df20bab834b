"""Between Ferrule's records and the JSON of OpenAI-compatible chat servers; pure functions, no network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ferrule.chat.codec import Codec
from ferrule.chat.entries import message_content
from ferrule.chat.objects import arguments_from, arguments_in, numbered
from ferrule.chat.parsing import parse_prefix
from ferrule.chat.renderer import with_tools
from ferrule.chat.reply import broken_off, first_stop, read_reply
from ferrule.chat.scan import UNFINISHED, note, without_thinking
from ferrule.core.records import Call, Finish, Message, Reply, Tool

__all__ = ["from_choice", "textual_messages", "tool_schemas", "whole"]

_FINISH: Mapping[str, Finish] = {
    **dict.fromkeys(("stop", "tool_calls", "function_call", "eos", "end_turn", "stop_sequence", "tool_use"), "stop"),
    **dict.fromkeys(("length", "max_tokens", "max_length", "model_length"), "length"),
}
_FAILED = ("content_filter", "error", "abort")


def tool_schemas(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Return tools in the form of the ``tools`` field."""
    return [
        {
            "type": "function",
            "function": {"name": t.name, "description": t.description, "parameters": dict(t.parameters)},
        }
        for t in tools
    ]


def textual_messages(
    messages: Sequence[Message], codec: Codec, tools: Sequence[Tool], tool_role: str
) -> list[dict[str, Any]]:
    """Return messages whose calls and results are text written by the codec; results in a row share one message."""
    converted: list[dict[str, Any]] = []
    after_tool = False
    for message in with_tools(messages, codec, tools):
        if message.role != "tool":
            text = codec.write(message) if message.role == "assistant" else message_content(message)
            converted.append({"role": message.role, "content": text})
        elif after_tool:
            converted[-1]["content"] += "\n" + codec.show(message)
        else:
            converted.append({"role": tool_role, "content": codec.show(message)})
        after_tool = message.role == "tool"
    return converted


def _flaws(message: Message) -> int:
    return sum(len(call.repairs) + 2 * bool(call.problem) for call in message.calls)


def whole(
    text: str, stops: Sequence[str], codec: Codec | None, hit: str | None, stopped: bool, opened: bool = False
) -> str:
    """Give a text back the stop string that its server cut off, and cut what follows a stop string outside thinking.

    ``hit`` is the stop string as the server names it. Servers that do not tell leave the choice between a stop string
    and the end of the turn open: a stop string is put back when it closes a tag the text opened, or when the codec
    reads a call with fewer repairs with it than without. ``opened`` says that the text begins inside thinking.
    """
    if (end := first_stop(text, stops, opened)) >= 0:
        return text[:end]
    if hit is not None and hit in stops:
        return text + hit
    if hit is None and stopped:
        spoken = without_thinking(text)
        for stop in stops:
            if stop.startswith("</") and f"<{stop[2:]}" in spoken:
                return text + stop
        if codec is not None and (before := codec.read(text)).calls:
            closed = [stop for stop in stops if _flaws(codec.read(text + stop)) < _flaws(before)]
            return text + closed[0] if closed else text
    return text


def _call(entry: Any, index: int) -> Call:
    """Read one entry of ``tool_calls``; whatever is wrong with it becomes the call's problem.

    Name and arguments may stand in the entry itself, as some servers write them; arguments may be JSON text, in quotes
    twice, or an object, and bear another name (``ferrule.chat.objects.arguments_in``).
    """
    raw = json.dumps(entry, ensure_ascii=False)
    function = entry.get("function", entry) if isinstance(entry, Mapping) else None
    if not isinstance(function, Mapping) or not function:
        return Call("", id=f"call_{index}", raw=raw, problem="the call has no function")
    name = function.get("name")
    identity = entry.get("call_id") or entry.get("id")
    call = Call(
        name if isinstance(name, str) else "",
        id=identity if isinstance(identity, str) and identity else f"call_{index}",
        raw=raw,
    )
    if not call.name:
        return replace(call, problem="the call has no name")
    given, misplaced = arguments_in(entry, function)
    if misplaced:
        return replace(call, problem=misplaced)
    arguments, notes, problem = arguments_from(given, "the arguments", repair=False)
    expected = {"no arguments", "arguments as text"}  # text, empty or not, is how servers write arguments
    repairs = [note for i, note in enumerate(notes) if note not in expected or note in notes[:i]]
    return replace(call, arguments=arguments, repairs=tuple(dict.fromkeys(repairs)), problem=problem)


def _entries(message: Mapping[str, Any]) -> list[Any]:
    """Return the calls of a message: ``tool_calls``, or the one ``function_call`` of older servers."""
    entries = message.get("tool_calls")
    if isinstance(entries, str) and entries.strip():
        read = parse_prefix(entries.strip(), 0)
        entries = [entries] if read is None or read[1] < len(entries.strip()) else read[0].value
    if isinstance(entries, Mapping):
        entries = [entries]
    if isinstance(entries, list) and entries:
        return entries
    old = message.get("function_call")
    return [{"function": old}] if isinstance(old, Mapping) and old else []


def _text(content: Any, key: str = "text") -> str:
    """Return the text of a content; of a list of parts that of the parts which have the key (plain ones have text)."""
    if isinstance(content, list):
        texts = (part.get(key) if isinstance(part, Mapping) else part if key == "text" else "" for part in content)
        return "".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) and key == "text" else ""


def _logprobs(choice: Mapping[str, Any]) -> tuple[tuple[str, float], ...]:
    """Return (token text, log-prob in nats) per sampled token, as far as the server tells."""
    logprobs = choice.get("logprobs")
    entries = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    if not isinstance(entries, list):
        return ()
    return tuple(
        (str(e.get("token", "")), float(e["logprob"]))
        for e in entries
        if isinstance(e, Mapping) and isinstance(e.get("logprob"), int | float)
    )


def _tops(choice: Mapping[str, Any]) -> tuple[tuple[tuple[str, float], ...], ...]:
    """Return the most probable tokens (text, log-prob in nats) per sampled token, as far as the server tells."""
    logprobs = choice.get("logprobs")
    entries = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    if not isinstance(entries, list):
        return ()
    rows = [e.get("top_logprobs") for e in entries if isinstance(e, Mapping)]
    if not rows or not all(isinstance(row, list) and row for row in rows):
        return ()
    return tuple(tuple((str(e.get("token", "")), float(e["logprob"])) for e in row or ()) for row in rows)


def _ids(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, list) and all(isinstance(i, int) for i in value) else ()


def _extras(choice: Mapping[str, Any], message: Mapping[str, Any]) -> dict[str, Any]:
    extras: dict[str, Any] = {}
    if reasoning := _text(message.get("reasoning_content") or message.get("reasoning")):
        extras["reasoning"] = reasoning
    if refusal := _text(message.get("refusal")) or _text(message.get("content"), "refusal"):
        extras["refusal"] = refusal
    if pairs := _logprobs(choice):
        extras["logprobs"] = pairs
    if tops := _tops(choice):
        extras["top_logps"] = extras["top_texts"] = tops
    word = choice.get("finish_reason")
    if word is not None and str(word) not in _FINISH:
        extras["finish"] = str(word)
    return extras


def from_choice(
    choice: Mapping[str, Any],
    body: Mapping[str, Any],
    *,
    codec: Codec | None,
    stops: Sequence[str] = (),
    prefill: str = "",
    tools: Sequence[Tool] = (),
    opened: bool = False,
) -> Reply:
    """Return the reply of one choice of an answer.

    Ids and log-probs are filled in only when the server gives prompt ids, sampled ids and one log-prob for each of
    those. ``extras`` may hold ``reasoning`` and ``refusal`` (text; a refusal without any other text is the content),
    ``logprobs`` (pairs of token text and log-prob) and ``finish`` (the server's word when it is an unusual one).
    ``tools`` are those on offer; ``opened`` says that the prompt leaves thinking open. The last call of a reply that
    was cut off is malformed, also when the server made it whole. Calls that the server read itself count where the
    codec finds none.
    """
    raw = choice.get("message")
    message = raw if isinstance(raw, Mapping) else {}
    word = choice.get("finish_reason")
    finish = _FINISH.get(str(word), "error" if word in _FAILED else "stop")
    extras = _extras(choice, message)
    text = _text(message.get("content")) or _text(choice.get("text")) or extras.get("refusal", "")
    if prefill and not text.startswith(prefill):
        text = prefill + text
    hit = choice.get("stop_reason")
    if finish == "length" and first_stop(text, stops, opened) >= 0:
        finish = "stop"
    text = whole(text, stops, codec, hit if isinstance(hit, str) else None, word == "stop", opened)
    cut = finish != "stop"
    reply = Message("assistant", text)
    if codec is not None:
        reply = read_reply(codec, text, tools=tools, opened=opened, cut=cut)
    if not reply.calls and (entries := _entries(message)):
        calls = [_call(entry, i) for i, entry in enumerate(entries)]
        if cut:
            calls[-1] = note(calls[-1], UNFINISHED)
        reply = replace(reply, calls=numbered(calls))
        reply = broken_off(reply) if cut else reply
    given = _ids(body.get("prompt_token_ids") or choice.get("prompt_token_ids"))
    sampled, pairs = _ids(choice.get("token_ids")), extras.get("logprobs", ())
    if not (given and sampled and len(sampled) == len(pairs)):
        return Reply(reply, finish=finish, extras=extras)
    return Reply(reply, given, sampled, tuple(logp for _, logp in pairs), finish, extras=extras)
