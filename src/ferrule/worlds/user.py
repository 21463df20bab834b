"""Your own tasks: a file or a Hugging Face data set with prompts, answers and a verifier, and a file of tools."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ferrule.core.arrays import nearest
from ferrule.core.demonstration import Demonstration
from ferrule.core.flows import Session
from ferrule.core.records import Call, Task, Tool
from ferrule.tools.budget import Budget
from ferrule.tools.files import ToolSource
from ferrule.tools.sources import Tools, tool_source
from ferrule.worlds.columns import Columns, recognise
from ferrule.worlds.files import Table, hub_name, read
from ferrule.worlds.rows import SPLITS, Shape, divided, tasks_of
from ferrule.worlds.session import ToolSession, offered

__all__ = ["UserWorld", "after_mark", "calls_of", "from_file", "from_tables", "meant", "shape_of"]


@dataclass(frozen=True)
class UserWorld:
    """Tasks from rows, with tools from a source or a tuple, or with none; ``notes`` say what of the rows is not used.

    ``rows`` maps a split to its tasks in file order; ``calls`` caps the tool calls of an episode. A task with
    ``tools=()`` is the same task without tools, judged by the same verifier. Every episode starts from a state of the
    ``source``, else from the states that the ``tools`` declare; what else they keep is shared.
    """

    name: str
    rows: Mapping[str, tuple[Task, ...]] = field(repr=False)
    tools: tuple[Tool, ...] = ()
    calls: int = 16
    source: ToolSource | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Number of tasks by split."""
        return {split: len(self.rows.get(split, ())) for split in SPLITS}

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return at most ``count`` tasks of a split, each once, in an order drawn from ``seed``.

        Fewer come back when the split holds no more. Rows with a whole number as ``level`` are chosen by ``levels``;
        other rows always count. Raises ``ValueError`` when there is nothing to draw from.
        """
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}; {nearest(split, SPLITS)}")
        chosen = [task for task in self.rows.get(split, ()) if _at(task, levels)]
        if not chosen and count:
            raise ValueError(self._nothing(split, levels))
        keys = {task.id: random.Random(f"{seed}/{task.id}").random() for task in chosen}
        return sorted(chosen, key=lambda task: (keys[task.id], task.id))[:count]

    def _nothing(self, split: str, levels: Sequence[int]) -> str:
        what = f"{self.name!r} has no {split} tasks of levels {list(levels)} (tasks: {self.sizes})"
        if self.rows.get(split):
            return f"{what}; choose levels that its rows have"
        if split == "train" and self.sizes["test"] == 1:
            return f"{what}; its only row is kept for tests: add rows"
        if split == "train":
            return f"{what}; its rows are for tests only"
        return f"{what}; a fifth of a file's rows is test: add rows, or give a folder with train.jsonl and test.jsonl"

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session with the world's tools."""
        source, budget = self.source or tool_source(self.tools), Budget(total=self.calls)
        return ToolSession(task, lambda state: self.tools_of(task, source.build(state)), source.start(), budget=budget)

    def tools_of(self, task: Task, tools: tuple[Tool, ...] | None = None) -> tuple[Tool, ...]:
        """Return ``tools`` (the world's where None) and those that the row of a task brings as schemas alone."""
        tools = self.tools if tools is None else tools
        schemas = task.meta.get("tools")
        if not schemas or self.name != task.world:
            return tools
        known = {tool.name for tool in tools}
        brought = {tool.name: tool for tool in map(Tool.from_schema, schemas)}
        return (*tools, *(tool for name, tool in brought.items() if name not in known))

    def demonstrate(self, task: Task) -> Demonstration:
        """Return the calls of the row's field ``calls``, one per round, and its answer.

        Raises ``ValueError`` for a row without the field, and for one whose answer is only a pattern or a test.
        """
        verifier = task.meta.get("verifier")
        if "calls" not in task.meta or verifier in ("regex", "python", "words"):
            lacks = f"only a {verifier} for its answer" if "calls" in task.meta else "no field 'calls'"
            raise ValueError(f"task {task.id!r} has {lacks}, so it has no reference solution")
        answer = task.answer[0] if isinstance(task.answer, list | tuple) else task.answer
        return Demonstration(tuple((call,) for call in calls_of(task)), str(answer))


def calls_of(task: Task) -> tuple[Call, ...]:
    """Return the calls of ``meta["calls"]``: rows of ``name`` and ``arguments`` (or ``parameters``)."""
    rows = task.meta["calls"]
    return tuple(Call(row["name"], row.get("arguments", row.get("parameters", {}))) for row in rows)


