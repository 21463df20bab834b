"""Policies without a model: replies from a function or a list, with real token ids when a renderer is given."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from ferrule.chat.codec import Codec
from ferrule.chat.forced import forced
from ferrule.chat.renderer import Renderer, added
from ferrule.chat.reply import first_stop, in_thought, pieces_of, read_reply, reply_spans, token_spans
from ferrule.chat.scan import THINKING
from ferrule.core.flows import Ask
from ferrule.core.powers import require
from ferrule.core.records import Call, Finish, Message, Reply, plain_text

__all__ = ["END_ID", "Script", "Scripted", "decode", "encode", "nonsense"]

Script: TypeAlias = Callable[[Ask, int], str | Message]
"""A function of the ask and the index of the sample; what it returns is what the model "wrote"."""

END_ID = 256
"""Id of the end-of-turn token; ids 0 to 255 are the bytes of UTF-8."""


def encode(text: str, end: str = "") -> tuple[int, ...]:
    """Return the UTF-8 bytes of a text as ids, with ``END_ID`` for every occurrence of ``end``."""
    if not end:
        return tuple(text.encode("utf-8", "surrogatepass"))
    ids: list[int] = []
    for i, piece in enumerate(text.split(end)):
        ids += [END_ID] * (i > 0)
        ids += piece.encode("utf-8", "surrogatepass")
    return tuple(ids)


def decode(ids: Sequence[int], end: str = "") -> str:
    """Return the text of ids, the inverse of ``encode``; bytes that are cut off in a character become U+FFFD."""
    pieces: list[bytearray] = [bytearray()]
    for i in ids:
        if i == END_ID:
            pieces.append(bytearray())
        else:
            pieces[-1].append(i)
    return end.join(piece.decode("utf-8", "replace") for piece in pieces)


def _cut(text: str, stops: Sequence[str], opened: bool = False) -> tuple[str, bool]:
    """Cut after the first stop string outside thinking, which stays; tell whether there was one."""
    end = first_stop(text, stops, opened)
    return (text[:end], True) if end >= 0 else (text, False)


def _pieces(begun: Sequence[int], sampled: Sequence[int]) -> tuple[str, ...]:
    """Return what every sampled byte adds to the text of a reply; the end token adds nothing."""
    return tuple(pieces_of(decode, (*begun, *sampled))[len(begun) :])


class Scripted:
    """A deterministic policy: the same asks get the same replies.

    ``script`` is a function ``(ask, sample) -> str | Message`` or a sequence of replies that are handed out in the
    order of the asks, ``n`` for each. With a ``codec`` a text is read into calls, as a model's text would be; text
    after the first stop string is cut. With a ``renderer`` (whose codec then counts) replies carry ids as well: bytes,
    ``given`` made piecewise like any policy's (``ask.context`` and the new text), log-probs 0, and the end-of-turn
    token unless a stop string or ``max_tokens`` (in bytes then) ended the reply; a script writes the rest of a reply
    that has ``begun``. Spans label calls and thinking, as a model's. Raises ``IndexError`` when a
    sequence runs out, saying how many replies it had.
    """

    def __init__(
        self, script: Script | Sequence[str | Message], codec: Codec | None = None, *, renderer: Renderer | None = None
    ) -> None:
        if isinstance(script, str):
            raise TypeError("Scripted takes a sequence of replies, not one text; write [text]")
        if renderer is not None and codec is not None and renderer.codec != codec:
            raise ValueError("Scripted was given a codec and a renderer with another codec; the renderer is enough")
        self.renderer = renderer
        self.codec = renderer.codec if renderer is not None else codec
        self.served = 0
        self._script = script

    @property
    def powers(self) -> frozenset[str]:
        """What replies can be made to do: calls need a codec, and to go on from ids needs ids."""
        return frozenset({"must_call"} if self.codec else ()) | frozenset({"begun", "pieces"} if self.renderer else ())

    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        """Answer all asks in order."""
        require(self, asks)
        return [[self._reply(ask, sample) for sample in range(ask.n)] for ask in asks]

    def _next(self, ask: Ask, sample: int) -> str | Message:
        at = self.served
        self.served += 1
        if callable(self._script):
            return self._script(ask, sample)
        if at >= len(self._script):
            raise IndexError(f"the script has {len(self._script)} replies and was asked for number {at + 1}")
        return self._script[at]

    def _reply(self, ask: Ask, sample: int) -> Reply:
        wrote = self._next(ask, sample)
        codec = self.codec
        if codec is None:
            message = (
                wrote if isinstance(wrote, Message) else Message("assistant", ask.prefill + _cut(wrote, ask.stop)[0])
            )
            return Reply(message)
        text = codec.write(wrote) if isinstance(wrote, Message) else wrote
        if ask.must_call:
            ask = forced(ask, codec)
            text = text.removeprefix(ask.prefill)
        opened = self._opens_thought(ask)
        text, stopped = _cut(text, (*codec.stop, *ask.stop), in_thought(ask.prefill, opened))
        if self.renderer is None:
            return Reply(read_reply(codec, ask.prefill + text, tools=ask.tools))
        return self._with_ids(ask, self.renderer, text, stopped)

    def _opens_thought(self, ask: Ask) -> bool:
        """Say whether the prompt leaves thinking open, as some templates do."""
        if self.renderer is None:
            return False
        prompt = decode(self.prompt_ids(replace(ask, prefill="", begun=())), self.renderer.end)
        return prompt.rstrip().endswith(tuple(opening for opening, _ in THINKING))

    def _with_ids(self, ask: Ask, renderer: Renderer, text: str, stopped: bool) -> Reply:
        end = renderer.end
        sampled = encode(text.replace(end, "")) + (() if stopped else (END_ID,))
        finish: Finish = "stop"
        if ask.max_tokens is not None and len(sampled) > ask.max_tokens:
            sampled, finish = sampled[: ask.max_tokens], "length"
        body = sampled[:-1] if sampled and sampled[-1] == END_ID else sampled
        whole, opened = decode((*ask.begun, *body)), self._opens_thought(ask)
        labelled = () if ask.prefill else reply_spans(renderer.codec, whole, opened=opened)
        pieces = pieces_of(decode, (*ask.begun, *body)) if labelled else []
        return Reply(
            message=read_reply(
                renderer.codec, ask.prefill + whole, tools=ask.tools, opened=opened, cut=finish == "length"
            ),
            spans=token_spans(pieces, labelled, first=len(ask.begun)),
            given=self.prompt_ids(ask),
            sampled=sampled,
            logps=(0.0,) * len(sampled),
            finish=finish,
            extras={"pieces": _pieces(ask.begun, sampled)} if "pieces" in ask.want else {},
        )

    def prompt_ids(self, ask: Ask) -> tuple[int, ...]:
        """Return the ids before the reply: ``ask.context`` untouched, then the new text encoded alone."""
        if self.renderer is None:
            raise ValueError("a Scripted policy without a renderer has no token ids")
        if ask.context:
            written = decode(ask.context[-80:], self.renderer.end)
            text = added(self.renderer, written, ask.messages[ask.fresh :], closed=ask.context[-1] == END_ID)
        else:
            text = self.renderer.opening(ask.messages, ask.tools)
        return (*ask.context, *encode(text + ask.prefill, self.renderer.end), *ask.begun)


_SCRAPS = (
    "<tool_call>", "</tool_call>", "<tool_response>", "```python\n", "```", "Action: ", "Action Input: ",
    "Observation:",
    '{"name": ', '"arguments": {', "}}", "]", '"', "\\", "\n\n", "null", "NaN", "1e999", "-0", "\x00", "\ud7ff", "🪛",
    "<think>", "</think>", "<answer>", "</answer>", "<|im_start|>assistant\n", "import os; os._exit(1)", "%s%n", "é",
)  # fmt: skip


def _garbage(rng: random.Random, ask: Ask) -> str:
    """Join scraps of call syntax, control text and noise."""
    names = [tool.name for tool in ask.tools] or ["no_such_tool"]
    pieces = [rng.choice((*_SCRAPS, rng.choice(names), chr(rng.randint(32, 0x2FF)))) for _ in range(rng.randint(0, 24))]
    return "".join(pieces)


def _wild_call(rng: random.Random, ask: Ask) -> Call:
    """Make a call with a right, wrong or empty name and arguments that fit no schema."""
    names = [tool.name for tool in ask.tools] + ["no_such_tool", "", "a b\n"]
    values: tuple[object, ...] = (
        None,
        True,
        -1,
        1e308,
        "",
        "9" * 40,
        [],
        [[[]]],
        {"": {}},
        "'; DROP TABLE t; --",
        "\x00",
    )
    keys = [key for tool in ask.tools for key in tool.parameters.get("properties", {})] + ["x", "", "self"]
    arguments = {rng.choice(keys): rng.choice(values) for _ in range(rng.randint(0, 3))}
    return Call(rng.choice(names), arguments, id="call_0")


def nonsense(seed: int = 0, codec: Codec | None = None, *, renderer: Renderer | None = None) -> Scripted:
    """Return a policy that talks garbage: broken markup, half JSON, unknown tools, wild arguments.

    Whatever it says depends on the seed, the ask's seed and messages, and the sample. Nothing it says may crash or
    hang a run, which contract tests check with it.
    """
    writer = renderer.codec if renderer is not None else codec

    def speak(ask: Ask, sample: int) -> str | Message:
        transcript = "\x1f".join(plain_text(message) for message in ask.messages)
        rng = random.Random(f"{seed}/{ask.seed}/{sample}/{len(ask.messages)}/{len(transcript)}")
        kind = rng.randrange(4)
        if kind == 0:
            return _garbage(rng, ask)
        call = _wild_call(rng, ask)
        if writer is None:
            return Message("assistant", _garbage(rng, ask) if kind == 1 else "", (call,))
        if kind == 1:
            try:
                return writer.write(Message("assistant", "", (call,)))
            except ValueError:  # some codecs can only write calls of one kind
                return _garbage(rng, ask)
        body = json.dumps({"name": call.name, "arguments": dict(call.arguments)})
        return f"<tool_call>\n{body[: rng.randint(0, len(body))]}\n</tool_call>{_garbage(rng, ask)}"

    return Scripted(speak, codec, renderer=renderer)
