"""ARC Prize: the worked examples, instructions that are followed, a library that grows, and arms that differ."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from tests.toys import Bench

from ferrule.agents.demonstrations import ProgramLibrary
from ferrule.agents.refine import Candidate, Checked, shares
from ferrule.core.flows import Ask
from ferrule.core.records import plain_text
from ferrule.data.canvas import canvas, vote
from ferrule.papers import arc_prize
from ferrule.papers.claims import arc_prize as claim
from ferrule.policies.scripted import Scripted
from ferrule.rewards.grids import totals
from ferrule.rewards.outcome import outcome
from ferrule.rollout.drive import drive
from ferrule.studies.standins.grid_writers import LONGEST, changed, drawn, run, writer
from ferrule.worlds.grid_programs import STEPS
from ferrule.worlds.grids import Grids, task_of
from ferrule.worlds.puzzles import Puzzle, similarity

FLIP = "def transform(grid):\n    return [row[::-1] for row in grid]"
SAME = "def transform(grid):\n    return grid"
PUZZLE = Puzzle("p", ((((1, 2),), ((2, 1),)), (((3, 0),), ((0, 3),))), (((4, 5),),), (((5, 4),),))


def test_worked_examples() -> None:
    """Likeness; both averages; shares of a library; the vote; a canvas. Stablemax is with its own function."""
    assert similarity(((1, 2), (3, 4)), ((1, 2), (3, 0))) == 0.75
    result = totals([[True], [True, False, True]])
    assert (result.by_task, result.by_output, result.solved) == (pytest.approx(0.8333, abs=1e-4), 0.75, 1)
    library = [exact + alike for exact, alike in ((3, 1.0), (1, 0.8), (0, 0.9))]
    assert shares(library) == pytest.approx([0.865162, 0.095863, 0.038975], abs=1e-6)
    assert vote([(((1,),), 0.1), (((2,),), 0.9), (((1,),), 0.2)]) == (((1,),), ((2,),))
    rows = canvas(((0, 9), (3, 4), (1, 1)), 6).reshape(6, 6)[:4, :3].tolist()
    assert rows == [[2, 11, 1], [5, 6, 1], [3, 3, 1], [1, 1, 0]]


def test_whom_the_follower_follows() -> None:
    assert arc_prize.allocation([0.5, 1.0, 1.0, 0.2]) == [1, 2, 1, 2, 1]
    assert arc_prize.allocation([0.5, 0.9, 0.7]) == [1, 1, 1, 2, 2]
    assert arc_prize.allocation([0.5]) == [0] * 5


def followed(writes: Sequence[str], agent: arc_prize.Instructions) -> tuple[str, list[list[str]], list[str]]:
    """Play the puzzle; a follower mirrors where it is told to, else copies, and is silent where it is told to be."""
    shown: list[list[str]] = []
    told: list[str] = []

    def write(request: Ask, sample: int) -> str:
        shown.append([plain_text(message) for message in request.messages])
        return writes[min(len(shown) - 1, len(writes) - 1)]

    def follow(request: Ask, sample: int) -> str:
        text = plain_text(request.messages[-1])
        told.append(text)
        last = text.rpartition("The last grid: [[")[2].rstrip("]").split(",")
        if "silence" in text and last != ["1", "2"]:
            return "no"
        return f"[[{','.join(last[::-1] if 'mirror' in text else last)}]]"

    roles = {"solver": Scripted(write), "follower": Scripted(follow)}
    (episode,) = drive(agent, [task_of(PUZZLE)], Grids(), roles)
    assert not episode.problem
    return str(episode.trajectories[0].answer), shown, told


def test_instructions_are_revised_and_followed() -> None:
    agent = arc_prize.Instructions(first=(1,), more=1, follows=2)
    answer, shown, told = followed(["copy it", "mirror it"], agent)
    assert answer == '[{"attempt_1":[[5,4]],"attempt_2":[[5,4]]}]'
    assert shown[1][-2:] == ["copy it", "Following this gave:\n1->2 2->1\n\n3->0 0->3"]
    assert len(told) == 2 + 2 + 2  # two pairs for each text, then two follows of the perfect one
    assert "before: [[3,0]]" in told[0]
    assert "before: [[1,2]]" not in told[0]  # the pair that is left out is not shown
    assert "[[5,4]]" not in "".join(told)
    assert "deviate" not in told[-1]


def test_a_perfect_text_ends_the_writing() -> None:
    answer, shown, _ = followed(["mirror it"], arc_prize.Instructions())
    assert len(shown) == 5  # the first step of five, which all say the same
    assert answer.startswith('[{"attempt_1":[[5,4]]')


def test_imperfect_texts_may_be_deviated_from() -> None:
    _, shown, told = followed(["copy it"], arc_prize.Instructions(first=(1, 2), more=2))
    assert len(shown) == 5
    assert all("deviate from them" in text for text in told[-5:])


def test_failed_follower_calls_count_nothing() -> None:
    """One of two pairs gets no grid and the other a right one: 1/2, or 1 of the calls that gave a grid, as released."""
    text = ["mirror it, silence"]
    sane, released = (
        followed(text, arc_prize.Instructions(first=(1,), more=more, reference=reference))[2]
        for reference, more in ((False, 0), (True, 0))
    )
    assert "deviate" in sane[-1]
    assert "deviate" not in released[-1]


def test_instructions_need_a_puzzle() -> None:
    (episode,) = drive(arc_prize.Instructions(), Bench().tasks("train", 1), Bench(), Scripted(["x"]))
    assert (episode.trajectories[0].answer, episode.problem) == (None, "")


def test_a_library_grows_from_puzzle_to_puzzle() -> None:
    """The first puzzle is solved by the program written for it, the second by the library, without a reply."""
    policy = Scripted(lambda request, sample: FLIP if sample else SAME)
    tasks = [task_of(PUZZLE), task_of(replace(PUZZLE, id="q"))]
    agent = ProgramLibrary(samples=2, rounds=1)
    episodes, library = arc_prize.in_turn(agent, Grids(), tasks, policy)
    assert library == (FLIP,)
    assert policy.served == 2
    assert [outcome(e.task, e.trajectories[:1])[0].value for e in episodes] == [1.0, 1.0]
    assert arc_prize.best_program(episodes[0], [FLIP]) == SAME
    assert arc_prize.best_program(episodes[1], [FLIP]) == ""


def test_the_published_network() -> None:
    assert sum(part.numel() for part in arc_prize.published_network().parameters()) == pytest.approx(7e6, rel=0.03)


def test_writers_of_programs() -> None:
    rng = random.Random(0)
    texts = [drawn(rng) for _ in range(300)]
    assert {len(text.split()) for text in texts} == {1, 2, 3}
    made = [changed(rng, ["flip turn drop", "sink"]) for _ in range(300)]
    assert all(1 <= len(text.split()) <= LONGEST and set(text.split()) <= set(STEPS) for text in made)
    assert "flip turn" in made
    assert run("flip upend", [((1, 2), (3, 4))]) == [((4, 3), (2, 1))]
    near = writer(rng, samples=50, fresh=0.0)([Candidate("flip flip flip", Checked(1.0))])
    assert all("flip" in text for text in near)  # type: ignore[union-attr]


def test_selection_makes_the_difference() -> None:
    """The ablation: the same changes of parents that are drawn at random solve fewer puzzles."""
    size = {"tasks": 60, "budget": 150, "shelf": 30}
    loop, blind = (claim.STUDY.arms[name](seed=0, **size) for name in (claim.LOOP, claim.BLIND))
    assert loop["solved 3"] > blind["solved 3"] + 0.1
    assert max(loop["verifications"], blind["verifications"]) <= 150
