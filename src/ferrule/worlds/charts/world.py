"""The world ``charts``: put the chart together that is asked for, choice by choice."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ferrule.core.demonstration import Demonstration
from ferrule.core.flows import Session
from ferrule.core.records import Call, Task, Tool
from ferrule.tools.budget import Budget
from ferrule.worlds.charts.choosing import Picking
from ferrule.worlds.charts.columns import Plotted, plotted
from ferrule.worlds.charts.grammar import SLOTS, Chart, chart_text, choices_of, value_text
from ferrule.worlds.charts.making import all_charts, draw_table
from ferrule.worlds.session import ToolSession
from ferrule.worlds.splits import check_split, different

__all__ = ["Charts", "calls_for", "table_in", "table_task"]

_INTRODUCTION = (
    "Put a chart together with the tool choose, slot by slot: mark, x, transform, aggregate, y, group, bin. "
    "Left-out slots are none; with transform = false the chart is drawn as it is and only y follows."
)
_MARKS = {"bar": "bars", "line": "a line", "point": "points", "arc": "parts of a circle"}
_BINS = {"auto": "in steps", "zero": "above and below 0", "date": "by date", "day": "by day of the week"}
_SCHEMA = {
    "type": "object",
    "properties": {
        "slot": {"type": "string", "enum": list(SLOTS)},
        "value": {"type": "string", "description": "a column, a word of the slot, or none"},
    },
    "required": ["slot", "value"],
    "additionalProperties": False,
}


def table_task(table: Plotted, key: str = "", chart: Chart | None = None, world: str = "charts", **meta: Any) -> Task:
    """Return a table as a task, with the chart that is asked for if there is one; ``meta["table"]`` holds the cells."""
    kinds = "\n".join(f"- {variable.name} ({variable.kind})" for variable in table.variables)
    rows = len(table.variables[0].cells)
    wish = "Show what is worth seeing." if chart is None else f"Draw {_asked(chart)}."
    cells = {variable.name: [_plain(cell) for cell in variable.cells] for variable in table.variables}
    wanted = {} if chart is None else {"state": {"chart": chart_text(chart)}}
    return Task(
        key or f"{world}/{table.name}",
        f"{_INTRODUCTION}\n\nTable {table.name}, {rows} rows:\n{kinds}\n\n{wish}",
        world=world,
        meta={"table": {"name": table.name, "columns": cells}, **wanted, **meta},
    )


def _plain(cell: Any) -> Any:
    return cell.isoformat() if isinstance(cell, datetime) else cell


def _asked(chart: Chart) -> str:
    """Word a chart as a request."""
    y = {None: chart.y, "count": "the count"}.get(chart.aggregate, f"the {chart.aggregate} of {chart.y}")
    bins = f" {_BINS[chart.bin]}" if chart.bin else ""
    raw = "" if chart.transform else ", as it is"
    return f"{_MARKS[chart.mark]} of {y} by {chart.x}{bins}{raw}"


def table_in(task: Task) -> Plotted:
    """Return the table of a task. Raises ``ValueError`` for a task of another world."""
    stored = task.meta.get("table")
    if not isinstance(stored, dict) or "columns" not in stored:
        raise ValueError(f"task {task.id!r} has no table in its meta; task_of makes tasks with one")
    return plotted(str(stored["name"]), stored["columns"])


@dataclass(frozen=True)
class Charts:
    """Charts of drawn tables: the prompt says which, and the tool ``choose`` fills one slot at a time.

    The finished chart as text is the answer, and ``chart`` of ``final()``, which also says why it cannot be read, if it
    cannot, and how well its mark suits it by rules. Levels widen the tables from 2 columns to 8. What is asked for in
    the test split is asked for in no training task. ``calls`` caps the calls of an episode.
    """

    calls: int = 12
    name: str = "charts"

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return different tasks whose levels take turns."""
        check_split(split, levels)

        def draw(level: int, place: int, drawn: str) -> Task:
            key = f"{self.name}/{split}/{level}/{seed}/{drawn}"
            rng = random.Random(key)
            while True:
                table = draw_table(rng, level).table
                charts = [chart for chart in all_charts(table) if _split_of(chart) == split]
                if charts:
                    return table_task(table, key, rng.choice(charts), self.name, level=level, split=split)

        return different(draw, count, levels)

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session with an empty chart."""
        return ToolSession(task, _tools, Picking(table_in(task)), budget=Budget(total=self.calls), final=Picking.final)

    def demonstrate(self, task: Task) -> Demonstration:
        """Return the choices of the chart that is asked for. Raises ``ValueError`` for a task that asks for none."""
        if "state" not in task.meta:
            raise ValueError(f"task {task.id!r} asks for no certain chart")
        chart = next(each for each in all_charts(table_in(task)) if chart_text(each) == task.meta["state"]["chart"])
        return Demonstration(tuple((call,) for call in calls_for(chart)))


def calls_for(chart: Chart) -> list[Call]:
    """Return the calls that put a chart together."""
    slots = SLOTS if chart.transform else ("mark", "x", "transform", "y")
    return [
        Call("choose", {"slot": slot, "value": value_text(value)}) for slot, value in choices_of(chart) if slot in slots
    ]


def _split_of(chart: Chart) -> str:
    return "test" if zlib.crc32(chart_text(chart).encode()) % 5 == 0 else "train"


def _tools(state: Picking) -> tuple[Tool, ...]:
    return (Tool("choose", "Fill the next slot of the chart.", _SCHEMA, state.choose, effects="write"),)
