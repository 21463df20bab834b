"""Forged tools as one plain Python file: functions and their tests, which run without Ferrule."""

from __future__ import annotations

import ast
import builtins
import io
import itertools
import tokenize
from collections.abc import Iterator, Sequence

from ferrule.core.records import Effect

__all__ = ["Exported", "as_test", "exported"]

Exported = tuple[str, str, str, Effect]
"""What is exported of a tool: its name, its source, its tests, and its effects."""

_BUILTINS = frozenset(dir(builtins))
_HEAD = '''"""Tools and their tests. Run the file, or pytest on it, to test them; it needs Python and nothing else.

With Ferrule installed the functions are tools as well: ferrule run "..." --tools {path}
"""
'''


def exported(tools: Sequence[Exported], path: str = "tools.py") -> str:
    """Return a Python file of functions and tests; ``path`` is the name it has in its own docstring.

    Sources stand as they were written, imports moved to the top. A helper is renamed where another tool, Python or this
    file has its name for something else. Raises ``ValueError`` without tools, for a tool with the name of a builtin or
    of a test, and where a name cannot be told apart.
    """
    if not tools:
        raise ValueError("there is no tool to export")
    for name, *_ in tools:
        if name in _BUILTINS or name.startswith("test_"):
            raise ValueError(f"a tool called {name!r} cannot be exported: the file needs that name for something else")
    sources = _apart([(name, source, tests) for name, source, tests, _ in tools])
    future, imports, bodies = dict[str, None](), dict[str, None](), []
    for _, source, _ in sources:
        head, body = _split(source)
        for line in head:
            (future if line.startswith("from __future__") else imports)[line] = None
        bodies.append(body)
    tests = [f"{as_test(name, text, source)}\n" for name, source, text in sources]
    used = {bound for _, source, _ in sources for bound, _ in _bound(ast.parse(source))}
    offered = []
    for name, _, _, effects in tools:
        label = f"{name}_tool"
        while label in used:
            label += "_"
        used.add(label)
        offered.append(f"    {label} = _tool({name}, effects={effects!r})")
    parts = [
        _HEAD.format(path=path),
        "\n".join(future),
        "\n".join(sorted(imports)),
        *(f"\n{body}" for body in bodies),
        *(f"\n{text}" for text in tests),
        "\ntry:\n    from ferrule.tools import tool as _tool\nexcept ImportError:\n    pass\nelse:\n"
        + "\n".join(offered),
        _MAIN.strip("\n"),
    ]
    return "\n".join(part for part in parts if part) + "\n"


_MAIN = """

if __name__ == "__main__":
    _tests = [value for name, value in list(globals().items()) if name.startswith("test_")]
    for _test in _tests:
        _test()
    print(f"{len(_tests)} tests passed")
"""


def as_test(name: str, tests: str, source: str = "") -> str:
    """Return tests as one function ``test_NAME`` that carries out what they say, functions in them included.

    A name of ``source`` that the tests bind anew is a parameter of it, with what the source has as its default.
    """
    tree = ast.parse(tests)
    inner = [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test")]
    calls: list[ast.stmt] = [ast.Expr(ast.Call(ast.Name(label, ast.Load()), [], [])) for label in inner]
    shared = {label for node in ast.walk(tree) if isinstance(node, ast.Global) for label in node.names}
    rebound = {label for label, _ in _bound(tree)} & {label for label, _ in _bound(ast.parse(source))}
    given = ", ".join(f"{label}={label}" for label in sorted(rebound - shared))
    made = ast.parse(f"def test_{name}({given}):\n    pass").body[0]
    assert isinstance(made, ast.FunctionDef)
    made.body = [*tree.body, *calls]
    return ast.unparse(ast.fix_missing_locations(made))


def _split(source: str) -> tuple[list[str], str]:
    """Return the imports at the top of a module, a line each, and the text without them and without its docstring."""
    source = source.replace("\r\n", "\n").replace("\r", "\n")
    tree = ast.parse(source)
    if any(one.end_lineno == other.lineno for one, other in itertools.pairwise(tree.body)):
        source = ast.unparse(tree)  # two statements on one line
        tree = ast.parse(source)
    lines = source.split("\n")
    head, dropped = [], set[int]()
    for number, node in enumerate(tree.body):
        documents = number == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node, ast.Import | ast.ImportFrom):
            head.append(ast.unparse(node))
        if documents or isinstance(node, ast.Import | ast.ImportFrom):
            dropped |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    kept = [line for number, line in enumerate(lines, 1) if number not in dropped]
    return head, "\n".join(kept).strip("\n") + "\n"


