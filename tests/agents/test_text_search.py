"""Text search: what is run how often, which texts are left, which parents are drawn, and when it ends."""

from __future__ import annotations

import runpy
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ferrule.agents.react import ToolLoop
from ferrule.agents.refine import Candidate, Checked, settled
from ferrule.agents.text_search import OnItems, Round, by_item, item_fronts, reflected, search_texts, shortlist
from ferrule.core.flows import Ask
from ferrule.core.records import plain_text
from ferrule.evaluate.texts import played_with
from ferrule.policies.scripted import Scripted
from ferrule.worlds.arithmetic import Arithmetic

# Items 0 to 9 are for training and 10 to 19 for judging; a text is right on so many of each.
RIGHT = {"A": (7, 6), "B": (4, 9), "C": (5, 6)}


def graded(text: str, items: Sequence[int]) -> list[float]:
    train, judged = RIGHT[text]
    return [float(item < train if item < 10 else item - 10 < judged) for item in items]


def kept(rounds: Sequence[Round], most: int | None = None) -> tuple[list[str], int]:
    on = OnItems(graded, range(20), most)
    left = settled(shortlist(["A", "B", "C", "A"], on, rounds))
    return [candidate.text for candidate in left], on.runs


def test_a_shortlist_is_filtered_and_then_ranked() -> None:
    """B has 4 of 10 in the first round and goes, though it has 9 in the second; A and C tie there: the first stays."""
    train, judged = range(10), range(10, 20)
    assert kept([Round(train, 0.5), Round(judged, keep=1)]) == (["A"], 50)  # 3 x 10 and 2 x 10 runs
    assert kept([Round(train, 0.9), Round(judged, keep=2)]) == (["B", "A"], 60)  # none passes, so all go on
    assert kept([Round(train, keep=2)]) == (["A", "C"], 30)


def test_a_spent_budget_leaves_what_was_scored() -> None:
    """45 runs pay the first round (30) and one text of the second (10)."""
    assert kept([Round(range(10), 0.5), Round(range(10, 20), keep=1)], most=45) == (["A"], 40)
    assert kept([Round(range(10))], most=5) == (["A", "B", "C"], 0)


def test_a_spent_budget_still_orders_by_what_is_known() -> None:
    """Of 25 runs 20 are spent on A and C; the scores of these two cost nothing, B cannot be paid."""
    on = OnItems(graded, range(20), 25)
    for text in "AC":
        settled(on.scores(text, range(10)))
    left = settled(shortlist(["B", "A", "C"], on, [Round(range(10))]))
    assert ([one.text for one in left], on.runs) == (["A", "C"], 20)


def test_what_is_known_is_not_run_again() -> None:
    asked: list[tuple[str, tuple[Any, ...]]] = []

    def run(text: str, items: Sequence[Any]) -> list[float]:
        asked.append((text, tuple(items)))
        return graded(text, items)

    on = OnItems(run, range(20), most=3)
    assert settled(on.scores("A", [6, 7])) == [1.0, 0.0]
    assert settled(on.scores("A", [7, 8, 6])) == [0.0, 0.0, 1.0]
    assert (asked, on.runs, on.over) == ([("A", (6, 7)), ("A", (8,))], 3, True)
    assert settled(on.check([6, 7])("A")) == Checked(0.5, scores=(1.0, 0.0))


def test_fronts_of_items() -> None:
    """The worked examples of JTPRO: the third row is covered everywhere; in the second table the first covers all."""
    assert item_fronts([[1, 0, 1, 0], [0, 1, 1, 0], [0, 0, 1, 0]]) == {0: 3, 1: 3}
    assert item_fronts([[1, 1, 1], [1, 1, 0], [0, 1, 1]]) == {0: 3}
    assert item_fronts([[1, 0], [1, 0]]) == {1: 2}  # of exact equals the last survives


def test_survivors_are_drawn_by_their_fronts() -> None:
    """The first is best on one item, the second on three: one draw in four takes the first."""
    rows = [Candidate(t, Checked(0.0, scores=s)) for t, s in (("a", (1, 0, 0, 0)), ("b", (0, 1, 1, 1)))]
    select = by_item(seed=0)
    drawn = Counter(select(rows)[0][0].text for _ in range(2000))
    assert drawn["a"] / 2000 == pytest.approx(0.25, abs=0.03)


