"""A subset of Python for code as actions, evaluated node by node in this process.

Programs of the subset mean what they mean in Python. There are no attributes but a few methods, no classes, no
comprehensions and no imports but ``json``; steps, sizes and output are bounded, so any text is safe to run.
"""

from __future__ import annotations

import ast
import copy
import json
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ferrule.core.records import Observation

__all__ = ["Restricted"]

STEPS, SIZE, OUTPUT = 20_000, 10_000, 4_000
"""Bounds of one block: nodes evaluated, members of a container or characters of a text, characters printed."""

_BINARY: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Div: operator.truediv, ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod, ast.Mult: operator.mul,
}  # fmt: skip
_COMPARE: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b,
    ast.Is: operator.is_, ast.IsNot: operator.is_not,
}  # fmt: skip
_METHODS: Mapping[type, tuple[str, ...]] = {
    dict: ("get", "items", "keys", "values", "pop"),
    list: ("append", "index", "remove", "pop"),
}
_ERRORS = (Exception, ValueError, RuntimeError, PermissionError, KeyError, NameError, TypeError, IndexError)
_PLAIN: Mapping[str, Any] = {
    **{f.__name__: f for f in (len, sorted, sum, min, max, int, float, str, round, abs, list, dict)},
    **{error.__name__: error for error in _ERRORS},
}


class _Return(Exception):
    """Carries the value of a ``return`` out of a function body."""


class _Loads:
    """The module ``json`` of the language: it has ``loads`` only."""

    def __repr__(self) -> str:
        return "<module 'json'>"


class Restricted:
    """An interpreter of the language whose globals live from block to block when ``persistent``.

    The names of ``functions`` and of the built-ins are looked up before all globals, so nothing can hide them.
    """

    def __init__(self, functions: Mapping[str, Callable[..., Any]], persistent: bool = True) -> None:
        """Start without globals."""
        self.persistent = persistent
        self._functions = dict(functions)
        self._globals: dict[str, Any] = {}

    def run(self, code: str, seconds: float | None = None) -> Observation:
        """Run one block; never raises. ``seconds`` is not needed: steps are bounded."""
        block = _Block(self._functions, self._globals)
        value, kind, problem = None, None, None
        try:
            result = block.body(ast.parse(code).body)
            value = None if result is None else repr(result)[:OUTPUT]
        except Exception as error:
            kind = type(error).__name__
            problem = f"{kind}: {str(error)[:300]}" if str(error) else kind
        if not self.persistent:
            self._globals = {}
        data = {"stdout": block.printed, "value": value, "exception": problem, "kind": kind}
        text = "".join(part for part in (block.printed, value or "", problem or ""))
        return Observation(text, "error" if problem else "ok", data=data)

    def names(self) -> Sequence[str]:
        """Return the names of the globals."""
        return tuple(self._globals)

    def fork(self, functions: Mapping[str, Callable[..., Any]] | None = None) -> Restricted:
        """Return an independent interpreter in the same state, with functions of the same names when given."""
        twin = Restricted(self._functions if functions is None else functions, self.persistent)
        twin._globals = copy.deepcopy(self._globals)
        return twin

    def close(self) -> None:
        """Do nothing: there is nothing to free."""


class _Function:
    """A function that a block defined; its body runs in whichever block calls it."""

    def __init__(self, node: ast.FunctionDef) -> None:
        spec = node.args
        if spec.vararg or spec.kwarg or spec.kwonlyargs or spec.defaults or spec.posonlyargs or node.decorator_list:
            raise SyntaxError("functions take plain parameters only")
        self.name, self.node, self.parameters = node.name, node, [a.arg for a in spec.args]

    def __deepcopy__(self, memo: Any) -> _Function:
        return self


