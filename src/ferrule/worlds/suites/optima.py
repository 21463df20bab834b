"""NL4OPT and OptiBench: word problems of optimisation, answered by their optimum.

An answer is right within 0.1 of the optimum. The tools are a solver for linear programs and an interpreter that has
SciPy, for problems that are not linear.

Sources: "NL4Opt Competition: Formulating Optimization Problems Based on Their Natural Language Descriptions",
https://arxiv.org/abs/2303.08233, with the optima of https://github.com/Minw913/AlphaOPT (MIT); "OptiBench Meets
ReSocratic: Measure and Improve LLMs for Optimization Modeling", https://arxiv.org/abs/2407.09887, data:
https://github.com/yangzhch6/ReSocratic (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ferrule.core.arrays import nearest
from ferrule.core.demonstration import Demonstration
from ferrule.core.records import Task
from ferrule.worlds.files import Row, read_file
from ferrule.worlds.optimisation.world import ENDS, opened
from ferrule.worlds.rows import divided
from ferrule.worlds.suites.origins import find
from ferrule.worlds.suites.suite import Suite

__all__ = ["OPTIMA", "optima"]

OPTIMA: Mapping[str, tuple[str, ...]] = {
    "nl4opt": ("nl4opt_part*.jsonl", "nl4opt.json*", "data/optimization_tasks/clean/nl4opt.json"),
    "optibench": ("optibench_part*.jsonl", "OptiBench.json*", "data/OptiBench.json"),
}
"""The benchmarks, with the names of their files."""
_LEVELS = {"linear-notable": 1, "linear-table": 2, "nonlinear-notable": 3, "nonlinear-table": 4}


def optima(name: str, *, data: str | Path | None = None) -> Suite:
    """Return ``nl4opt`` or ``optibench`` as a world; ``data`` is a folder, or a file of rows.

    A row of NL4OPT has ``description`` and ``ground_truth``. One of OptiBench has ``question``, ``type`` (its level, 1
    to 4) and ``results``, named numbers of which the last is the optimum; the others are kept in ``meta["results"]``. A
    file of one's own is divided by its prompts (a fifth is ``test``). Raises ``ValueError`` for an unknown name and
    invalid rows, ``FileNotFoundError`` where there is no data.
    """
    if name not in OPTIMA:
        raise ValueError(f"no benchmark {name!r}; {nearest(name, list(OPTIMA))}")
    own = data is not None and Path(data).is_file()
    path = Path(str(data)) if own else find(name, OPTIMA[name], data)
    tasks = tuple(_task(name, number, *placed) for number, placed in enumerate(read_file(path).rows))
    return Suite(name, divided(tasks) if own else {"test": tasks}, opened, _solve)


def _task(name: str, number: int, where: str, row: Row) -> Task:
    prompt, answer, more = _linear(where, row) if name == "nl4opt" else _general(where, row)
    try:
        float(answer)
    except (TypeError, ValueError):
        raise ValueError(f"{where}: the optimum is {answer!r}, not a number") from None
    id = row.get("task_id", row.get("index", number))
    return Task(f"{name}/{id}", f"{prompt}\n\n{ENDS}", str(answer), name, meta={"verifier": "near", **more})


def _linear(where: str, row: Row) -> tuple[str, Any, dict[str, Any]]:
    return _field(where, row, "description"), _field(where, row, "ground_truth"), {"level": 1}


def _general(where: str, row: Row) -> tuple[str, Any, dict[str, Any]]:
    results, kind = _field(where, row, "results"), _field(where, row, "type")
    if not isinstance(results, Mapping) or not results:
        raise ValueError(f"{where}: 'results' should hold named numbers, the optimum as the last")
    if kind not in _LEVELS:
        raise ValueError(f"{where}: unknown type {kind!r}; {nearest(str(kind), list(_LEVELS))}")
    return _field(where, row, "question"), [*results.values()][-1], {"level": _LEVELS[kind], "results": dict(results)}


def _field(where: str, row: Row, name: str) -> Any:
    if row.get(name) is None:
        raise ValueError(f"{where}: no field {name!r}; {nearest(name, list(row))}")
    return row[name]


def _solve(task: Task) -> Demonstration:
    return Demonstration((), f"Optimal value: {task.answer}")
