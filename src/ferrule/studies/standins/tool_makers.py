"""Scripts in the place of a maker, a user and models that answer at once; the sources of the maker are run for real.

Source: "Large Language Models as Tool Makers" (43).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from ferrule.core.flows import Ask
from ferrule.core.records import Task, plain_text

__all__ = ["DEFECTS", "RIGHT", "answering", "calling", "making", "sorting"]

RIGHT = '''
def schedule(free, hours):
    """Return start and end of the earliest time at which all are free for so many hours, None without one."""

    def minutes(clock):
        hour, minute = clock.split(":")
        return 60 * int(hour) + int(minute)

    def clock(moment):
        return f"{moment // 60:02d}:{moment % 60:02d}"

    length = round(60 * hours)
    spans = [[[minutes(end) for end in span.split(" - ")] for span in person] for person in free]
    for start in range(8 * 60, 18 * 60 - length + 1, 30):
        if all(any(a <= start and start + length <= b for a, b in person) for person in spans):
            return clock(start), clock(start + length)
    return None
'''.strip()
"""A function that is right."""
DEFECTS: Mapping[str, tuple[str, str]] = {
    "duration": ("start + length <= b", "start < b"),
    "union": ("if all(any(", "if any(any("),
    "order": ("range(8 * 60, 18 * 60 - length + 1, 30)", "reversed(range(8 * 60, 18 * 60 - length + 1, 30))"),
    "undefined": ("return clock(start), ", "return clock(begin), "),
}
"""Defects by name: what stands in the right source, and what takes its place."""


def _asked(text: str, known: Mapping[str, Task]) -> list[Task]:
    """Return the tasks whose questions a text has, in the order of the text."""
    places = {prompt: text.rfind(f"Question: {prompt}\n") for prompt in known}
    return [known[prompt] for prompt, place in sorted(places.items(), key=lambda pair: pair[1]) if place >= 0]


def making(tasks: Sequence[Task], seed: int, *, right: float = 0.5) -> Any:
    """Return the script of a maker: its source is right with a chance, else it has one of the defects.

    Tests and examples call the function with the arguments that the questions give (``meta["arguments"]``).
    """
    known = {task.prompt: task for task in tasks}

    def write(ask: Ask, sample: int) -> str:
        said = [plain_text(message) for message in ask.messages]
        if len(said) == 1:
            rng = random.Random(f"{seed}/make/{ask.seed}")
            sources = [RIGHT.replace(*change) for change in DEFECTS.values()]
            return _block(RIGHT if rng.random() < right else rng.choice(sources))
        held = next(tasks for text in said[1:] if (tasks := _asked(text, known)))
        if "Restate the function" in said[-1]:
            return "\n\n".join([said[1], *(f"Question: {task.prompt}\n{_block(_call(task))}" for task in held)])
        return _block("\n".join(f"{_call(task)}\nassert ans == {task.answer!r}" for task in held))

    return write


def calling(tasks: Sequence[Task], seed: int, *, slips: float = 0.05) -> Any:
    """Return the script of a user: it writes the call of a question, with a chance of taking half an hour too much."""
    known = {task.prompt: task for task in tasks}

    def write(ask: Ask, sample: int) -> str:
        task = _asked(plain_text(ask.messages[-1]), known)[-1]
        given = dict(task.meta["arguments"])
        if "hours" not in given:
            return "The tool is not made for this question."
        if random.Random(f"{seed}/call/{task.id}").random() < slips:
            given["hours"] = given["hours"] + 0.5
        return _block(_call(task, given))

    return write


def answering(tasks: Sequence[Task], seed: int, *, right: float) -> Any:
    """Return the script of a model that answers at once, with a chance of being right."""
    known = {task.prompt: task for task in tasks}

    def write(ask: Ask, sample: int) -> str:
        task = known[plain_text(ask.messages[-1])]
        return str(task.answer) if random.Random(f"{seed}/{right}/{task.id}").random() < right else "00:00 - 00:30"

    return write


def sorting(tasks: Sequence[Task], seed: int, known: Sequence[str], *, slips: float = 0.1) -> Any:
    """Return the script of a dispatcher: the class of a question, ``unknown`` for others, with a chance of a slip."""
    classes = {task.prompt: str(task.meta["class"]) for task in tasks}

    def write(ask: Ask, sample: int) -> str:
        said = plain_text(ask.messages[-1])
        prompt = next(prompt for prompt in classes if f"Question: {prompt}\n\nTo which" in said)
        label = classes[prompt] if classes[prompt] in known else "unknown"
        rng = random.Random(f"{seed}/sort/{prompt}")
        others = [name for name in (*known, "unknown") if name != label]
        return f"Task: {rng.choice(others) if rng.random() < slips else label}"

    return write


def _call(task: Task, given: Mapping[str, Any] | None = None) -> str:
    free, hours = (dict(given or task.meta["arguments"])[name] for name in ("free", "hours"))
    return f'ret = schedule({free!r}, {hours!r})\nans = "No time slot works." if ret is None else " - ".join(ret)'


def _block(code: str) -> str:
    return f"```python\n{code}\n```"