class _Block:
    """The evaluation of one block."""

    def __init__(self, functions: Mapping[str, Callable[..., Any]], names: dict[str, Any]) -> None:
        self.globals, self.printed = names, ""
        self._fixed: dict[str, Any] = {
            **_PLAIN, "range": self._range, "print": self._print, "sorted": self._sorted, **functions,
        }  # fmt: skip
        self._scopes: list[dict[str, Any]] = [names]
        self._steps = 0

    def body(self, statements: Sequence[ast.stmt]) -> Any:
        """Run statements and return the value of the last when it is an expression."""
        value = None
        for statement in statements:
            self._step()
            value = self._statement(statement)
        return value

    def _step(self) -> None:
        self._steps += 1
        if self._steps > STEPS:
            raise RuntimeError(f"the block was stopped after {STEPS} steps")

    def _statement(self, node: ast.stmt) -> Any:
        handler = getattr(self, f"_do_{type(node).__name__.lower()}", None)
        if handler is None:
            raise SyntaxError(f"{type(node).__name__} is not part of the language")
        return handler(node)

    def _do_expr(self, node: ast.Expr) -> Any:
        return self._value(node.value)

    def _do_pass(self, node: ast.Pass) -> None:
        return None

    def _do_import(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.name != "json" or alias.asname:
                raise ImportError(f"No module named {alias.name!r}")
            self._scopes[-1]["json"] = _Loads()

    def _do_assign(self, node: ast.Assign) -> None:
        value = self._value(node.value)
        for target in node.targets:
            self._bind(target, value)

    def _do_augassign(self, node: ast.AugAssign) -> None:
        there = ast.copy_location(ast.BinOp(_loaded(node.target), node.op, node.value), node)
        self._bind(node.target, self._value(there))

    def _do_functiondef(self, node: ast.FunctionDef) -> None:
        self._set(node.name, _Function(node))

    def _do_return(self, node: ast.Return) -> None:
        raise _Return(None if node.value is None else self._value(node.value))

    def _do_if(self, node: ast.If) -> None:
        self.body(node.body if self._value(node.test) else node.orelse)

    def _do_for(self, node: ast.For) -> None:
        if node.orelse:
            raise SyntaxError("for ... else is not part of the language")
        for value in list(self._value(node.iter)):
            self._bind(node.target, value)
            self.body(node.body)

    def _do_try(self, node: ast.Try) -> None:
        if node.orelse or node.finalbody:
            raise SyntaxError("try has except clauses only")
        try:
            self.body(node.body)
        except _Return:
            raise
        except Exception as error:
            if self._steps > STEPS:
                raise
            for handler in node.handlers:
                kind = self._value(handler.type) if handler.type is not None else Exception
                if isinstance(error, kind):
                    self.body(handler.body)
                    return
            raise

    def _bind(self, target: ast.expr, value: Any) -> None:
        if isinstance(target, ast.Name):
            self._set(target.id, value)
        elif isinstance(target, ast.Subscript) and not isinstance(target.slice, ast.Slice):
            self._value(target.value)[self._value(target.slice)] = value
        elif isinstance(target, (ast.Tuple, ast.List)):
            values = list(value)
            if len(values) != len(target.elts):
                raise ValueError(f"{len(values)} values for {len(target.elts)} targets")
            for part, item in zip(target.elts, values, strict=True):
                self._bind(part, item)
        else:
            raise SyntaxError(f"a value cannot be bound to {type(target).__name__}")

    def _set(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise SyntaxError(f"{name!r}: names begin with a letter")
        self._scopes[-1][name] = value

    def _value(self, node: ast.expr) -> Any:
        self._step()
        handler = getattr(self, f"_of_{type(node).__name__.lower()}", None)
        if handler is None:
            raise SyntaxError(f"{type(node).__name__} is not part of the language")
        value = handler(node)
        if isinstance(value, (str, list, tuple, dict)) and len(value) > SIZE:
            raise MemoryError(f"a value has more than {SIZE} members")
        if isinstance(value, int) and abs(value) > 10**30:
            raise OverflowError("a number is too large")
        return value

    def _of_constant(self, node: ast.Constant) -> Any:
        return node.value

    def _of_name(self, node: ast.Name) -> Any:
        for scope in (self._fixed, self._scopes[-1], self.globals):
            if node.id in scope:
                return scope[node.id]
        raise NameError(f"name {node.id!r} is not defined")

    def _of_list(self, node: ast.List) -> list[Any]:
        return [self._value(part) for part in node.elts]

    def _of_tuple(self, node: ast.Tuple) -> tuple[Any, ...]:
        return tuple(self._value(part) for part in node.elts)

    def _of_dict(self, node: ast.Dict) -> dict[Any, Any]:
        if None in node.keys:
            raise SyntaxError("** is not part of the language")
        return {self._value(key): self._value(value) for key, value in zip(node.keys, node.values, strict=True) if key}

    def _of_subscript(self, node: ast.Subscript) -> Any:
        return self._value(node.value)[self._value(node.slice)]

    def _of_slice(self, node: ast.Slice) -> slice:
        low, high, step = (None if p is None else self._value(p) for p in (node.lower, node.upper, node.step))
        return slice(low, high, step)

    def _of_binop(self, node: ast.BinOp) -> Any:
        left, right = self._value(node.left), self._value(node.right)
        if type(node.op) not in _BINARY:
            raise SyntaxError(f"{type(node.op).__name__} is not part of the language")
        if isinstance(node.op, (ast.Mult, ast.Mod)) and not all(isinstance(x, (int, float)) for x in (left, right)):
            raise TypeError("* and % take numbers")
        return _BINARY[type(node.op)](left, right)

    def _of_unaryop(self, node: ast.UnaryOp) -> Any:
        value = self._value(node.operand)
        if isinstance(node.op, ast.Not):
            return not value
        if isinstance(node.op, ast.USub):
            return -value
        raise SyntaxError(f"{type(node.op).__name__} is not part of the language")

    def _of_boolop(self, node: ast.BoolOp) -> Any:
        stop = isinstance(node.op, ast.Or)
        value = None
        for part in node.values:
            value = self._value(part)
            if bool(value) is stop:
                break
        return value

    def _of_compare(self, node: ast.Compare) -> bool:
        left = self._value(node.left)
        for op, part in zip(node.ops, node.comparators, strict=True):
            right = self._value(part)
            if not _COMPARE[type(op)](left, right):
                return False
            left = right
        return True

    def _of_call(self, node: ast.Call) -> Any:
        function = self._method(node.func) if isinstance(node.func, ast.Attribute) else self._value(node.func)
        given = [self._value(part) for part in node.args]
        named = {part.arg: self._value(part.value) for part in node.keywords if part.arg is not None}
        if len(named) < len(node.keywords):
            raise SyntaxError("** is not part of the language")
        if isinstance(function, _Function):
            return self._apply(function, given, named)
        if not callable(function):
            raise TypeError(f"{type(function).__name__!r} object is not callable")
        return function(*given, **named)

    def _method(self, node: ast.Attribute) -> Callable[..., Any]:
        owner = self._value(node.value)
        if isinstance(owner, _Loads) and node.attr == "loads":
            return json.loads
        if node.attr not in _METHODS.get(type(owner), ()):
            raise AttributeError(f"{type(owner).__name__!r} object has no attribute {node.attr!r}")
        method: Callable[..., Any] = getattr(owner, node.attr)
        return method

    def _of_attribute(self, node: ast.Attribute) -> Callable[..., Any]:
        return self._method(node)

    def _apply(self, function: _Function, given: Sequence[Any], named: Mapping[str, Any]) -> Any:
        if named or len(given) != len(function.parameters):
            raise TypeError(f"{function.name}() takes {len(function.parameters)} positional arguments")
        if len(self._scopes) > 20:
            raise RecursionError("calls are nested too deeply")
        self._scopes.append(dict(zip(function.parameters, given, strict=True)))
        try:
            self.body(function.node.body)
        except _Return as result:
            return result.args[0]
        finally:
            self._scopes.pop()
        return None

    def _sorted(self, values: Any, key: Any = None, reverse: bool = False) -> list[Any]:
        by = (lambda entry: self._apply(key, [entry], {})) if isinstance(key, _Function) else key
        return sorted(values, key=by, reverse=reverse)

    def _range(self, *given: Any) -> range:
        numbers = range(*given)
        if len(numbers) > SIZE:
            raise MemoryError(f"a range has more than {SIZE} members")
        return numbers

    def _print(self, *values: Any) -> None:
        self.printed = (self.printed + " ".join(str(value) for value in values) + "\n")[:OUTPUT]


def _loaded(target: ast.expr) -> ast.expr:
    read = copy.deepcopy(target)
    read.ctx = ast.Load()  # type: ignore[attr-defined]
    return read
