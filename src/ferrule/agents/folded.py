"""What a long episode is folded into: memories of what happened, of what is under way, and of the tools.

Source: "DeepAgent: A General Reasoning Agent with Scalable Toolsets" (36).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, TypeVar

from pydantic import TypeAdapter, ValidationError

from ferrule.chat.parsing import parse_json, parse_prefix
from ferrule.core.clip import clip
from ferrule.core.flows import Ask, Flow
from ferrule.core.records import Call, Message, Observation, plain_text

__all__ = [
    "Action", "Episodic", "Event", "Folded", "ToolMemory", "ToolUse", "Working", "call_text", "counted", "fold",
    "read_memory",
]  # fmt: skip

M = TypeVar("M", "Episodic", "Working", "ToolMemory")
Past: TypeAlias = Sequence[tuple[Call, Observation]]


@dataclass(frozen=True)
class Event:
    """One thing that happened and its outcome."""

    step: str | int = ""
    description: str = ""
    outcome: str = ""


@dataclass(frozen=True)
class Episodic:
    """What happened: the task, the events that matter, and how far it is."""

    task_description: str = ""
    key_events: tuple[Event, ...] = ()
    current_progress: str = ""


@dataclass(frozen=True)
class Action:
    """One thing to do next."""

    type: Literal["tool_call", "planning", "decision"]
    description: str = ""


@dataclass(frozen=True)
class Working:
    """What is under way: the goal at hand, what stands in its way, and what to do next."""

    immediate_goal: str = ""
    current_challenges: str = ""
    next_actions: tuple[Action, ...] = ()


@dataclass(frozen=True)
class ToolUse:
    """What is known of one tool; ``success_rate`` is the share of its calls that ran without an error."""

    tool_name: str
    success_rate: float | str = ""
    effective_parameters: tuple[str, ...] = ()
    common_errors: tuple[str, ...] = ()
    response_pattern: str = ""
    experience: str = ""


@dataclass(frozen=True)
class ToolMemory:
    """What is known of the tools, and rules that follow from it."""

    tools_used: tuple[ToolUse, ...] = ()
    derived_rules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Folded:
    """The three memories; one that could not be read is the text that stands for it."""

    episodic: Episodic | str
    working: Working | str
    tools: ToolMemory | str

    @property
    def text(self) -> str:
        """The memories as JSON objects, each under its name."""
        parts = {"Episodic memory": self.episodic, "Working memory": self.working, "Tool memory": self.tools}
        return "\n".join(f"{name}: {_shown(part)}" for name, part in parts.items())


def _shown(part: Any) -> str:
    return part if isinstance(part, str) else json.dumps(asdict(part), ensure_ascii=False)


def call_text(call: Call) -> str:
    """Return a call as ``name({"argument": "value"})``."""
    return f"{call.name}({json.dumps(dict(call.arguments), ensure_ascii=False, sort_keys=True, default=str)})"


def read_memory(kind: type[M], text: str) -> M | None:
    """Read a memory from the JSON object in a text; None where there is none, or its entries have other types.

    Entries that are missing or null are empty, and unknown ones are left out.
    """
    begin, end = text.find("{"), text.rfind("}")
    whole = parse_prefix(text, begin) if begin >= 0 else None
    value = whole[0].value if whole else parse_json(text[begin : end + 1]).value if 0 <= begin < end else None
    value = _without_null(value)
    if not isinstance(value, dict) or not set(value) & set(kind.__dataclass_fields__):
        return None
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return None


def _without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_null(entry) for key, entry in value.items() if entry is not None}
    return [_without_null(entry) for entry in value if entry is not None] if isinstance(value, list) else value


def counted(past: Past) -> ToolMemory:
    """Return what the record itself says of the tools: how often each ran well, and the errors it gave."""
    runs = Counter(call.name for call, _ in past)
    well = Counter(call.name for call, observation in past if observation.status == "ok")
    errors = {
        name: tuple(dict.fromkeys(clip(o.text, 120) for c, o in past if c.name == name and o.status != "ok"))
        for name in runs
    }
    uses = (ToolUse(name, round(well[name] / count, 3), (), errors[name][:3]) for name, count in runs.items())
    return ToolMemory(tuple(uses))


_FORMS: dict[str, tuple[str, Any]] = {
    "episodic": (
        "the steps that mattered, so that the work can go on without the history",
        Episodic("...", (Event("1", "...", "..."),), "..."),
    ),
    "working": (
        "the goal at hand, what stands in its way, and what to do next (tool_call, planning or decision)",
        Working("...", "...", (Action("tool_call", "..."),)),
    ),
    "tool": (
        "every tool that was used: how often it worked, with which arguments, its errors, and rules that follow",
        ToolMemory((ToolUse("...", 0.5, ("...",), ("...",), "...", "..."),), ("...",)),
    ),
}


def fold(
    question: str, paragraphs: Sequence[str], past: Past, *, before: str = "", role: str = "helper",
    max_tokens: int = 1024, limit: int = 1000,
) -> Flow[Folded]:  # fmt: skip
    """Ask a model for the three memories side by side: what was written since the last fold, its calls, and ``before``.

    ``before`` is the text of the memories so far. A reply that cannot be read stands as its first ``limit`` characters;
    in place of an unreadable tool memory, and of one that names no tool although calls were made, stands ``counted``.
    """
    numbered = "\n".join(f"[{number}] {text}" for number, text in enumerate(paragraphs, 1))
    calls = "\n".join(f"{call_text(call)} -> [{seen.status}] {seen.text}" for call, seen in past)
    told = f"Task:\n{question}\n\nMemories so far:\n{before or 'none'}\n\nWritten since:\n{numbered}\n\nCalls:\n{calls}"
    asks = []
    for what, form in _FORMS.values():
        shape = json.dumps(asdict(form), ensure_ascii=False)
        wanted = f"{told}\n\nNote down {what}. Reply with one JSON object of this form and nothing else:\n{shape}"
        asks.append(Ask((Message("user", wanted),), role=role, max_tokens=max_tokens))
    replies = yield tuple(asks)
    episodic, working, tools = (plain_text(reply.message) for (reply,) in replies)
    known = read_memory(ToolMemory, tools)
    return Folded(
        read_memory(Episodic, episodic) or clip(episodic, limit),
        read_memory(Working, working) or clip(working, limit),
        known if known is not None and (known.tools_used or not past) else counted(past),
    )
