"""Which codec a model family speaks, recognised by what its chat template makes of a call."""

from __future__ import annotations

from dataclasses import replace

from ferrule.chat.check import PROBE_TOOL, header
from ferrule.chat.codec import codec, codec_names
from ferrule.chat.describe import tool_schema
from ferrule.chat.layout import Entry
from ferrule.chat.probe import needed_changes, rendered
from ferrule.chat.template import Template
from ferrule.core.records import Call

__all__ = ["describes", "speaks", "spoken"]


def spoken(template: Template) -> str:
    """Return the name of the codec whose form the template writes calls in; empty where it is none of them.

    A call is given to the template as data; the codec that reads it from the text as the same call, without any repair,
    is the one that the family speaks.
    """
    changed = replace(template, layout=replace(template.layout, changes=needed_changes(template)))
    return next((name for name in _by_use() if speaks(replace(changed, codec=codec(name)))), "")


def _by_use() -> list[str]:
    return sorted(codec_names(), key=lambda name: (name != "hermes", name))


def speaks(template: Template) -> bool:
    """Say whether the codec reads a call that the template wrote as exactly that call."""
    arguments = {"query": "Probe é", "count": 3}
    try:
        head = header(template).after.partition("<think>")[0].rstrip()
    except Exception:  # what raises here is refused by the check, with the reason
        return False
    user: Entry = {"role": "user", "content": "Probe question."}
    function = {"name": "probe_tool", "arguments": arguments}
    reply: Entry = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]}
    plain = replace(template, layout=replace(template.layout, changes=()))
    text = rendered(plain, [user, reply]).partition("Probe question.")[2].strip().removeprefix(head)
    text = text.partition(template.closing)[0] if template.closing else text
    read = template.codec.read(text.strip()).calls
    return len(read) == 1 and _same(read[0], Call("probe_tool", arguments))


def _same(read: Call, wrote: Call) -> bool:
    plain = not read.problem and not read.repairs
    return plain and read.name == wrote.name and dict(read.arguments) == dict(wrote.arguments)


def describes(template: Template) -> bool:
    """Say whether the template's own section about tools is to be used: it has one, and speaks the codec's form.

    A codec that is told how to list tools (a style other than ``json``) lists them itself.
    """
    if getattr(template.codec, "style", "json") != "json" or not speaks(template):
        return False
    text = rendered(template, [{"role": "user", "content": "x"}], tools=[tool_schema(PROBE_TOOL)])
    return PROBE_TOOL.name in text and PROBE_TOOL.description in text
