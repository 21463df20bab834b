"""The world of grids: its programs, what a check tells, that test outputs stay outside, and puzzles of a file."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from ferrule.core.records import Call, Trajectory
from ferrule.rewards.outcome import outcome
from ferrule.worlds.grid_programs import PRIVATE, STEPS, carry_out, draw_puzzle, programs, source_of
from ferrule.worlds.grids import Grids, puzzle_in, puzzle_of_prompt, task_of
from ferrule.worlds.named import world
from ferrule.worlds.puzzles import Grid, Puzzle

GRID = ((1, 0, 0), (0, 2, 2))
EXPECTED: dict[str, Grid] = {
    "flip": ((0, 0, 1), (2, 2, 0)),
    "upend": ((0, 2, 2), (1, 0, 0)),
    "turn": ((0, 1), (2, 0), (2, 0)),
    "slide": ((0, 1, 0), (2, 0, 2)),
    "sink": ((0, 2, 2), (1, 0, 0)),
    "drop": ((0, 0, 0), (1, 2, 2)),
    "next_colour": ((2, 0, 0), (0, 3, 3)),
    "crop": GRID,
    "fold": ((1, 0, 1), (0, 2, 0)),
    "fill": ((1, 2, 2), (2, 2, 2)),
    "frame": ((5, 5, 5), (5, 5, 5)),
    "halve": ((1, 0, 0),),
    "invert": ((0, 1, 1), (1, 0, 0)),
    "rarest": ((1, 0, 0), (0, 0, 0)),
    "checker": ((1, 0, 0), (0, 2, 0)),
    "copies": ((1, 0, 0), (0, 1, 2)),
}


def test_every_step_by_hand() -> None:
    assert set(EXPECTED) == {*STEPS, *PRIVATE}
    assert len(STEPS) == 12
    assert {name: carry_out((name,), GRID) for name in EXPECTED} == EXPECTED
    assert carry_out(("crop",), ((0, 0, 0), (0, 0, 7))) == ((7,),)
    assert carry_out(("crop",), ((0, 0),)) == ((0, 0),)
    with pytest.raises(ValueError, match="did you mean 'flip'"):
        carry_out(("flipp",), GRID)


def test_source_does_what_the_program_does() -> None:
    for name in EXPECTED:
        scope: dict[str, object] = {}
        exec(source_of((name, "turn", name)), scope)
        rows = scope["transform"]([list(row) for row in GRID])  # type: ignore[operator]
        assert tuple(map(tuple, rows)) == carry_out((name, "turn", name), GRID)


def test_no_shorter_program_explains_a_puzzle() -> None:
    """Twice flipped is unchanged, and flip after upend is two turns: the one is refused, the other is of depth 2."""
    rng = random.Random(1)
    assert draw_puzzle(rng, "p", ("flip", "flip"), sides=(3, 4)) is None
    drawn = [draw_puzzle(rng, "p", ("turn", "drop", "flip"), sides=(3, 4)) for _ in range(5)]
    puzzle = next(puzzle for puzzle in drawn if puzzle is not None)
    for depth in (1, 2):
        assert not any(all(carry_out(one, a) == b for a, b in puzzle.train) for one in programs(depth))


def test_tasks_hold_no_test_output() -> None:
    for task in Grids().tasks("train", 10, seed=1):
        assert len(puzzle_in(task).test) == (2 if task.meta["level"] == 5 else 1)
        assert puzzle_in(task).answers == ()
        assert "answers" not in task.meta["puzzle"]
        for grid in json.loads(task.answer):
            assert json.dumps(grid, separators=(",", ":")) not in task.prompt.partition("Test 1")[2]


def test_a_prompt_reads_back() -> None:
    (task,) = Grids().tasks("test", 1, levels=[5])
    assert puzzle_of_prompt(task.prompt) == replace(puzzle_in(task), id="")
    assert puzzle_of_prompt("What is 1 + 1?") is None
    assert puzzle_of_prompt("before: [[11]]\nafter: [[1]]\nTest 1: [[1]]") is None
    assert puzzle_of_prompt("before: [[1]]\nTest 1: [[1]]") is None


def test_programs_of_the_splits_differ_and_private_steps_are_apart() -> None:
    made = {split: {tuple(t.meta["program"]) for t in Grids().tasks(split, 80)} for split in ("train", "test")}
    assert not made["train"] & made["test"]
    assert not any(step in PRIVATE for programs in made.values() for program in programs for step in program)
    private = [task.meta["program"] for task in Grids(private=True).tasks("test", 20)]
    assert all(any(step in PRIVATE for step in program) for program in private)
    with pytest.raises(ValueError, match="are all held out"):
        Grids(private=True).tasks("train", 1)


def test_a_check_compares_with_the_pairs() -> None:
    puzzle = Puzzle("p", ((((1, 2),), ((2, 1),)), (((3, 0),), ((3, 0),))), (((4, 5),),), (((5, 4),),))
    task = task_of(puzzle)
    session = Grids().start(task)
    same = session.act(Call("check_program", {"code": "def transform(grid):\n    return grid"}))
    assert same.text == "1 of 2 pairs are right.\nPair 1: 1->2 2->1\nPair 2: right"
    assert (same.data["exact"], same.data["similarity"]) == (1, 0.5)
    wrong = session.act(Call("check_program", {"code": "def transform(grid):\n    return grid[9]"}))
    assert "Pair 1: IndexError: list index out of range" in wrong.text
    broken = session.act(Call("check_program", {"code": "def transform(grid) return grid"}))
    assert "SyntaxError" in broken.text
    assert broken.data["exact"] == 0
    odd = session.act(Call("check_program", {"code": "transform = lambda grid: [[99]]"}))
    assert "not 99" in odd.text
    flipped = "transform = lambda grid: [row[::-1] for row in grid]"
    end = session.act(Call("submit_programs", {"programs": ["transform = lambda grid: grid"] * 2 + [flipped]}))
    assert end.terminal
    assert end.text == '[{"attempt_1":[[4,5]],"attempt_2":[[5,4]]}]'
    path = Trajectory(task, (), end.text)
    assert outcome(task, [path])[0].value == 1.0
    session.close()


def test_a_program_may_take_so_long() -> None:
    task = Grids().tasks("train", 1, levels=[1])[0]
    session = Grids(seconds=0.5).start(task)
    slow = session.act(Call("check_program", {"code": "def transform(grid):\n    while True: pass"}))
    assert slow.data["exact"] == 0
    assert session.act(Call("check_program", {"code": "transform = lambda grid: grid"})).status == "ok"
    session.close()


def test_puzzles_of_a_file_are_a_world(tmp_path: Path) -> None:
    data = {"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[3]], "output": [[4]]}]}
    place = tmp_path / "puzzles.json"
    place.write_text(json.dumps({f"p{i}": data for i in range(20)}))
    public = world("grids", data=place)
    train, test = (public.tasks(split, 99) for split in ("train", "test"))  # type: ignore[attr-defined]
    assert len(train) + len(test) == 20
    assert test
    assert not {t.id for t in train} & {t.id for t in test}
    assert train[0].answer == "[[[4]]]"
    with pytest.raises(ValueError, match="is of a file of puzzles"):
        Grids().demonstrate(train[0])
    with pytest.raises(ValueError, match="would do nothing"):
        world("arithmetic", data=place)
    with pytest.raises(ValueError, match="would do nothing"):
        Grids(str(place), private=True)
    with pytest.raises(ValueError, match="has no puzzle in its meta"):
        Grids().start(replace(train[0], meta={}))
