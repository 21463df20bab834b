"""The small language in which contracts are written: conditions over facts, arguments and results.

A condition is a Python expression of these forms; anything else is refused when it is read.

    exists(f), exists("f")        f is there and not null (0 and "" exist)
    f != None, f == None          the same as exists(f) and not exists(f)
    type(f) == integer            f exists and is a string, integer, float, boolean, list, dict or declared domain type
    has_field("id")               the result is an object with this key (its value may be null)
    a < b, a == b, a in b, ...    comparison of paths, literals, len(path) and sums, differences and products of numbers
    not x, x and y, x or y        logic

Paths start with the name of a fact, or with ``result``, ``args``, ``old`` or ``new`` (the would-be state), and go on as
``.key`` or ``[0]``. A condition that reads something absent, or compares what cannot be compared, does not hold, even
below ``not``.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ferrule.core import expression
from ferrule.core.arrays import nearest
from ferrule.core.expression import Evaluation, Grammar
from ferrule.tools.contracts_types import TYPES, fits, walk

__all__ = ["RESERVED", "Condition", "Scope", "read", "read_leniently"]

Scope: TypeAlias = Mapping[str, Any]
Failure: TypeAlias = Literal["missing_field", "wrong_type", "postcondition_failed"]

_ROOTS = ("result", "args", "old", "new")
_CONSTANTS = {"true": True, "false": False, "null": None}
RESERVED = (*_ROOTS, *_CONSTANTS)
"""Names that mean something else than a fact; such a fact is written ``exists("old")``."""
_FORMS = 'exists(f), has_field("k"), type(f) == T, f != None, comparisons, not, and, or'
Test: TypeAlias = Callable[[Scope], Any]


class _Undefined(Exception):
    """The condition reads something that is not there or compares what cannot be compared."""


class _Unreadable(ValueError):
    """Why a text is not a condition."""


@dataclass(frozen=True)
class Condition:
    """One condition: its text, its test, how a failure is called, and whether it looks at values or at shape alone.

    ``roots`` names what it reads: ``result``, ``args``, ``old``, ``new`` and ``""`` for facts.
    """

    text: str
    test: Test = field(repr=False, compare=False)
    failure: Failure = "postcondition_failed"
    semantic: bool = False
    roots: frozenset[str] = frozenset()

    def holds(self, scope: Scope) -> bool:
        """Evaluate in a scope with the keys ``facts``, ``result``, ``args``, ``old``, ``new`` and ``domains``.

        A condition that would take more than its budget (``ferrule.core.expression``) does not hold.
        """
        try:
            return bool(self.test(scope))
        except (_Undefined, OverflowError):
            return False


def read(text: str, domains: tuple[str, ...] = ()) -> Condition:
    """Read one condition; ``domains`` names the declared types. Raises ``ValueError`` for anything unknown."""
    checker = _Checker(domains)
    try:
        tree = expression.read(text, _GRAMMAR)
        checker.condition(tree)
    except SyntaxError:
        raise _refused(text, "it is not an expression") from None
    except ValueError as why:
        raise _refused(text, str(why)) from None
    kinds = set(checker.failures)
    return Condition(
        text,
        lambda scope: expression.evaluate(tree, _GRAMMAR, scope),
        checker.failures[0] if len(kinds) == 1 else "postcondition_failed",
        checker.semantic,
        frozenset(checker.roots),
    )


def _refused(text: str, why: str) -> ValueError:
    return ValueError(f"condition {text!r} cannot be read: {why}; known forms: {_FORMS}")


def read_leniently(text: str, *, of_result: bool = False) -> Condition:
    """Read one condition the way the published code does: unknown conditions hold, and types are not checked.

    Preconditions know ``exists(f)``, ``type(f) == T`` (``f`` is there, null or not) and texts with ``!=`` and ``None``
    (what stands before ``!=`` exists); conditions ``of_result`` know ``has_field("k")``. Each takes the forms of the
    other as unknown. Names are taken as they stand, spaces within them included; a result that is no object has no
    field.
    """
    plain = text.strip()
    if of_result:
        key = _inside(plain, "has_field(")
        if key is None:
            return Condition(text, lambda scope: True)
        return Condition(
            text, lambda scope: isinstance(scope["result"], Mapping) and key in scope["result"], "missing_field"
        )
    name, (left, *right) = _inside(plain, "exists("), plain.split("==")
    present = _inside(left.strip(), "type(") if len(right) == 1 else None
    if name is None and present is not None:
        return Condition(text, lambda scope: present in scope["facts"], "missing_field")
    if name is None and "!=" in plain and "None" in plain:
        name = plain.partition("!=")[0].strip()
    if name is None:
        return Condition(text, lambda scope: True)
    return Condition(text, lambda scope: scope["facts"].get(name) is not None, "missing_field")


def _inside(text: str, opening: str) -> str | None:
    """The name between ``opening`` and the last bracket, without quotes around it; None for any other text."""
    if not (text.startswith(opening) and text.endswith(")")):
        return None
    name = text[len(opening) : -1].strip()
    return name[1:-1] if len(name) > 1 and name[0] == name[-1] and name[0] in "\"'" else name


# ------------------------------------------------------------------------------------------------------------- reading


class _Checker:
    """Goes through one text's syntax tree: what it reads, how it fails, and whether every part is known."""

    def __init__(self, domains: tuple[str, ...]) -> None:
        self.domains = domains
        self.roots: set[str] = set()
        self.semantic = False
        self.failures: list[Failure] = []

    def condition(self, node: ast.expr) -> None:
        """Check what must be true or false."""
        if isinstance(node, ast.BoolOp):
            for part in node.values:
                self.condition(part)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            self.condition(node.operand)
        elif isinstance(node, ast.Compare):
            self._comparison(node)
        elif isinstance(node, ast.Call):
            self._predicate(node)
        else:
            raise _Unreadable(f"{ast.unparse(node)!r} is not a condition")

    def _predicate(self, node: ast.Call) -> None:
        name = _called(node)
        if name not in ("exists", "has_field") or len(node.args) != 1 or node.keywords:
            raise _Unreadable(f"{name}(...) with {len(node.args)} argument(s) is not one of exists(f), has_field(k)")
        self.failures.append("missing_field")
        if name == "has_field":
            _key(node)
            self.roots.add("result")
        else:
            self._path(node.args[0])

    def _path(self, node: ast.expr) -> None:
        root, _ = _path(node)
        self.roots.add("" if root == "facts" else root)

    def _comparison(self, node: ast.Compare) -> None:
        if _is_typed(node):
            return self._typed(node)
        if _is_null(node):
            self.failures.append("missing_field")
            return self._path(node.left)
        self.semantic = True
        self.failures.append("postcondition_failed")
        for operand in (node.left, *node.comparators):
            self._operand(operand)
        if any(type(op) not in _COMPARISONS for op in node.ops):
            raise _Unreadable("identity compares with None alone")

    def _typed(self, node: ast.Compare) -> None:
        assert isinstance(node.left, ast.Call)
        if len(node.left.args) != 1 or len(node.ops) != 1 or not isinstance(node.ops[0], ast.Eq):
            raise _Unreadable("types are compared as type(f) == T")
        kind = _kind(node)
        if kind not in TYPES and kind not in self.domains:
            known = sorted({*TYPES.values(), *self.domains})
            named = ast.unparse(node.comparators[0])
            raise _Unreadable(f"unknown type {named!r}, {nearest(str(kind), known)}")
        self.failures.append("wrong_type")
        self._path(node.left.args[0])

    def _operand(self, node: ast.expr) -> None:
        if isinstance(node, ast.Name) and node.id in _CONSTANTS:
            return
        if isinstance(node, ast.Call) and _called(node) == "len" and len(node.args) == 1:
            self._path(node.args[0])
        elif isinstance(node, ast.BinOp) and type(node.op) in _GRAMMAR.operators:
            self._operand(node.left)
            self._operand(node.right)
        elif isinstance(node, ast.Name | ast.Attribute | ast.Subscript):
            self._path(node)
        else:
            _literal(node)


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)