def reach(text: str, items: Sequence[int]) -> list[float]:
    """A text of letters is right on the items below its length."""
    return [float(item % 10 < len(text)) for item in items]


def test_a_rewrite_is_kept_where_it_scores_more_on_the_same_items() -> None:
    shown: list[tuple[str, list[tuple[int, float]]]] = []

    def rewrite(text: str, told: Sequence[tuple[int, float]]) -> list[str]:
        shown.append((text, list(told)))
        return [text + "x" * 9, text[:-1], text]

    on = OnItems(reach, range(20))
    propose = reflected(rewrite, on, range(4), size=4)
    assert settled(propose([Candidate("ab", Checked(0.0))])) == ["abxxxxxxxxx"]
    text, told = shown[0]
    assert (text, sorted(told)) == ("ab", [(0, 1.0), (1, 1.0), (2, 0.0), (3, 0.0)])
    assert settled(propose([Candidate("abcd", Checked(0.0))])) == []  # nothing is wrong with it
    assert len(shown) == 1


def test_a_search_rewrites_from_some_items_and_judges_on_others() -> None:
    seen: set[int] = set()

    def rewrite(text: str, told: Sequence[tuple[int, float]]) -> list[str]:
        seen.update(item for item, _ in told)
        return [text + "x"]

    on = OnItems(reach, range(20), most=400)
    refined = settled(search_texts(["a"], rewrite, on, learn=range(10), judge=range(10, 20), size=10, rounds=5))
    assert [c.text for c in refined.candidates] == ["a", "ax", "axx", "axxx", "axxxx", "axxxxx"]
    assert (refined.best.checked.score, refined.ended) == (0.6, "rounds")
    assert seen == set(range(10))
    assert on.runs == 6 * 20  # each text on all items, once
    short = OnItems(reach, range(20), most=50)
    ended = settled(search_texts(["a"], rewrite, short, learn=range(10), judge=range(10, 20), size=10))
    assert (ended.ended, short.runs) == ("runs", 60)  # what a round has begun it ends


def test_tasks_of_a_world_are_items() -> None:
    """The text is the system message; the script answers rightly where it is told to."""
    world = Arithmetic()
    tasks = world.tasks("test", 3)
    answers = {task.prompt: str(task.answer) for task in tasks}

    def script(request: Ask, sample: int) -> str:
        return answers[plain_text(request.messages[1])] if plain_text(request.messages[0]) == "Be right." else "-1"

    run = played_with(lambda text: ToolLoop(system=text), Scripted(script), world)
    left = settled(shortlist(["Guess.", "Be right."], OnItems(run, tasks), [Round(range(3))]))
    assert [(one.text, one.checked.score) for one in left] == [("Be right.", 1.0), ("Guess.", 0.0)]


def test_what_cannot_be_done_is_refused() -> None:
    on = OnItems(reach, range(20))
    with pytest.raises(ValueError, match="items is empty"):
        OnItems(reach, [])
    with pytest.raises(ValueError, match="most is 0"):
        OnItems(reach, [1], 0)
    with pytest.raises(ValueError, match="0 texts and 1 rounds"):
        settled(shortlist([], on, [Round([0])]))
    with pytest.raises(ValueError, match="2 items are learned from and judged on as well"):
        settled(search_texts(["a"], lambda text, told: [], on, learn=[0, 1, 2], judge=[1, 2, 3]))
    with pytest.raises(ValueError, match="size is 3 and there are 2 items"):
        reflected(lambda text, told: [], on, [0, 1])
    with pytest.raises(ValueError, match="a run on 2 items gave 1 scores"):
        settled(OnItems(lambda text, items: [1.0], range(2)).scores("a", [0, 1]))


def test_the_benchmark_learns_rules_within_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins without a rule and so without a right answer; a round that the budget allows takes 3 + 3 + 8 runs."""
    root = Path(__file__).resolve().parents[2]
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    parts = runpy.run_path(str(root / "benchmarks" / "text_search.py"))
    given = SimpleNamespace(runs=80, rules=3, learn=12, judge=8, test=20)
    row = parts["once"](parts["by_ferrule"], 0, given)
    assert row["success"] > 0
    assert row["runs"] < 80 + 14
    bare = parts["once"](parts["by_ferrule"], 0, SimpleNamespace(**{**vars(given), "runs": 8}))
    assert (bare["success"], bare["runs"]) == (0.0, 8.0)
