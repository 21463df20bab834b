"""The renderer of a tokenizer: the first way of laying conversations out whose text is right, or why none is.

Tried in order: the chat template with results in role ``tool`` (bare where the template has a form of its own for them
or writes calls in the codec's, behind calls as data where it needs to know these, else in the form of the codec), with
results as user turns, then ChatML with the tokenizer's own marks.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ferrule.chat.check import TemplateRefused, checked
from ferrule.chat.codec import Codec, codec
from ferrule.chat.family import describes, speaks, spoken
from ferrule.chat.layout import BARE, LAYOUTS, NATIVE, USER, WRAPPED, Entry, in_parts, joined, system_in_user
from ferrule.chat.probe import default_system, has_form, needed_changes, rendered
from ferrule.chat.renderer import ChatML, Renderer
from ferrule.chat.template import Template
from ferrule.core.arrays import nearest

__all__ = ["RENDERERS", "TOOL_ROLES", "fitted", "said"]

TOOL_ROLES = ("auto", *(one.name for one in LAYOUTS))
"""What ``tool_role`` and ``--tool-role`` take."""
RENDERERS = ("auto", "template", "chatml")
"""What ``renderer`` and ``--renderer`` take."""


def fitted(
    tokenizer: Any,
    form: Codec | None = None,
    *,
    tool_role: str = "auto",
    renderer: str = "auto",
    date: str = "",
    image: str = "",
) -> Renderer:
    """Return the renderer of a tokenizer for a codec, checked (``chat.check.checked``).

    Without a codec it is the one that the chat template itself writes calls in, else ``hermes``. ``tool_role`` and
    ``renderer`` name a way to take no other. ``date`` (ISO) is what the template is told where it asks for the day.

    Raises ``TemplateRefused`` with the reason of every way that was tried, and ``ValueError`` for unknown names.
    """
    for name, value, valid in (("tool_role", tool_role, TOOL_ROLES), ("renderer", renderer, RENDERERS)):
        if value not in valid:
            raise ValueError(f"unknown {name} {value!r}; {nearest(value, list(valid))}")
    refused: list[str] = []
    if renderer != "chatml":
        plain = Template(tokenizer, form or codec("hermes"), date=date, image=image)
        forms = [plain.codec] if form is not None else [*filter(None, [spoken(plain)]), plain.codec]
        for one in dict.fromkeys(forms):
            template = _template(replace(plain, codec=one), tool_role, refused)
            if template is not None:
                return template
    if renderer != "template":
        chatml = _chatml(tokenizer, form or codec("hermes"), tool_role, refused, image)
        if chatml is not None:
            return chatml
    raise TemplateRefused("; ".join(dict.fromkeys(refused)) + ". " + _remedy(tool_role, renderer))


def _remedy(tool_role: str, renderer: str) -> str:
    if tool_role != "auto" or renderer != "auto":
        return f"Leave out tool_role={tool_role!r} and renderer={renderer!r} to take any way whose text is right."
    return (
        "Give the tokenizer a chat template that shows system text, questions, replies and results once and opens an "
        "assistant turn after them, or take a model that has one."
    )


def _template(plain: Template, tool_role: str, refused: list[str]) -> Template | None:
    """Return the template with the first layout that passes; reasons of the others go into ``refused``."""
    if not getattr(plain.tokenizer, "chat_template", None):
        refused.append("the tokenizer has no chat template")
        return None
    changes = needed_changes(plain)
    plain = replace(plain, layout=replace(plain.layout, changes=changes))
    form = has_form(plain)
    turns = (BARE, WRAPPED, USER) if speaks(plain) else (WRAPPED, BARE, USER)
    order = {True: (BARE, NATIVE, USER), False: turns, None: (NATIVE, USER)}[form]
    for one in order if tool_role == "auto" else [one for one in LAYOUTS if one.name == tool_role]:
        if one.calls and plain.codec.inline and tool_role == "auto":  # results are part of replies
            continue
        template = replace(plain, layout=replace(one, changes=changes))
        template = replace(template, default_system=default_system(template), own_tools=describes(template))
        for candidate in (template, replace(template, own_tools=False))[: 1 + template.own_tools]:
            try:
                checked(candidate)
            except TemplateRefused as reason:
                refused.append(f"tool role {one.name!r}: {reason}")
            else:
                return candidate
    return None


def _chatml(tokenizer: Any, form: Codec, tool_role: str, refused: list[str], image: str) -> ChatML | None:
    """Return ChatML with the marks of the tokenizer: those of its template's turns, else ``<|im_start|>``."""
    marks = _marks(tokenizer, form)
    if marks is None:
        refused.append("ChatML: the tokenizer has neither turns of one build nor <|im_start|> and <|im_end|>")
        return None
    if tool_role in (BARE.name, NATIVE.name):
        refused.append(f"ChatML: results are in the form of the codec, tool role {WRAPPED.name!r} or {USER.name!r}")
        return None
    role = "user" if tool_role == USER.name else "tool"
    return ChatML(form, image=image, tool_role=role, **marks)  # type: ignore[arg-type]


def _marks(tokenizer: Any, form: Codec) -> dict[str, str] | None:
    """Return header, end and gap of ChatML as the template's user and assistant turns have them."""
    template = Template(tokenizer, form)
    if getattr(tokenizer, "chat_template", None):
        user: Entry = {"role": "user", "content": "Probe one."}
        turns = [user, {"role": "assistant", "content": "Probe reply."}, {**user, "content": "Probe two."}]
        between = rendered(template, turns).rpartition("Probe reply.")[2].partition("Probe two.")[0]
        end = next((token for token in template.special if between.startswith(token)), "")
        rest = between[len(end) :]
        gap = rest[: len(rest) - len(rest.lstrip())]
        head = rest[len(gap) :].replace("user", "{role}")
        if end and head.count("{role}") == 1 and head.replace("{role}", "assistant") in rendered(template, turns):
            return {"header": head, "end": end, "gap": gap}
    known = set(tokenizer.get_vocab()) if hasattr(tokenizer, "get_vocab") else set()
    return {} if {"<|im_start|>", "<|im_end|>"} <= known else None


def said(renderer: Renderer) -> str:
    """Say in one line how conversations are laid out: where results go, who describes the tools, what was changed."""
    if isinstance(renderer, ChatML):
        role = "the reply itself" if renderer.codec.inline else f"role {renderer.tool_role}"
        return f"ChatML, calls {renderer.codec.name}, results in {role}, end of turn {renderer.end!r}"
    if not isinstance(renderer, Template):
        return f"{type(renderer).__name__}, calls {renderer.codec.name}"
    role = "the reply itself" if renderer.codec.inline else _ROLES[renderer.layout.name]
    parts = [f"chat template, calls {renderer.codec.name}, results in {role}"]
    parts.append(f"tools described by the {'template' if renderer.own_tools else 'codec'}")
    parts += [_CHANGES[change.__name__] for change in renderer.layout.changes]
    if renderer.default_system:
        parts.append("the template's own system text where none is given")
    if renderer.dated and renderer.date:
        parts.append(f"dated {renderer.date}")
    return ", ".join(parts)


_ROLES = {
    BARE.name: "role tool (bare, in the template's form)",
    NATIVE.name: "role tool (bare, behind calls as data)",
    WRAPPED.name: "role tool (in the codec's form)",
    USER.name: "role user (in the codec's form)",
}
_CHANGES = {
    system_in_user.__name__: "system text in the first user turn",
    joined.__name__: "user turns in a row joined",
    in_parts.__name__: "contents as lists of parts",
}
