"""Ways of laying a conversation out for a chat template: as what results go in, and what the template needs changed.

A chat template takes entries (a role and a content). Families differ in what they take: some have a form of their own
for a tool's result, some know no tool role, no system role or no two user turns in a row. A ``Layout`` says which
entries are made of messages; ``ferrule.chat.fitted`` takes the first whose text is right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from ferrule.chat.codec import Codec
from ferrule.core.arrays import nearest
from ferrule.core.records import Message, plain_text

__all__ = [
    "BARE", "CHANGES", "LAYOUTS", "NATIVE", "USER", "WRAPPED", "Change", "Entry", "Layout", "in_parts", "joined",
    "layout", "standing_in", "system_in_user",
]  # fmt: skip

Entry: TypeAlias = dict[str, Any]
"""What a chat template reads as one message: ``role``, ``content``; results have the name and id of their call."""
Change: TypeAlias = Callable[[Sequence[Entry]], list[Entry]]
"""A last change of all entries before the template sees them."""


_NAME = re.compile(r"[\w.-]{1,64}")
_IDENTITY = re.compile(r"[A-Za-z0-9]{9}")  # Mistral's templates take no other


def _bare(codec: Codec, messages: Sequence[Message]) -> list[Entry]:
    return [{"role": "tool", "content": plain_text(m), **_call_of(i, m)} for i, m in enumerate(messages)]


def standing_in(messages: Sequence[Message], arguments: Any) -> Entry:
    """Return an assistant entry whose calls, given as data, are those that the results answer."""
    calls = [
        {"type": "function", "id": entry["tool_call_id"], "function": {"name": entry["name"], "arguments": arguments}}
        for entry in (_call_of(i, m) for i, m in enumerate(messages))
    ]
    return {"role": "assistant", "content": "", "tool_calls": calls}


def _call_of(i: int, message: Message) -> Entry:
    """Return name and id of the call that a result answers; what a template might not take is replaced."""
    name = message.name if _NAME.fullmatch(message.name) else "unknown"
    return {"name": name, "tool_call_id": message.call_id if _IDENTITY.fullmatch(message.call_id) else f"{i:09d}"}


def _wrapped(codec: Codec, messages: Sequence[Message]) -> list[Entry]:
    return [{"role": "tool", "content": "\n".join(codec.show(m) for m in messages)}]


def _as_user(codec: Codec, messages: Sequence[Message]) -> list[Entry]:
    return [{"role": "user", "content": "\n".join(codec.show(m) for m in messages)}]


def system_in_user(entries: Sequence[Entry]) -> list[Entry]:
    """Put the system text before the text of the first user turn, for templates without a system role."""
    if not entries or entries[0]["role"] != "system":
        return list(entries)
    system, *rest = entries
    if rest and rest[0]["role"] == "user":
        return [{**rest[0], "content": f"{system['content']}\n\n{rest[0]['content']}"}, *rest[1:]]
    return [{**system, "role": "user"}, *rest]


def joined(entries: Sequence[Entry]) -> list[Entry]:
    """Make one user turn of those that follow each other, for templates whose roles must alternate."""
    turns: list[Entry] = []
    for entry in entries:
        if turns and entry["role"] == turns[-1]["role"] == "user":
            turns[-1] = {**turns[-1], "content": f"{turns[-1]['content']}\n\n{entry['content']}"}
        else:
            turns.append(entry)
    return turns


def in_parts(entries: Sequence[Entry]) -> list[Entry]:
    """Write every content as a list of one text part, for templates that read nothing else."""
    return [{**entry, "content": [{"type": "text", "text": entry["content"]}]} for entry in entries]


CHANGES: tuple[Change, ...] = (system_in_user, joined, in_parts)
"""The changes that a template may need, in the order in which they are made."""


@dataclass(frozen=True)
class Layout:
    """A way of laying a conversation out.

    ``results`` makes entries of results in a row, ``changes`` alters all entries at the end. With ``calls`` the reply
    before results is given to the template with its calls as data (``standing_in``).
    ``name`` is what ``--tool-role`` takes. Codecs with inline results use neither ``results`` nor ``calls``.
    """

    name: str
    results: Callable[[Codec, Sequence[Message]], list[Entry]]
    changes: tuple[Change, ...] = ()
    calls: bool = False

    def arranged(self, entries: Sequence[Entry]) -> list[Entry]:
        """Return the entries as the template is to see them."""
        changed = list(entries)
        for change in self.changes:
            changed = change(changed)
        return changed


BARE = Layout("tool", _bare)
"""One entry of role tool per result, its text as it is: the template has a form of its own for results."""
NATIVE = Layout("native", _bare, calls=True)
"""As ``BARE``, behind calls given as data: the template shows results only where it knows the calls they answer."""
WRAPPED = Layout("wrapped", _wrapped)
"""One entry of role tool for results in a row, in the form of the codec: the template writes its turn as any other."""
USER = Layout("user", _as_user)
"""One user turn for results in a row, in the form of the codec: the template has no use for a tool role."""
LAYOUTS: tuple[Layout, ...] = (BARE, NATIVE, WRAPPED, USER)
"""All layouts, the one nearest to what a family was trained on first."""


def layout(name: str, changes: Sequence[str] = ()) -> Layout:
    """Return a layout by its name and the names of its changes; unknown ones raise ``ValueError`` with the nearest."""
    by_name, known = {one.name: one for one in LAYOUTS}, {change.__name__: change for change in CHANGES}
    if name not in by_name:
        raise ValueError(f"unknown tool role {name!r}; {nearest(name, list(by_name))}")
    for change in changes:
        if change not in known:
            raise ValueError(f"unknown change {change!r} of a layout; {nearest(change, list(known))}")
    return replace(by_name[name], changes=tuple(known[change] for change in changes))
