"""What a rewritten program may be made of: the contract of a drop-in replacement, read off its text.

A program that keeps the rules has no state from call to call, does not reach what runs it, and changes no clock: what
is measured of it is its own doing. They are no isolation; programs run in the sandbox all the same.
"""

from __future__ import annotations

import ast
import builtins
import copy
import importlib
import inspect
import warnings
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator, Mapping, Set

__all__ = ["broken"]

_FORBIDDEN_NODES = (
    ast.Global, ast.ClassDef, ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith, ast.MatchClass,
)  # fmt: skip
_COMPUTING = (
    "abs", "all", "any", "ascii", "bin", "bool", "bytearray", "bytes", "callable", "chr", "complex", "dict",
    "divmod", "enumerate", "filter", "float", "format", "frozenset", "hash", "hex", "int", "isinstance",
    "issubclass", "iter", "len", "list", "map", "max", "min", "next", "oct", "ord", "pow", "range", "repr",
    "reversed", "round", "set", "slice", "sorted", "str", "sum", "tuple", "zip",
)  # fmt: skip
_BUILTINS = {*_COMPUTING} | {
    name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, Exception)
}
_TYPES = (
    *(list, tuple, dict, set, frozenset, str, bytes, bytearray, int, float, complex, slice, range),
    *(deque, Counter, defaultdict, OrderedDict),
)
# Templates of ``format`` reach attributes that no rule reads: frames, and through them who calls.
_METHODS = {name for kind in _TYPES for name in dir(kind) if not name.startswith("_")} - {"format", "format_map"}
_MODULES = frozenset({"math", "itertools", "bisect", "heapq", "collections"})
_LONGEST = 20_000


def _imported(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        yield node.module or "."


def broken(source: str, original: str, name: str) -> str:
    """Return which rule a program breaks, empty where it keeps them all.

    A program is imports that the ``original`` has as well, and functions, one of them ``name`` with the parameters of
    the original. It uses builtins that compute, methods of built-in types, and functions of the modules it imports;
    nothing of it outlives a call.
    """
    if len(source) > _LONGEST:
        return f"it has {len(source)} characters; the most is {_LONGEST}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return next(_problems(ast.parse(source), ast.parse(original), name), "")
    except (SyntaxError, ValueError) as problem:
        return f"it is not valid Python: {problem}"
    except (RecursionError, MemoryError):
        return "it is nested too deep"


def _problems(tree: ast.Module, original: ast.Module, name: str) -> Iterator[str]:
    given, wanted = _defined(tree, name), _defined(original, name)
    if given is None or wanted is None:
        yield f"it has no function {name!r} at its top"
        return
    if _parameters(given) != _parameters(wanted):
        yield f"the parameters of {name!r} are not those of the original: ({ast.unparse(wanted.args)})"
    yield from _top(tree, frozenset(module for node in original.body for module in _imported(node)) & _MODULES)
    yield from _inner(tree)


def _parameters(function: ast.FunctionDef) -> str:
    """Return the parameters of a function as text, without annotations."""
    bare = copy.deepcopy(function.args)
    for node in ast.walk(bare):
        if isinstance(node, ast.arg):
            node.annotation = None
    return ast.dump(bare)


def _defined(tree: ast.Module, name: str) -> ast.FunctionDef | None:
    return next((node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name), None)


def _top(tree: ast.Module, allowed: Set[str]) -> Iterator[str]:
    """Yield what is wrong with the statements of a program that stand in no function."""
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    yield from (f"it defines {name!r} twice" for name in set(names) if names.count(name) > 1)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            defaults = [*node.args.defaults, *(d for d in node.args.kw_defaults if d is not None)]
            if not all(_constant(default) for default in defaults):
                yield f"a default of {node.name!r} would outlive a call; only constants may"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (f"it imports {name!r}, which the original does not" for name in set(_imported(node)) - allowed)
            if isinstance(node, ast.ImportFrom):
                yield from _taken(node, allowed)
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            yield f"line {node.lineno} stands in no function: {ast.unparse(node)[:60]}"


def _constant(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) or (isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant))


def _taken(node: ast.ImportFrom, allowed: Set[str]) -> Iterator[str]:
    """Yield what is wrong with the names that are imported from a module."""
    for alias in node.names:
        if node.module in allowed and not _offers(str(node.module), alias.name):
            yield f"it imports {alias.name!r} from {node.module!r}, which has no such function"


def _offers(module: str, name: str) -> bool:
    """Say whether a module has a public name that is no module itself."""
    value = getattr(importlib.import_module(module), name, None)
    return not name.startswith("_") and value is not None and not inspect.ismodule(value)


def _inner(tree: ast.Module) -> Iterator[str]:
    """Yield what is wrong anywhere in a program."""
    imports = [alias for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    modules = {alias.asname or alias.name: alias.name for alias in imports}
    bound = _bound(tree)
    yield from (f"it gives the name of the module {name!r} to something else" for name in bound & set(modules))
    known = bound | set(modules) | _BUILTINS
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, _FORBIDDEN_NODES):
            yield f"line {line} has what programs may not have: {type(node).__name__}"
        elif isinstance(node, ast.Import | ast.ImportFrom) and node not in tree.body:
            yield f"line {line} imports inside a function"
        elif isinstance(node, ast.FunctionDef) and node.decorator_list:
            yield f"line {line} has a decorator"
        elif isinstance(node, ast.Name) and (node.id.startswith("__") or node.id not in known):
            yield f"line {line} uses {node.id!r}, which is no builtin that programs may use and not defined"
        elif isinstance(node, ast.Attribute):
            yield from _attribute(node, modules)


def _attribute(node: ast.Attribute, modules: Mapping[str, str]) -> Iterator[str]:
    if not isinstance(node.ctx, ast.Load):
        yield f"line {node.lineno} sets the attribute {node.attr!r}"
    elif isinstance(node.value, ast.Name) and node.value.id in modules:
        if not _offers(modules[node.value.id], node.attr):
            yield f"line {node.lineno} uses {ast.unparse(node)}, which there is not"
    elif node.attr not in _METHODS:
        yield f"line {node.lineno} uses the attribute {node.attr!r}, which programs may not use"


def _bound(tree: ast.Module) -> set[str]:
    """Return the names that a program binds anywhere: parameters, variables, functions, names taken from modules."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            names.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            names.add(node.rest)
    return names
