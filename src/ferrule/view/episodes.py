"""Episodes as a reader sees them: which ten to show, and each as a list of plain, safe-to-show pieces."""

from __future__ import annotations

import contextlib
import json
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ferrule.core.exact import untagged
from ferrule.view.grids import drawing
from ferrule.view.load import number
from ferrule.view.trees import Twig, twigs

__all__ = ["Line", "Sample", "Text", "choose", "sample", "step_in_words", "text", "visible"]


Read: TypeAlias = Callable[[Sequence[int]], str]


@dataclass(frozen=True)
class Text:
    """A text to show: all of it, and a short opening when it is long enough to be folded."""

    whole: str
    opening: str = ""


@dataclass(frozen=True)
class Line:
    """One piece of an episode: ``kind`` is a role (system, user, assistant), ``call`` or ``observation``."""

    kind: str
    label: str
    body: Text
    status: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sample:
    """One episode to show. ``solved`` and ``reward`` are None where they were not recorded.

    ``drawing`` is the markup of a puzzle's grids, made of numbers alone.
    """

    task: str
    prompt: str
    phase: str
    solved: bool | None
    reward: float | None
    parts: Mapping[str, float]
    answer: str
    expected: str
    finish: str
    problem: str
    turns: tuple[tuple[Line, ...], ...]
    facts: tuple[str, ...] = ()
    calls: int = 0
    arm: str = ""
    tree: tuple[Twig, ...] = ()
    drawing: str = ""


def visible(raw: Any) -> str:
    """Return text in which nothing hides: control, direction and lone surrogate characters become visible marks."""
    shown = []
    for char in raw if isinstance(raw, str) else json.dumps(raw, ensure_ascii=False, default=str):
        kind = unicodedata.category(char)
        if char in "\n\t" or kind not in ("Cc", "Cf", "Cs", "Co"):
            shown.append(char)
        elif ord(char) < 0x20:
            shown.append(chr(0x2400 + ord(char)))
        else:
            shown.append(f"⟨U+{ord(char):04X}⟩")
    return "".join(shown)


