"""Puzzles on grids: the format, what is wrong with a file, likeness of grids, and reading answers of two attempts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ferrule.worlds.puzzles import (
    Puzzle,
    attempts_of,
    differences,
    grid_of,
    puzzle_of,
    read_puzzles,
    similarity,
    submission,
    two_of,
)

A, B = ((1, 2), (3, 4)), ((1, 2), (3, 0))
DATA: dict[str, Any] = {
    "train": [{"input": [[1]], "output": [[2]]}, {"input": [[3, 0]], "output": [[4, 0]]}],
    "test": [{"input": [[5]], "output": [[6]]}],
}


def test_similarity() -> None:
    """3 of 4 cells are equal; other shapes share nothing."""
    assert similarity(B, A) == 0.75
    assert similarity(((1, 2, 3),), A) == 0.0
    assert similarity(None, A) == 0.0
    assert similarity(A, A) == 1.0


def test_differences() -> None:
    assert differences(B, A) == ". .\n. 0->4"
    assert differences(((1,),), A) == "the grid is 1 by 1; expected 2 by 2"
    assert differences(None, A) == "no grid"


def test_what_is_no_grid_is_refused() -> None:
    wrong: dict[str, Any] = {
        "at least one": [], "2, 3 cells": [[1, 2], [1, 2, 3]], "1 by 31": [[0] * 31], "not 10": [[10]],
        "not True": [[True]], "not 1.0": [[1.0]], "a list of rows": "12",
    }  # fmt: skip
    for message, value in wrong.items():
        with pytest.raises(ValueError, match=message):
            grid_of(value)


def test_puzzles_of_files_and_folders(tmp_path: Path) -> None:
    first = Puzzle("a", ((((1,),), ((2,),)), (((3, 0),), ((4, 0),))), (((5,),),), (((6,),),))
    (tmp_path / "a.json").write_text(json.dumps(DATA))
    assert read_puzzles(tmp_path / "a.json") == [first]
    (tmp_path / "b.json").write_text(json.dumps({"x": DATA, "y": DATA}))
    assert [puzzle.id for puzzle in read_puzzles(tmp_path)] == ["a", "x", "y"]


def test_what_is_wrong_with_a_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        read_puzzles(tmp_path / "none.json")
    with pytest.raises(ValueError, match="holds no puzzles"):
        read_puzzles(tmp_path)
    (tmp_path / "a.json").write_text(json.dumps({"p": {**DATA, "train": [{"input": [[11]], "output": [[1]]}]}}))
    with pytest.raises(ValueError, match=r"a\.json: puzzle 'p': cells are whole numbers 0 to 9, not 11"):
        read_puzzles(tmp_path)
    with pytest.raises(ValueError, match="lacks 'test'"):
        puzzle_of("q", {"train": DATA["train"]})
    with pytest.raises(ValueError, match="all test outputs or with none"):
        puzzle_of("q", {**DATA, "test": [*DATA["test"], {"input": [[1]]}]})


def test_test_outputs_may_be_unknown() -> None:
    assert puzzle_of("q", {**DATA, "test": [{"input": [[5]]}]}).answers == ()


def test_answers_read_back() -> None:
    attempts = [(A, None), (None, B)]
    text = submission(attempts)  # type: ignore[arg-type]
    assert attempts_of(text) == attempts
    assert attempts_of(f"Pair 1 was [[1]]. First {submission([(B, B)])}, no: {text} it is.") == attempts
    assert attempts_of("I think [[1]] or rather [[1, 2], [3, 4]].") == [(A, None)]
    assert attempts_of('[{"attempt_1": [[1, 2], [3]], "attempt_2": "x"}]') == [(None, None)]


def test_two_different_answers() -> None:
    assert two_of([None, A, A, B]) == (A, B)
    assert two_of([A, None, A]) == (A, A)
    assert two_of([None]) == (None, None)


@pytest.mark.parametrize("text", ["", "[", "[" * 20_000, "[[" * 10_000, '[{"attempt_1":' * 1_000, "[1, 2]", "[]", "{}"])
def test_what_is_no_answer_gives_no_attempts(text: str) -> None:
    assert attempts_of(text) == []