def _at(task: Task, levels: Sequence[int]) -> bool:
    level = task.meta.get("level")
    return not isinstance(level, int) or level in levels


def from_file(
    source: str | Path,
    *,
    tools: Tools = (),
    verifier: str = "exact",
    prompt_field: str | None = None,
    answer_field: str | None = None,
    verifier_field: str | None = None,
    name: str = "",
    calls: int = 16,
) -> UserWorld:
    """Build a world from a file of rows, a folder with ``train`` and ``test``, or a data set of the Hugging Face hub.

    What is read and how, see ``ferrule.worlds.files.read``; which columns mean what, see ``ferrule.worlds.columns``.
    Every row needs a prompt (text or messages) and an answer; its ``verifier`` takes precedence over the argument,
    ``tools`` names those it may use or brings their schemas, and other columns go to ``Task.meta``, those under
    ``meta`` too. Where all answers end in ``#### NUMBER``, that is the answer. Rows without splits are divided by the
    CRC-32 of the prompt (a fifth is ``test``). Raises ``FileNotFoundError`` for a missing file and ``ValueError``
    naming file, line and reason for an invalid row.
    """
    given = {"prompt": prompt_field, "answer": answer_field, "verifier": verifier_field}
    fields = {meaning: column for meaning, column in given.items() if column is not None}

    def shaped(part: Table) -> tuple[Shape, list[str]]:
        columns = meant(part, fields, str(source))
        shape = shape_of(columns, verifier)
        if part.rows and all("#### " in str(row.get(shape.answer_field)) for _, row in part.rows):
            marked = f"the number after '####' is the answer, of what {shape.answer_field!r} says"
            return replace(shape, answer=after_mark), [columns.note, marked]
        return shape, [columns.note]

    return from_tables(name or _label(source), read(source), shaped, tools=tools, calls=calls)


def from_tables(
    name: str,
    tables: Mapping[str, Table],
    shaped: Callable[[Table], tuple[Shape, Sequence[str]]],
    *,
    tools: Tools = (),
    calls: int = 16,
) -> UserWorld:
    """Build a world from tables by split; ``shaped`` says how the rows of one are read, and what to know of it.

    A table under ``all`` is divided by its prompts. Raises ``ValueError`` naming place and reason for an invalid row.
    """
    rows: dict[str, tuple[Task, ...]] = {}
    notes: dict[str, None] = {}
    for split, part in tables.items():
        shape, said = shaped(part)
        notes.update(dict.fromkeys(note for note in said if note))
        tasks = tasks_of(name, part.rows, shape, name if split == "all" else split)
        rows.update(divided(tasks) if split == "all" else {split: tasks})
    source = tool_source(tools)
    world = UserWorld(name, rows, source.offer(), calls, source, tuple(notes))
    for task in (task for tasks in rows.values() for task in tasks):
        offered(world.tools_of(task), task)  # refuses the names of tools that there are not
    return world


def _label(source: str | Path) -> str:
    """Return the name of a file without its endings, of a folder, or of a data set without its owner."""
    path = Path(str(source).partition(":")[0] if hub_name(source) else source)
    return Path(path.stem).stem if path.suffix == ".gz" else path.stem


def meant(part: Table, fields: Mapping[str, str], source: str) -> Columns:
    """Return what the columns of a table of tasks mean; where one is missing the first row's place is named."""
    if not part.rows and not part.columns:
        raise ValueError(f"{source} holds no rows")
    try:
        return recognise(part.columns, ("tasks",), fields)
    except ValueError as error:
        where = part.rows[0][0] if part.rows else source
        raise ValueError(f"{where}: {error}") from None


def shape_of(columns: Columns, verifier: str) -> Shape:
    """Return how rows with these columns become tasks."""
    named = (columns.fields["prompt"], columns.fields["answer"])
    return Shape(*named, verifier, columns.fields.get("verifier", "verifier"), fields=columns.fields)


def after_mark(value: Any) -> str:
    """Return the number after the last ``####`` without sign of money, thousands separators and unit."""
    mark = re.search(r"####\s*\$?\s*(-?)\s*\$?(\d[\d,]*(?:\.\d+)?|\.\d+)[^#]*\Z", str(value))
    if not mark:
        raise ValueError("the answer has no number after '#### '")
    return mark[1] + mark[2].replace(",", "")