def text(raw: Any, *, long: int = 700, lines: int = 12) -> Text:
    """Prepare a text for showing; above ``long`` characters or ``lines`` lines it gets an opening of two fifths."""
    whole = visible(raw)
    listed = whole.split("\n")
    if len(whole) <= long and len(listed) <= lines:
        return Text(whole)
    return Text(whole, "\n".join(listed[: max(1, lines * 2 // 5)])[: long * 2 // 5].rstrip() + " …")


def _get(data: Any, key: str, default: Any) -> Any:
    """Return ``data[key]`` when data is a mapping and the entry has the type of ``default``, else ``default``."""
    value = data.get(key, default) if isinstance(data, Mapping) else default
    return value if isinstance(value, type(default)) else default


def _content(message: Any) -> str:
    """Return the text of a message; images are named in brackets."""
    content = message.get("content", "") if isinstance(message, Mapping) else ""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    return "".join(part if isinstance(part, str) else f"[{json.dumps(part, default=str)[:80]}]" for part in parts)


def _call(call: Any) -> Line:
    """Show a call as ``name(argument=value)``, or as it was written when it could not be read."""
    problem, repairs = _get(call, "problem", ""), _get(call, "repairs", [])
    notes = tuple(visible(f"repaired: {repair}") for repair in repairs)
    if problem:
        raw = _get(call, "raw", "") or _get(call, "name", "")
        return Line("call", "call", text(raw), notes=(visible(problem), *notes))
    arguments = _get(call, "arguments", {})
    if len(arguments) == 1 and isinstance(only := next(iter(arguments.values())), str) and "\n" in only:
        body = f"{_get(call, 'name', '')}({next(iter(arguments))}=\n{only}\n)"
    else:
        inner = ", ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in arguments.items())
        body = f"{_get(call, 'name', '')}({inner})"
    return Line("call", "call", text(body), notes=notes)


def _opening(turn: Any, read: Read | None) -> Line | None:
    """Return what the model was fed before its first reply, as text: system text, tools and question."""
    ids = [i for i in _get(turn, "given", []) if isinstance(i, int) and 0 <= i < 2**32]
    if read is None or not ids or not (fed := read(ids)).strip():
        return None
    return Line(
        "system", "given to the model: system text, tools and task as it read them", text(fed, long=240, lines=4)
    )


def _turn(turn: Any, index: int, answered: bool, read: Read | None) -> tuple[Line, ...]:
    """Return the pieces of one turn; tool messages that repeat the observations before them are left out."""
    opening = _opening(turn, read) if index == 0 else None
    lines = [] if opening is None else [opening]
    for message in _get(turn, "messages", []):
        role = _get(message, "role", "user")
        if (role == "tool" and answered) or (role in ("system", "user") and opening is not None):
            continue
        if role != "assistant" or index == 0:
            short = {"long": 240, "lines": 4} if role == "system" else {}
            lines.append(Line(role, role, text(_content(message), **short)))
    reply = _get(turn, "reply", {})
    calls, observations = _get(reply, "calls", []), _get(turn, "observations", [])
    content = _content(reply)
    if content or not calls:
        cut = ("cut off at the token limit",) if _get(turn, "finish", "stop") == "length" else ()
        lines.append(Line("assistant", "model", text(content or "(nothing)"), notes=cut))
    for place, call in enumerate(calls):
        lines.append(_call(call))
        if place < len(observations):
            observation = observations[place]
            notes = tuple(visible(f"argument repaired: {repair}") for repair in _get(observation, "repairs", []))
            status = _get(observation, "status", "ok")
            lines.append(Line("observation", "result", text(_get(observation, "text", "")), status, notes))
        else:
            lines.append(Line("observation", "result", Text("(no result recorded)"), "missing"))
    return tuple(lines)


def step_in_words(reply: Any) -> str:
    """Return a reply in one line: its calls, or what it says."""
    calls = [_call(call).body.whole for call in _get(reply, "calls", [])]
    return "; ".join(calls) or visible(_content(reply))


def _score(row: Mapping[str, Any]) -> tuple[float | None, dict[str, float]]:
    """Return the reward of a recorded trajectory and its named parts."""
    listed = _get(row, "scores", [])
    score = listed[0] if listed else row.get("score", row.get("reward"))
    if not isinstance(score, Mapping):
        return number(score), {}
    parts = {str(key): part for key, value in _get(score, "parts", {}).items() if (part := number(value)) is not None}
    return number(score.get("value")), parts


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recorded episode as one mapping: its first path, the turns on it in order, and what was added."""
    with contextlib.suppress(ValueError, TypeError, AttributeError):  # damaged entries are shown as they stand
        row = untagged(row)
    plain = {**row, **_get(row, "extra", {})}
    paths = [path for path in _get(row, "paths", []) if isinstance(path, Mapping)]
    if paths:
        plain |= {key: value for key, value in paths[0].items() if key != "turns"}
        plain["all_turns"] = _get(row, "turns", [])
        by_id = {_get(turn, "id", -1): turn for turn in plain["all_turns"]}
        plain["turns"] = [by_id[i] for i in _get(paths[0], "turns", []) if isinstance(i, int) and i in by_id]
        plain["problem"] = _get(paths[0], "problem", "") or _get(row, "problem", "")
    return plain


def sample(row: Mapping[str, Any], read: Read | None = None) -> Sample:
    """Read one recorded episode (a line of ``episodes.jsonl``); entries that are missing stay empty.

    ``read`` turns token ids into text: with it, an episode begins with all that the model was fed, tools included.
    What the recorder's caller adds is read from ``phase`` (``"before, with tools"``: a phase and, after a comma, an
    arm), ``step``, ``success`` (true or false) and ``scores`` (one mapping with ``value`` and ``parts`` per path).
    """
    row = _plain(row)
    tree = twigs({**row, "turns": _get(row, "all_turns", [])}, step_in_words)
    task = _get(row, "task", {})
    reward, parts = _score(row)
    solved = row.get("success", row.get("solved"))
    if not isinstance(solved, bool):
        outcome = parts.get("outcome", reward)
        solved = None if outcome is None else outcome >= 1.0
    turns: list[tuple[Line, ...]] = []
    answered = False
    for index, turn in enumerate(_get(row, "turns", [])):
        turns.append(_turn(turn, index, answered, read))
        answered = bool(_get(turn, "observations", []))
    meta = _get(task, "meta", {})
    phase, _, arm = _get(row, "phase", "").partition(", ")
    facts = [f"level {meta['level']}"] if isinstance(meta.get("level"), (int, str)) else []
    facts += [f"step {row['step']}"] if isinstance(row.get("step"), int) else []
    facts += [arm] if arm else []
    world = _get(task, "world", "")
    expected = task.get("answer") if isinstance(task, Mapping) else None
    given = row.get("answer")
    return Sample(
        task=visible(_get(task, "id", "unnamed task")),
        prompt=visible(_get(task, "prompt", "")),
        phase=visible(phase),
        solved=solved,
        reward=reward,
        parts=parts,
        answer="" if given is None else visible(given),
        expected="" if expected is None else visible(expected),
        finish=visible(_get(row, "finish", "")),
        problem=visible(_get(row, "problem", "")),
        turns=tuple(turns),
        facts=tuple(visible(fact) for fact in ([f"world {world}"] if world else []) + facts),
        arm=visible(arm),
        tree=tree,
        drawing=drawing(meta.get("puzzle")),
        calls=sum(line.kind == "call" for turn in turns for line in turn),
    )


def _pairs(samples: Sequence[Sample]) -> list[tuple[Sample, Sample]]:
    """Return (before, after) episodes of the same task, by order of appearance; the first sample of each counts."""
    first: dict[tuple[str, str], Sample] = {}
    for item in samples:
        first.setdefault((item.phase, item.task), item)
    return [
        (item, first["after", task])
        for (phase, task), item in first.items()
        if phase == "before" and ("after", task) in first
    ]


def _turns(groups: Iterable[list[Any]], count: int) -> list[Any]:
    """Take one from each group in turn until ``count`` are taken or all groups are empty."""
    waiting = [list(group) for group in groups if group]
    taken: list[Any] = []
    while waiting and len(taken) < count:
        for group in waiting:
            if len(taken) < count:
                taken.append(group.pop(0))
        waiting = [group for group in waiting if group]
    return taken


def choose(samples: Sequence[Sample], count: int = 10) -> list[Sample]:
    """Choose the episodes to show, failures included and the same ones for the same file.

    Tasks recorded both before and after are shown as pairs: newly solved, still failed, solved twice and lost ones
    take turns. Without such pairs, solved and failed episodes of every phase take turns.
    """
    pairs = _pairs(samples)
    kinds = [(False, True), (False, False), (True, True), (True, False)]
    grouped = [[p for p in pairs if (bool(p[0].solved), bool(p[1].solved)) == kind] for kind in kinds]
    chosen = [item for pair in _turns(grouped, count // 2) for item in pair]
    if len(chosen) < count:
        known = {id(item) for item in chosen}
        rest = [item for item in samples if id(item) not in known]
        keys = dict.fromkeys((item.phase, item.solved) for item in rest)
        groups = [[item for item in rest if (item.phase, item.solved) == key] for key in keys]
        chosen += _turns(groups, count - len(chosen))
    return chosen
