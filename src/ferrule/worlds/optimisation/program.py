"""Linear and mixed-integer programs as data, solved by HiGHS (through SciPy)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ferrule.core.arrays import nearest

__all__ = ["SCHEMA", "Constraint", "Program", "Sense", "Solution", "program_of", "solve", "spoken"]

Sense = Literal["<=", ">=", "=="]
Outcome = Literal["optimal", "infeasible", "unbounded", "time_out"]
_OUTCOMES: Mapping[int, Outcome] = {0: "optimal", 1: "time_out", 2: "infeasible", 3: "unbounded"}
_TERMS = {"type": "object", "additionalProperties": {"type": "number"}}

SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "goal": {"type": "string", "enum": ["maximise", "minimise"]},
        "objective": {**_TERMS, "description": "coefficient of each variable; all variables are at least 0"},
        "constraints": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "terms": {**_TERMS, "description": "coefficient of each variable"},
                    "sense": {"type": "string", "enum": ["<=", ">=", "=="]},
                    "limit": {"type": "number"},
                },
                "required": ["terms", "sense", "limit"],
                "additionalProperties": False,
            },
        },
        "integer": {"type": "array", "items": {"type": "string"}, "description": "variables that are whole numbers"},
        "upper": {**_TERMS, "description": "largest value of variables that have one"},
    },
    "required": ["goal", "objective", "constraints"],
    "additionalProperties": False,
}
"""JSON schema of a program, as a model writes it."""


@dataclass(frozen=True)
class Constraint:
    """``sum of terms[name] * name`` on the left of ``sense``, ``limit`` on its right."""

    terms: Mapping[str, float] = field(hash=False)
    sense: Sense
    limit: float

    def __post_init__(self) -> None:
        """Refuse an unknown sense."""
        if self.sense not in get_args(Sense):
            raise ValueError(f"the sense of a constraint is {self.sense!r}; {nearest(self.sense, get_args(Sense))}")


@dataclass(frozen=True)
class Program:
    """A linear program over variables that are at least 0; those in ``integer`` are whole.

    ``objective`` holds the coefficient of each variable, ``upper`` the largest value of those that have one.
    """

    maximise: bool
    objective: Mapping[str, float] = field(hash=False)
    constraints: tuple[Constraint, ...]
    integer: tuple[str, ...] = ()
    upper: Mapping[str, float] = field(default_factory=dict, hash=False)

    @property
    def variables(self) -> tuple[str, ...]:
        """All variables, in the order in which they are first named."""
        terms = (constraint.terms for constraint in self.constraints)
        return tuple(dict.fromkeys([*self.objective, *(name for part in terms for name in part)]))

    def __post_init__(self) -> None:
        """Refuse a program without variables, and unknown ones in ``integer`` and ``upper``."""
        known = self.variables
        if not known:
            raise ValueError("the program has no variables; objective gives each its coefficient")
        for name in (*self.integer, *self.upper):
            if name not in known:
                raise ValueError(f"no variable {name!r} in objective or constraints; {nearest(name, known)}")

    def as_dict(self) -> dict[str, Any]:
        """Return the program in the form of ``SCHEMA``."""
        return {
            "goal": "maximise" if self.maximise else "minimise",
            "objective": dict(self.objective),
            "constraints": [{"terms": dict(c.terms), "sense": c.sense, "limit": c.limit} for c in self.constraints],
            "integer": list(self.integer),
            "upper": dict(self.upper),
        }


def program_of(data: Mapping[str, Any]) -> Program:
    """Return a program from the form of ``SCHEMA``; raises ``ValueError`` as ``Program`` does."""
    constraints = tuple(Constraint(dict(c["terms"]), c["sense"], c["limit"]) for c in data["constraints"])
    return Program(
        data["goal"] == "maximise", dict(data["objective"]), constraints, tuple(data.get("integer", ())),
        dict(data.get("upper", {})),
    )  # fmt: skip


@dataclass(frozen=True)
class Solution:
    """How a program was solved: ``value`` of the objective and the ``variables``, None and empty without an optimum."""

    outcome: Outcome
    value: float | None = None
    variables: Mapping[str, float] = field(default_factory=dict, hash=False)


def solve(program: Program, *, seconds: float = 10.0) -> Solution:
    """Solve a program to optimality with ``scipy.optimize.milp``.

    A program that has no largest value is ``unbounded``; one stopped after ``seconds`` is ``time_out``, whatever was
    found by then. Raises ``ImportError`` without SciPy, and ``ValueError`` for coefficients that are not finite.
    """
    try:
        import numpy as np
        from scipy.optimize import Bounds, LinearConstraint, milp
    except ImportError:
        raise ImportError('solving a program needs SciPy: pip install "ferrule[solve]"') from None
    names = program.variables

    def row(terms: Mapping[str, float]) -> list[float]:
        return [float(terms.get(name, 0.0)) for name in names]

    numbers = [*row(program.objective), *(n for c in program.constraints for n in (*row(c.terms), c.limit))]
    if not all(map(math.isfinite, numbers)):
        raise ValueError("coefficients and limits of a program must be finite")
    sign = -1.0 if program.maximise else 1.0
    limits = [
        (c.limit if c.sense != "<=" else -np.inf, c.limit if c.sense != ">=" else np.inf) for c in program.constraints
    ]
    linear = [
        LinearConstraint([row(c.terms)], low, high) for c, (low, high) in zip(program.constraints, limits, strict=True)
    ]
    solved = milp(
        c=sign * np.array(row(program.objective)),
        constraints=linear,
        integrality=[int(name in program.integer) for name in names],
        bounds=Bounds(0.0, [program.upper.get(name, np.inf) for name in names]),
        options={"time_limit": seconds, "mip_rel_gap": 0.0},
    )
    outcome = _OUTCOMES.get(solved.status, "infeasible")
    if outcome != "optimal":
        return Solution(outcome)
    whole = {
        name: round(x) if name in program.integer else x for name, x in zip(names, map(float, solved.x), strict=True)
    }
    value = sum(program.objective.get(name, 0.0) * x for name, x in whole.items())
    return Solution(outcome, round(float(value), 9), whole)


def spoken(solution: Solution) -> str:
    """Return a solution as text: ``Optimal value: 5050`` and a line per variable, or why there is none."""
    if solution.value is None:
        return {
            "infeasible": "No values meet all constraints.",
            "unbounded": "The objective has no bound: a constraint is missing.",
        }.get(solution.outcome, "The solver was stopped at its time limit.")
    lines = [f"{name} = {x:.10g}" for name, x in solution.variables.items()]
    return "\n".join([f"Optimal value: {solution.value:.10g}", *lines])


def weighted(names: Sequence[str], weights: Sequence[float]) -> dict[str, float]:
    """Return terms of variables with their coefficients, those of 0 left out."""
    return {name: weight for name, weight in zip(names, weights, strict=True) if weight}