def _apart(sources: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Rename helpers that two sources have under one name; what stands there word for word the same keeps it."""
    taken: dict[str, str] = {}
    names = (
        {label for name, _, _ in sources for label in (name, f"test_{name}")} | _BUILTINS | {"_test", "_tests", "_tool"}
    )
    result = []
    for name, source, tests in sources:
        for helper, said in _bound(ast.parse(source)):
            if helper == name:
                continue
            if taken.setdefault(helper, said) != said or helper in names:
                fresh = f"_{name}_{helper.lstrip('_')}"
                source, tests = (_rename(text, helper, fresh, name) for text in (source, tests))
        result.append((name, source, tests))
    return result


def _bound(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield the names that the top of a module binds, each with the text that binds it."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, ast.unparse(node)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                module = getattr(node, "module", "")
                yield alias.asname or alias.name.partition(".")[0], f"{module}/{alias.name}/{alias.asname}"
        else:
            for inner in ast.walk(node):
                if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                    yield inner.id, ast.unparse(node)


def _rename(source: str, old: str, new: str, tool: str) -> str:
    """Return a source with a name of its top renamed everywhere; comments and layout are kept where that is safe."""
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    aliases = [node for node in nodes if isinstance(node, ast.alias) and (node.asname or node.name) == old]
    dotted = any(isinstance(node, ast.alias) and node.name.startswith(f"{old}.") and not node.asname for node in nodes)
    if dotted or any(old in _spelled(node) for node in nodes):
        raise ValueError(
            f"{tool!r} and another tool mean different things by {old!r}; export them to files of their own"
        )
    templates = [part for node in nodes if isinstance(node, ast.JoinedStr) for part in ast.walk(node)]
    inside = any(isinstance(part, ast.Name) and part.id == old for part in templates)
    named = any(isinstance(node, ast.keyword) and node.arg == old for node in nodes)
    if aliases or inside or named:
        return ast.unparse(ast.fix_missing_locations(_Renamed(old, new).visit(tree)))
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    lines = source.split("\n")
    for place in range(len(tokens) - 1, -1, -1):
        token = tokens[place]
        if token.type == tokenize.NAME and token.string == old and not (place and tokens[place - 1].string == "."):
            row, column = token.start
            line = lines[row - 1]
            lines[row - 1] = line[:column] + new + line[column + len(old) :]
    return "\n".join(lines)


def _spelled(node: ast.AST) -> list[str]:
    """Return names that a node binds within functions, where renaming could mean another thing."""
    if isinstance(node, ast.arg):
        return [node.arg]
    if isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
        return [node.name or ""]
    return [node.rest or ""] if isinstance(node, ast.MatchMapping) else []


class _Renamed(ast.NodeTransformer):
    """Renames a name wherever it stands for what the top of the module binds."""

    def __init__(self, old: str, new: str) -> None:
        self._old, self._new = old, new

    def _said(self, name: str) -> str:
        return self._new if name == self._old else name

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self._said(node.id)
        return node

    def visit_alias(self, node: ast.alias) -> ast.AST:
        if (node.asname or node.name) == self._old:
            node.asname = self._new
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.name = self._said(node.name)
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.name = self._said(node.name)
        return self.generic_visit(node)

    def visit_Global(self, node: ast.Global) -> ast.AST:
        node.names = [self._said(name) for name in node.names]
        return node
