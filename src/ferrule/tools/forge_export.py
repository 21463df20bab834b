"""Forged tools as one plain Python file: functions and their tests, which run without Ferrule."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator, Sequence

from ferrule.core.records import Effect

__all__ = ["Exported", "as_test", "exported"]

Exported = tuple[str, str, str, Effect]
"""What is exported of a tool: its name, its source, its tests, and its effects."""

_HEAD = '''"""Tools and their tests. Run the file, or pytest on it, to test them; it needs Python and nothing else.

With Ferrule installed the functions are tools as well: ferrule run "..." --tools {path}
"""
'''


def exported(tools: Sequence[Exported], path: str = "tools.py") -> str:
    """Return a Python file of functions and tests; ``path`` is the name it has in its own docstring.

    Sources stand as they were written, imports moved to the top. A helper whose name another tool has for something
    else is renamed. Raises ``ValueError`` without tools, and where a name cannot be told apart.
    """
    if not tools:
        raise ValueError("there is no tool to export")
    sources = _apart([(name, source, tests) for name, source, tests, _ in tools])
    future, imports, bodies = dict[str, None](), dict[str, None](), []
    for _, source, _ in sources:
        head, body = _split(source)
        for line in head:
            (future if line.startswith("from __future__") else imports)[line] = None
        bodies.append(body)
    tests = [f"{as_test(name, text)}\n" for name, _, text in sources]
    offered = [f"    {name}_tool = _tool({name}, effects={effects!r})" for name, _, _, effects in tools]
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


def as_test(name: str, tests: str) -> str:
    """Return tests as one function ``test_NAME`` that carries out what they say, functions in them included."""
    tree = ast.parse(tests)
    inner = [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test")]
    calls: list[ast.stmt] = [ast.Expr(ast.Call(ast.Name(label, ast.Load()), [], [])) for label in inner]
    made = ast.parse(f"def test_{name}():\n    pass").body[0]
    assert isinstance(made, ast.FunctionDef)
    made.body = [*tree.body, *calls]
    return ast.unparse(ast.fix_missing_locations(made))


def _split(source: str) -> tuple[list[str], str]:
    """Return the imports at the top of a module, a line each, and the text without them and without its docstring."""
    tree = ast.parse(source)
    lines = source.splitlines()
    head, dropped = [], set[int]()
    for number, node in enumerate(tree.body):
        documents = number == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node, ast.Import | ast.ImportFrom):
            head.append(ast.unparse(node))
        if documents or isinstance(node, ast.Import | ast.ImportFrom):
            dropped |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    kept = [line.rstrip() for number, line in enumerate(lines, 1) if number not in dropped]
    return head, "\n".join(kept).strip("\n") + "\n"


def _apart(sources: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Rename helpers that two sources have under one name; what stands there word for word the same keeps it."""
    taken: dict[str, str] = {}
    names = {name for name, _, _ in sources}
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
    """Return a source with a name of its top renamed everywhere, comments and layout kept."""
    tree = ast.parse(source)
    imported = any(isinstance(n, ast.Import | ast.ImportFrom) and any(a.name == old or a.asname == old for a in n.names)
                   for n in tree.body)  # fmt: skip
    hidden = any(isinstance(node, ast.arg) and node.arg == old for node in ast.walk(tree))
    hidden = hidden or any(isinstance(node, ast.keyword) and node.arg == old for node in ast.walk(tree))
    if imported or hidden:
        raise ValueError(
            f"{tool!r} and another tool mean different things by {old!r}; export them to files of their own"
        )
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    lines = source.splitlines(keepends=True)
    for place in range(len(tokens) - 1, -1, -1):
        token = tokens[place]
        if token.type == tokenize.NAME and token.string == old and not (place and tokens[place - 1].string == "."):
            row, column = token.start
            line = lines[row - 1]
            lines[row - 1] = line[:column] + new + line[column + len(old) :]
    return "".join(lines)
