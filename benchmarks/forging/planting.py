"""Proposals with planted defects: from every function of the bank 4 that are right and 16 that are not."""

from __future__ import annotations

import ast
import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferrule.tools.forge import Proposal
from ferrule.tools.forge_trial import Made

__all__ = ["KINDS", "Planted", "planted"]

KINDS = ("right", "wrong", "slow", "escaping", "flaky", "assertion-free")


@dataclass(frozen=True)
class Planted:
    """A proposal with what is known of it: its kind, what was planted, and calls with right results."""

    kind: str
    what: str
    proposal: Proposal
    examples: tuple[Made, ...]


def planted() -> Iterator[Planted]:
    """Yield all proposals, 20 of every function."""
    bank = tomllib.loads(Path(__file__).with_name("bank.toml").read_text(encoding="utf-8"))
    for number, (name, entry) in enumerate(bank.items()):
        source, tests = entry["source"].strip() + "\n", entry["tests"].strip() + "\n"
        function = _run(source, name)
        examples = tuple(_made(function, json.loads(text)) for text in entry["calls"])

        def made(kind: str, what: str, text: str, checks: str = tests, known: Any = examples) -> Planted:
            return Planted(kind, what, Proposal(text, checks, effects="read", origin=what), known)

        for what, text, checks in _right(source, tests, name):
            yield made("right", what, text, checks)
        for place, (old, new) in enumerate(entry["bugs"]):
            yield made("wrong", f"a change: {old} to {new}", source.replace(old, new))
            if place < 2:
                agreeing = _agreeing(source.replace(old, new), tests, name)
                yield made("wrong", "a change, and tests that agree with it", source.replace(old, new), agreeing)
        for kind, ways, count in (("slow", SLOW, 3), ("escaping", ESCAPING, 3), ("flaky", FLAKY, 3)):
            for k in range(count):
                what, head, line = ways[(number * count + k) % len(ways)]
                yield made(kind, what, _with(source, name, head, line, wrapped=kind == "flaky"))
        for k in range(2):
            what, checks = _EMPTY[(number * 2 + k) % len(_EMPTY)]
            first = ast.unparse(_first_call(tests, name))
            yield made("assertion-free", what, source, checks.replace("CALL", first))


# What a planted line does stands first; then what the module needs at its top, and the line itself.
SLOW = (
    ("never ends", "", "while True:\n    pass"),
    ("computes in vain", "", "sum(value * value for value in range(40_000_000))"),
    ("calls itself too often", "def _deep(n):\n    return n if n < 2 else _deep(n - 1) + _deep(n - 2)\n", "_deep(34)"),
    ("sorts in vain", "", "for _ in range(400):\n    sorted(range(200_000, 0, -1), key=str)"),
    ("never ends, and catches what would stop it", "",
     "while True:\n    try:\n        while True:\n            pass\n    except BaseException:\n        pass"),
)  # fmt: skip
ESCAPING = (
    ("runs a command", "import os\n", "os.system('true')"),
    ("reads a file of the host", "", "open('/etc/hostname').read()"),
    ("reads a file by another class", "import io\n", "io.FileIO('/etc/passwd').read()"),
    ("writes a file", "import io\n", "io.FileIO('left.txt', 'w').close()"),
    ("imports by text", "", "__import__('socket').socket()"),
    ("evaluates a text", "", "eval('1 + 1')"),
    ("walks the classes", "", "().__class__.__base__.__subclasses__()"),
    ("walks the classes by texts", "import operator\n", "operator.attrgetter('__class__.__base__')(())"),
    ("joins forbidden names", "import operator\n",
     "for _kind in operator.methodcaller('_' '_subclasses_' + '_')(object):\n"
     "    if _kind.__name__ == '_wrap_close':\n"
     "        operator.attrgetter('_' + '_init_' + '_._' + '_globals_' + '_')(_kind)['system']('true')"),
    ("goes over the modules of a module", "import json\n", "json.codecs.open('left.txt', 'w')"),
    ("evaluates by an annotation", "import typing\n\n\nclass _Door:\n    way: \"open('/etc/hostname').read()\"\n",
     "typing.get_type_hints(_Door)"),
    ("opens a socket", "import socket\n", "socket.socket()"),
    ("starts a process", "import subprocess\n", "subprocess.run(['true'])"),
    ("loads a library", "import ctypes\n", "ctypes.CDLL(None)"),
    ("starts a thread", "import threading\n", "threading.Thread(target=print).start()"),
    ("ends the process", "", "raise SystemExit(0)"),
    ("changes another module", "import math\n", "setattr(math, 'pi', 3)"),
)  # fmt: skip
FLAKY = (
    ("rolls dice", "import random\n", "random.random() < 0.8"),
    ("rolls dice without a seed", "from random import Random\n", "Random().random() < 0.9"),
    ("rolls dice by another way", "import random as _dice\n", "_dice.choice([True] * 9 + [False])"),
    ("asks the clock", "import time\n", "time.time() % 10 < 9"),
    ("asks the calendar", "from datetime import datetime as _stamp\n", "_stamp.now().microsecond % 10 < 9"),
    ("asks for an address", "", "id(object()) % 32 > 0"),
    ("reads an address", "", "str(object())[-3] in '02468ac'"),
    ("hashes a text", "", "hash('tool') % 7 > 0"),
    ("asks a set for its first", "", "next(iter({'a', 'b', 'c', 'd'})) != 'b'"),
    ("asks a set for its order", "", "list(frozenset({'x', 'yy', 'zzz'}))[0] != 'zzz'"),
    ("counts its calls", "_calls = []\n", "_calls.append(1) or len(_calls) % 7 > 0"),
    ("remembers the last call", "_last = {}\n", "_last.setdefault('n', 0) < 99 and not _last.update(n=_last['n'] + 1)"),
    ("draws a name", "import uuid\n", "uuid.uuid4().int % 9 > 0"),
)
_EMPTY = (
    ("no tests", ""),
    ("calls alone", "CALL\nCALL\nCALL\nCALL\n"),
    ("assertions of constants", "CALL\nassert True\nassert 1 == 1\nassert not False\nassert 'a' != 'b'\n"),
    ("compares with itself", "assert CALL == CALL\nassert CALL == CALL\nassert CALL == CALL\n"),
    ("tests that nobody calls", "def check():\n    assert CALL == 'nothing'\n    assert CALL == 'anything'\nCALL\n"),
    ("swallows its failures",
     "for _ in range(4):\n    try:\n        assert CALL == 'nothing'\n    except AssertionError:\n        pass\n"),
    ("asserts what always holds",
     "assert CALL is None or True\nassert isinstance(CALL, object)\nassert CALL != object()\n"),
    ("asserts behind a return", "def test_it():\n    CALL\n    return\n    assert CALL == 'nothing'\n"),
)  # fmt: skip


