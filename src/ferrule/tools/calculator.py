"""The ``calculator`` tool: exact arithmetic on an expression, read as a syntax tree and never evaluated as code."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable
from typing import Any

from ferrule.tools.tool import tool

__all__ = ["calculate", "calculator"]

Number = int | float
_BITS = 4096  # the largest integer has about 1230 digits
_LENGTH = 2000
_FUNCTIONS: dict[str, Callable[..., Any]] = {"sqrt": math.sqrt, "abs": abs, "min": min, "max": max, "round": round}
_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


_GLUED = re.compile(r"[\d.](?:and|else|for|if|in|is|not|or)")


def calculate(expression: str) -> Number:
    """Return the value of ``expression``; integers stay exact, ``6 / 3`` is the integer 2.

    Raises ``ValueError`` for anything but numbers, ``+ - * / // % **``, parentheses and sqrt, abs, min, max, round, for
    division by zero, for results that are not real and finite, and for integers beyond 4096 bits.
    """
    if len(expression) > _LENGTH:
        raise ValueError(f"the expression has {len(expression)} characters; the most is {_LENGTH}")
    if _GLUED.search(expression):  # Python would comment on it on stderr
        raise ValueError(f"{expression!r} is not an arithmetic expression")
    try:
        tree = ast.parse(expression.strip(), mode="eval")
        return _bounded(_value(tree.body))
    except SyntaxError:
        raise ValueError(f"{expression!r} is not an arithmetic expression") from None
    except (RecursionError, MemoryError):
        raise ValueError("the expression is nested too deeply") from None
    except ZeroDivisionError:
        raise ValueError("division by zero") from None
    except OverflowError:
        raise ValueError("a number is too large") from None


def _value(node: ast.expr) -> Number:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return _bounded(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        inner = _value(node.operand)
        return -inner if isinstance(node.op, ast.USub) else inner
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left), _value(node.right)
        if isinstance(node.op, ast.Pow):
            return _power(left, right)
        if isinstance(node.op, ast.Div):
            whole = isinstance(left, int) and isinstance(right, int) and right != 0 and left % right == 0
            return _bounded(left // right if whole else left / right)
        if type(node.op) in _BINARY:
            return _bounded(_BINARY[type(node.op)](left, right))
        if isinstance(node.op, ast.BitXor):
            raise ValueError("^ is not an operator here; write ** for powers")
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        if node.func.id not in _FUNCTIONS:
            raise ValueError(f"no function {node.func.id!r}; known: {', '.join(sorted(_FUNCTIONS))}")
        return _apply(node.func.id, [_value(argument) for argument in node.args])
    raise ValueError(f"{ast.unparse(node)!r} is not a number, one of + - * / // % **, or a known function")


def _apply(name: str, values: list[Number]) -> Number:
    if name == "sqrt" and len(values) == 1 and isinstance(values[0], int) and values[0] >= 0:
        root = math.isqrt(values[0])
        if root * root == values[0]:
            return root
    if name == "round" and len(values) == 2:
        if not isinstance(values[1], int) or abs(values[1]) > 1000:
            raise ValueError("round takes a number of digits between -1000 and 1000")
    elif len(values) != 1 and name in ("sqrt", "abs", "round"):
        raise ValueError(f"{name} takes one number, not {len(values)}")
    if not values:
        raise ValueError(f"{name} needs at least one number")
    if name == "sqrt" and values[0] < 0:
        raise ValueError("the square root of a negative number is not real")
    if len(values) == 1 and name in ("min", "max"):
        return values[0]
    return _bounded(_FUNCTIONS[name](*values))


def _power(base: Number, exponent: Number) -> Number:
    # An exact power has about bits(base) * exponent bits: refused before any work is done.
    exact = isinstance(base, int) and isinstance(exponent, int) and exponent > 0
    if exact and isinstance(base, int) and (base.bit_length() - 1) * exponent > _BITS:
        raise ValueError("a power is too large")
    result = base**exponent
    if isinstance(result, complex):
        raise ValueError("the result is not a real number")
    return _bounded(result)


def _bounded(value: Any) -> Number:
    if isinstance(value, int) and value.bit_length() > _BITS:
        raise ValueError("a number is too large")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("the result is not a finite number")
    return int(value) if isinstance(value, bool) else value


@tool(seconds=5.0)
def calculator(expression: str) -> str:
    """Compute an arithmetic expression, for example (3 + 4) * 12 / 5.

    Args:
        expression: numbers with + - * / // % ** and parentheses; sqrt, abs, min, max and round are known
    """
    value = calculate(expression)
    return str(value) if isinstance(value, int) else f"{value:.10g}"
