"""From asks to the rows that an engine samples, and from finished rows to replies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol, cast

import numpy as np
import torch

from ferrule.chat.renderer import Renderer
from ferrule.chat.reply import first_stop, in_thought, pieces_of, read_reply, reply_spans, token_spans
from ferrule.chat.scan import THINKING
from ferrule.core.arrays import nearest
from ferrule.core.flows import Ask
from ferrule.core.records import Finish, Reply
from ferrule.policies.engine.rows import Row, Stops
from ferrule.policies.heads import HasHeads, Head, head_values

__all__ = [
    "Speaker",
    "begun_finish",
    "head_extras",
    "opens_thought",
    "reply_of",
    "rows_of",
    "scores_of",
    "token_limit",
]


class Speaker(Protocol):
    """What a model's tokenizer, renderer and weights give to asks and replies; ``Local`` is one."""

    model: Any
    renderer: Renderer
    stops: Stops
    temperature: float
    max_tokens: int
    pad: int
    head_kinds: dict[str, Head]

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text."""
        ...

    def prompt_ids(self, ask: Ask) -> tuple[int, ...]:
        """Return the ids before the reply."""
        ...

    def scores(self, ids_NT: Any, turn_NT: Any, *, temperature: float = 1.0) -> Any:
        """Return log-probs (N, T), zero where ``turn_NT`` is -1."""
        ...


_HEAD = "head:"
_WANTS = ("entropy", "head:NAME", "hidden", "logprobs", "pieces", "score", "top_logps:5", "top_texts:5")


def token_limit(ask: Ask, default: int) -> int:
    """Return how many tokens a reply may take: the ask's limit, which may be 0, else the policy's."""
    return default if ask.max_tokens is None else ask.max_tokens


def _stops(policy: Speaker, ask: Ask) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for text in (*policy.renderer.codec.stop, *ask.stop) if text))


def begun_finish(policy: Speaker, ask: Ask, given: Sequence[int]) -> str:
    """Return ``stop`` when the begun ids of an ask are a whole reply: they hold a stop string, or the end token.

    ``given`` are the ids before the reply goes on.
    """
    if not ask.begun:
        return ""
    ended = ask.begun[-1] in policy.stops.end_ids and not ask.sampling.ignore_end
    text = policy.stops.text(ask.begun)
    opened = in_thought(ask.prefill, opens_thought(policy, ask, given))
    return "stop" if ended or first_stop(text, _stops(policy, ask), opened) >= 0 else ""


def opens_thought(policy: Speaker, ask: Ask, given: Sequence[int]) -> bool:
    """Say whether the prompt (the ids before ``prefill`` and ``begun``) leaves thinking open, as some templates do."""
    before = given[: len(given) - len(ask.begun)]
    tail = policy.stops.text(before[-64 - 4 * len(ask.prefill) :])
    return tail.removesuffix(ask.prefill).rstrip().endswith(tuple(opening for opening, _ in THINKING))


def rows_of(policy: Speaker, ask: Ask) -> list[Row]:
    """Return one row for each sample of an ask; those that leave nothing to sample are finished already."""
    given, how = policy.prompt_ids(ask), ask.sampling
    room = getattr(policy.model.config, "max_position_embeddings", None) or 10**9
    most = min(token_limit(ask, policy.max_tokens), room - len(given))
    settings: dict[str, Any] = {
        "stop": _stops(policy, ask),
        "begun": ask.begun,
        "opened": in_thought(ask.prefill, opens_thought(policy, ask, given)),
        "top_k": how.top_k,
        "top_p": how.top_p,
        "bias": {_token(policy, token): more for token, more in how.bias.items()},
        "bans": tuple((ban,) if isinstance(ban, int) else tuple(policy.encode(ban)) for ban in how.ban),
        "allowed": how.allowed,
        "ignore_end": how.ignore_end,
        **_wanted(ask.want, list(policy.head_kinds)),
        "finish": begun_finish(policy, ask, given) or ("length" if most < 1 else ""),
    }
    heat = policy.temperature if ask.temperature is None else ask.temperature
    return [Row(given, most, heat, (ask.seed << 8) + sample, **settings) for sample in range(ask.n)]


def _token(policy: Speaker, token: int | str) -> int:
    if isinstance(token, int):
        return token
    ids = policy.encode(token)
    if len(ids) != 1:
        raise ValueError(f"Sampling.bias names {token!r}, which is {len(ids)} tokens of this tokenizer; name one")
    return ids[0]


def reply_of(policy: Speaker, ask: Ask, row: Row) -> Reply:
    """Return the reply that a finished row makes; the message is read from what was begun and sampled together."""
    body = [*row.begun, *row.sampled]
    if body and body[-1] in policy.stops.end_ids:
        body.pop()
    text = policy.stops.text(body)
    if (end := first_stop(text, row.stop, row.opened)) >= 0:
        text = text[:end]
    codec, opened = policy.renderer.codec, opens_thought(policy, ask, row.given)
    labelled = () if ask.prefill else reply_spans(codec, text, opened=opened)
    pieces = pieces_of(policy.stops.text, body) if labelled else []
    return Reply(
        message=read_reply(codec, ask.prefill + text, tools=ask.tools, opened=opened, cut=row.finish != "stop"),
        spans=token_spans(pieces, labelled, first=len(row.begun)),
        given=row.given,
        sampled=tuple(row.sampled),
        logps=tuple(row.logps),
        finish=cast(Finish, row.finish),
        extras={**_extras(row), **_texts(policy, ask, row, body)},
    )


def scores_of(policy: Speaker, asks: Sequence[Ask]) -> list[dict[str, Any]]:
    """Return for each ask what ``want`` of ``score`` adds to the extras of its replies.

    ``score`` are the log-probs (nats) of the ids that the reply is to begin with (``prefill`` and ``begun``), each
    given all before it, at the ask's temperature (1 where that is 0); ``scored`` are the ids.
    """
    scores: list[dict[str, Any]] = [{} for _ in asks]
    heats: dict[float, list[int]] = {}
    for number, ask in enumerate(asks):
        if "score" in ask.want:
            heat = policy.temperature if ask.temperature is None else ask.temperature
            heats.setdefault(heat or 1.0, []).append(number)
    for heat, numbers in heats.items():
        rows = [policy.prompt_ids(asks[number]) for number in numbers]
        firsts = [_prompt_end(policy, asks[number], ids) for number, ids in zip(numbers, rows, strict=True)]
        ids_NT = np.full((len(rows), max(map(len, rows))), policy.pad, dtype=np.int64)
        turn_NT = np.full_like(ids_NT, -1)
        for i, (ids, first) in enumerate(zip(rows, firsts, strict=True)):
            ids_NT[i, : len(ids)], turn_NT[i, first : len(ids)] = ids, 0
        logp_NT = policy.scores(ids_NT, turn_NT, temperature=heat)
        for i, (number, ids, first) in enumerate(zip(numbers, rows, firsts, strict=True)):
            scores[number] = {"score": tuple(logp_NT[i, first : len(ids)].tolist()), "scored": ids[first:]}
    return scores


def _prompt_end(policy: Speaker, ask: Ask, ids: Sequence[int]) -> int:
    """Return where in the ids of an ask the reply begins: after what is the same without its beginning."""
    bare = policy.prompt_ids(replace(ask, prefill="", begun=()))
    most = len(ids) - len(ask.begun)
    return next((i for i, (a, b) in enumerate(zip(bare, ids[:most], strict=False)) if a != b), min(len(bare), most))


def head_extras(policy: HasHeads, ask: Ask, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return for each finished row what the heads that ``want`` names (``head:NAME``) say of it.

    One number for a head per row, else one for each sampled token. They come from one more pass over the whole rows,
    after these were sampled.
    """
    names = [entry.removeprefix(_HEAD) for entry in ask.want if entry.startswith(_HEAD)]
    said: list[dict[str, Any]] = [{} for _ in rows]
    if not names:
        return said
    whole = [[*row.given, *row.sampled] for row in rows]
    ids_NT = torch.full((len(rows), max(map(len, whole))), -1, device=next(policy.heads.parameters()).device)
    turn_NT = torch.full_like(ids_NT, -1)
    for i, (row, ids) in enumerate(zip(rows, whole, strict=True)):
        ids_NT[i, : len(ids)], turn_NT[i, len(row.given) : len(ids)] = torch.tensor(ids), 0
    for name in names:
        with torch.no_grad():
            numbers = head_values(policy, name, ids_NT, turn_NT).tolist()
        for i, (row, ids) in enumerate(zip(rows, whole, strict=True)):
            per_row = policy.head_kinds[name].at == "row"
            said[i][_HEAD + name] = numbers[i] if per_row else tuple(numbers[i][len(row.given) : len(ids)])
    return said


