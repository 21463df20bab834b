"""The import rules of pyproject.toml hold, and they would notice a breach."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

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


BREACHES = (
    ("core/records.py", "import ferrule.tools.tool", "ferrule.core is not allowed to import ferrule.tools"),
    ("credit/group.py", "import ferrule.policies.local", "ferrule.credit is not allowed to import ferrule.policies"),
    ("train/loop.py", "import ferrule.papers.otc", "ferrule.train is not allowed to import ferrule.papers"),
    ("sandbox/pool.py", "import ferrule.tools.tool", "ferrule.sandbox is not allowed to import ferrule.tools"),
    (
        "papers/retool/__init__.py",
        "import ferrule.papers.otc",
        "ferrule.papers.retool is not allowed to import ferrule.papers.otc",
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
    assert "0 kept, 4 broken" in said


def test_every_folder_is_under_the_torch_rule() -> None:
    """A new folder must be put on one of the two sides."""
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (torch,) = [rule for rule in rules if rule["type"] == "forbidden"]
    without = {name.removeprefix("ferrule.") for name in torch["source_modules"]}
    folders = {path.parent.name for path in (ROOT / "src/ferrule").glob("*/__init__.py")}
    assert folders - without == {"policies", "objectives", "train", "speed", "studies", "papers"}
    assert without <= folders
