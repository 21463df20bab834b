"""The form of DeepSeek V3 and R1: a section of calls between marks, with JSON arguments, in a fence or bare."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from ferrule.chat.codec import Labelled
from ferrule.chat.describe import Style, check_style
from ferrule.chat.native import about, check_name, first_mark, framed, json_body, json_text, one_block, skip
from ferrule.chat.parsing import MAX_CALLS
from ferrule.chat.scan import THINK_CLOSE, UNFINISHED, Found, Marks, Scan, assemble, join, label, note, scan
from ferrule.core.arrays import nearest
from ferrule.core.records import Call, Message, Tool, plain_text

__all__ = ["CODEC", "DeepSeek"]

_CALLS, _CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
_CALL, _CALL_END, _SEP = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>"
_MARKS = (_CALLS, _CALLS_END, _CALL, _CALL_END, _SEP)
_ENDS = (_CALL_END, _CALL, _CALLS_END, THINK_CLOSE)
_STARTS = re.compile(f"{re.escape(_CALLS)}|{re.escape(_CALL)}")
_FENCED = re.compile(rf"function{re.escape(_SEP)}[ \t]{{0,9}}([^\n<>`{{}}]{{1,200}})\n```(?:json)?\n")
_BARE = re.compile(rf"[ \t]{{0,9}}([^\n<>`{{}}]{{1,200}}){re.escape(_SEP)}")
_FORMS = ("fence", "bare")


@dataclass(frozen=True)
class DeepSeek:
    """Calls between ``<｜tool▁calls▁begin｜>`` and ``<｜tool▁calls▁end｜>``, in one of two forms; both are read.

    ``form="fence"`` writes a call as ``function<｜tool▁sep｜>name`` and a ``json`` fence with the arguments (V3, R1),
    ``"bare"`` as ``name<｜tool▁sep｜>{...}`` (V3.1).
    """

    FORMS: ClassVar[tuple[dict[str, str], ...]] = ({"form": "fence"}, {"form": "bare"})

    style: Style = "json"
    form: str = "fence"
    name: str = field(default="deepseek", init=False)
    inline: bool = field(default=False, init=False)
    stop: tuple[str, ...] = field(default=(_CALLS_END,), init=False)

    def __post_init__(self) -> None:
        """Refuse an unknown style or form."""
        check_style(self.style)
        if self.form not in _FORMS:
            raise ValueError(f"unknown form of DeepSeek calls {self.form!r}; {nearest(self.form, _FORMS)}")

    def describe(self, tools: Sequence[Tool]) -> str:
        """Return the tools and how one is called."""
        call = self._call("name", "{...}")
        return about(tools, self.style, self.write, f"To call one, end the reply with:\n{_CALLS}{call}{_CALLS_END}")

    def write(self, message: Message) -> str:
        """Return the content, then one section of calls."""
        texts: list[str] = []
        section: list[str] = []
        for call in (*message.calls, None):
            if call is not None and not (call.problem and call.raw):
                arguments = json_text(dict(call.arguments), *_MARKS)
                section.append(self._call(check_name(call.name, self.name, "<>`{}\n"), arguments))
                continue
            if section:
                gap = "\n" if self.form == "fence" else ""
                texts.append(f"{_CALLS}{gap.join(section)}{_CALLS_END}")
                section = []
            if call is not None:
                texts.append(call.raw)
        return join(plain_text(message), texts, "")

    def _call(self, name: str, arguments: str) -> str:
        fenced = f"function{_SEP}{name}\n```json\n{arguments}\n```"
        return f"{_CALL}{fenced if self.form == 'fence' else f'{name}{_SEP}{arguments}'}{_CALL_END}"

    def read(self, text: str) -> Message:
        """Return content and calls; broken ones are repaired or become malformed calls."""
        return assemble(text, _scan(text).calls, "")

    def show(self, message: Message) -> str:
        """Return the result between ``<tool_response>`` tags."""
        return framed(message)

    def spans(self, text: str) -> tuple[Labelled, ...]:
        """Label thinking, calls and answer."""
        return label(text, _scan(text))


def _scan(text: str) -> Scan:
    def opens(at: int) -> int:
        mark = _STARTS.search(text, at)
        return mark.start() if mark else -1

    ends, fences = Marks(text, _ENDS), Marks(text, ("\n```",))
    return scan(text, opens, lambda start: _section(text, start, ends, fences))


def _section(text: str, start: int, ends: Marks, fences: Marks) -> tuple[int, list[Found]]:
    """Read the section that begins at ``start``; return where it ends, and its calls."""
    opened = text.startswith(_CALLS, start)
    at = skip(text, start + len(_CALLS) if opened else start)
    calls: list[Found] = []
    while text.startswith(_CALL, at) and len(calls) <= MAX_CALLS:
        stop, call = _call(text, at, ends, fences)
        calls.append((at, stop, call))
        at = skip(text, stop)
    end, mark = first_mark(text, (_CALLS_END, _CALLS, THINK_CLOSE), at)
    notes = [] if opened else ["no opening mark"]
    if mark != _CALLS_END:
        notes.append("no closing mark" if mark else UNFINISHED)
    stop = end + len(_CALLS_END) if mark == _CALLS_END else max(start + 1, len(text[:end].rstrip()))
    if rest := text[at:end].strip():
        calls.append((at, stop, Call("", problem=f"{rest[:40]!r} stands where a call belongs")))
    if not calls:
        calls.append((start, stop, Call("", problem="no call stands between the marks")))
    for entry in notes:
        a, b, last = calls[-1]
        calls[-1] = (a, b, note(last, entry))
    return stop, one_block(text, (start, stop), calls)


def _call(text: str, start: int, ends: Marks, fences: Marks) -> tuple[int, Call]:
    """Read one call; return where it ends, and it."""
    begin = start + len(_CALL)
    named = _FENCED.match(text, begin) or _BARE.match(text, begin)
    if named is None:
        end, mark = ends.first(begin)
        stop = end + len(mark) * (mark == _CALL_END)
        problem = "no name and <｜tool▁sep｜> at the beginning of the call"
        return stop, Call("", problem=problem, repairs=() if mark else (UNFINISHED,))
    fenced = "`" in named[0]
    body = json_body(text, named.end(), fences if fenced else ends)
    if fenced:
        if not body.mark:  # cut off, or the fence is left open
            body = json_body(text, named.end(), ends)
            notes = (*body.repairs, "no closing fence") if body.mark else body.repairs
            body = replace(body, repairs=notes)
        else:
            end, mark = ends.first(body.stop)
            extra = text[body.stop + len(body.mark) : end].strip()
            notes = (*body.repairs, *(["trailing text"] if extra else []), *([] if mark else [UNFINISHED]))
            body = replace(body, stop=end, mark=mark, repairs=notes)
    if body.mark and body.mark != _CALL_END:
        body = replace(body, repairs=(*body.repairs, "no closing mark"))
    return body.stop + len(body.mark) * (body.mark == _CALL_END), body.call(named[1].strip(), "")


CODEC = DeepSeek
