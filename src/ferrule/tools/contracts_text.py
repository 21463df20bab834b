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
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ferrule.core.arrays import nearest

__all__ = ["RESERVED", "TYPES", "Condition", "Domains", "Scope", "fits", "read", "read_leniently", "type_of", "walk"]

Domains: TypeAlias = Mapping[str, Callable[[Any], bool]]
Scope: TypeAlias = Mapping[str, Any]
Failure: TypeAlias = Literal["missing_field", "wrong_type", "postcondition_failed"]

TYPES = {
    "string": "string",
    "str": "string",
    "integer": "integer",
    "int": "integer",
    "float": "float",
    "number": "float",
    "boolean": "boolean",
    "bool": "boolean",
    "list": "list",
    "array": "list",
    "dict": "dict",
    "object": "dict",
}
"""Spellings of the plain types."""

_ROOTS = ("result", "args", "old", "new")
_CONSTANTS = {"true": True, "false": False, "null": None}
RESERVED = (*_ROOTS, *_CONSTANTS)
"""Names that mean something else than a fact; such a fact is written ``exists("old")``."""
_ORDER: dict[type, Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ARITHMETIC: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
}
_FORMS = 'exists(f), has_field("k"), type(f) == T, f != None, comparisons, not, and, or'
Test: TypeAlias = Callable[[Scope], Any]


class _Undefined(Exception):
    """The condition reads something that is not there or compares what cannot be compared."""


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
        """Evaluate in a scope with the keys ``facts``, ``result``, ``args``, ``old``, ``new`` and ``domains``."""
        try:
            return bool(self.test(scope))
        except _Undefined:
            return False


def type_of(value: Any) -> str:
    """Return the plain type of a JSON value; null counts as a string, which says nothing."""
    for name in ("boolean", "integer", "float", "list", "dict"):
        if fits(value, name):
            return name
    return "string"


def fits(value: Any, kind: str, domains: Domains | None = None) -> bool:
    """Return whether a value that is not null is of a type; a domain check that fails or raises says no."""
    kind = TYPES.get(kind, kind)
    if kind == "boolean":
        return isinstance(value, bool)
    if kind in ("integer", "float"):
        return isinstance(value, int if kind == "integer" else int | float) and not isinstance(value, bool)
    if kind == "string":
        return isinstance(value, str)
    if kind == "list":
        return isinstance(value, list | tuple)
    if kind == "dict":
        return isinstance(value, Mapping)
    try:
        return value is not None and domains is not None and kind in domains and bool(domains[kind](value))
    except Exception:
        return False


def walk(value: Any, steps: tuple[str | int, ...]) -> Any:
    """Follow dict keys and list indices; raises ``LookupError`` where there is nothing."""
    for step in steps:
        if isinstance(value, Mapping):
            value = value[step] if step in value else value[str(step)]
        elif isinstance(value, list | tuple) and str(step).isdecimal():
            value = value[int(step)]
        else:
            raise LookupError(step)
    return value


def read(text: str, domains: tuple[str, ...] = ()) -> Condition:
    """Read one condition; ``domains`` names the declared types. Raises ``ValueError`` for anything unknown."""
    return _Reader(text, domains).condition()


def read_leniently(text: str) -> Condition:
    """Read one condition the way the published code does: what it does not know holds, and types are not checked."""
    words = text.replace(" ", "")
    if words.startswith("has_field(") and words.endswith(")"):
        key = words[10:-1].strip("\"'")
        return Condition(
            text, lambda scope: isinstance(scope["result"], Mapping) and key in scope["result"], "missing_field"
        )
    if words.startswith("exists(") and words.endswith(")"):
        name = words[7:-1]
    elif words.endswith("!=None"):
        name = words[:-6]
    elif words.startswith("type(") and ")==" in words:
        present = words[5 : words.index(")==")]
        return Condition(text, lambda scope: present in scope["facts"], "missing_field")
    else:
        return Condition(text, lambda scope: True)
    return Condition(text, lambda scope: scope["facts"].get(name) is not None, "missing_field")


