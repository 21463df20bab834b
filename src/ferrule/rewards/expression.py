"""Verifier expressions such as ``x > 3 and 'km' in answer``: their grammar, for the evaluator in ``core.expression``.

The expression comes from the author of a data set, the answer from a model. Names, functions, methods and node types
are fixed lists; sizes, steps and work are bounded, so neither side can reach the interpreter or hang it.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ferrule.core import expression as bounded
from ferrule.core.expression import Grammar, rounded, total

__all__ = ["FUNCTIONS", "METHODS", "compile_expression", "evaluate"]

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs, "all": all, "any": any, "bool": bool, "float": float, "int": int, "isclose": math.isclose,
    "isfinite": math.isfinite, "len": len, "max": max, "min": min, "round": rounded, "set": set, "sorted": sorted,
    "str": str, "sum": total,
}  # fmt: skip
"""Functions an expression may call."""
METHODS = frozenset({
    "casefold", "count", "endswith", "find", "isalpha", "isdigit", "lower", "lstrip", "replace", "rstrip", "split",
    "splitlines", "startswith", "strip", "upper",
})  # fmt: skip
"""Methods of strings that an expression may call."""

_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
    ast.UAdd: operator.pos, ast.USub: operator.neg, ast.Not: operator.not_,
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b, ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}  # fmt: skip
_GRAMMAR = Grammar(
    kind="verifier expression",
    allowed="literals, operators, loops in brackets, and the known names, functions and methods",
    nodes=(
        ast.Name, ast.BoolOp, ast.IfExp, ast.Subscript, ast.Slice, ast.Tuple, ast.List, ast.Set, ast.GeneratorExp,
        ast.ListComp,
    ),
    operators=_OPERATORS,
    functions=FUNCTIONS,
    methods=METHODS,
)  # fmt: skip


def compile_expression(text: str, names: tuple[str, ...] = ("answer", "x")) -> ast.expr:
    """Parse and check an expression over ``names``.

    Raises ``ValueError`` that says which part is not allowed and what is.
    """
    return bounded.parse(text, replace(_GRAMMAR, names=names))


def evaluate(expression: ast.expr, values: Mapping[str, Any]) -> Any:
    """Evaluate a checked expression; raises whatever an operation raises, ``OverflowError`` past the budget."""
    return bounded.evaluate(expression, _GRAMMAR, values)
