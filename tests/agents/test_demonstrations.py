"""Programs refined by demonstrations: scores, what a model is shown, the library, and that two answers are handed in."""

from __future__ import annotations

from collections.abc import Sequence

from ferrule.agents.demonstrations import ProgramLibrary, by_demonstrations, digits
from ferrule.agents.refine import Candidate, Checked, Refined, ranked
from ferrule.core.flows import Ask
from ferrule.core.records import plain_text
from ferrule.policies.scripted import Scripted
from ferrule.rewards.outcome import outcome
from ferrule.rollout.drive import drive
from ferrule.worlds.grids import Grids, task_of
from ferrule.worlds.puzzles import Grid, Pair, Puzzle

FLIP = "def transform(grid):\n    return [row[::-1] for row in grid]"
SAME = "def transform(grid):\n    return grid"
PUZZLE = Puzzle("p", ((((1, 2),), ((2, 1),)), (((3, 0),), ((0, 3),))), (((4, 5),),), (((5, 4),),))


def test_scores_of_demonstrations() -> None:
    """The first pair is exact, of the second 1 of 2 cells is right, the third has no grid: 1 + (1 + .5 + 0) / 3."""
    pairs: list[Pair] = [(((1,),), ((1,),)), (((2, 3),), ((2, 4),)), (((5,),), ((6,),))]

    def run(text: str, grids: Sequence[Grid]) -> list[Grid | None]:
        return [grid if grid != ((5,),) else None for grid in grids]

    checked = by_demonstrations(pairs, run)("same")
    assert isinstance(checked, Checked)
    assert (checked.score, checked.scores, checked.solved) == (1.5, (1.0, 0.5), False)
    assert checked.feedback == ".\n\n. 3->4\n\nno grid"
    solved = by_demonstrations(pairs[:1], run)("same")
    assert isinstance(solved, Checked)
    assert solved.solved


def test_candidates_in_order() -> None:
    rows = [Candidate(name, Checked(score)) for name, score in (("a", 1.0), ("b", 2.0), ("c", 2.0))]
    assert [one.text for one in ranked(Refined(tuple(rows), "rounds"))] == ["b", "c", "a"]


def test_a_puzzle_in_digits() -> None:
    assert digits(task_of(PUZZLE)).splitlines()[:4] == [
        "Pair 1, before, 1 by 2:",
        "1 2",
        "Pair 1, after, 1 by 2:",
        "2 1",
    ]


def test_a_program_is_revised_from_what_was_wrong_with_it() -> None:
    shown: list[list[str]] = []

    def writer(request: Ask, sample: int) -> str:
        shown.append([plain_text(message) for message in request.messages])
        return f"```python\n{SAME if len(request.messages) == 2 else FLIP}\n```"

    task = task_of(PUZZLE)
    (episode,) = drive(ProgramLibrary(samples=1), [task], Grids(), Scripted(writer))
    path = episode.trajectories[0]
    assert path.answer == '[{"attempt_1":[[5,4]],"attempt_2":[[4,5]]}]'  # FLIP is solved; SAME differs from it
    assert outcome(task, [path])[0].value == 1.0
    assert shown[1][2:] == [SAME, "0 of 2 pairs are right.\nPair 1: 1->2 2->1\nPair 2: 3->0 0->3"]
    assert "Pair 1, before, 1 by 2:\n1 2" in shown[0][1]
    assert "[[5,4]]" not in "".join(shown[0])


def test_a_program_of_the_library_is_tried_first() -> None:
    policy = Scripted(lambda request, sample: SAME)
    (episode,) = drive(ProgramLibrary(library=(FLIP,)), [task_of(PUZZLE)], Grids(), policy)
    assert policy.served == 0
    assert episode.trajectories[0].answer == '[{"attempt_1":[[5,4]],"attempt_2":[[5,4]]}]'
