"""What comes back beside text: lines, names, files, memory; functions of this side; images of the zygote."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from ferrule.core.records import Artifact
from ferrule.sandbox.interpreter import Interpreter
from ferrule.sandbox.isolate import probe
from ferrule.sandbox.settings import Settings, image

MODES = ["none", *(mode for mode in ("namespaces", "bubblewrap") if probe()[mode].available)]
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)


@pytest.fixture(params=MODES)
def python(request: pytest.FixtureRequest) -> Iterator[Interpreter]:
    with Interpreter(Settings(isolation=request.param, seconds=20)) as interpreter:
        yield interpreter


@pytest.mark.parametrize(
    ("code", "kind", "line"),
    [
        ("x = 1\n\ny = x / 0", "ZeroDivisionError", 3),
        ("def f():\n    raise ValueError('v')\nz = 1\nf()", "ValueError", 2),
        ("x = 1\nif x\n    pass", "SyntaxError", 2),
        ("import json\njson.loads('{')", "JSONDecodeError", 2),
        ("a\n1 / 0", "NameError", 1),
    ],
)
def test_the_line_of_an_error(python: Interpreter, code: str, kind: str, line: int) -> None:
    python.run("unrelated = 1")
    seen = python.run(code)
    assert (seen.data["kind"], seen.data["line"]) == (kind, line)


def test_names(python: Interpreter) -> None:
    assert python.names() == {}
    python.run("x = 3\nname = 'a'\ndef f(): pass\n__hidden = 1")
    assert python.names() == {"x": "int", "name": "str", "f": "function"}
    python.run("del x")
    assert "x" not in python.names()


def test_files_come_along(python: Interpreter) -> None:
    seen = python.run(
        f"open('plot.png', 'wb').write({PNG!r})\nimport os\nos.mkdir('d')\nopen('d/t.txt','w').write('hi')"
    )
    files = {file.name: file for file in seen.artifacts}
    assert files["d/t.txt"] == Artifact("d/t.txt", "text/plain", 2, "data:text/plain;base64,aGk=")
    picture = files["plot.png"].image
    assert picture is not None
    assert base64.b64decode(picture.source.partition(",")[2]) == PNG
    assert files["d/t.txt"].image is None
    assert python.run("1").artifacts == ()
    assert [file.name for file in python.run("open('d/t.txt', 'a').write('!')").artifacts] == ["d/t.txt"]


def test_large_files_are_only_named() -> None:
    with Interpreter(Settings(isolation=MODES[-1], seconds=20, artifact_limit=1000)) as python:
        seen = python.run("open('big', 'wb').write(bytes(5000))\nopen('small', 'wb').write(b'x')")
        assert {(file.name, file.size, bool(file.source)) for file in seen.artifacts} == {
            ("big", 5000, False),
            ("small", 1, True),
        }


def test_memory_is_measured(python: Interpreter) -> None:
    before = python.run("1").peak_mb
    after = python.run("x = bytearray(60 * 2**20)\nfor i in range(0, len(x), 4096): x[i] = 1").peak_mb
    assert 5 < before < 200
    assert after > before + 50


def functions(log: list[Any]) -> dict[str, Any]:
    def add(a: int, b: int = 1) -> int:
        log.append((a, b))
        return a + b

    def fail(kind: str) -> None:
        raise {"ValueError": ValueError, "PermissionError": PermissionError, "Odd": OSError}[kind](f"no {kind}")

    def strange() -> Any:
        return object()

    return {"add": add, "fail": fail, "strange": strange}


@pytest.mark.parametrize("mode", MODES)
def test_functions_of_this_side(mode: str) -> None:
    log: list[Any] = []
    with Interpreter(Settings(isolation=mode, seconds=20), functions=functions(log)) as python:
        assert python.run("x = add(2, b=3)\nx").text == "5"
        assert log == [(2, 3)]
        assert python.run("[add(i) for i in range(3)]").text == "[1, 2, 3]"
        assert python.names() == {"x": "int"}
        python.run("add = None")
        assert python.run("add(1)").text == "2"
        for kind, seen in (
            ("ValueError", "ValueError"),
            ("PermissionError", "PermissionError"),
            ("Odd", "RuntimeError"),
        ):
            caught = f"try: fail({kind!r})\nexcept Exception as e: print(type(e).__name__, e)"
            assert python.run(caught).text == f"{seen} no {kind}\n"
        assert python.run("add(object())").data["kind"] == "TypeError"
        assert python.run("strange()").data["kind"] == "TypeError"
        assert python.run("add()").data["kind"] == "TypeError"
        assert python.run("add(5)").text == "6"


@pytest.mark.parametrize("mode", MODES)
def test_a_fork_may_bind_functions_anew(mode: str) -> None:
    ours: list[Any] = []
    theirs: list[Any] = []
    with Interpreter(Settings(isolation=mode, seconds=20), functions=functions(ours)) as python:
        python.run("x = add(1)")
        twin = python.fork(functions(theirs))
        assert twin.run("add(x, 10)").text == "12"
        # Calls of the past are never made again, whichever way the state was copied.
        assert (ours, theirs) == ([(1, 1)], [(2, 10)])
        with pytest.raises(ValueError, match="keeps the names of its functions: add, fail, strange"):
            python.fork({"other": print})
        twin.close()


@pytest.mark.parametrize("mode", MODES)
def test_a_call_nobody_offered_ends_the_interpreter(mode: str) -> None:
    with Interpreter(Settings(isolation=mode, seconds=20), functions={"add": lambda: 1}) as python:
        seen = python.run("add.__closure__[1].cell_contents.functions\nadd.__closure__[0].cell_contents")
        assert seen.status == "ok"  # it can be looked at: all of this lives inside the wall
        forged = python.run(
            "server = [c.cell_contents for c in add.__closure__ if hasattr(c.cell_contents, 'link')][0]\n"
            "server.link.send({'id': server._run, 'call': 'os.system', 'args': [], 'kwargs': {}})"
        )
        assert "was called, which was not given" in forged.text
        assert python.run("1 + 1").text.endswith("2")


def test_a_function_is_named_as_python_names_things() -> None:
    with pytest.raises(ValueError, match="not a valid Python name"):
        Interpreter(Settings(isolation="none"), functions={"not a name": print})


def test_the_smallest_image_that_has_what_code_names() -> None:
    plain = Settings(isolation="none")
    assert image(plain, "x = 1") == ()
    assert image(plain, "import numpy as np") == ("numpy",)
    assert image(Settings(isolation="none", preload=()), "import numpy") == ()
    assert image(Settings(isolation="none", preload=("json",)), "x = 1") == ("json",)
    assert image(Settings(isolation="none", packages=False), "import numpy") == ()


@pytest.mark.parametrize("mode", MODES)
def test_packages_can_be_used_from_any_image(mode: str) -> None:
    with Interpreter(Settings(isolation=mode, seconds=60)) as python:
        python.run("x = 1")
        assert python.run("import numpy as np\nint(np.arange(4).sum())").text == "6"
    with Interpreter(Settings(isolation=mode, seconds=60)) as python:
        assert python.run("import numpy as np\nint(np.arange(5).sum())").text == "10"
        assert python.names() == {"np": "module"}