def _is_typed(node: ast.Compare) -> bool:
    return isinstance(node.left, ast.Call) and _called(node.left) == "type"


def _kind(node: ast.Compare) -> Any:
    """The type that ``type(f) == T`` names."""
    named = node.comparators[0]
    return named.value if isinstance(named, ast.Constant) else getattr(named, "id", "")


def _is_null(node: ast.Compare) -> bool:
    """True for ``f != None`` and ``f == None``, which ask whether something exists."""
    right = node.comparators[0]
    null = (isinstance(right, ast.Constant) and right.value is None) or getattr(right, "id", "") == "null"
    return null and len(node.ops) == 1 and isinstance(node.ops[0], ast.Eq | ast.NotEq | ast.Is | ast.IsNot)


def _key(node: ast.Call) -> str:
    argument = node.args[0]
    key = argument.value if isinstance(argument, ast.Constant) else getattr(argument, "id", None)
    if not isinstance(key, str):
        raise _Unreadable("has_field takes one key of the result")
    return key


def _path(node: ast.expr) -> tuple[str, tuple[str | int, ...]]:
    """Return where a path starts (``facts`` or one of the roots), and its steps from there."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return "facts", (node.value,)
    steps: list[str | int] = []
    at = node
    while not isinstance(at, ast.Name):
        if isinstance(at, ast.Attribute):
            steps.append(at.attr)
            at = at.value
        elif isinstance(at, ast.Subscript) and isinstance(at.slice, ast.Constant):
            key = at.slice.value
            if isinstance(key, bool) or not isinstance(key, str | int):
                raise _Unreadable(f"{key!r} is neither a key nor an index")
            steps.append(key)
            at = at.value
        else:
            raise _Unreadable(f"{ast.unparse(node)!r} is not a path")
    rest = tuple(reversed(steps))
    return (at.id, rest) if at.id in _ROOTS else ("facts", (at.id, *rest))


def _literal(node: ast.expr) -> Any:
    try:
        literal = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        raise _Unreadable(f"{ast.unparse(node)!r} is neither a path nor a literal") from None
    if not isinstance(literal, str | int | float | list | tuple | dict | None):
        raise _Unreadable(f"{ast.unparse(node)!r} is not a JSON value")
    return literal


# ---------------------------------------------------------------------------------------------------------- evaluating


def _find(node: ast.expr, scope: Scope) -> Any:
    """Follow a path; raises ``_Undefined`` where it leads nowhere."""
    root, rest = _path(node)
    if scope.get(root) is None and root != "result":
        raise _Undefined(root)
    try:
        return walk(scope[root], rest)
    except LookupError:
        raise _Undefined(root) from None


def _exists(node: ast.expr, scope: Scope) -> bool:
    """Tell whether a path leads somewhere and not to null."""
    try:
        return _find(node, scope) is not None
    except _Undefined:
        return False


def _call(evaluation: Evaluation, node: ast.Call, scope: Scope) -> Any:
    name = _called(node)
    if name == "len":
        return _length(_find(node.args[0], scope))
    if name == "exists":
        return _exists(node.args[0], scope)
    return isinstance(scope["result"], Mapping) and _key(node) in scope["result"]


def _compare(evaluation: Evaluation, node: ast.Compare, scope: Scope) -> bool:
    if _is_typed(node):
        assert isinstance(node.left, ast.Call)
        return fits(_find(node.left.args[0], scope), str(_kind(node)), scope.get("domains"))
    if _is_null(node):
        return _exists(node.left, scope) is isinstance(node.ops[0], ast.NotEq | ast.IsNot)
    values = [evaluation.value(operand, scope) for operand in (node.left, *node.comparators)]
    return all(_COMPARISONS[type(op)](*values[i : i + 2]) for i, op in enumerate(node.ops))


def _path_value(evaluation: Evaluation, node: ast.expr, scope: Scope) -> Any:
    if isinstance(node, ast.Name) and node.id in _CONSTANTS:
        return _CONSTANTS[node.id]
    return _find(node, scope)


def _unary(evaluation: Evaluation, node: ast.UnaryOp, scope: Scope) -> Any:
    return not evaluation.value(node.operand, scope) if isinstance(node.op, ast.Not) else _literal(node)


def _constant(evaluation: Evaluation, node: ast.expr, scope: Scope) -> Any:
    return _literal(node)


def _numbers(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda a, b: function(_number(a), _number(b))


def _ordered(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], bool]:
    return lambda a, b: bool(function(*_alike(a, b)))


def _equal(a: Any, b: Any) -> bool:
    """Equality of JSON values: true is not 1."""
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)


def _contains(item: Any, box: Any) -> bool:
    if isinstance(box, str) and isinstance(item, str):
        return item in box
    if isinstance(box, list | tuple | Mapping):
        return any(_equal(item, entry) for entry in box)
    raise _Undefined("in")


def _alike(a: Any, b: Any) -> tuple[Any, Any]:
    if isinstance(a, str) and isinstance(b, str):
        return a, b
    return _number(a), _number(b)


def _number(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise _Undefined("number")


def _length(value: Any) -> int:
    if isinstance(value, str | list | tuple | Mapping):
        return len(value)
    raise _Undefined("len")


_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: _equal,
    ast.NotEq: lambda a, b: not _equal(a, b),
    ast.In: _contains,
    ast.NotIn: lambda a, b: not _contains(a, b),
    ast.Lt: _ordered(operator.lt),
    ast.LtE: _ordered(operator.le),
    ast.Gt: _ordered(operator.gt),
    ast.GtE: _ordered(operator.ge),
}
_GRAMMAR = Grammar(
    kind="condition",
    allowed=_FORMS,
    operators={ast.Add: _numbers(operator.add), ast.Sub: _numbers(operator.sub), ast.Mult: _numbers(operator.mul)},
    forms={
        ast.Call: _call,
        ast.Compare: _compare,
        **dict.fromkeys((ast.Name, ast.Attribute, ast.Subscript), _path_value),
        ast.UnaryOp: _unary,
        **dict.fromkeys((ast.Constant, ast.List, ast.Tuple, ast.Dict), _constant),
    },
)
