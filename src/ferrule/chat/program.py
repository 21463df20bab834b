"""Programs that a model writes and plays through itself: their layout as text, and what of them is left undefined.

A record is an instruction with an input, a Python function whose helpers need not exist, a call of it, and the
dictionary that the call returns. Source: "Learning to Reason via Program Generation, Emulation, and Search" (61).
"""

from __future__ import annotations

import ast
import builtins
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ferrule.core.records import Task

__all__ = [
    "CALL", "CODE", "INPUT", "INSTRUCTION", "OUTPUT", "ProgramRecord", "PseudoProgram", "answer_of", "call_of",
    "leaf_stub", "parts_of", "program_prompt", "read_literal", "read_output", "read_program", "read_record",
    "undefined_leaves",
]  # fmt: skip

INSTRUCTION, INPUT, CODE, OUTPUT = "### Instruction", "### Input", "### Code", "### Output"
CALL = ">>>"
_LONGEST, _MOST = 20_000, 20  # characters of an output that are read, and places where a dictionary may begin


@dataclass(frozen=True)
class PseudoProgram:
    """The text of a program, and the name of the function that is called."""

    text: str
    name: str = "solve"


@dataclass(frozen=True)
class ProgramRecord:
    """One record: what is asked, the program, the call and the dictionary it returns, both as Python source."""

    instruction: str
    argument: str
    program: str
    call: str
    output: str

    @property
    def prompt(self) -> str:
        """What the model is shown."""
        return program_prompt(self.instruction, self.argument)

    @property
    def completion(self) -> str:
        """What the model writes, and learns: all from the code on."""
        return f"{CODE}\n{self.program}\n{CALL} {self.call}\n{OUTPUT}\n{self.output}"

    @property
    def problem(self) -> str:
        """Why nothing should be learned from the record: a part is empty; an empty text where all are there."""
        parts = {"instruction": self.instruction, "code": self.program, "call": self.call, "output": self.output}
        return ", ".join(f"no {name}" for name, text in parts.items() if not text.strip())


def program_prompt(instruction: str, argument: str = "") -> str:
    """Return the first half of a record: the instruction and the input, which may be empty."""
    return f"{INSTRUCTION}\n{instruction}\n{INPUT}\n{argument}\n"


def parts_of(task: Task) -> tuple[str, str]:
    """Return the instruction and the input of a task: those of its ``meta``, else its prompt and nothing."""
    if "instruction" in task.meta:
        return str(task.meta["instruction"]), str(task.meta.get("input", ""))
    return task.prompt, ""


def read_record(text: str) -> ProgramRecord:
    """Read a whole record by its markers; parts that are missing are empty (``ProgramRecord.problem``)."""
    heads = (INSTRUCTION, INPUT, CODE, OUTPUT)
    places = [re.search(rf"^{re.escape(head)}[ \t]*$", text, re.MULTILINE) for head in heads]
    parts = []
    for number, place in enumerate(places):
        later = [other.start() for other in places[number + 1 :] if other is not None]
        parts.append(text[place.end() : min(later, default=len(text))].strip("\n") if place is not None else "")
    instruction, argument, code, output = parts
    return ProgramRecord(instruction, argument, read_program(code).text, call_of(code), output.strip())


def read_program(text: str) -> PseudoProgram:
    """Read the program of a reply: what stands before the first line that begins with ``>>>``.

    Without such a line it ends at ``### Output``, and without that with the text. Its name follows the first ``def``;
    ``solve`` without one.
    """
    body = text.partition(f"{CODE}\n")[2] if text.lstrip().startswith(CODE) else text
    call = re.search(rf"^{re.escape(CALL)}", body, re.MULTILINE)
    body = (body[: call.start()] if call else body.partition(OUTPUT)[0]).strip("\n")
    named = re.search(r"^[ \t]*(?:async[ \t]+)?def[ \t]+([^\W\d]\w*)", body, re.MULTILINE)
    return PseudoProgram(body, named[1] if named else "solve")


def call_of(text: str) -> str:
    """Return what the first line that begins with ``>>>`` calls; an empty text without one."""
    line = re.search(rf"^{re.escape(CALL)}[ \t]*(.*)$", text, re.MULTILINE)
    return line[1].strip() if line else ""


def read_output(text: str) -> Mapping[Any, Any] | None:
    """Return the first dictionary after ``### Output`` (in all of the text without it), None where there is none.

    It is read as a literal and never evaluated; whatever follows it is ignored.
    """
    shown = (text.partition(OUTPUT)[2] if OUTPUT in text else text)[:_LONGEST]
    for start in [place for place, letter in enumerate(shown) if letter == "{"][:_MOST]:
        value = read_literal(shown[start : _closing(shown, start)])
        if isinstance(value, dict):
            return value
    return None


def _closing(text: str, start: int) -> int:
    """Return where the brace that opens at ``start`` is closed, quoted text left out; the end where it is not."""
    depth, quote, place = 0, "", start
    while place < len(text):
        letter = text[place]
        if quote:
            place += letter == "\\"
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in "{}":
            depth += 1 if letter == "{" else -1
            if not depth:
                return place + 1
        place += 1
    return len(text)


def answer_of(text: str) -> str | None:
    """Return what the output of a reply gives under ``answer``, as text; None where it cannot be read."""
    output = read_output(text)
    return str(output["answer"]) if output is not None and "answer" in output else None


def read_literal(source: str) -> Any:
    """Return the value of a Python literal, which is never evaluated; None for any other text."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            return ast.literal_eval(source)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None


def _tree(program: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            return ast.parse(program)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as problem:
        raise ValueError(f"the program is no Python: {problem}") from None


def _is_stub(node: ast.AST) -> bool:
    """Tell whether a function has nothing but a docstring, ``...`` or ``pass`` as its body."""
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and all(
        isinstance(line, ast.Pass) or (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
        for line in node.body
    )


def _bound(tree: ast.Module) -> Iterator[str]:
    """Yield every name that a program gives a meaning to, wherever it does."""
    stubs = [node for node in tree.body if _is_stub(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if node not in stubs:
                yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).partition(".")[0]
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name


def undefined_leaves(program: str) -> tuple[str, ...]:
    """Return the leaves of a program, sorted: functions that are called by name and nowhere defined.

    Built-in functions, functions defined anywhere in the program, and names that it binds are no leaves; a function
    of the module with a docstring alone is one. Raises ``ValueError`` for text that is no Python.
    """
    tree = _tree(program)
    known = {*_bound(tree), *dir(builtins)}
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    return tuple(sorted(called - known))


def leaf_stub(program: str, name: str) -> str:
    """Return what a program says of a leaf: the source of its function without a body; empty where it says nothing."""
    for node in _tree(program).body:
        if _is_stub(node) and getattr(node, "name", "") == name:
            return ast.unparse(node)
    return ""
