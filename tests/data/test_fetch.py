"""Data of benchmarks: what is listed, what a wheel and the hub bring, and what is said where nothing comes."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ferrule.cli import main
from ferrule.data import fetch as module
from ferrule.data.fetch import fetch, listing
from ferrule.worlds.named import world, world_names


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FERRULE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("FERRULE_DATA", raising=False)
    return tmp_path


def ran(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["data", *arguments])


def test_every_world_by_name_is_listed_once() -> None:
    rows = listing()
    names = [name for row in rows for name in row["worlds"]]
    assert sorted(names) == sorted(world_names())
    assert all(row["from"] and row["size"] for row in rows)
    assert all(row["licence"] and row["get"] for row in rows if row["from"] != "made by Ferrule")
    assert json.loads(ran("--json").output) == rows
    told = ran().output
    assert "gsm8k: 7473 for training, 1319 for tests; https://github.com/openai/grade-school-math (MIT)" in told
    assert "get: ferrule data gsm8k" in told
    assert "get: git clone https://github.com/sierra-research/tau-bench" in told


def wheel(path: Path, **files: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", "/"), text)
    return path


def test_a_wheel_brings_its_data_and_no_code(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"id": "s_0", "question": [[{"role": "user", "content": "Add."}]], "function": [
        {"name": "add", "description": "", "parameters": {"type": "dict", "properties": {"x": {"type": "integer"}},
                                                          "required": ["x"]}}]}  # fmt: skip
    files = {
        "bfcl_eval__data__BFCL_v4_simple_python.json": json.dumps(row),
        "bfcl_eval__data__possible_answer__BFCL_v4_simple_python.json": json.dumps(
            {"id": "s_0", "ground_truth": [{"add": {"x": [1]}}]}
        ),
        "bfcl_eval__data__make.py": "raise SystemExit",
        "bfcl_eval__data_of_others.json": "{}",
    }

    @contextmanager
    def given(wanted: str, scratch: Path) -> Iterator[Path]:
        assert wanted == "bfcl-eval"
        yield wheel(scratch / "bfcl.whl", **files)

    monkeypatch.setattr(module, "downloaded", given)
    place = fetch("bfcl", home / "out")
    assert sorted(str(file.relative_to(place)) for file in place.rglob("*.*")) == [
        "BFCL_v4_simple_python.json",
        "possible_answer/BFCL_v4_simple_python.json",
    ]
    (task,) = world("bfcl:simple_python", data=home / "out").tasks("test", 9)
    assert task.meta["wanted"] == [{"add": {"x": [1]}}]
    assert [row["here"] for row in listing() if row["name"] == "bfcl"] == [""]
    fetch("bfcl")
    assert [row["here"] for row in listing() if row["name"] == "bfcl"] == [str(home / "home" / "data" / "bfcl")]
    assert len(world("bfcl:simple_python").tasks("test", 9)) == 1, "found without any setting"


def test_the_hub_brings_a_file_per_split(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    rows = [{"question": "What is 1 + 1?", "answer": "#### 2"}]
    asked: list[Any] = []

    def loaded(*arguments: Any) -> Any:
        asked.append(arguments)
        table = datasets.Dataset.from_list(rows)
        return datasets.DatasetDict({"train": table, "test": table})

    monkeypatch.setattr(datasets, "load_dataset", loaded)
    result = ran("gsm8k", "--output", str(home / "out"))
    assert result.output.strip().splitlines()[-1] == str(home / "out" / "gsm8k")
    assert asked == [("openai/gsm8k", "main")]
    assert sorted(file.name for file in (home / "out" / "gsm8k").iterdir()) == ["test.jsonl", "train.jsonl"]
    (task,) = world("gsm8k", data=home / "out").tasks("train", 9)
    assert (task.prompt, task.answer) == ("What is 1 + 1?", "2")
    ran("gsm8k", "--output", str(home / "out"))
    assert len(asked) == 1, "what is there is not fetched again"


@pytest.mark.parametrize(("name", "where"), [("gsm8k", "the hub"), ("bfcl", "PyPI")])
def test_without_a_network_it_says_what_failed_and_what_to_do(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str, where: str
) -> None:
    import datasets

    def unreachable(*arguments: Any) -> Any:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    result = ran(name, "--output", str(home / "out"))
    assert result.exit_code == 2
    said = " ".join(result.output.split())
    assert f"the data of {name!r} could not be fetched from {where}" in said
    assert "no route to host" in said or "pip could not download bfcl-eval" in said
    assert f"run 'ferrule data {name} --output DIR' and copy the folder here, or give rows that you have" in said
    assert list((home / "out").iterdir()) == [], "a broken attempt leaves nothing"


def test_what_nothing_offers_says_where_it_is() -> None:
    assert "git clone https://github.com/sierra-research/tau-bench, then name the folder" in ran("tau_bench").output
    assert "'tau_bench' is offered neither by a package nor by the hub" in ran("tau:retail").output
    assert "'facts' is made by Ferrule: there is nothing to fetch" in ran("facts").output
    assert "did you mean 'gsm8k'" in ran("gsm8").output
    assert "--output would do nothing" in ran("--output", "x").output
