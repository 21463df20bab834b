"""The ``calculator`` tool: exact arithmetic on an expression, read as a syntax tree and never evaluated as code."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

from ferrule.core.expression import Budget, Grammar, NotAllowed, check, evaluate, read, rounded
from ferrule.tools.tool import tool

__all__ = ["calculate", "calculator"]

Number = int | float


def calculate(expression: str) -> Number:
    """Return the value of ``expression``; integers stay exact, ``6 / 3`` is the integer 2.

    Raises ``ValueError`` for anything but numbers, ``+ - * / // % **``, parentheses and sqrt, abs, min, max, round, for
    division by zero, for results that are not real and finite, and for integers beyond 4096 bits.
    """
    try:
        tree = read(expression, _GRAMMAR)
    except SyntaxError:
        raise ValueError(f"{expression!r} is not an arithmetic expression") from None
    try:
        value: Number = evaluate(check(tree, _GRAMMAR), _GRAMMAR)
        return value
    except NotAllowed as error:
        raise ValueError(_refusal(error.node)) from None
    except TypeError as error:
        raise ValueError(str(error)) from None
    except ZeroDivisionError:
        raise ValueError("division by zero") from None
    except OverflowError:
        raise ValueError("a number is too large") from None


def _refusal(node: ast.AST) -> str:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return f"no function {node.func.id!r}; known: {', '.join(sorted(_GRAMMAR.functions))}"
    return f"{ast.unparse(node)!r} is not a number, one of + - * / // % **, or a known function"


def _finite(function: Callable[..., Any]) -> Callable[..., Number]:
    """Return ``function`` with results that are not real and finite refused."""

    def checked(*values: Number) -> Number:
        result = function(*values)
        if isinstance(result, complex):
            raise ValueError("the result is not a real number")
        if not math.isfinite(result):
            raise ValueError("the result is not a finite number")
        return int(result) if isinstance(result, bool) else result

    return checked


def _divide(left: Number, right: Number) -> Number:
    whole = isinstance(left, int) and isinstance(right, int) and right != 0 and left % right == 0
    return left // right if whole else left / right


def _sqrt(*values: Number) -> Number:
    value = _one("sqrt", values)
    if value < 0:
        raise ValueError("the square root of a negative number is not real")
    root = math.isqrt(value) if isinstance(value, int) else 0
    return root if root * root == value else math.sqrt(value)


def _one(name: str, values: tuple[Number, ...]) -> Number:
    if len(values) != 1:
        raise ValueError(f"{name} takes one number, not {len(values)}")
    return values[0]


def _most(name: str, choose: Callable[[Any], Any]) -> Callable[..., Number]:
    def chosen(*values: Number) -> Any:
        if not values:
            raise ValueError(f"{name} needs at least one number")
        return choose(values)

    return chosen


def _caret(left: Number, right: Number) -> Number:
    raise ValueError("^ is not an operator here; write ** for powers")


def _round(*values: Number) -> Any:
    return rounded(values[0], values[1]) if len(values) == 2 else rounded(_one("round", values))


_GRAMMAR = Grammar(
    kind="arithmetic expression",
    allowed="numbers, + - * / // % **, parentheses, and sqrt, abs, min, max, round",
    operators={
        ast.Add: _finite(operator.add),
        ast.Sub: _finite(operator.sub),
        ast.Mult: _finite(operator.mul),
        ast.Div: _finite(_divide),
        ast.FloorDiv: _finite(operator.floordiv),
        ast.Mod: _finite(operator.mod),
        ast.Pow: _finite(operator.pow),
        ast.BitXor: _caret,
        ast.UAdd: operator.pos,
        ast.USub: operator.neg,
    },
    functions={
        "sqrt": _finite(_sqrt),
        "abs": lambda *values: abs(_one("abs", values)),
        "min": _most("min", min),
        "max": _most("max", max),
        "round": _finite(_round),
    },
    constants=(int, float),
    budget=Budget(characters=2000, steps=2000, size=2000, bits=4096, work=100_000),
)  # the largest integer has about 1230 digits


@tool(seconds=5.0)
def calculator(expression: str) -> str:
    """Compute an arithmetic expression, for example (3 + 4) * 12 / 5.

    Args:
        expression: numbers with + - * / // % ** and parentheses; sqrt, abs, min, max and round are known
    """
    value = calculate(expression)
    return str(value) if isinstance(value, int) else f"{value:.10g}"
