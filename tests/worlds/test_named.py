"""Worlds by name: one list, found by walking, the same for training, evaluation and everything else."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from ferrule.core.flows import World
from ferrule.evaluate.suites import suite
from ferrule.worlds import named
from ferrule.worlds.mixed import Mixed
from ferrule.worlds.named import generated, world, world_names, worlds
from ferrule.worlds.suites import suite_names


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with a small gsm8k, named by the environment."""
    (tmp_path / "gsm8k").mkdir()
    rows = [{"question": f"{i} and {i}?", "answer": f"#### {2 * i}"} for i in range(1, 6)]
    for split in ("train", "test"):
        (tmp_path / "gsm8k" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("FERRULE_DATA", str(tmp_path))
    return tmp_path


def test_the_names_are_those_of_the_modules_that_hold_a_world() -> None:
    assert {"apis", "apps", "arithmetic", "facts", "knapsack"} <= set(generated())
    assert world_names() == [*sorted(generated()), *suite_names()]


def test_the_guide_names_every_generated_world() -> None:
    text = (Path(__file__).parents[2] / "docs/guide/worlds.md").read_text(encoding="utf-8")
    missing = [name for name in generated() if f"`{name}`" not in text and f'"{name}"' not in text]
    assert not missing, f"docs/guide/worlds.md says nothing of {missing}"


@pytest.mark.parametrize("name", generated())
def test_a_name_is_the_name_of_its_world(name: str) -> None:
    built = world(name)
    assert isinstance(built, World)
    assert built.name == name
    assert suite(name, count=2)[1] == built.tasks("test", 2)


def test_a_module_with_a_world_is_found_by_being_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "extra"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "mine.py").write_text(
        "from ferrule.worlds.apis import Apis\n\ndef WORLD():\n    return Apis(name='mine')\n"
    )
    import ferrule.worlds

    monkeypatch.setattr(ferrule.worlds, "__path__", [*ferrule.worlds.__path__, str(tmp_path)])
    try:
        named.generated.cache_clear()
        assert world("mine").name == "mine", "modules of sub-packages as well"
    finally:
        monkeypatch.undo()
        named.generated.cache_clear()
        for name in ("ferrule.worlds.extra.mine", "ferrule.worlds.extra"):
            sys.modules.pop(name, None)


def test_data_sets_and_files_are_worlds(data: Path) -> None:
    known = world("gsm8k")
    assert len(known.tasks("train", 5)) == 5
    assert [tool.name for tool in known.start(known.tasks("test", 1)[0]).tools] == ["calculator"]
    path = data / "own.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"{i}?", "answer": str(i)}) + "\n" for i in range(20)))
    assert world(path).name == "own"
    both = worlds(["apis", "gsm8k"])
    assert isinstance(both, Mixed)
    assert both.name == "apis+gsm8k"
    assert worlds(["gsm8k"]).name == "gsm8k"


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="no world and no file 'arithmetics'; did you mean 'arithmetic'"):
        world("arithmetics")
    with pytest.raises(ValueError, match="tools would do nothing"):
        worlds(["apps"], tools=())
    with pytest.raises(ValueError, match="at least one world"):
        worlds([])


def test_a_generated_world_takes_settings_behind_its_name(tmp_path: Path) -> None:
    rows = [{"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[1]], "output": [[2]]}]}]
    for number, row in enumerate(rows):
        (tmp_path / f"{number}.json").write_text(json.dumps(row))
    built: Any = world("facts:top=5,calls=3")
    assert (built.top, built.calls) == (5, 3)
    puzzles: Any = world(f"grids:data={tmp_path}")
    assert puzzles.data == str(tmp_path)
    assert len(puzzles.tasks("train", 1)) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("facts:tops=5", "'tops=5' is no setting of 'facts'; write field=value, did you mean 'top'"),
        ("facts:top=many", "facts:top is 'many'; top is a whole number"),
        ("facts:tools=search", "facts:tools is 'search'; tools is set from Python only"),
        ("fact:top=5", "no world 'fact' to set 'top=5' of; did you mean 'facts'"),
    ],
)
def test_settings_of_a_world_that_cannot_be_are_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        world(text)