class _Reader:
    """Turns one text into nested functions of a scope."""

    def __init__(self, text: str, domains: tuple[str, ...]) -> None:
        self.text, self.domains = text, domains
        self.roots: set[str] = set()
        self.semantic = False
        self.failures: list[Failure] = []

    def condition(self) -> Condition:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of odd escapes in strings, say
                tree = ast.parse(self.text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise self._refuse("it is not an expression") from None
        test = self._logic(tree)
        kinds = set(self.failures)
        failure: Failure = self.failures[0] if len(kinds) == 1 else "postcondition_failed"
        return Condition(self.text, test, failure, self.semantic, frozenset(self.roots))

    def _refuse(self, why: str) -> ValueError:
        return ValueError(f"condition {self.text!r} cannot be read: {why}; known forms: {_FORMS}")

    def _logic(self, node: ast.expr) -> Test:
        if isinstance(node, ast.BoolOp):
            parts = [self._logic(value) for value in node.values]
            join = all if isinstance(node.op, ast.And) else any
            return lambda scope: join(part(scope) for part in parts)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            inner = self._logic(node.operand)
            return lambda scope: not inner(scope)
        if isinstance(node, ast.Compare):
            return self._comparison(node)
        if isinstance(node, ast.Call):
            return self._predicate(node)
        raise self._refuse(f"{ast.unparse(node)!r} is no condition")

    def _predicate(self, node: ast.Call) -> Test:
        name = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
        if name not in ("exists", "has_field") or len(node.args) != 1 or node.keywords:
            raise self._refuse(f"{name}(...) with {len(node.args)} argument(s) is not one of exists(f), has_field(k)")
        self.failures.append("missing_field")
        argument = node.args[0]
        if name == "has_field":
            key = argument.value if isinstance(argument, ast.Constant) else getattr(argument, "id", None)
            if not isinstance(key, str):
                raise self._refuse("has_field takes one key of the result")
            self.roots.add("result")
            return lambda scope: isinstance(scope["result"], Mapping) and key in scope["result"]
        return self._exists(argument)

    def _exists(self, node: ast.expr) -> Test:
        """Return the test that a path leads somewhere and not to null."""
        find = self._path(node)

        def exists(scope: Scope) -> bool:
            try:
                return find(scope) is not None
            except _Undefined:
                return False

        return exists

    def _path(self, node: ast.expr) -> Test:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return self._find("facts", (node.value,))
        steps: list[str | int] = []
        at = node
        while not isinstance(at, ast.Name):
            if isinstance(at, ast.Attribute):
                steps.append(at.attr)
                at = at.value
            elif isinstance(at, ast.Subscript) and isinstance(at.slice, ast.Constant):
                key = at.slice.value
                if isinstance(key, bool) or not isinstance(key, str | int):
                    raise self._refuse(f"{key!r} is neither a key nor an index")
                steps.append(key)
                at = at.value
            else:
                raise self._refuse(f"{ast.unparse(node)!r} is no path")
        rest = tuple(reversed(steps))
        return self._find(at.id, rest) if at.id in _ROOTS else self._find("facts", (at.id, *rest))

    def _find(self, root: str, rest: tuple[str | int, ...]) -> Test:
        self.roots.add("" if root == "facts" else root)

        def find(scope: Scope) -> Any:
            if scope.get(root) is None and root != "result":
                raise _Undefined(root)
            try:
                return walk(scope[root], rest)
            except LookupError:
                raise _Undefined(self.text) from None

        return find

    def _comparison(self, node: ast.Compare) -> Test:
        left, operands = node.left, list(zip(node.ops, node.comparators, strict=True))
        if isinstance(left, ast.Call) and getattr(left.func, "id", "") == "type":
            return self._typed(left, operands)
        if len(operands) == 1 and self._is_null(operands[0][1]):
            self.failures.append("missing_field")
            exists = self._exists(left)
            if isinstance(operands[0][0], ast.NotEq | ast.IsNot):
                return exists
            if isinstance(operands[0][0], ast.Eq | ast.Is):
                return lambda scope: not exists(scope)
        self.semantic = True
        self.failures.append("postcondition_failed")
        values = [self._operand(left), *(self._operand(right) for _, right in operands)]
        tests = [self._compare(op) for op, _ in operands]

        def holds(scope: Scope) -> bool:
            seen = [value(scope) for value in values]
            return all(test(seen[i], seen[i + 1]) for i, test in enumerate(tests))

        return holds

    def _is_null(self, node: ast.expr) -> bool:
        return (isinstance(node, ast.Constant) and node.value is None) or (
            isinstance(node, ast.Name) and node.id == "null"
        )

    def _typed(self, left: ast.Call, operands: list[tuple[ast.cmpop, ast.expr]]) -> Test:
        if len(left.args) != 1 or len(operands) != 1 or not isinstance(operands[0][0], ast.Eq):
            raise self._refuse("types are compared as type(f) == T")
        named = operands[0][1]
        kind = named.value if isinstance(named, ast.Constant) else getattr(named, "id", "")
        if kind not in TYPES and kind not in self.domains:
            known = sorted({*TYPES.values(), *self.domains})
            raise self._refuse(f"there is no type {ast.unparse(named)!r}, {nearest(str(kind), known)}")
        self.failures.append("wrong_type")
        find = self._path(left.args[0])
        return lambda scope: fits(find(scope), str(kind), scope.get("domains"))

    def _operand(self, node: ast.expr) -> Test:
        if isinstance(node, ast.Name) and node.id in _CONSTANTS:
            constant = _CONSTANTS[node.id]
            return lambda scope: constant
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "len" and len(node.args) == 1:
            find = self._path(node.args[0])
            return lambda scope: _length(find(scope))
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            join, a, b = _ARITHMETIC[type(node.op)], self._operand(node.left), self._operand(node.right)
            return lambda scope: join(_number(a(scope)), _number(b(scope)))
        if isinstance(node, ast.Name | ast.Attribute | ast.Subscript):
            return self._path(node)
        try:
            literal = ast.literal_eval(node)
        except (ValueError, TypeError, SyntaxError):
            raise self._refuse(f"{ast.unparse(node)!r} is neither a path nor a literal") from None
        if not isinstance(literal, str | int | float | list | tuple | dict | None):
            raise self._refuse(f"{ast.unparse(node)!r} is no JSON value")
        return lambda scope: literal

    def _compare(self, op: ast.cmpop) -> Callable[[Any, Any], bool]:
        if isinstance(op, ast.Eq):
            return _equal
        if isinstance(op, ast.NotEq):
            return lambda a, b: not _equal(a, b)
        if isinstance(op, ast.In):
            return _contains
        if isinstance(op, ast.NotIn):
            return lambda a, b: not _contains(a, b)
        if type(op) in _ORDER:
            order = _ORDER[type(op)]
            return lambda a, b: bool(order(*_alike(a, b)))
        raise self._refuse("identity compares with None alone")


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