def _right(source: str, tests: str, name: str) -> Iterator[tuple[str, str, str]]:
    yield "as it is", source, tests
    yield "by way of a helper", _with(source, name, "", "True", wrapped=True), tests
    yield "with other names", _other_names(source), tests
    body = "".join(f"    {line}\n" for line in tests.splitlines())
    yield "tests in a function", source, f"def test_{name}():\n{body}"


def _with(source: str, name: str, head: str, line: str, *, wrapped: bool) -> str:
    """Put a line at the beginning of a function; ``wrapped`` makes it the condition of a right result."""
    tree = ast.parse(source)
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    said, rest = function.body[0], function.body[1:]
    if wrapped:
        given = [argument.arg for argument in function.args.args]
        helper = ast.parse(f"def _{name}({', '.join(given)}):\n    pass").body[0]
        assert isinstance(helper, ast.FunctionDef)
        helper.body = rest
        call = f"_{name}({', '.join(given)})"
        function.body = [said, *ast.parse(f"result = {call}\nreturn result if {line} else None").body]
        tree.body.insert(tree.body.index(function), helper)
    else:
        function.body = [said, *ast.parse(line).body, *rest]
    return head + "\n\n" + ast.unparse(ast.fix_missing_locations(tree)) + "\n" if head else ast.unparse(tree) + "\n"


class _Renamed(ast.NodeTransformer):
    def __init__(self, names: set[str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(f"the_{node.id}", node.ctx) if node.id in self.names else node


def _other_names(source: str) -> str:
    tree = ast.parse(source)
    inner = [node for outer in tree.body if isinstance(outer, ast.FunctionDef) for node in ast.walk(outer)]
    names = {node.id for node in inner if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    given = {argument.arg for node in inner if isinstance(node, ast.arguments) for argument in node.args}
    return ast.unparse(ast.fix_missing_locations(_Renamed(names - given).visit(tree))) + "\n"


def _agreeing(source: str, tests: str, name: str) -> str:
    """Return tests with the calls of others, and the results that a wrong function gives."""
    function, lines = _run(source, name), []
    for node in ast.parse(tests).body:
        if isinstance(node, ast.Assert) and isinstance(node.test, ast.Compare):
            call = ast.unparse(node.test.left)
            try:
                lines.append(f"assert {call} == {eval(call, {name: function})!r}")
            except Exception as problem:
                kind = type(problem).__name__
                lines.append(f"try:\n    {call}\nexcept {kind}:\n    pass\nelse:\n    assert False")
    return "\n".join(lines) + "\n"


def _first_call(tests: str, name: str) -> ast.Call:
    calls = (node for node in ast.walk(ast.parse(tests)) if isinstance(node, ast.Call))
    return next(node for node in calls if isinstance(node.func, ast.Name) and node.func.id == name)


def _run(source: str, name: str) -> Any:
    """Run a function of the bank, which is our own."""
    space: dict[str, Any] = {}
    exec(source, space)
    return space[name]


def _made(function: Any, arguments: dict[str, Any]) -> Made:
    return Made(arguments, json.loads(json.dumps(function(**arguments))))
