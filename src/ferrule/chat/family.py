"""Which codec a model family speaks, recognised by what its chat template makes of a call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ferrule.chat.check import PROBE_TOOL, header
from ferrule.chat.codec import Codec, codec, codec_names, codec_type
from ferrule.chat.describe import tool_schema
from ferrule.chat.layout import Entry
from ferrule.chat.parsing import dump
from ferrule.chat.probe import needed_changes, rendered
from ferrule.chat.template import Template
from ferrule.core.records import Call

__all__ = ["describes", "speaks", "spoken"]


_CALL = Call("probe_tool", {"query": "Probe é", "count": 3}, id="probe0001")


def spoken(template: Template) -> Codec | None:
    """Return the codec in whose form the template writes calls; None where it is none of them.

    A call is given to the template as data; the codec that reads it from the text as the same call, without any repair,
    is the one that the family speaks. Of several the first that also writes the text so is taken. A template that
    writes no calls may still list tools between the marks of a form.
    """
    changed = replace(template, layout=replace(template.layout, changes=needed_changes(template)))
    written = _written(changed)
    readers = [form for form in _forms() if _reads(form, changed, written)]
    alike = [form for form in readers if form.write(form.read(written)).strip() == written]
    listed = [form for form in _forms() if not written and _lists(form, template)]
    return next(iter([*alike, *readers, *listed]), None)


def _forms() -> Iterator[Codec]:
    """Yield every codec in each of its forms, the most used first."""
    for name in sorted(codec_names(), key=lambda name: (name != "hermes", name)):
        forms: Sequence[Mapping[str, str]] = getattr(codec_type(name), "FORMS", ({},))
        yield from (codec(name, **options) for options in forms)


def speaks(template: Template) -> bool:
    """Say whether the codec reads a call that the template wrote as exactly that call, or lists tools as it does."""
    written = _written(template)
    return _reads(template.codec, template, written) or (not written and _lists(template.codec, template))


def _lists(form: Codec, template: Template) -> bool:
    """Say whether a template lists tools behind the mark of a form."""
    mark = str(getattr(form, "LISTS", ""))
    return bool(mark) and mark in str(getattr(template.tokenizer, "chat_template", ""))


def _written(template: Template) -> str:
    """Return the text that the template makes of a call given as data, between the header and the end of the turn."""
    try:
        head = header(template).after.partition("<think>")[0].rstrip()
    except Exception:  # what raises here is refused by the check, with the reason
        return ""
    user: Entry = {"role": "user", "content": "Probe question."}
    plain = replace(template, layout=replace(template.layout, changes=()))
    for arguments in (dict(_CALL.arguments), dump(dict(_CALL.arguments))):  # some templates take arguments as text
        function = {"name": _CALL.name, "arguments": arguments}
        calls = [{"type": "function", "id": _CALL.id, "function": function}]
        if text := rendered(plain, [user, {"role": "assistant", "content": "", "tool_calls": calls}], False):
            text = text.partition("Probe question.")[2].strip().removeprefix(head)
            return (text.partition(template.closing)[0] if template.closing else text).strip()
    return ""


def _reads(form: Codec, template: Template, written: str) -> bool:
    """Say whether a codec reads the call; a control token may stand behind it, which ends such replies alone."""
    ended = next((token for token in template.special if written.endswith(token)), "")
    return _exactly(form, written) or (bool(ended) and _exactly(form, written.removesuffix(ended)))


def _exactly(form: Codec, written: str) -> bool:
    calls = form.read(written).calls
    if len(calls) != 1 or calls[0].problem or calls[0].repairs:
        return False
    return calls[0].name == _CALL.name and dict(calls[0].arguments) == dict(_CALL.arguments)


def describes(template: Template) -> bool:
    """Say whether the template's own section about tools is to be used: it has one, and speaks the codec's form.

    A codec that is told how to list tools (a style other than ``json``) lists them itself.
    """
    if getattr(template.codec, "style", "json") != "json" or not speaks(template):
        return False
    text = rendered(template, [{"role": "user", "content": "x"}], tools=[tool_schema(PROBE_TOOL)])
    return PROBE_TOOL.name in text and PROBE_TOOL.description in text
