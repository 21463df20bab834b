"""Record a policy's replies, and play them again without the model or the network."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import Any

from ferrule.core.arrays import nearest
from ferrule.core.exact import decode, encode, text_of
from ferrule.core.flows import Ask, Policy
from ferrule.core.powers import POWERS
from ferrule.core.records import Reply
from ferrule.core.streams import Streaming
from ferrule.policies.endpoint.http import PolicyError
from ferrule.worlds.cassette import Cassette

__all__ = ["RecordedPolicy", "prints_of", "recorded"]

_MODES = ("live", "record", "replay")


class RecordedPolicy:
    """A policy whose replies go to a cassette, or come from it.

    A reply is found by the ask's seed, role and ``n``; drivers give every ask of every episode a seed of its own. What
    else an ask holds (messages, tools, limits) must be as it was recorded: a replay of an ask that differs, or that
    was not recorded, raises ``PolicyError``. In a replay ``policy`` may be None and is never asked. Every other
    attribute is the policy's own.
    """

    def __init__(self, policy: Policy | None, cassette: Cassette) -> None:
        if cassette.mode not in _MODES:
            raise ValueError(f"a policy cannot be in the cassette mode {cassette.mode!r}; {nearest('', _MODES)}")
        if policy is None and cassette.mode != "replay":
            raise ValueError(f"the cassette mode {cassette.mode!r} needs a policy to ask")
        self.policy, self.cassette = policy, cassette
        if cassette.mode == "replay" or hasattr(policy, "agenerate"):
            self.agenerate = self._agenerate  # drivers look whether a policy has this power
        if cassette.mode != "replay" and isinstance(policy, Streaming):
            self.stream = partial(_Stream, self, policy)

    @property
    def powers(self) -> frozenset[str]:
        """The policy's own powers; a replay gives whatever was recorded."""
        return frozenset(POWERS) if self.policy is None else frozenset(getattr(self.policy, "powers", ()))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("agenerate", "stream") or "policy" not in vars(self):
            raise AttributeError(name)
        return getattr(self.policy, name)

    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        """Answer all asks: from the cassette in a replay, else by the policy."""
        if self.cassette.mode == "replay":
            return [self._play(ask) for ask in asks]
        assert self.policy is not None
        answers = self.policy.generate(asks)
        for ask, replies in zip(asks, answers, strict=True):
            self.keep(ask, replies)
        return answers

    async def _agenerate(self, ask: Ask) -> list[Reply]:
        """Answer one ask; the same as ``generate`` on an event loop."""
        if self.cassette.mode == "replay":
            return self._play(ask)
        policy: Any = self.policy
        replies = list(await policy.agenerate(ask))
        self.keep(ask, replies)
        return replies

    def keep(self, ask: Ask, replies: Sequence[Reply]) -> None:
        """Write the replies to an ask down, when recording."""
        if self.cassette.mode != "record":
            return
        row = {"key": list(_key(ask)), "ask": prints_of(ask), "replies": [_small(ask, reply) for reply in replies]}
        self.cassette.write({"kind": "reply", **row})

    def _play(self, ask: Ask) -> list[Reply]:
        key = _key(ask)
        row = self.cassette.entry(("reply", *key))
        seed, role, n = key
        label = f"the ask with seed {seed}, role {role!r}, n {n}"
        if row is None:
            raise PolicyError(self.cassette.missed(f"{label}; {self._known(seed)}"))
        now = prints_of(ask)
        differs = [name for name in {**now, **row["ask"]} if row["ask"].get(name) != now.get(name)]
        if differs:
            raise PolicyError(self.cassette.missed(f"{label} was recorded with other {', '.join(differs)}"))
        return [_whole(ask, data) for data in row["replies"]]

    def _known(self, seed: int) -> str:
        keys = self.cassette.keys("reply")
        same = [f"role {key[2]!r}, n {key[3]}" for key in keys if key[1] == seed]
        return f"recorded for this seed: {'; '.join(same)}" if same else f"it holds {len(keys)} asks of other seeds"


class _Stream:
    """A stream of the policy whose replies are written down as they come."""

    def __init__(self, recorder: RecordedPolicy, policy: Streaming) -> None:
        self._recorder, self._stream = recorder, policy.stream()
        self._asked: dict[int, Ask] = {}

    def begin(self, asks: Sequence[tuple[int, Ask]]) -> None:
        """Queue asks, each under a number of the caller's."""
        self._asked |= dict(asks)
        self._stream.begin(asks)

    def advance(self) -> list[tuple[int, list[Reply]]]:
        """Do one piece of work and return the asks that are complete, by number."""
        ready = sorted(self._stream.advance(), key=lambda pair: pair[0])
        for number, replies in ready:
            self._recorder.keep(self._asked.pop(number), replies)
        return ready

    def close(self) -> None:
        """Give up what is on its way."""
        self._stream.close()


def _key(ask: Ask) -> tuple[int, str, int]:
    return ask.seed, ask.role, ask.n


def _drawn(ask: Ask) -> tuple[object, ...]:
    """What an ask says of sampling; of a function only its name can be told."""
    allowed = ask.sampling.allowed
    name = getattr(allowed, "__qualname__", type(allowed).__name__) if allowed is not None else None
    return (*(getattr(ask.sampling, f.name) for f in fields(ask.sampling) if f.name != "allowed"), name)


def prints_of(ask: Ask) -> dict[str, str]:
    """Return a short print of every part of an ask that a reply depends on."""
    parts: dict[str, Any] = {
        "messages": ask.messages,
        "tools": ask.tools,
        "limits": (ask.stop, ask.max_tokens, ask.temperature, ask.prefill, ask.want, _drawn(ask)),
        "context ids": ask.context,
    }
    if ask.begun or ask.must_call:  # left out otherwise, as in cassettes that were recorded without
        parts["beginning"] = (ask.begun, ask.must_call)
    return {
        name: hashlib.blake2b(text_of(encode(part)).encode("ascii"), digest_size=8).hexdigest()
        for name, part in parts.items()
    }


def _small(ask: Ask, reply: Reply) -> dict[str, Any]:
    """Encode a reply; ids that repeat the ask's context are left out."""
    data: dict[str, Any] = encode(reply)
    known = len(ask.context)
    if known and reply.given[:known] == ask.context:
        return {**data, "given": encode(reply.given[known:]), "after": known}
    return data


def _whole(ask: Ask, data: Mapping[str, Any]) -> Reply:
    after = data.get("after", 0)
    reply: dict[str, Any] = {key: value for key, value in data.items() if key != "after"}
    if after:
        reply["given"] = encode((*ask.context, *decode(reply["given"])))
    whole: Reply = decode(reply)
    return whole


def recorded(policy: Policy | None, cassette: Cassette) -> RecordedPolicy:
    """Return ``policy`` with ``cassette`` around it; see ``RecordedPolicy``."""
    return RecordedPolicy(policy, cassette)
