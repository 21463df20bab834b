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
"""Modules of the standard library that a tool may import."""
_BELOW = frozenset({"collections.abc", "html.entities", "html.parser", "json.decoder"})
"""Modules below these that it may import as well."""
_WITHHELD = {
    "calendar": {"setfirstweekday"},
    "csv": {"field_size_limit", "register_dialect", "unregister_dialect"},
    "decimal": {"getcontext", "setcontext", "BasicContext", "DefaultContext", "ExtendedContext"},
    "functools": {"update_wrapper"},
    "io": {"open", "open_code"},
    "string": {"Formatter"},
    "typing": {"ForwardRef", "evaluate_forward_ref", "get_type_hints"},
}
"""What changes settings of the process, opens files, or reaches attributes whose names are not written out."""
_TYPES = frozenset({"MappingProxyType", "NoneType", "SimpleNamespace"})
_WRITTEN_OUT = frozenset({"attrgetter", "getattr", "hasattr", "methodcaller", "wraps"})
_CLOCKS = frozenset({"time", "secrets", "uuid"})
_NOW = frozenset({"now", "today", "utcnow"})
_REACHING = frozenset(
    {
        *("eval", "exec", "compile", "globals", "locals", "vars", "input", "breakpoint", "exit", "quit", "help"),
        *("setattr", "delattr", "memoryview", "SystemExit", "KeyboardInterrupt"),
    }
)
_FRAMES = frozenset(
    {
        *("gi_frame", "gi_code", "cr_frame", "cr_code", "ag_frame", "ag_code", "tb_frame", "tb_next", "mro"),
        *("f_back", "f_builtins", "f_code", "f_globals", "f_locals"),
    }
)
_SPOKEN = frozenset({"__init__", "__name__", "__doc__", "__post_init__", "__new__"})
_UNSPOKEN = frozenset({"__build_class__", "__class__", "__del__", "__dict__", "__getattribute__", "__import__"})
"""Methods and functions of these names would answer in the place of the interpreter."""
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


def broken(source: str, effects: Effect = "read", *, script: bool = False, beside: str = "") -> Iterator[Finding]:
    """Yield which rules a source breaks; it must be valid Python, as must the source ``beside`` which it runs.

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
    modules = {**_modules(ast.parse(beside)), **_modules(tree)}
    yield from _handed_on(tree, modules)
    yield from _not_written_out(tree)
    dated = any(_imported(node) == "datetime" for node in ast.walk(tree)) or "datetime" in modules.values()
    documents = {id(text) for text in _docstrings(tree)}
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        yield from _named(node, line)
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from _imports(node, line, effects)
        elif isinstance(node, ast.Name):
            yield from _name(node.id, line, effects)
        elif isinstance(node, ast.Attribute):
            yield from _attribute(node, line, modules, effects)
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


def _module_of(node: ast.AST, modules: Mapping[str, str]) -> str:
    """Return the module that an expression stands for; empty where it stands for none."""
    if isinstance(node, ast.Name):
        return modules.get(node.id, "")
    if isinstance(node, ast.Attribute):
        inner = f"{_module_of(node.value, modules)}.{node.attr}"
        return inner if inner in _BELOW else ""
    return ""


def _handed_on(tree: ast.Module, modules: Mapping[str, str]) -> Iterator[Finding]:
    """Yield where a module is used by another name, or what was imported is changed."""
    used = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    taken = {alias.asname or alias.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for alias in n.names}
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if _module_of(node, modules) and id(node) not in used:
            yield Finding("escape", f"line {line} hands on the module {ast.unparse(node)!r}; use what it offers")
        if isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            root: ast.AST = node
            while isinstance(root, ast.Attribute | ast.Subscript):
                root = root.value
            if isinstance(root, ast.Name) and (root.id in modules or root.id in taken):
                yield Finding("effects", f"line {line} changes what it imports: {ast.unparse(node)}")


def _not_written_out(tree: ast.Module) -> Iterator[Finding]:
    """Yield where an attribute is read whose name is not written out."""
    plain = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call) and _written_out(node)}
    for node in ast.walk(tree):
        name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
        renamed = isinstance(node, ast.alias) and node.name in _WRITTEN_OUT and node.asname
        if renamed or (name in _WRITTEN_OUT and id(node) not in plain):
            line = getattr(node, "lineno", 0)
            yield Finding("escape", f"line {line} reads an attribute whose name is not written out")


def _written_out(node: ast.Call) -> bool:
    """Say whether a call of ``_WRITTEN_OUT`` names public attributes by texts that stand there."""
    name = ast.unparse(node.func).rpartition(".")[2]
    if name == "wraps":
        return len(node.args) == 1 and not node.keywords and not isinstance(node.args[0], ast.Starred)
    named = node.args[1:2] if name in ("getattr", "hasattr") else node.args if name == "attrgetter" else node.args[:1]
    texts = [one.value for one in named if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    public = not any(part.startswith("_") for text in texts for part in text.split("."))
    return bool(texts) and len(texts) == len(named) and public


def _named(node: ast.AST, line: int) -> Iterator[Finding]:
    """Yield names with two underscores that stand in no expression: of parameters, imports, patterns, functions."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        names = [node.name] if node.name in _UNSPOKEN else []
    elif isinstance(node, ast.MatchClass):
        names = node.kwd_attrs
    elif isinstance(node, ast.Global | ast.Nonlocal):
        names = node.names
    else:
        kinds: tuple[tuple[type[ast.AST], str], ...] = (
            *((ast.arg, "arg"), (ast.keyword, "arg"), (ast.alias, "asname"), (ast.ExceptHandler, "name")),
            *((ast.MatchAs, "name"), (ast.MatchStar, "name"), (ast.MatchMapping, "rest")),
        )
        names = [getattr(node, field) for kind, field in kinds if isinstance(node, kind) and getattr(node, field)]
    for name in names:
        if name.startswith("__") or name in _FRAMES:
            yield Finding("escape", f"line {line} uses the name {name!r}, which reaches the interpreter")


