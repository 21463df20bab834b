"""The generators of LATM's problem classes and the stream of skills."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from ferrule.worlds.reasoning import CLASSES, Reasoning, solvers
from ferrule.worlds.skills import SKILLS, Skills, zipf


def test_meetings_are_the_earliest_common_time() -> None:
    """The common times of A and B are 08:30 - 09:00 and 11:00 - 12:00."""
    free = [["08:00 - 09:00", "10:30 - 12:00"], ["08:30 - 09:00", "11:00 - 12:00"]]
    assert solvers.scheduling(free, 0.5) == "08:30 - 09:00"
    assert solvers.scheduling(free, 1.0) == "11:00 - 12:00"
    assert solvers.scheduling(free, 1.5) == "No time slot works."


def test_solvers() -> None:
    assert solvers.word_sorting(["b", "a"]) == "a b"
    assert solvers.dyck("[(<>") == ")]"
    assert solvers.logical_deduction(["x", "y", "z"], [["before", "y", "x"], ["at", "z", -1]], 1) == "y"
    assert solvers.shuffled_objects({"A": "1", "B": "2", "C": "3"}, [["A", "B"], ["B", "C"]], "C") == "1"
    assert solvers.chinese_remainder([3, 5, 7], [2, 3, 2], 104) == 23  # the problem of Sunzi


@pytest.mark.parametrize("name", CLASSES)
def test_the_source_of_a_solver_runs_by_itself_and_answers_every_problem(name: str) -> None:
    space: dict[str, object] = {}
    exec(CLASSES[name].source, space)
    for level in range(1, 6):
        problem = CLASSES[name].draw(random.Random(level), level)
        solved = str(space[name](**problem.arguments))  # type: ignore[operator]
        if problem.options:
            solved = f"({chr(65 + problem.options.index(solved))})"
        assert solved == problem.answer
        assert problem.answer not in ("", "()")


def test_classes_take_turns_and_splits_are_apart() -> None:
    world = Reasoning()
    train = world.tasks("train", 60, levels=(1, 2))
    assert Counter(task.meta["class"] for task in train) == dict.fromkeys(CLASSES, 10)
    test = world.tasks("test", 30)
    assert not {task.prompt for task in train} & {task.prompt for task in test}
    with pytest.raises(ValueError, match=r"unknown 'dick'; did you mean 'dyck'"):
        Reasoning(("dick",))
    with pytest.raises(ValueError, match="is empty"):
        Reasoning(())


def test_meetings_are_drawn_as_in_the_paper() -> None:
    """Each person has 5 to 15 free half hours from 08:00 to 18:00, and some pairs find no time."""
    rng = random.Random(0)
    problems = [CLASSES["scheduling"].draw(rng, 1) for _ in range(200)]
    for problem in problems:
        for spans in problem.arguments["free"]:
            ends = [span.split(" - ") for span in spans]
            slots = sum((int(b[:2]) - int(a[:2])) * 2 + (int(b[3:]) - int(a[3:])) // 30 for a, b in ends)
            assert 5 <= slots <= 15
            assert ends[0][0] >= "08:00"
            assert ends[-1][1] <= "18:00"
    assert 0 < sum(problem.answer == "No time slot works." for problem in problems) < 200
    assert {problem.arguments["hours"] for problem in problems} == {0.5, 1.0, 1.5}


def test_skills_by_hand() -> None:
    answers = {
        "digit_sum": ({"n": 407}, 11), "divisors": ({"n": 12}, 6), "collatz": ({"n": 6}, 8), "turned": ({"n": 120}, 21),
        "common_divisor": ({"n": 12, "m": 18}, 6), "primes_between": ({"n": 2, "m": 11}, 5),
    }  # fmt: skip
    assert set(answers) == set(SKILLS)
    for name, (arguments, answer) in answers.items():
        assert SKILLS[name].solve(**arguments) == answer
        space: dict[str, object] = {}
        exec(SKILLS[name].source, space)
        assert space[name](**arguments) == answer  # type: ignore[operator]


def test_a_stream_repeats_skills_by_their_frequency_and_is_the_same_for_a_seed() -> None:
    world = Skills()
    stream = world.stream(600, seed=3)
    assert stream == world.stream(600, seed=3) != world.stream(600, seed=4)
    assert len({task.id for task in stream}) == 600
    counts = Counter(task.meta["skill"] for task in stream)
    # The first of six skills has a share of 1 / (1 + 1/2 + ... + 1/6) = 0.408 and the last a sixth of it.
    assert counts["digit_sum"] / 600 == pytest.approx(0.408, abs=0.06)
    assert counts["primes_between"] / 600 == pytest.approx(0.068, abs=0.03)
    assert Counter(zipf(1000, 3, exponent=0.0, rng=random.Random(0))).keys() == {0, 1, 2}
