"""What a proposed tool may be made of, read off its source: the first check, in words that its author can act on.

The rules are no isolation. What they overlook is stopped while the proposal runs (``ferrule.tools.forge_inside``), in a
sandbox that has no network and no files of the host.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ferrule.core.records import Effect

__all__ = ["MODULES", "Check", "Finding", "broken", "main_function"]

Check: TypeAlias = Literal[
    "source", "signature", "escape", "effects", "flaky", "slow", "tests", "assertions", "examples", "contract", "critic"
]
"""What a proposal can fail at."""

MODULES = frozenset(
    {
        *("base64", "binascii", "bisect", "calendar", "cmath", "collections", "copy", "csv", "dataclasses"),
        *("datetime", "decimal", "difflib", "enum", "fractions", "functools", "hashlib", "heapq", "html", "io"),
        *("itertools", "json", "math", "numbers", "operator", "random", "re", "statistics", "string", "textwrap"),
        *("types", "typing", "unicodedata", "zlib"),
    }
)
"""Modules of the standard library that a tool may import, with what lies below them (``collections.abc``)."""
_CLOCKS = frozenset({"time", "secrets", "uuid"})
_NOW = frozenset({"now", "today", "utcnow"})
_REACHING = frozenset(
    {
        *("eval", "exec", "compile", "globals", "locals", "vars", "input", "breakpoint", "exit", "quit", "help"),
        *("setattr", "delattr", "memoryview"),
    }
)
_FRAMES = frozenset(
    {
        *("gi_frame", "gi_code", "cr_frame", "cr_code", "ag_frame", "ag_code", "tb_frame", "tb_next", "mro"),
        *("f_back", "f_builtins", "f_code", "f_globals", "f_locals"),
    }
)
_SPOKEN = frozenset({"__init__", "__name__", "__doc__", "__post_init__", "__new__"})
_LONGEST = 20_000


@dataclass(frozen=True)
class Finding:
    """What a check found wrong with a proposal, in words for its author."""

    check: Check
    text: str


def main_function(source: str, name: str = "") -> ast.FunctionDef:
    """Return the function that a proposal is about: ``name``, else the last public one at the top of the module.

    Raises ``ValueError`` for text that is no Python, and where there is no such function.
    """
    if len(source) > _LONGEST:
        raise ValueError(f"the source has {len(source)} characters; the most is {_LONGEST}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError) as problem:
        raise ValueError(f"the source is no valid Python: {problem}") from None
    except (RecursionError, MemoryError):
        raise ValueError("the source is nested too deep") from None
    defined = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    wanted = [node for node in defined if (node.name == name if name else not node.name.startswith("_"))]
    if not wanted:
        raise ValueError(f"the source defines no public function{f' {name!r}' if name else ''} at its top")
    return wanted[-1]


def broken(source: str, effects: Effect = "read", *, script: bool = False) -> Iterator[Finding]:
    """Yield which rules a source breaks; it must be valid Python.

    At the top of the module stand imports of ``MODULES``, functions, classes and assignments, in a ``script`` (tests)
    any statements. Nothing reaches the interpreter that runs it, and nothing asks a clock, chance or the address of an
    object. Files are for tools that write.
    """
    tree = ast.parse(source)
    for statement in () if script else tree.body:
        documented = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
        if not (documented or isinstance(statement, kinds)):
            yield Finding("source", f"line {statement.lineno} stands in no function: {ast.unparse(statement)[:60]}")
    modules = _modules(tree)
    dated = any(_imported(node) == "datetime" for node in ast.walk(tree)) or "datetime" in modules.values()
    documents = {id(text) for text in _docstrings(tree)}
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from _imports(node, line)
        elif isinstance(node, ast.Name):
            yield from _name(node.id, line, effects)
        elif isinstance(node, ast.Attribute):
            yield from _attribute(node, line, modules)
            yield from _clock(node.attr, line, dated)
        elif isinstance(node, ast.Call):
            yield from _call(node, line)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents:
            yield from _text(node.value, line)
            yield from _clock(node.value, line, dated)
        elif isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
            yield Finding("source", f"line {line} is asynchronous; a forged tool is a plain function")


def _modules(tree: ast.Module) -> dict[str, str]:
    """Return the modules that a source imports, by the names that it calls them."""
    held = {}
    for node in ast.walk(tree):
        for alias in node.names if isinstance(node, ast.Import) else ():
            held[alias.asname or alias.name.partition(".")[0]] = (
                alias.name if alias.asname else alias.name.partition(".")[0]
            )
    return held


def _imports(node: ast.Import | ast.ImportFrom, line: int) -> Iterator[Finding]:
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or "."]
    for name in names:
        root = name.partition(".")[0]
        if root in _CLOCKS:
            yield Finding("flaky", f"line {line} imports {name!r}: a tool gives the same result for the same arguments")
        elif root not in MODULES and name != "__future__":
            yield Finding("escape", f"line {line} imports {name!r}; a tool may import {', '.join(sorted(MODULES))}")
    if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in MODULES:
        for alias in node.names:
            if node.module == "random" and alias.name != "Random":
                yield _chance(f"random.{alias.name}", line)
            elif not _offers(str(node.module), alias.name):
                yield Finding(
                    "escape", f"line {line} takes {alias.name!r} from {node.module!r}, which is no part of it"
                )


def _offers(module: str, name: str) -> bool:
    """Say whether a module has a public name that is no module itself."""
    try:
        value = getattr(importlib.import_module(module), name, None)
    except ImportError:
        return False
    return not name.startswith("_") and value is not None and not inspect.ismodule(value) and value is not open


def _name(name: str, line: int, effects: Effect) -> Iterator[Finding]:
    if name in _REACHING or (name.startswith("__") and name not in ("__all__", "__slots__")):
        yield Finding("escape", f"line {line} uses {name!r}, which reaches the interpreter that runs the tool")
    elif name == "open" and effects == "read":
        yield Finding("effects", f"line {line} opens a file, though the effects are declared as 'read'")
    elif name in ("id", "hash"):
        yield Finding("flaky", f"line {line} uses {name!r}, whose result differs from process to process")


def _attribute(node: ast.Attribute, line: int, modules: Mapping[str, str]) -> Iterator[Finding]:
    name = node.attr
    if (name.startswith("__") and name not in _SPOKEN) or name in _FRAMES:
        yield Finding("escape", f"line {line} uses the attribute {name!r}, which reaches the interpreter")
    elif isinstance(node.value, ast.Name) and node.value.id in modules:
        module = modules[node.value.id]
        if module == "random" and name != "Random":
            yield _chance(f"random.{name}", line)
        elif module in MODULES and not _offers(module, name) and not _below(module, name):
            yield Finding("escape", f"line {line} uses {ast.unparse(node)}, which is no public part of {module!r}")


def _clock(name: str, line: int, dated: bool) -> Iterator[Finding]:
    if dated and name in _NOW:
        yield Finding("flaky", f"line {line} asks for the time; take it as a parameter instead")


def _text(text: str, line: int) -> Iterator[Finding]:
    """Names in texts reach as far as names in code, by way of ``operator.attrgetter`` and templates."""
    if "__" in text:
        yield Finding("escape", f"line {line} has a text with two underscores, by which attributes could be reached")


def _imported(node: ast.AST) -> str:
    return str(node.module) if isinstance(node, ast.ImportFrom) else ""


def _docstrings(tree: ast.Module) -> Iterator[ast.Constant]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                yield first.value


def _below(module: str, name: str) -> bool:
    """Say whether a name is a public module below a module, as ``collections.abc``."""
    return (module, name) in {("collections", "abc"), ("html", "parser"), ("html", "entities")}


def _chance(name: str, line: int) -> Finding:
    return Finding("flaky", f"line {line} uses {name}; draw from random.Random(seed), with the seed as a parameter")


def _call(node: ast.Call, line: int) -> Iterator[Finding]:
    called = ast.unparse(node.func)
    if called in ("getattr", "hasattr") and len(node.args) > 1:
        named = node.args[1]
        if not (isinstance(named, ast.Constant) and isinstance(named.value, str) and not named.value.startswith("_")):
            yield Finding("escape", f"line {line} reads an attribute whose name is not written out")
    unseeded = not (node.args or node.keywords) or ast.unparse((node.args or [node])[0]) == "None"
    if called in ("Random", "random.Random") and unseeded:
        yield _chance("Random() without a seed", line)
