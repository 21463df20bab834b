"""Forging tools for classes of tasks: who makes them, what became of every class, and what each role took."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ferrule.agents.forge import Forging, make_tool
from ferrule.core.flows import Flow, Session
from ferrule.core.records import Task
from ferrule.rollout.drive import Policies, drive
from ferrule.rollout.record import Episode
from ferrule.rollout.spent import Spent, added
from ferrule.tools.forge_export import exported
from ferrule.tools.forge_shelf import Shelf, promoted
from ferrule.tools.forge_trial import Made, Trial
from ferrule.worlds.session import Toolbox
from ferrule.worlds.user import from_file

__all__ = ["ForgeRow", "ForgeRun", "by_class", "examples_of", "forge_tools", "shelf_file", "tasks_in_order"]


@dataclass(frozen=True)
class ForgeRow:
    """What became of one class of tasks: the tool's name (empty without one), and what was wrong with every attempt."""

    category: str
    tool: str
    attempts: tuple[str, ...]
    problem: str = ""
    episode: Episode | None = field(default=None, repr=False)


@dataclass(frozen=True)
class ForgeRun:
    """The shelf with what was promoted, a row per class, and what each role took."""

    shelf: Shelf
    rows: tuple[ForgeRow, ...]
    spent: Mapping[str, Spent]


def tasks_in_order(source: str | Path, **rows: Any) -> list[Task]:
    """Return all tasks of a file (``ferrule.worlds.user.from_file``), of all splits, in the order of its rows."""
    world = from_file(source, **rows)

    def place(task: Task) -> tuple[int, str]:
        number = task.id.rpartition("/")[2]
        return int(number) if number.isdigit() else 0, task.id

    return sorted((task for tasks in world.rows.values() for task in tasks), key=place)


def by_class(tasks: Sequence[Task], label: str = "category") -> dict[str, list[Task]]:
    """Return tasks by ``meta[label]``, in order; those without it are one class, called ``tool``."""
    classes: dict[str, list[Task]] = {}
    for task in tasks:
        classes.setdefault(str(task.meta.get(label, "tool")), []).append(task)
    return classes


def examples_of(tasks: Sequence[Task]) -> list[Made]:
    """Return the calls with known results among tasks: those with ``meta["arguments"]``, whose answer is the result.

    Raises ``ValueError`` for arguments that have no names.
    """
    for task in tasks:
        if not isinstance(task.meta.get("arguments", {}), Mapping):
            raise ValueError(f"{task.id}: the arguments are {task.meta['arguments']!r}; they are an object, by name")
    return [Made(dict(task.meta["arguments"]), task.answer) for task in tasks if "arguments" in task.meta]


def forge_tools(
    classes: Mapping[str, Sequence[Task]], policies: Policies, *, shelf: Shelf | None = None, shown: int = 3,
    held: int = 3, rounds: int = 3, trial: Trial | None = None, seed: int = 0, max_tokens: int = 2048,
    temperature: float | None = 0.3, done: Callable[[ForgeRow], None] | None = None,
) -> ForgeRun:  # fmt: skip
    """Let the ``maker`` write a tool for every class of tasks; promote those that pass and the ``critic`` agrees to.

    The first ``shown`` tasks of a class are shown with the request for the function and the next ``held`` with the
    request for tests. Tasks with ``meta["arguments"]`` are examples as well, all of them, which the function must get
    right. A tool on the shelf is replaced by one of its own class alone, which must pass its tests as well; the name of
    another class's tool is refused. ``done`` is called with each row. Raises ``ValueError`` for a class of fewer than
    ``shown`` + 1 tasks, before anything is made.
    """
    shelf, rows = shelf or Shelf(), list[ForgeRow]()
    for category, tasks in classes.items():
        if len(tasks) <= shown:
            raise ValueError(f"the class {category!r} has {len(tasks)} tasks; {shown} are shown, and tests need more")
        examples_of(tasks)
    for category, tasks in classes.items():
        box: list[Forging] = []
        how: dict[str, Any] = {"rounds": rounds, "trial": trial, "max_tokens": max_tokens, "temperature": temperature}
        how |= {"examples": examples_of(tasks), "origin": category, **_beside(shelf, category)}

        def agent(task: Task, session: Session, tasks: Any = tasks, how: Any = how, box: Any = box) -> Flow[str | None]:
            box.append((yield from make_tool(tasks[:shown], tasks[shown : shown + held], **how)))
            return box[0].last.proposal.source if box[0].promotable else None

        asked = Task(f"forge/{category}", f"Make a tool for {category}.")
        (episode,) = drive(agent, [asked], Toolbox(()), policies, seed=seed)
        tool = ""
        if box and box[0].promotable:
            shelf, tool = promoted(shelf, box[0].last, category=category), _name(box[0])
        attempts = tuple(one.feedback for one in box[0].attempts) if box else ()
        row = ForgeRow(category, tool, attempts, episode.problem, episode)
        rows.append(row)
        if done is not None:
            done(row)
    return ForgeRun(shelf, tuple(rows), added([row.episode.spent for row in rows if row.episode is not None]))


def _beside(shelf: Shelf, category: str) -> dict[str, Any]:
    """Return the names that tools of other classes have, and the tests of the earlier versions of this class's."""
    taken = [name for name, entries in shelf.versions.items() if entries[-1].category != category]
    earlier = {
        name: [entry.proposal.tests for entry in entries]
        for name, entries in shelf.versions.items() if name not in taken
    }  # fmt: skip
    return {"taken": taken, "earlier": earlier}


def _name(forging: Forging) -> str:
    tool = forging.last.tool
    return tool.name if tool is not None else ""


def shelf_file(shelf: Shelf, path: str = "tools.py") -> str:
    """Return the tools on offer as a plain Python file with their tests (``ferrule.tools.forge_export``)."""
    return exported([(e.name, e.proposal.source, e.proposal.tests, e.proposal.effects) for e in shelf.offered], path)
