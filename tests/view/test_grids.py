"""Puzzles in the terminal and on a page: every grid is there, nothing of a name becomes markup."""

from __future__ import annotations

from pathlib import Path

from ferrule.view.episodes import sample
from ferrule.view.grids import drawing, drawn, lines, write_page
from ferrule.worlds.puzzles import Puzzle

PUZZLE = Puzzle("<p>", ((((1, 2), (0, 0)), ((2,),)),), (((4, 5),),), (((5, 4),),))


def test_digits_in_the_terminal() -> None:
    shown = lines(PUZZLE, [(((5, 4),), None)], colour=False)
    expected = [
        "puzzle <p>",
        "pair 1: before, after",
        "1 2   2",
        "0 0",
        "",
        "test 1, attempts, expected",
        "4 5   5 4   5 4",
    ]
    assert shown == [*expected, ""]


def test_colours_in_the_terminal() -> None:
    row = lines(PUZZLE)[2]
    assert row.count("\x1b[0m") == 3
    assert row.startswith("\x1b[48;2;30;116;217m  \x1b[0m\x1b[48;2;232;64;47m  \x1b[0m   ")


def test_a_page(tmp_path: Path) -> None:
    page = write_page([PUZZLE], tmp_path / "page.html", {"<p>": [(((5, 4),), ((4, 4),))]}).read_text()
    assert "<h2>&lt;p&gt;</h2>" in page
    assert page.count("<svg") == 2 + 1 + 2 + 1
    assert drawn(((7,),)).count("<rect") == 1
    assert "#f28019" in drawn(((7,),))


def test_the_report_draws_a_recorded_puzzle() -> None:
    puzzle = {"id": "p", "train": [[[[1]], [[2]]]], "test": [[[3]]]}
    assert drawing(puzzle).count("<svg") == 3
    assert drawing({"train": [[["<script>"]]], "test": []}) == ""
    assert drawing(None) == ""
    assert sample({"task": {"id": "p", "prompt": "?", "meta": {"puzzle": puzzle}}}).drawing == drawing(puzzle)
