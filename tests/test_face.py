"""``import ferrule`` offers one flat face: lazy, typed, and the same to programs, editors and type checkers."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.test_blocks import ROOT, blocks

import ferrule as fe

STUB = Path(fe.__file__).with_suffix(".pyi")
HEAVY = (
    "torch",
    "transformers",
    "numpy",
    "scipy",
    "pydantic",
    "click",
    "httpx",
    "rich",
    "typing",
    "inspect",
    "dataclasses",
)


def stub() -> tuple[dict[str, tuple[str, str]], list[str]]:
    """Return where the stub takes each name from, and its ``__all__``."""
    names: dict[str, tuple[str, str]] = {}
    listed: list[str] = []
    for node in ast.parse(STUB.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: (node.module or "", alias.name) for alias in node.names}
        if isinstance(node, ast.Assign):
            listed = ast.literal_eval(node.value)
    return names, listed


def test_stub_table_and_all_name_the_same() -> None:
    names, listed = stub()
    assert listed == fe.__all__ == sorted(fe.__all__)
    assert {*names, "__version__"} == set(listed)
    assert {*fe._FACE, *fe._PACKAGES, "__version__"} == set(listed)
    assert not set(fe._FACE) & set(fe._PACKAGES)


@pytest.mark.parametrize("name", [name for name in fe.__all__ if name != "__version__"])
def test_a_name_is_what_the_stub_says(name: str) -> None:
    module, attribute = stub()[0][name]
    if name == "papers":
        assert fe.papers is importlib.import_module("ferrule.papers")
        return
    piece = getattr(importlib.import_module(module), attribute)
    if name in fe._PACKAGES:
        assert getattr(fe, name) is sys.modules[f"ferrule.{name}"]
        assert inspect.signature(getattr(fe, name)) == inspect.signature(piece)
    else:
        assert getattr(fe, name) is piece
    assert name in dir(fe)


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_import_loads_nothing_else() -> None:
    bare = f"import importlib, sys; before = set(sys.modules); import ferrule; heavy = {HEAVY}; "
    assert python(bare + "print([m for m in heavy if m in set(sys.modules) - before])") == "[]"
    assert python(bare + "print(sorted(set(sys.modules) - before))") == "['__future__', 'ferrule']"
    assert (
        python("import sys, ferrule as fe; fe.Task; print('torch' in sys.modules, 'httpx' in sys.modules)")
        == "False False"
    )


@pytest.mark.parametrize(
    "first", ["", "import ferrule.train.loop, ferrule.evaluate.run, ferrule.rollout.drive", "fe.train"]
)
def test_verbs_can_be_called_whatever_was_imported_before(first: str) -> None:
    """Importing a module of a package sets the package as an attribute: it must be what is called all the same."""
    code = f"import ferrule as fe\n{first}\nprint([callable(v) for v in (fe.train, fe.evaluate, fe.rollout)])\n"
    code += "from ferrule.train import settings\nfrom ferrule import train\nprint(train.settings is settings)"
    assert python(code) == "[True, True, True]\nTrue"


def test_verbs_do_what_their_functions_do() -> None:
    from ferrule.policies.scripted import Scripted

    world = fe.world("arithmetic")
    tasks = world.tasks("test", 2)
    right = {task.prompt: str(task.answer) for task in tasks}
    policy = Scripted(lambda ask, sample: right[ask.messages[-1].content])
    assert fe.evaluate(fe.ToolLoop(), policy, world, tasks).success == 1.0
    assert [e.trajectories[0].answer for e in fe.rollout(fe.ToolLoop(), tasks, world, policy)] == list(right.values())
    with pytest.raises(TypeError, match="missing"):
        fe.train()


def test_one_prompt_is_answered_with_tools() -> None:
    from ferrule.policies.scripted import Scripted

    @fe.tool
    def double(x: int) -> int:
        """Twice x."""
        return 2 * x

    def script(ask: object, sample: int) -> str | fe.Message:
        last = ask.messages[-1]  # type: ignore[attr-defined]
        return (
            f"It is {last.content}."
            if last.role == "tool"
            else fe.Message("assistant", "", (fe.Call("double", {"x": 21}, id="c"),))
        )

    path = fe.run("Double 21.", Scripted(script), tools=[double]).trajectories[0]
    assert path.answer == "It is 42."
    assert [observation.text for _, observation in path.calls] == ["42"]
    assert fe.run("Double 21.", Scripted(script), tools=()).trajectories[0].calls[0][1].status == "unknown_tool"
    assert (
        fe.run("Double 21.", Scripted(script), tools=[double], max_tool_calling_iterations=1).trajectories[0].answer
        is None
    )


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'trane'"):
        fe.trane  # noqa: B018


def test_the_example_of_the_readme_is_short_and_has_one_import() -> None:
    """``tests/docs/test_blocks.py`` runs it."""
    _, code = blocks(ROOT / "README.md", "python")[0]
    assert len(code.strip().splitlines()) <= 10
    assert [line for line in code.splitlines() if "import" in line] == ["import ferrule as fe"]


def test_waiting_threads_leave_the_cores_to_others_unless_the_user_says_otherwise() -> None:
    told = [sys.executable, "-c", "import os, ferrule; print(os.environ['GOMP_SPINCOUNT'])"]
    for given, wanted in (({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7")):
        environment = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"} | given
        done = subprocess.run(told, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == wanted