def _imports(node: ast.Import | ast.ImportFrom, line: int, effects: Effect) -> Iterator[Finding]:
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or "."]
    for name in names:
        root = name.partition(".")[0]
        if root in _CLOCKS:
            yield Finding("flaky", f"line {line} imports {name!r}: a tool gives the same result for the same arguments")
        elif name not in MODULES and name not in _BELOW and name != "__future__":
            yield Finding("escape", f"line {line} imports {name!r}; a tool may import {', '.join(sorted(MODULES))}")
    if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in MODULES:
        for alias in node.names:
            if node.module == "random" and alias.name != "Random":
                yield _chance(f"random.{alias.name}", line)
            elif alias.name == "FileIO":
                yield from _name("open", line, effects)
            elif not _offers(str(node.module), alias.name):
                yield Finding("escape", f"line {line} takes {alias.name!r} from {node.module!r}, which no tool may")


def _offers(module: str, name: str) -> bool:
    """Say whether a tool may take a name from a module: it is public, no module itself, and not withheld."""
    if name in _WITHHELD.get(module, ()) or (module == "types" and name not in _TYPES):
        return False
    try:
        value = getattr(importlib.import_module(module), name, None)
    except ImportError:
        return False
    return not name.startswith("_") and value is not None and not inspect.ismodule(value) and value is not open


def _name(name: str, line: int, effects: Effect) -> Iterator[Finding]:
    if name in _REACHING or (name.startswith("__") and name not in ("__all__", "__slots__")):
        yield Finding("escape", f"line {line} uses {name!r}, which reaches the interpreter that runs the tool")
    elif name in ("open", "print") and effects == "read":
        does = "opens a file" if name == "open" else "prints; return what it has to say"
        yield Finding("effects", f"line {line} {does}, though the effects are declared as 'read'")
    elif name in ("id", "hash"):
        yield Finding("flaky", f"line {line} uses {name!r}, whose result differs from process to process")


def _attribute(node: ast.Attribute, line: int, modules: Mapping[str, str], effects: Effect) -> Iterator[Finding]:
    name, module = node.attr, _module_of(node.value, modules)
    if (name.startswith("__") and name not in _SPOKEN) or name in _FRAMES:
        yield Finding("escape", f"line {line} uses the attribute {name!r}, which reaches the interpreter")
    elif module == "random" and name != "Random":
        yield _chance(f"random.{name}", line)
    elif module == "io" and name == "FileIO":
        yield from _name("open", line, effects)
    elif module and not _offers(module, name) and f"{module}.{name}" not in _BELOW:
        yield Finding("escape", f"line {line} uses {ast.unparse(node)}, which no tool may take from {module!r}")


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


def _chance(name: str, line: int) -> Finding:
    return Finding("flaky", f"line {line} uses {name}; draw from random.Random(seed), with the seed as a parameter")


def _call(node: ast.Call, line: int) -> Iterator[Finding]:
    called = ast.unparse(node.func)
    unseeded = not (node.args or node.keywords) or ast.unparse((node.args or [node])[0]) == "None"
    if called in ("Random", "random.Random") and unseeded:
        yield _chance("Random() without a seed", line)
