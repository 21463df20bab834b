"""Signature and schema of a proposed function, derived from its text: nothing of the proposal runs for that."""

from __future__ import annotations

import ast
import inspect
import typing
from collections.abc import Callable, Iterator
from typing import Any

from ferrule.core.records import Effect, Observation, Tool
from ferrule.tools.tool import tool

__all__ = ["described_tool", "parameters_of"]

_PLAIN: dict[str, Any] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": bool,
    "list": list,
    "dict": dict,
    "tuple": tuple,
}
_TYPING: dict[str, Any] = {
    **{"List": list, "Dict": dict, "Tuple": tuple, "Sequence": list, "Mapping": dict, "Any": Any, "object": Any},
    **{name: getattr(typing, name) for name in ("Optional", "Union", "Literal", "Annotated")},
}
_NAMES = {**_PLAIN, **_TYPING}


def parameters_of(function: ast.FunctionDef) -> list[str]:
    """Return the names of the parameters of a function; raises ``ValueError`` for those that have no name in a call."""
    given = function.args
    if given.vararg or given.kwarg or given.posonlyargs:
        raise ValueError(f"a parameter of {function.name!r} cannot be given by name; use plain parameters")
    return [argument.arg for argument in (*given.args, *given.kwonlyargs)]


def described_tool(function: ast.FunctionDef, *, effects: Effect = "read", seconds: float = 10.0) -> Tool:
    """Return the tool that a function describes: name, texts, schemas of parameters and result; it cannot be called.

    Annotations are plain types, lists, dictionaries and tuples of them, ``Literal``, ``Optional``, unions and
    ``Annotated``; defaults are literals. Raises ``ValueError`` saying what is missing or cannot be read.
    """
    names = parameters_of(function)
    if not ast.get_docstring(function):
        raise ValueError(f"{function.name!r} has no docstring, which is what a model reads of it")
    if function.decorator_list:
        raise ValueError(f"{function.name!r} has a decorator; a forged tool is the function itself")
    stub = _stub(function, names)
    try:
        return tool(stub, name=function.name, effects=effects, seconds=seconds)
    except (TypeError, ValueError) as problem:
        raise ValueError(str(problem)) from None


def _stub(function: ast.FunctionDef, names: list[str]) -> Callable[..., Any]:
    """Return a function with the same parameters and texts that does nothing."""

    def stub(**arguments: Any) -> Observation:
        return Observation(f"{function.name!r} is described, and there is nothing behind it", "refused")

    arguments = (*function.args.args, *function.args.kwonlyargs)
    defaults = dict(_defaults(function))
    hints: dict[str, Any] = {}
    for argument in arguments:
        if argument.annotation is None:
            raise ValueError(f"parameter {argument.arg!r} of {function.name!r} has no annotation")
        hints[argument.arg] = _kind(argument.annotation, function.name)
    if function.returns is None:
        raise ValueError(f"{function.name!r} does not say what it returns; annotate it")
    hints["return"] = _kind(function.returns, function.name)
    keyword, empty = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.empty
    parameters = [inspect.Parameter(n, keyword, default=defaults.get(n, empty), annotation=hints[n]) for n in names]
    stub.__name__, stub.__doc__, stub.__annotations__ = function.name, ast.get_docstring(function), hints
    stub.__signature__ = inspect.Signature(parameters, return_annotation=hints["return"])  # type: ignore[attr-defined]
    return stub


def _defaults(function: ast.FunctionDef) -> Iterator[tuple[str, Any]]:
    given = function.args
    pairs = [*zip(given.args[len(given.args) - len(given.defaults) :], given.defaults, strict=True)]
    pairs += [(a, d) for a, d in zip(given.kwonlyargs, given.kw_defaults, strict=True) if d is not None]
    for argument, default in pairs:
        try:
            yield argument.arg, ast.literal_eval(default)
        except (ValueError, TypeError, SyntaxError):
            raise ValueError(f"the default of {argument.arg!r} is no literal: {ast.unparse(default)}") from None


def _kind(node: ast.expr, name: str) -> Any:
    """Return the type that an annotation names."""
    if isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, str)):
        return None if node.value is None else _kind(_parsed(node.value, name), name)
    if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("typing", "collections.abc", "t"):
        node = ast.Name(node.attr, ast.Load())
    if isinstance(node, ast.Name) and node.id in _NAMES:
        return _NAMES[node.id]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return typing.Union[_kind(node.left, name), _kind(node.right, name)]  # noqa: UP007 - of values, not of names
    if isinstance(node, ast.Subscript):
        outer = node.value.attr if isinstance(node.value, ast.Attribute) else ast.unparse(node.value)
        parts = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
        if outer == "Literal" and all(isinstance(part, ast.Constant) for part in parts):
            return typing.Literal[tuple(part.value for part in parts if isinstance(part, ast.Constant))]
        if outer == "Annotated" and all(isinstance(part, ast.Constant) for part in parts[1:]):
            notes = [part.value for part in parts[1:] if isinstance(part, ast.Constant)]
            return typing.Annotated[(_kind(parts[0], name), *notes)]
        if outer in _NAMES and outer not in ("Literal", "Annotated"):
            inner = [Ellipsis if _is_dots(part) else _kind(part, name) for part in parts]
            return _NAMES[outer][tuple(inner) if len(inner) > 1 else inner[0]]
    raise ValueError(
        f"{name!r} is annotated with {ast.unparse(node)}; use int, float, str, bool, list, dict, tuple, None, Literal "
        "and unions of these"
    )


def _is_dots(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is Ellipsis


def _parsed(text: str, name: str) -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError:
        raise ValueError(f"{name!r} has an annotation that cannot be read: {text!r}") from None
