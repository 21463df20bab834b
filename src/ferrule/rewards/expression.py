"""A small evaluator for verifier expressions such as ``x > 3 and 'km' in answer``; it never runs Python code.

The expression comes from the author of a data set, the answer from a model. Names, functions, methods and node types
are fixed lists; sizes and steps are bounded, so neither side can reach the interpreter or hang it.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from ferrule.core.arrays import nearest

__all__ = ["FUNCTIONS", "METHODS", "compile_expression", "evaluate"]

SIZE_LIMIT = 100_000
BIT_LIMIT = 20_000
STEP_LIMIT = 100_000

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs, "all": all, "any": any, "bool": bool, "float": float, "int": int, "isclose": math.isclose,
    "isfinite": math.isfinite, "len": len, "max": max, "min": min, "round": round, "set": set, "sorted": sorted,
    "str": str, "sum": sum,
}  # fmt: skip
"""Functions an expression may call."""
METHODS = frozenset({
    "casefold", "count", "endswith", "find", "isalpha", "isdigit", "lower", "lstrip", "replace", "rstrip", "split",
    "splitlines", "startswith", "strip", "upper",
})  # fmt: skip
"""Methods of strings that an expression may call."""

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
}  # fmt: skip
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos, ast.USub: operator.neg, ast.Not: operator.not_,
}  # fmt: skip
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b, ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}  # fmt: skip
_PLAIN = (
    ast.Expression, ast.Constant, ast.Name, ast.Load, ast.Store, ast.BoolOp, ast.And, ast.Or, ast.IfExp, ast.BinOp,
    ast.UnaryOp, ast.Compare, ast.Call, ast.keyword, ast.Attribute, ast.Subscript, ast.Slice, ast.Tuple, ast.List,
    ast.Set, ast.GeneratorExp, ast.ListComp, ast.comprehension, *_BINARY, *_UNARY, *_COMPARE,
)  # fmt: skip


def compile_expression(text: str, names: tuple[str, ...] = ("answer", "x")) -> ast.expr:
    """Parse and check an expression over ``names``.

    Raises ``ValueError`` that says which part is not allowed and what is.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"verifier expression {text!r} is not a Python expression: {error}") from None
    targets = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    functions = {id(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
    known = (*names, *targets)
    for node in ast.walk(tree):
        if not isinstance(node, _PLAIN) or (isinstance(node, ast.comprehension) and node.is_async):
            raise ValueError(f"verifier expression {text!r} uses {type(node).__name__}, which is not allowed")
        if isinstance(node, ast.Name) and id(node) in functions:
            if node.id not in FUNCTIONS:
                raise ValueError(f"verifier expression calls {node.id!r}; {nearest(node.id, list(FUNCTIONS))}")
        elif isinstance(node, ast.Name) and node.id not in known:
            raise ValueError(f"verifier expression names {node.id!r}; {nearest(node.id, known)}")
        if isinstance(node, ast.Attribute) and (id(node) not in functions or node.attr not in METHODS):
            raise ValueError(f"verifier expression uses .{node.attr}; {nearest(node.attr, sorted(METHODS))}")
        if isinstance(node, ast.Call) and not isinstance(node.func, (ast.Name, ast.Attribute)):
            raise ValueError(f"verifier expression {text!r} calls something that has no name")
    return tree.body


def evaluate(expression: ast.expr, values: Mapping[str, Any]) -> Any:
    """Evaluate a checked expression; raises whatever the operation raises, ``OverflowError`` past the size limits."""
    return _Run().value(expression, dict(values))


class _Run:
    """One evaluation with its step count."""

    def __init__(self) -> None:
        self.steps = 0

    def value(self, node: ast.expr, names: dict[str, Any]) -> Any:
        """Evaluate one node."""
        self.steps += 1
        if self.steps > STEP_LIMIT:
            raise OverflowError("verifier expression takes too many steps")
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return names[name]
            case ast.BoolOp(op=op, values=parts):
                return self._logic(isinstance(op, ast.And), parts, names)
            case ast.IfExp(test=test, body=body, orelse=other):
                return self.value(body if self.value(test, names) else other, names)
            case ast.UnaryOp(op=op_, operand=operand):
                return _UNARY[type(op_)](self.value(operand, names))
            case ast.BinOp(left=left, op=op__, right=right):
                return _binary(type(op__), self.value(left, names), self.value(right, names))
            case ast.Compare():
                return self._compare(node, names)
            case ast.Call():
                return self._call(node, names)
            case ast.Subscript(value=base, slice=index):
                return self.value(base, names)[self._index(index, names)]
            case ast.Tuple(elts=elements) | ast.List(elts=elements):
                return [self.value(element, names) for element in elements]
            case ast.Set(elts=elements):
                return {self.value(element, names) for element in elements}
            case ast.GeneratorExp(elt=element, generators=loops) | ast.ListComp(elt=element, generators=loops):
                return self._comprehension(element, loops, names)
        raise ValueError(f"{type(node).__name__} is not allowed")

    def _logic(self, is_and: bool, parts: list[ast.expr], names: dict[str, Any]) -> Any:
        result: Any = is_and
        for part in parts:
            result = self.value(part, names)
            if bool(result) is not is_and:
                return result
        return result

    def _compare(self, node: ast.Compare, names: dict[str, Any]) -> bool:
        left = self.value(node.left, names)
        for op, part in zip(node.ops, node.comparators, strict=True):
            right = self.value(part, names)
            if not _COMPARE[type(op)](left, right):
                return False
            left = right
        return True

    def _index(self, node: ast.expr, names: dict[str, Any]) -> Any:
        if isinstance(node, ast.Slice):
            return slice(
                *(self.value(p, names) if p is not None else None for p in (node.lower, node.upper, node.step))
            )
        return self.value(node, names)

    def _call(self, node: ast.Call, names: dict[str, Any]) -> Any:
        arguments = [self.value(argument, names) for argument in node.args]
        keywords = {k.arg: self.value(k.value, names) for k in node.keywords if k.arg is not None}
        if isinstance(node.func, ast.Name):
            return FUNCTIONS[node.func.id](*arguments, **keywords)
        assert isinstance(node.func, ast.Attribute)
        owner = self.value(node.func.value, names)
        if not isinstance(owner, str):
            raise TypeError(f".{node.func.attr} belongs to text")
        if node.func.attr == "replace" and len(str(arguments[1])) > 16:
            raise OverflowError("a replacement may have at most 16 characters")
        return getattr(owner, node.func.attr)(*arguments, **keywords)

    def _comprehension(self, element: ast.expr, loops: list[ast.comprehension], names: dict[str, Any]) -> list[Any]:
        if not loops:
            return [self.value(element, names)]
        loop, out = loops[0], []
        if not isinstance(loop.target, ast.Name):
            raise ValueError("a comprehension may bind one name per loop")
        for item in self.value(loop.iter, names):
            inner = {**names, loop.target.id: item}
            if all(self.value(test, inner) for test in loop.ifs):
                out += self._comprehension(element, loops[1:], inner)
        return out


def _binary(op: type[ast.operator], left: Any, right: Any) -> Any:
    """Apply an operator unless its result could be huge."""
    if op is ast.Mod and isinstance(left, str):
        raise TypeError("text formatting is not allowed")
    if op in (ast.Mult, ast.Pow):
        for a, b in ((left, right), (right, left)):
            if isinstance(a, (str, list)) and isinstance(b, int) and len(a) * b > SIZE_LIMIT:
                raise OverflowError("repetition past the size limit")
        if isinstance(left, int) and isinstance(right, int):
            size = left.bit_length() * (abs(right) if op is ast.Pow else 1) + (
                right.bit_length() if op is ast.Mult else 0
            )
            if size > BIT_LIMIT:
                raise OverflowError("number past the size limit")
    return _BINARY[op](left, right)
