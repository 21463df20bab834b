"""The import rules of pyproject.toml hold, and they would notice a breach."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

import networkx
import pytest

ROOT = Path(__file__).resolve().parent.parent
RUN = "from importlinter.cli import lint_imports_command as run; run()"


def lint(source: Path) -> subprocess.CompletedProcess[str]:
    """Check the package below ``source`` by the project's own rules."""
    command = [sys.executable, "-c", RUN, "--no-logo", "--no-cache", "--config", str(ROOT / "pyproject.toml")]
    return subprocess.run(command, capture_output=True, text=True, cwd=source, env={"PYTHONPATH": str(source)})


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package's Python files."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "weights"))
    return tmp_path / "src"


def test_imports_flow_one_way(copy: Path) -> None:
    found = lint(copy)
    assert found.returncode == 0, found.stdout


def test_nobody_but_the_command_line_imports_the_command_line() -> None:
    """Scripts, benchmarks, examples and pages take what they need from the folder of its kind."""
    places = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    places += [path for folder in ("scripts", "benchmarks", "examples") for path in (ROOT / folder).rglob("*.py")]
    assert len(places) > 30
    assert [path.name for path in places if "ferrule.cli" in path.read_text(encoding="utf-8")] == []


def modules(source: Path) -> dict[str, Path]:
    """The modules below ``source`` by name."""
    return {
        ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__"): path
        for path in source.rglob("*.py")
    }


def imported(name: str, path: Path, known: Set[str]) -> Iterator[str]:
    """The modules of the package that a module imports, those inside functions and under TYPE_CHECKING included."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in known else base


def circles(source: Path) -> list[list[str]]:
    """Groups of modules that import one another in a circle."""
    paths: Mapping[str, Path] = modules(source)
    graph = networkx.DiGraph()
    for name, path in paths.items():
        graph.add_edges_from((name, other) for other in imported(name, path, paths.keys()) if other != name)
    return [sorted(group) for group in networkx.strongly_connected_components(graph) if len(group) > 1]


def within_one_paper(group: list[str]) -> bool:
    """True for a paper's package and the experiment that stands in it."""
    return len({name.split(".")[2] for name in group if name.startswith("ferrule.papers.")}) == 1 and all(
        name.startswith("ferrule.papers.") for name in group
    )


def test_no_module_imports_itself_around_a_corner(copy: Path) -> None:
    assert [group for group in circles(copy) if not within_one_paper(group)] == []


LATE = (
    "def late():\n    from ferrule.sandbox import interpreter\n",
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ferrule.sandbox.interpreter import Interpreter\n",
    "def late():\n    from . import interpreter\n",
    "def late():\n    from .interpreter import Interpreter\n",
    "def late():\n    import ferrule.sandbox.interpreter\n",
)


@pytest.mark.parametrize("lines", LATE)
def test_a_circle_is_noticed(copy: Path, lines: str) -> None:
    """The interpreter imports ``residency``; importing it there, however late, closes a circle."""
    with (copy / "ferrule/sandbox/residency.py").open("a", encoding="utf-8") as module:
        module.write(f"\n\n{lines}")
    assert ["ferrule.sandbox.interpreter", "ferrule.sandbox.residency"] in circles(copy)


BREACHES = (
    ("core/records.py", "import ferrule.tools.tool", "ferrule.core is not allowed to import ferrule.tools"),
    ("credit/group.py", "import ferrule.policies.local", "ferrule.credit is not allowed to import ferrule.policies"),
    ("train/loop.py", "import ferrule.papers.otc", "ferrule.train is not allowed to import ferrule.papers"),
    ("sandbox/pool.py", "import ferrule.tools.tool", "ferrule.sandbox is not allowed to import ferrule.tools"),
    (
        "papers/retool.py",
        "import ferrule.papers.otc",
        "ferrule.papers.retool is not allowed to import ferrule.papers.otc",
    ),
    (
        "papers/claims/otc.py",
        "import ferrule.papers.claims.aspo",
        "ferrule.papers.claims.otc is not allowed to import ferrule.papers.claims.aspo",
    ),
    ("worlds/apis.py", "import torch", "ferrule.worlds is not allowed to import torch"),
    ("gadgets/__init__.py", "", "gadgets"),  # a folder that no layer names
)


def test_breaches_are_noticed(copy: Path) -> None:
    """Imports inside functions count like all others."""
    for file, line, _ in BREACHES:
        path = copy / "ferrule" / file
        path.parent.mkdir(exist_ok=True)
        with path.open("a", encoding="utf-8") as module:
            module.write(f"\n\ndef breach():\n    {line or 'pass'}\n")
    found = lint(copy)
    assert found.returncode != 0
    said = " ".join(found.stdout.split())
    assert [told for _, _, told in BREACHES if told not in said] == []
    assert "0 kept, 5 broken" in said


def test_every_folder_is_under_the_torch_rule() -> None:
    """A new folder must be put on one of the two sides."""
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (torch,) = [rule for rule in rules if rule["type"] == "forbidden"]
    without = {name.removeprefix("ferrule.") for name in torch["source_modules"]}
    folders = {path.parent.name for path in (ROOT / "src/ferrule").glob("*/__init__.py")}
    assert folders - without == {"policies", "objectives", "train", "speed", "studies", "papers"}
    assert without <= folders
