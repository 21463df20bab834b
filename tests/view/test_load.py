"""Run folders: complete, empty, cut off and damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ferrule.view.load import flatten, number, read_run


def test_a_whole_folder(run_folder: Path) -> None:
    run = read_run(run_folder)
    assert run.name == "first-run"
    assert run.settings["num_generations"] == 8
    assert len([row for row in run.metrics if row["phase"] == "train"]) == 90
    assert run.recorded == len(run.episodes) == 14
    assert run.troubles == ()


def test_an_empty_folder(tmp_path: Path) -> None:
    run = read_run(tmp_path)
    assert (run.settings, run.metrics, run.episodes, run.warnings, run.troubles) == ({}, (), (), (), ())


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="runs lie in runs/NAME"):
        read_run(tmp_path / "nothing")


def test_a_killed_run_keeps_its_whole_lines(tmp_path: Path) -> None:
    lines = [json.dumps({"step": step}) for step in range(3)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines)[:-4])
    run = read_run(tmp_path)
    assert [row["step"] for row in run.metrics] == [0, 1]
    assert run.troubles == ("metrics.jsonl, line 3: not JSON, left out",)


def test_damage_is_named(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text("[1, 2]")
    (tmp_path / "versions.json").write_text("{")
    (tmp_path / "metrics.jsonl").write_text('[1]\n\n{"step": 1}\n')
    (tmp_path / "warnings.jsonl").write_bytes(b'{"text": "\xff\xfe"}\n')
    (tmp_path / "evaluations.json").write_text("[" * 100_000)
    run = read_run(tmp_path)
    assert len(run.metrics) == 1
    assert run.warnings[0]["text"] == "��"
    named = {trouble.split(" ")[0].rstrip(",") for trouble in run.troubles}
    assert named == {"settings.json", "versions.json", "metrics.jsonl", "evaluations.json"}


def test_separators_inside_text_do_not_end_a_line(tmp_path: Path) -> None:
    text = "one\u2028two\x85three\x0bfour"
    (tmp_path / "warnings.jsonl").write_text(json.dumps({"text": text}, ensure_ascii=False) + "\n", encoding="utf-8")
    run = read_run(tmp_path)
    # A vertical tab must be escaped in JSON, and json does so; the other two stand in the file as they are.
    assert run.warnings[0]["text"] == text
    assert run.troubles == ()


def test_training_episodes_stand_in_where_nothing_was_evaluated(tmp_path: Path) -> None:
    """Of 1,000 lines the first and the last 200 are kept, whatever the file's length."""
    (tmp_path / "episodes.jsonl").write_text("".join(json.dumps({"n": n}) + "\n" for n in range(1000)))
    run = read_run(tmp_path)
    assert run.recorded == 1000
    assert [row["n"] for row in run.episodes] == [*range(200), *range(800, 1000)]


def test_numbers() -> None:
    assert number(3) == 3.0
    assert [number(odd) for odd in (True, "3", None, float("nan"), float("inf"))] == [None] * 5
    assert flatten({"a": {"b": 1, "c": {}}, "d": [2]}) == {"a/b": 1, "a/c": {}, "d": [2]}
