"""Requests that spell out 1 to 3 calls of 1 to 4 arguments: what is hard is to leave nothing out.

Tools are verbs on nouns (``book_hotel``); a pair of both belongs to the test split when the CRC-32 of its name is
divisible by four. Every request offers three tools.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from typing import Any

from ferrule.core.flows import Ask, Policy
from ferrule.core.records import Call, Message, Tool
from ferrule.data.records import Completion

__all__ = ["agrees", "arguments_of", "exact", "requests"]

_VERBS = ("book", "find", "order", "rent", "rate", "plan", "move", "check")
_NOUNS = ("hotel", "train", "boat", "room", "table", "song", "garden", "lamp", "visit", "print")
_WORDS = ("Oslo", "Rome", "Lima", "Cairo", "Delhi", "Paris", "Tokyo", "Quito")
_FIELDS = {"city": "string", "days": "integer", "size": "integer", "price": "integer"}


def requests(count: int, *, seed: int, split: str = "train", most_calls: int = 3) -> list[Completion]:
    """Return requests with their reference replies, the same for the same seed."""
    rng = random.Random(f"{split}/{seed}")
    names = [
        f"{verb}_{noun}"
        for verb in _VERBS
        for noun in _NOUNS
        if (zlib.crc32(f"{verb}_{noun}".encode()) % 4 == 0) == (split == "test")
    ]
    return [_request(rng, rng.sample(names, 3), 1 + i % most_calls) for i in range(count)]


def _request(rng: random.Random, names: Sequence[str], calls: int) -> Completion:
    wanted = tuple(Call(rng.choice(names), _arguments(rng), id=f"call_{i}") for i in range(calls))
    said = ", then ".join(
        f"{call.name.replace('_', ' a ')} with {', '.join(f'{key} {value}' for key, value in call.arguments.items())}"
        for call in wanted
    )
    fields = {"type": "object", "properties": {name: {"type": kind} for name, kind in _FIELDS.items()}}
    tools = tuple(
        Tool.from_schema({"name": name, "description": name.replace("_", " a "), "parameters": fields})
        for name in names
    )
    return Completion((Message("user", f"Please {said}."),), (Message("assistant", "", wanted),), tools)


def _arguments(rng: random.Random) -> dict[str, Any]:
    chosen = rng.sample(list(_FIELDS), rng.randint(1, len(_FIELDS)))
    return {
        name: rng.choice(_WORDS) if kind == "string" else rng.randint(2, 99)
        for name, kind in _FIELDS.items()
        if name in chosen
    }


def arguments_of(sample: Completion) -> int:
    """Return the number of arguments of all calls of a reference reply."""
    return sum(len(call.arguments) for message in _messages(sample) for call in message.calls)


def _messages(sample: Completion) -> Sequence[Message]:
    return [] if isinstance(sample.completion, str) else sample.completion


def _said(message: Message) -> list[tuple[str, dict[str, Any]]]:
    return [(call.name, dict(call.arguments)) for call in message.calls]


def agrees(reply: Message, sample: Completion) -> bool:
    """Return whether a reply makes exactly the calls of the reference, in their order, however it is written."""
    return _said(reply) == [call for message in _messages(sample) for call in _said(message)]


def exact(policy: Policy, samples: Sequence[Completion], *, max_tokens: int = 160) -> list[bool]:
    """Return whether a policy's greedy reply agrees with the reference, for every sample (``agrees``)."""
    asks = [
        Ask(sample.prompt, tools=sample.tools, max_tokens=max_tokens, temperature=0.0)
        for sample in samples
        if not isinstance(sample.prompt, str)
    ]
    replies = policy.generate(asks)
    return [agrees(reply.message, sample) for (reply,), sample in zip(replies, samples, strict=True)]
