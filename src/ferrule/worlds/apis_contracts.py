"""Contracts for the tasks of ``Apis`` that change a table: only what the prompt asks for satisfies them."""

from __future__ import annotations

import re

from ferrule.core.records import Task
from ferrule.tools.contracts import Contract, State

__all__ = ["api_contracts"]

_CHANGE = re.compile(r"Set the (\w+) of (\w+) (\d+) to (\d+)\.")
_COPY = re.compile(r"Set the (\w+) of the (\w+) (\w+) to that of (\w+)\.")


def api_contracts(task: Task) -> tuple[dict[str, Contract], State]:
    """Return contracts and initial facts of a task of ``Apis`` that changes a cell (levels 4 and 5), from its prompt.

    Only the change that the prompt asks for satisfies them: the cell it names, and the value it names or that was read
    from the cell it names. Raises ``ValueError`` for a prompt of another level.
    """
    if asked := _CHANGE.match(task.prompt):
        column, noun, number, value = asked.groups()
        change = Contract(
            pre=("args.id == id", "args.value == value"),
            post=('result == "done"',),
            updates={f"new_{column}": "args.value"},
        )
        state = State.of({"id": int(number), "value": int(value)})
        return {f"set_{noun}_{column}": change}, state
    if not (asked := _COPY.match(task.prompt)):
        raise ValueError(f"task {task.id!r} asks for no change; take levels 4 and 5")
    column, noun, target, source = asked.groups()
    number_wanted = ("type(result) == integer",)
    ids = Contract(
        pre=("args.name == target or args.name == source",),
        post=number_wanted,
        updates=lambda old, result, arguments: {
            f"{role}_id": result for role in ("target", "source") if old[role] == arguments["name"]
        },
    )
    cell = Contract(
        pre=("exists(source_id)", "args.id == source_id or args.id == target_id"),
        post=number_wanted,
        updates=lambda old, result, arguments: {"wanted": result} if arguments["id"] == old["source_id"] else {},
    )
    change = Contract(
        pre=("exists(target_id)", "exists(wanted)", "args.id == target_id", "args.value == wanted"),
        post=('result == "done"',),
        updates={f"new_{column}": "args.value"},
    )
    contracts = {f"find_{noun}": ids, f"{noun}_{column}": cell, f"set_{noun}_{column}": change}
    return contracts, State.of({"target": target, "source": source})
