"""The embedded model's own card: greedy replies to conversations with words that training never saw, by skill."""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count

from ferrule.core.flows import Ask, Policy
from ferrule.core.records import Message, Reply, plain_text
from ferrule.policies.local import Local
from ferrule.policies.pocket.corpus import Conversation, conversation
from ferrule.policies.pocket.corpus.draw import Draw
from ferrule.policies.pocket.forms import FORMS, layout
from ferrule.sandbox.interpreter import Interpreter

__all__ = ["ROWS", "Row", "measure", "read_in"]

NO_PLAN = "No plan, call at once."
"""System text under which a reply holds its call alone; it takes the place of another one."""
REFUSAL = "No tool for that."
"""What the corpus answers where no tool fits."""

Keep = Callable[[Conversation], bool]
Judge = Callable[[Reply, Message], bool]


def _calls(message: Message) -> list[tuple[str, object]]:
    """Return names and arguments of the calls; code counts by what it says, not by order of keywords or spaces."""
    return [(call.name, {name: _code(value) for name, value in call.arguments.items()}) for call in message.calls]


def _code(value: object) -> object:
    """Return the syntax tree of a text that calls functions by keyword, anything else as it is."""
    if not (isinstance(value, str) and value.startswith("print(")):
        return value
    with suppress(SyntaxError):
        tree = ast.parse(value)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                node.keywords.sort(key=lambda keyword: keyword.arg or "")
        return ast.dump(tree)
    return value


def same(reply: Reply, wanted: Message) -> bool:
    """Tell whether a reply makes the wanted calls, whatever it says before them, or gives the wanted answer."""
    if wanted.calls or reply.message.calls:
        well_formed = not any(call.problem for call in reply.message.calls)
        return well_formed and _calls(reply.message) == _calls(wanted)
    return plain_text(reply.message).strip() == plain_text(wanted).strip()


def _at_once(reply: Reply, wanted: Message) -> bool:
    """The wanted calls and not a word before them."""
    return same(reply, wanted) and not (wanted.calls and plain_text(reply.message).strip())


def _as_told(reply: Reply, wanted: Message) -> bool:
    """The wanted calls after the wanted kind of text: none, thinking, or a plan."""

    def kind(message: Message) -> tuple[bool, bool]:
        text = plain_text(message).strip()
        return bool(text), text.startswith("<think>")

    return same(reply, wanted) and (not wanted.calls or kind(reply.message) == kind(wanted))


def _no_call(reply: Reply, wanted: Message) -> bool:
    """Words, and no attempt of a call."""
    return bool(wanted.calls) or not reply.message.calls


def _prints_the_same(reply: Reply, wanted: Message) -> bool:
    """A call of the wanted tool whose program prints, in the sandbox, what the wanted one prints."""
    if [call.name for call in reply.message.calls] != [call.name for call in wanted.calls] or not wanted.calls:
        return same(reply, wanted)
    texts = [" ".join(map(str, message.calls[0].arguments.values())) for message in (reply.message, wanted)]
    with Interpreter(persistent=False) as python:
        first, second = (python.run(text) for text in texts)
    return first.status == "ok" and first.text == second.text


@dataclass(frozen=True)
class Row:
    """One line of the card: a family, which conversations of it count, and what has to be right.

    ``whole`` asks for every reply of a conversation, each after the right ones before it; otherwise the first reply
    that is to be learned decides, or the first one behind a failed call where ``repaired``. ``right`` judges a reply.
    ``source`` draws the conversation of a number in place of the corpus.
    """

    family: str
    whole: bool = False
    repaired: bool = False
    keep: Keep = lambda conversation: True
    right: Judge = same
    form: str = "hermes"
    system: str = ""
    source: Callable[[int], Conversation] | None = None


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


def _word(number: int) -> Conversation:
    """Return a request to say an unseen word of 6 to 9 letters, alone."""
    draw = Draw(random.Random(f"word/{number}"), "test")
    word = next(word for word in iter(draw.word, "") if re.fullmatch(r"[A-Za-z]{6,9}", word))
    ask = draw.one("Repeat: {}", "Copy this: {}", "Say exactly: {}", 'Write "{}"', "Echo {}", "Say {}").format(word)
    return Conversation("copy", (Message("user", ask), Message("assistant", word)), (), (True,))


def _selected(conversation: Conversation) -> bool:
    """Keep copies of one unseen word among others."""
    answer, asked = _answer(conversation), _asked(conversation)
    return re.fullmatch(r"[A-Za-z]{6,9}", answer) is not None and answer in asked and len(asked) < 60


