"""The embedded model's own card: greedy replies to conversations with words that training never saw, by skill."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

from ferrule.core.flows import Ask, Policy
from ferrule.core.records import Message, Reply, plain_text
from ferrule.policies.local import Local
from ferrule.policies.pocket.corpus import CALLING, Conversation, conversation
from ferrule.policies.pocket.forms import FORMS, layout

__all__ = ["ROWS", "Row", "measure", "read_in"]

NO_PLAN = "No plan, call at once."
"""System text under which a reply holds its call alone."""

Keep = Callable[[Conversation], bool]


@dataclass(frozen=True)
class Row:
    """One line of the card: a family, which conversations of it count, and what has to be right.

    ``whole`` asks for every reply of a conversation, each after the right ones before it; otherwise the first reply
    that is to be learned decides. With ``calls`` only the calls are compared, so that a plan may be worded otherwise.
    """

    family: str
    whole: bool = False
    keep: Keep = lambda conversation: True
    form: str = "hermes"
    system: str = ""


def _asked(conversation: Conversation) -> str:
    return next(plain_text(message) for message in conversation.messages if message.role == "user")


def _answer(conversation: Conversation) -> str:
    return plain_text(conversation.messages[-1])


def _digits(least: int, most: int) -> Keep:
    """Keep sums whose largest number has so many digits."""

    def keep(conversation: Conversation) -> bool:
        numbers = re.findall(r"\d+", _asked(conversation))
        return bool(numbers) and least <= max(map(len, numbers)) <= most

    return keep


def _unseen_word(conversation: Conversation) -> bool:
    return re.fullmatch(r"[A-Za-z]{6,9}", _answer(conversation)) is not None and len(_asked(conversation)) < 60


def _forbids(conversation: Conversation) -> bool:
    first = conversation.messages[0]
    rule = re.match(r"(Do not call tools|Never use a tool|Tools are forbidden|Make no calls)", plain_text(first))
    return first.role == "system" and rule is not None


def _long_program(conversation: Conversation) -> bool:
    calls = [call for message in conversation.messages for call in message.calls]
    return bool(calls) and any(str(value).count("\n") >= 4 for value in calls[-1].arguments.values())


def _called(conversation: Conversation) -> bool:
    return any(message.calls for message in conversation.messages)


ROWS: Mapping[str, Row] = {
    **{family: Row(family) for family in CALLING if family not in ("calc", "program", "notes")},
    "whole chain": Row("chain", whole=True),
    "whole pair": Row("pair", whole=True),
    "tool for a sum": Row("calc", keep=_called),
    "note": Row("notes"),
    "given table or text": Row("context"),
    "program": Row("program"),
    "program of five lines": Row("program", keep=_long_program),
    "no tool fits": Row("refuse"),
    "small talk": Row("notool"),
    "instruction": Row("instruct", whole=True),
    "do not call": Row("instruct", whole=True, keep=_forbids),
    "copy of an unseen word": Row("copy", keep=_unseen_word),
    "copy": Row("copy"),
    "sum of one digit": Row("head", keep=_digits(1, 1)),
    "sum of two digits": Row("head", keep=_digits(2, 2)),
    "sum of three digits": Row("head", keep=_digits(3, 3)),
    **{
        f"{family}, no plan": Row(family, whole=family == "chain", keep=_called, system=NO_PLAN)
        for family in ("action", "free", "described", "chain", "repair")
    },
    **{
        f"{family}, {form}": Row(family, form=form)
        for form in FORMS
        if form != "hermes"
        for family in ("lookup", "chain")
    },
}
"""Lines of the card by name."""


def _conversations(row: Row, total: int, seed: int) -> Iterator[Conversation]:
    """Yield held-out conversations of a row."""
    kept = 0
    for number in count(seed * 1_000_003):
        drawn = conversation(number, "test", row.family, form=row.form)
        if drawn.form == row.form and row.keep(drawn):
            yield drawn
            kept += 1
        if kept == total:
            return


def _asks(drawn: Conversation, row: Row) -> list[tuple[Ask, Message]]:
    """Return what is asked of the model and what it should write, for the replies that count."""
    messages, replies, pairs = list(drawn.messages), iter(drawn.learned), []
    if row.system:
        given = messages.pop(0) if messages[0].role == "system" else None
        text = f"{plain_text(given)} {row.system}" if given else row.system
        messages.insert(0, Message("system", text))
    for place, message in enumerate(messages):
        if message.role == "assistant" and next(replies):
            context = [replace(m, content="") if row.system and m.calls else m for m in messages[:place]]
            pairs.append((Ask(tuple(context), tools=drawn.tools, temperature=0.0, max_tokens=160), message))
            if not row.whole:
                break
    return pairs


def _right(reply: Reply, wanted: Message) -> bool:
    calls = [(call.name, dict(call.arguments)) for call in wanted.calls]
    if calls or reply.message.calls:
        return [(call.name, dict(call.arguments)) for call in reply.message.calls] == calls
    return plain_text(reply.message).strip() == plain_text(wanted).strip()


def read_in(policy: Local, form: str) -> Local:
    """Return the same model, reading and writing another of its forms."""
    return Local(policy.model, policy.tokenizer, layout(form), name=policy.name)


def measure(
    policy: Local,
    tasks: int = 200,
    *,
    seed: int = 0,
    rows: Sequence[str] | None = None,
    reader: Callable[[Local, str], Policy] = read_in,
) -> dict[str, dict[str, int]]:
    """Return successes and their number by row of ``ROWS``: ``{"free": {"right": 171, "tasks": 200}}``.

    Replies are greedy. Conversations are of the split ``test``, whose words training does not hold. ``reader`` gives
    the policy that answers in a form.
    """
    card: dict[str, dict[str, int]] = {}
    for name in rows or ROWS:
        row = ROWS[name]
        asked = [_asks(drawn, row) for drawn in _conversations(row, tasks, seed)]
        replies = reader(policy, row.form).generate([ask for pairs in asked for ask, _ in pairs])
        given = iter(reply for (reply,) in replies)
        # Every reply has to be taken, so nothing may stop at the first wrong one.
        judged = [[_right(next(given), wanted) for _, wanted in pairs] for pairs in asked]
        right = [all(replies) for replies in judged]
        card[name] = {"right": sum(right), "tasks": len(right)}
    return card
