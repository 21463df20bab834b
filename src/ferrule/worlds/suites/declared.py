"""NL4OPT's declared problems: word problems with the objective and constraints that people read out of them.

A declaration is taken as the linear program of its text: its optimum is the answer, and the program the reference
solution. Of the 99 problems of the development set 9 are left out, whose declaration has no optimum: some lack a
constraint that the text states, and numbers of pieces need not be whole.

Source: "NL4Opt Competition: Formulating Optimization Problems Based on Their Natural Language Descriptions",
https://arxiv.org/abs/2303.08233; data: https://github.com/nl4opt/nl4opt-competition (MIT).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from ferrule.core.arrays import nearest
from ferrule.core.demonstration import Demonstration
from ferrule.core.records import Call, Task
from ferrule.worlds.files import Placed, Row, read_file
from ferrule.worlds.optimisation.program import Constraint, Program, Sense, solve
from ferrule.worlds.optimisation.world import ENDS, opened
from ferrule.worlds.rows import divided
from ferrule.worlds.suites.origins import find
from ferrule.worlds.suites.suite import Suite

__all__ = ["amount", "declared", "program_declared"]

_FILES = ("nl4opt_dev_declarations.jsonl", "generation_data/dev.jsonl")
_WORDS = {
    "half": 1 / 2, "third": 1 / 3, "quarter": 1 / 4, "fifth": 1 / 5, "two-thirds": 2 / 3, "twice": 2.0, "double": 2.0,
    "thrice": 3.0, "zero": 0.0, "one": 1.0, "two": 2.0, "three": 3.0, "four": 4.0, "five": 5.0, "six": 6.0,
    "seven": 7.0, "eight": 8.0, "nine": 9.0, "ten": 10.0, "twelve": 12.0, "twenty": 20.0, "thirty": 30.0,
    "forty": 40.0, "fifty": 50.0, "hundred": 100.0, "thousand": 1000.0, "million": 1e6,
}  # fmt: skip
_LARGEST = ("max", "high", "increas", "most", "great")
_LEAST = ("min", "decreas", "reduc", "low", "least", "cheap", "small")
_SENSES: Mapping[str, Sense] = {"LESS_OR_EQUAL": "<=", "GREATER_OR_EQUAL": ">="}


def amount(text: str) -> float:
    """Return a number as declarations write it: ``1,500``, ``40%``, ``third``, ``three times``, ``one hundred``.

    Units after a number are passed over. Raises ``ValueError`` for a text without a number.
    """
    value: float | None = None
    words = text.lower().replace(",", "").replace("percent", " %").replace("%", " %").replace("$", "").split()
    for word in words:
        number = float(word) if re.fullmatch(r"\d+(\.\d+)?|\.\d+", word) else _WORDS.get(word)
        if word == "%" and value is not None:
            value /= 100
        elif number is not None and (value is None or word in ("hundred", "thousand", "million")):
            value = number if value is None else value * number
    if value is None:
        raise ValueError(f"{text!r} is no number")
    return value


def _variable(name: str, variables: Sequence[str]) -> str:
    """Return the variable that a name in a declaration means: the one whose letters are most alike."""
    return max(variables, key=lambda each: SequenceMatcher(None, each.lower(), name.lower()).ratio())


def _terms(given: Mapping[str, str], variables: Sequence[str]) -> dict[str, float]:
    """Return the coefficient of each variable; names that are alike go by their order."""
    names = [_variable(name, variables) for name in given]
    if len(set(names)) < len(names) and len(names) == len(variables):
        names = list(variables)
    if len(set(names)) < len(names):
        raise ValueError(f"{', '.join(given)} are not told apart among {', '.join(variables)}")
    return dict(zip(names, map(amount, given.values()), strict=True))


def program_declared(row: Mapping[str, Any]) -> Program:
    """Return the linear program of a declaration. Raises ``ValueError`` for one that cannot be read."""
    variables: Sequence[str] = row["vars"]
    objective = row["obj_declaration"]
    direction = str(objective["direction"]).lower()
    if not any(direction.startswith(start) for start in (*_LARGEST, *_LEAST)):
        raise ValueError(f"the objective is to {direction!r}, which is neither largest nor least")
    weights = objective.get("terms") or dict.fromkeys(variables, "1")
    return Program(
        any(direction.startswith(start) for start in _LARGEST),
        _terms(weights, variables),
        tuple(_constraint(each, variables) for each in row["const_declarations"]),
    )


def _constraint(given: Mapping[str, Any], variables: Sequence[str]) -> Constraint:
    kind, sense = given["type"], _SENSES[given["operator"]]
    if kind == "linear":
        return Constraint(_terms(given["terms"], variables), sense, amount(given["limit"]))
    if kind == "sum":
        return Constraint(dict.fromkeys(variables, 1.0), sense, amount(given["limit"]))
    if kind in ("upperbound", "lowerbound"):
        return Constraint({_variable(given["var"], variables): 1.0}, sense, amount(given["limit"]))
    if kind == "ratio":
        share, part = amount(given["limit"]), _variable(given["var"], variables)
        return Constraint({name: float(name == part) - share for name in variables}, sense, 0.0)
    if kind in ("xy", "xby"):
        first, second = (_variable(given[name], variables) for name in ("x_var", "y_var"))
        if first == second:
            raise ValueError(f"{given['x_var']!r} and {given['y_var']!r} are not told apart")
        return Constraint({first: 1.0, second: -amount(given.get("param", "1"))}, sense, 0.0)
    known = ["linear", "sum", "upperbound", "lowerbound", "ratio", "xy", "xby"]
    raise ValueError(f"unknown type of constraint {kind!r}; {nearest(str(kind), known)}")


def declared(*, data: str | Path | None = None) -> Suite:
    """Return the declared problems as a world; ``data`` is a folder, or a file of rows.

    A row has ``document``, ``vars``, ``obj_declaration`` and ``const_declarations``. A file of one's own is divided by
    its prompts (a fifth is ``test``). Raises ``ValueError`` for invalid rows, ``FileNotFoundError`` where there is no
    data.
    """
    own = data is not None and Path(data).is_file()
    path = Path(str(data)) if own else find("nl4opt_declared", _FILES, data)
    tasks = tuple(_tasks(read_file(path).rows))
    return Suite("nl4opt_declared", divided(tasks) if own else {"test": tasks}, opened, _solve)


def _tasks(rows: Sequence[Placed]) -> Iterator[Task]:
    for number, (where, row) in enumerate(rows):
        task = _task(number, where, row)
        if task is not None:
            yield task


def _task(number: int, where: str, row: Row) -> Task | None:
    for field in ("document", "vars", "obj_declaration", "const_declarations"):
        if not row.get(field):
            raise ValueError(f"{where}: no field {field!r}; {nearest(field, list(row))}")
    try:
        program = program_declared(row)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    solution = solve(program)
    if solution.value is None:
        return None
    prompt = f"{row['document']}\n\n{ENDS}"
    meta = {"verifier": "near", "level": 1, "program": program.as_dict()}
    return Task(
        f"nl4opt_declared/{row.get('id', number)}", prompt, f"{solution.value:.10g}", "nl4opt_declared", meta=meta
    )


def _solve(task: Task) -> Demonstration:
    return Demonstration(((Call("solve", dict(task.meta["program"])),),), f"Optimal value: {task.answer}")