def _wanted(want: Sequence[str], heads: Sequence[str]) -> dict[str, Any]:
    """Translate ``Ask.want`` into settings of a row."""
    wanted: dict[str, Any] = {}
    for entry in want:
        name, _, count = entry.partition(":")
        if name in ("top_logps", "top_texts") and count.isdecimal():
            wanted["top_logps"] = max(int(count), wanted.get("top_logps", 0))
        elif entry in ("entropy", "hidden"):
            wanted[{"hidden": "wants_hidden"}.get(entry, entry)] = True
        elif name == "head" and count in heads:
            pass
        elif name == "head":
            raise ValueError(f"the policy has no head {count!r}; {nearest(count, heads)}")
        elif entry not in ("logprobs", "pieces", "score"):
            raise ValueError(f"a local model cannot give {entry!r}; {nearest(entry, _WANTS)}")
    return wanted


def _extras(row: Row) -> dict[str, Any]:
    extras: dict[str, Any] = {}
    if row.entropy:
        extras["entropy"] = tuple(row.entropies)
    if row.wants_hidden:
        extras["hidden"] = row.hidden
    if row.top_logps:
        extras["top_logps"] = tuple(row.tops)
    return extras


def _texts(policy: Speaker, ask: Ask, row: Row, body: Sequence[int]) -> dict[str, Any]:
    """Return what every sampled token adds to the text, and the texts of the most probable ones, as far as wanted."""
    extras: dict[str, Any] = {}
    if "pieces" in ask.want:
        pieces = pieces_of(policy.stops.text, body)[len(row.begun) :]
        pieces += [""] * (len(row.sampled) - len(pieces))  # the end token adds nothing
        extras["pieces"] = tuple(pieces)
    for count in (int(entry.partition(":")[2]) for entry in ask.want if entry.startswith("top_texts:")):
        text = policy.stops.text
        extras["top_texts"] = tuple(tuple((text([i]), logp) for i, logp in top[:count]) for top in row.tops)
    return extras