def _forbids(conversation: Conversation) -> bool:
    first = conversation.messages[0]
    rule = re.search(r"(Do not call tools|Never use a tool|Tools are forbidden|Make no calls)", plain_text(first))
    return first.role == "system" and rule is not None


def _long_program(conversation: Conversation) -> bool:
    calls = [call for message in conversation.messages for call in message.calls]
    return bool(calls) and any(str(value).count("\n") >= 4 for value in calls[-1].arguments.values())


def _called(conversation: Conversation) -> bool:
    return any(message.calls for message in conversation.messages)


def _needs_tool(conversation: Conversation) -> bool:
    """Keep sums with a number of three digits or more: small ones are called for half of the time."""
    return _called(conversation) and _digits(3, 99)(conversation)


def _repaired(conversation: Conversation) -> bool:
    """Keep failed calls after which another call is right."""
    place = _behind_failure(conversation)
    return place is not None and bool(conversation.messages[place].calls)


def _behind_failure(conversation: Conversation) -> int | None:
    """Return the place of the first reply to be learned behind the first result, None where there is none."""
    replies, answered = iter(conversation.learned), False
    for place, message in enumerate(conversation.messages):
        answered = answered or message.role == "tool"
        if message.role == "assistant" and next(replies) and answered:
            return place
    return None


def _refused(conversation: Conversation) -> bool:
    return _answer(conversation) == REFUSAL


ROWS: Mapping[str, Row] = {
    **{
        family: Row(family)
        for family in (
            *("action", "free", "lookup", "described", "typed", "chain", "pair", "texts"),
            *("domain", "domain chain"),
        )
    },
    "whole chain": Row("chain", whole=True),
    "whole pair": Row("pair", whole=True),
    "whole domain chain": Row("domain chain", whole=True),
    "repair": Row("repair", repaired=True, keep=_repaired),
    "tool for a sum": Row("calc", keep=_needs_tool),
    "note": Row("notes"),
    "given table or text": Row("context"),
    "program": Row("program", right=_prints_the_same),
    "program of five lines": Row("program", keep=_long_program, right=_prints_the_same),
    "no tool fits": Row("refuse", keep=_refused),
    "small talk": Row("notool"),
    "instruction": Row("instruct", whole=True, right=_as_told),
    "do not call": Row("instruct", whole=True, keep=_forbids, right=_no_call),
    "do not call, and the right words": Row("instruct", whole=True, keep=_forbids),
    "copy of an unseen word": Row("copy", source=_word),
    "one unseen word of several": Row("copy", keep=_selected),
    "copy": Row("copy"),
    "sum of one digit": Row("head", keep=_digits(1, 1)),
    "sum of two digits": Row("head", keep=_digits(2, 2)),
    "sum of three digits": Row("head", keep=_digits(3, 3)),
    **{
        f"{family}, no plan": Row(family, whole=family == "chain", keep=_called, right=_at_once, system=NO_PLAN)
        for family in ("action", "free", "lookup", "described", "typed", "chain", "domain")
    },
    "repair, no plan": Row("repair", repaired=True, keep=_repaired, right=_at_once, system=NO_PLAN),
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
        drawn = row.source(number) if row.source else conversation(number, "test", row.family, form=row.form)
        if drawn.form == row.form and row.keep(drawn):
            yield drawn
            kept += 1
        if kept == total:
            return


def _asks(drawn: Conversation, row: Row) -> list[tuple[Ask, Message]]:
    """Return what is asked of the model and what it should write, for the replies that count."""
    messages, pairs = list(drawn.messages), []
    learned = [place for place, message in enumerate(messages) if message.role == "assistant"]
    places = [place for place, counts in zip(learned, drawn.learned, strict=True) if counts]
    if row.repaired:
        places = [place for place in (_behind_failure(drawn),) if place is not None]
    for place in places if row.whole else places[:1]:
        context = [replace(m, content="") if row.system and m.calls else m for m in messages[:place]]
        if row.system:
            context = [Message("system", row.system), *(m for m in context if m.role != "system")]
        ask = Ask(tuple(context), tools=drawn.tools, temperature=0.0, max_tokens=160)
        pairs.append((ask, messages[place]))
    return pairs


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
        judged = [[row.right(next(given), wanted) for _, wanted in pairs] for pairs in asked]
        right = [all(replies) for replies in judged]
        card[name] = {"right": sum(right), "tasks": len(right)}
    return card
