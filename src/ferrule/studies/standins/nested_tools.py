"""Tools that need one another's results, and scripts that probe them and write programs over them.

Source: "Chain of Tools: Large Language Model is an Automatic Multi-tool Learner" (21).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ferrule.core.flows import Ask, Session
from ferrule.core.records import Task, Tool, plain_text
from ferrule.tools.budget import Budget
from ferrule.tools.results import induced, outline
from ferrule.worlds.session import ToolSession

__all__ = ["Chains", "drawn_needs", "guessing", "naming", "reading"]


def drawn_needs(rng: random.Random, count: int, *, roots: float = 0.35) -> dict[str, tuple[str, ...]]:
    """Return which tools each tool needs: none with the chance ``roots``, else one or two of the tools before it."""
    needs: dict[str, tuple[str, ...]] = {}
    for number in range(count):
        known = list(needs)
        some = known and rng.random() >= roots
        needs[f"tool_{number}"] = tuple(rng.sample(known, min(len(known), rng.choice((1, 2))))) if some else ()
    return needs


_FIELDS = ("id", "key", "code")
_AROUND = ("", "data", "items")


@dataclass(frozen=True)
class Chains:
    """A world of chains of ``length`` tools, each of which needs a value that the one before returns in some field.

    Where the value stands differs from tool to tool: in an object, or in the first element of a list. ``documented``
    tools say so in an outline of their result.
    """

    length: int = 3
    documented: bool = True
    name: str = "chains"

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return tasks; the answer is what the last tool returns for the value of the chain."""
        return [self._task(f"{self.name}/{split}/{seed}/{number}") for number in range(count)]

    def _task(self, key: str) -> Task:
        rng = random.Random(key)
        places = [(rng.choice(_AROUND), rng.choice(_FIELDS)) for _ in range(self.length)]
        values = [f"{rng.choice('abcdefgh')}{rng.randrange(100, 1000)}" for _ in range(self.length + 1)]
        prompt = f"Start with {values[0]} and go on from tool to tool. What is the last value?"
        return Task(key, prompt, values[-1], self.name, meta={"places": places, "values": values})

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session with the tools of a task."""
        pairs = list(enumerate(zip(task.meta["places"], task.meta["values"], task.meta["values"][1:], strict=False)))
        tools = tuple(self._tool(number, *pair) for number, pair in pairs)
        return ToolSession(task, lambda state: tools, None, budget=Budget(total=40))

    def _tool(self, number: int, place: tuple[str, str], wanted: str, given: str) -> Tool:
        around, field = place

        def run(value: str) -> Any:
            if value != wanted:
                raise ValueError(f"no entry {value!r}")
            inner = {"note": "fine", field: given}
            return [inner] if around == "items" else {around: inner, "status": 1} if around else inner

        result = run(wanted)
        about = f"Step {number + 1} of the chain."
        if self.documented:
            about += f"\nReturns:\n{outline(induced(result))}"
        schema = {"type": "object", "properties": {"value": {"type": "string"}}, "required": ["value"]}
        return Tool(f"step_{number + 1}", about, schema, run)


def _path(around: str, field: str) -> str:
    return f"[0][{field!r}]" if around == "items" else f"[{around!r}][{field!r}]" if around else f"[{field!r}]"


def reading(seed: int, *, slips: float = 0.15) -> Callable[[Ask, int], str]:
    """Return the script of a programmer who takes the field of a result from its outline, and guesses without one.

    A slip, by chance, is a misspelt field or argument; a program that is written again is drawn anew.
    """

    def write(ask: Ask, sample: int) -> str:
        said = plain_text(ask.messages[-1] if len(ask.messages) == 1 else ask.messages[0])
        rng = random.Random(f"{seed}/{ask.seed}/{len(ask.messages)}/{said}")
        start = re.search(r"Query: Start with (\w+)", said)
        lines = [f"value = {start[1] if start else ''!r}"]
        for part in re.split(r"\n\n(?=\d+\. |Write one)", said):
            named = re.search(r"^\d+\. (step_\d+)\(", part.strip(), re.MULTILINE)
            if named:
                path = _read(part) or _path(rng.choice(_AROUND), rng.choice(_FIELDS))
                path = path.replace("']", "s']") if rng.random() < slips / 2 else path
                given = "entry" if rng.random() < slips / 2 else "value"
                lines.append(f"value = {named[1]}({given}=value){path}  # {named[1]}")
        return "```python\n" + "\n".join([*lines, "print(value)"]) + "\n```"

    return write


def _read(text: str) -> str:
    """Return where the outline of a document has one of the fields, as Python; empty without an outline."""
    rows = [(len(tabs), name) for tabs, name in re.findall(r"^(\t*)- ([\w\[\]]+): (?:str|dict|list|int)$", text, re.M)]
    place = next((k for k, (_, name) in enumerate(rows) if name in _FIELDS), None)
    if place is None:
        return ""
    depth, field = rows[place]
    above = next((name for level, name in reversed(rows[:place]) if level == depth - 1 and level > 0), "")
    return _path("items" if above.endswith("[0]") else above, field)


def guessing(seed: int) -> Callable[[Ask, int], str]:
    """Return the script of a reviewer who names any tool."""

    def write(ask: Ask, sample: int) -> str:
        names = sorted(set(re.findall(r"step_\d+", plain_text(ask.messages[-1]))))
        return str(random.Random(f"{seed}/{ask.seed}").choice(names or ["none"]))

    return write


def naming(needs: Mapping[str, Sequence[str]]) -> Callable[[Ask, int], str]:
    """Return the script of a reviewer who names the tool whose call stands where the error says it does."""

    def write(ask: Ask, sample: int) -> str:
        said = plain_text(ask.messages[-1]).partition("It failed:")[2]
        return next((f"{name} was used wrongly." for name in needs if f"{name}: " in said), "I cannot tell.")

    return write
