"""Slow functions as values: their source, how their inputs are drawn, and rewrites; reading them from a file."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ferrule.core.arrays import nearest

__all__ = ["Rewrite", "SlowFunction", "read_functions"]


@dataclass(frozen=True)
class Rewrite:
    """A program that may do the same, faster: its ``family`` of ideas, and how many times as fast it claims to be."""

    family: str
    source: str
    claim: float = 1.0


@dataclass(frozen=True)
class SlowFunction:
    """A function to be made faster.

    ``inputs`` maps classes of inputs to expressions of ``rng`` (a ``random.Random``) and ``math``, each of which gives
    a tuple of arguments; ``edges`` are expressions of single cases. Raises ``ValueError`` for a source without the
    function and for a function without inputs.
    """

    name: str
    source: str
    inputs: Mapping[str, str]
    edges: tuple[str, ...] = ()
    about: str = ""
    rewrites: tuple[Rewrite, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        """Refuse what could not be called."""
        tops = [node.name for node in ast.parse(self.source).body if isinstance(node, ast.FunctionDef)]
        if self.name not in tops:
            raise ValueError(f"the source of {self.name!r} has no such function; it has {', '.join(tops) or 'none'}")
        if not self.inputs:
            raise ValueError(f"{self.name!r} has no inputs; name at least one class and the expression that draws it")
        for place in (*self.inputs.values(), *self.edges):
            try:
                compile(place, "<inputs>", "eval")
            except SyntaxError as problem:
                raise ValueError(f"an input of {self.name!r} is not an expression: {place!r} ({problem.msg})") from None


def read_functions(path: str | Path) -> tuple[SlowFunction, ...]:
    """Return the functions of a Python file, which is read and not run.

    The file has functions, and a dictionary ``INPUTS`` that gives each of those to be made faster the expressions of
    its classes of inputs; ``EDGES`` may give lists of single cases. Imports and functions that ``INPUTS`` does not name
    belong to all of them. Raises ``ValueError`` saying what the file lacks.
    """
    text = Path(path).read_text(encoding="utf-8")
    try:
        body = ast.parse(text).body
    except SyntaxError as problem:
        raise ValueError(f"{path} is not valid Python: {problem}") from None
    inputs, edges = _table(body, "INPUTS", path), _table(body, "EDGES", path)
    defined = {node.name: node for node in body if isinstance(node, ast.FunctionDef)}
    if not inputs:
        raise ValueError(f'{path} has no INPUTS; write INPUTS = {{"NAME": {{"class": "(rng.randrange(9),)"}}}}')
    for name in (*inputs, *edges):
        if name not in defined or name not in inputs:
            raise ValueError(f"{path} gives inputs of {name!r}; {nearest(name, list(defined))}")
    shared = [
        node
        for node in body
        if isinstance(node, ast.Import | ast.ImportFrom)
        or (isinstance(node, ast.FunctionDef) and node.name not in inputs)
    ]
    return tuple(
        SlowFunction(
            name,
            "\n\n".join(ast.get_source_segment(text, node) or "" for node in (*shared, defined[name])) + "\n",
            dict(inputs[name]),
            tuple(edges.get(name, ())),
            (ast.get_docstring(defined[name]) or "").partition("\n")[0],
        )
        for name in inputs
    )


def _table(body: list[ast.stmt], name: str, path: str | Path) -> dict[str, Any]:
    """Return a dictionary that a file assigns to a name; an empty one where it does not."""
    for node in body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            try:
                return dict(ast.literal_eval(node.value))
            except (ValueError, TypeError):
                raise ValueError(f"{path}: {name} must be written out as a dictionary of texts") from None
    return {}
