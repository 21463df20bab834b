"""Variants of a function with one small change each: tests that say something about it notice most of them."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["always", "stubs", "variants"]

_COMPARE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq},
    **{ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is},
}
_BINARY: dict[type[ast.operator], type[ast.operator]] = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult},
    **{ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd},
}


def stubs(source: str, name: str) -> list[str]:
    """Return the source with the function doing nothing, and with it returning its first argument.

    Tests that say anything about results notice both, save the second for a function that does return its argument.
    """
    function = _function(ast.parse(source), name)
    given = [*function.args.args, *function.args.kwonlyargs]
    bodies = [ast.Constant(None), *(ast.Name(one.arg, ast.Load()) for one in given[:1])]
    return [_returning(source, name, body) for body in bodies]


def always(source: str, name: str, result: Any) -> str:
    """Return the source with the function always returning one result, which is plain data."""
    return _returning(source, name, ast.parse(repr(result), mode="eval").body)


def _returning(source: str, name: str, body: ast.expr) -> str:
    tree = ast.parse(source)
    _function(tree, name).body = [ast.Return(body)]
    return ast.unparse(ast.fix_missing_locations(tree))


def variants(source: str, name: str, most: int = 12) -> list[str]:
    """Return at most ``most`` sources that differ from ``source`` in one operator, constant or statement.

    All functions of the module are varied, and the places are spread evenly. The same source has the same variants.
    """
    tree = ast.parse(source)
    said = {id(node) for outer in ast.walk(tree) for part in _annotations(outer) for node in ast.walk(part)}
    walked = [(number, node) for number, node in enumerate(ast.walk(tree)) if id(node) not in said]
    places = [(number, way) for number, node in walked for way in range(_ways(node))]
    step = max(1.0, len(places) / most) if places else 1.0
    chosen = [places[int(k * step)] for k in range(min(most, len(places)))]
    made, plain = [], ast.unparse(tree)
    for number, way in chosen:
        twin = copy.deepcopy(tree)
        node = next(node for place, node in enumerate(ast.walk(twin)) if place == number)
        _change(node, way)
        text = ast.unparse(ast.fix_missing_locations(twin))
        if text != plain and text not in made:
            made.append(text)
    return made


def _function(tree: ast.Module, name: str) -> ast.FunctionDef:
    return [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name][-1]


def _annotations(node: ast.AST) -> list[ast.expr]:
    given = [getattr(node, "annotation", None), getattr(node, "returns", None)]
    return [part for part in given if isinstance(part, ast.expr)]


def _ways(node: ast.AST) -> int:
    return len(list(_changes(node)))


def _change(node: ast.AST, way: int) -> None:
    list(_changes(node))[way]()


def _changes(node: ast.AST) -> Iterator[Callable[[], None]]:
    """Yield what changes a node in one way each; annotations, texts that document, and raises stay as they are."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARE:
        yield lambda: _swap(node, _COMPARE[type(node.ops[0])]())
    elif isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in _BINARY and not _texts(node):
        yield lambda: setattr(node, "op", _BINARY[type(node.op)]())
    elif isinstance(node, ast.BoolOp):
        yield lambda: setattr(node, "op", ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif isinstance(node, ast.Return) and node.value is not None and not _constant(node.value):
        yield lambda: setattr(node, "value", ast.Constant(None))
    elif isinstance(node, ast.If | ast.While | ast.IfExp) and not _raises(node):
        yield lambda: setattr(node, "test", ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        more = node.value + 1
        yield lambda: setattr(node, "value", more)


def _swap(node: ast.Compare, op: ast.cmpop) -> None:
    node.ops = [op, *node.ops[1:]]


def _texts(node: ast.BinOp | ast.AugAssign) -> bool:
    """Say whether an operation joins kinds of types (``int | None``) or a text, where the change would only raise."""
    parts = (node.left, node.right) if isinstance(node, ast.BinOp) else (node.value,)
    return any(isinstance(part, ast.Constant) and not isinstance(part.value, int | float) for part in parts)


def _constant(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant)


def _raises(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and all(isinstance(line, ast.Raise) for line in node.body)
