"""What a chat template does, learned by rendering short conversations: what it needs changed, and what it adds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ferrule.chat.layout import BARE, Change, Entry, in_parts, joined, system_in_user
from ferrule.chat.template import Template
from ferrule.core.records import Message

__all__ = ["default_system", "has_form", "needed_changes", "rendered"]


def rendered(template: Template, entries: Sequence[Entry], prompt: bool = True, **more: Any) -> str:
    """Return a rendering; empty where the template raises."""
    try:
        return template.render(entries, prompt, **more)
    except Exception:  # a template is a program and may raise anything
        return ""


def needed_changes(template: Template) -> tuple[Change, ...]:
    """Return the changes of entries that the template needs to show what it is given.

    User turns in a row are joined where the template refuses them, and where the end of each lets the assistant write.
    """
    plain = replace(template, layout=replace(template.layout, changes=()))
    first: Entry = {"role": "user", "content": "Probe one."}
    parted = replace(plain, layout=replace(plain.layout, changes=(in_parts,)))
    needs_parts = "Probe one." not in rendered(plain, [first]) and "Probe one." in rendered(parted, [first])
    base = parted if needs_parts else plain
    reply: Entry = {"role": "assistant", "content": "Probe reply."}
    later: Entry = {"role": "user", "content": "Probe two."}
    system: Entry = {"role": "system", "content": "Probe system."}
    changes: list[Change] = []
    whole = rendered(base, [system, first, reply, later])
    if whole.count("Probe system.") != 1 or whole.find("Probe system.") > whole.find("Probe one."):
        changes.append(system_in_user)  # some templates put it before the last user turn, so that it moves
    opens_nothing = rendered(base, [first]) == rendered(base, [first], prompt=False)
    if opens_nothing or "Probe two." not in rendered(base, [first, later]):
        changes.append(joined)
    return (*changes, in_parts) if needs_parts else tuple(changes)


def default_system(template: Template) -> str:
    """Return the system text that the template writes where it is given none."""
    user: Entry = {"role": "user", "content": "Probe question."}
    bare = rendered(template, [user])
    given = rendered(template, [{"role": "system", "content": "Probe system."}, user])
    head, _, rest = given.partition("Probe system.")
    tail = rest.partition("Probe question.")[0]
    text = bare.partition("Probe question.")[0]
    if not given or not text.startswith(head) or not text.endswith(tail) or len(text) < len(head) + len(tail):
        return ""
    inner = text[len(head) : len(text) - len(tail)]
    same = rendered(template, [{"role": "system", "content": inner}, user]) == bare if inner else False
    return inner if same else ""


def has_form(template: Template) -> bool | None:
    """Say whether the template writes results in a form of its own, not as a turn like any other; None if it cannot."""
    start: list[Entry] = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "Probe answer."}]
    (result,) = BARE.results(template.codec, [Message("tool", "Probe.", name="probe_tool")])
    try:
        texts = [template.render([*start, {**result, "role": role}], True) for role in ("user", "tool")]
    except Exception:  # whatever the template raises, it has no use for the role
        return None
    if any(text.count("Probe.") != 1 for text in texts):
        return None
    user, tool = (text.rpartition("Probe answer.")[2] for text in texts)
    return tool.lower().replace("tool", "user") != user.lower()
