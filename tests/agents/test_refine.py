"""Refinement: what is proposed from what, when it ends, and what a model is shown."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tests.toys import Bench, layout

from ferrule.agents.refine import (
    Candidate,
    Checked,
    best,
    from_model,
    from_nothing,
    pareto,
    refine,
    sampled,
    settled,
    shares,
)
from ferrule.core.flows import Ask, Flow, Session, ask
from ferrule.core.records import Message, Task, plain_text
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive


def one_more(parents: Sequence[Candidate]) -> list[str]:
    return [f"{parent.text}+" for parent in parents] or ["a"]


def length(text: str) -> Checked:
    return Checked(float(len(text)), solved=len(text) == 5, feedback=f"{5 - len(text)} more")


def test_each_round_goes_on_from_the_best() -> None:
    refined = settled(refine(one_more, length))
    assert [candidate.text for candidate in refined.candidates] == ["a", "a+", "a++", "a+++", "a++++"]
    assert [candidate.parents for candidate in refined.candidates] == [(), (0,), (1,), (2,), (3,)]
    assert (refined.best.number, refined.ended) == (4, "solved")


def test_the_worked_run_of_a_slow_function() -> None:
    """10 s at first; proposals wrong, 5, 4.9, 2, wrong: with patience 2 the factor is 10 / 2 = 5."""
    seconds = {"base": 10.0, "p1": None, "p2": 5.0, "p3": 4.9, "p4": 2.0, "p5": None, "p6": 1.0}
    said: list[str] = []

    def check(text: str) -> Checked:
        took, fastest = seconds[text], min([10.0, *(seconds[s] or 10.0 for s in said)])
        said.append(text)
        # at least 5 % faster than the best so far, or it counts as no gain
        return Checked(10.0 / took if took and fastest / took >= 1.05 else 0.0)

    proposals = iter(["p1", "p2", "p3", "p4", "p5", "p6"])
    start = (Candidate("base", Checked(1.0)),)
    refined = settled(refine(lambda parents: [next(proposals)], check, patience=2, start=start, rounds=5))
    assert refined.best.text == "p4"
    assert refined.best.checked.score == 5.0
    assert [c.parents for c in refined.candidates] == [(), (0,), (0,), (2,), (2,), (4,)]


def test_candidates_of_earlier_tasks_are_numbered_anew() -> None:
    """A library's candidate had number 2 in its own run; as the first here it is 0, and no other's parent is meant."""
    start = (Candidate("a", Checked(1.0), 2, (1,)),)
    refined = settled(refine(one_more, length, start=start, rounds=2))
    assert [(c.text, c.number, c.parents) for c in refined.candidates] == [
        ("a", 0, ()),
        ("a+", 1, (0,)),
        ("a++", 2, (1,)),
    ]


@pytest.mark.parametrize(
    ("limits", "count", "ended"),
    [({"rounds": 2}, 2, "rounds"), ({"checks": 3}, 3, "checks"), ({"rounds": 9, "patience": 2}, 3, "no gain")],
)
def test_limits(limits: dict[str, int], count: int, ended: str) -> None:
    score = Checked(1.0)
    refined = settled(refine(one_more, lambda text: score, select=lambda all_: [[all_[-1]]], **limits))
    assert (len(refined.candidates), refined.ended) == (count, ended)


def test_what_was_checked_is_not_checked_again() -> None:
    checked: list[str] = []

    def check(text: str) -> Checked:
        checked.append(text)
        return Checked(0.0)

    refined = settled(refine(lambda parents: ["a", "a", "b"], check, rounds=3, start=[Candidate("b", Checked(0.5))]))
    assert checked == ["a"]
    assert [candidate.text for candidate in refined.candidates] == ["b", "a"]


def test_what_begins_solved_is_done() -> None:
    refined = settled(refine(one_more, length, start=[Candidate("12345", Checked(5.0, solved=True))]))
    assert ([candidate.text for candidate in refined.candidates], refined.ended) == (["12345"], "solved")


def test_selections() -> None:
    rows = [Candidate(name, Checked(score, scores=aims)) for name, score, aims in (
        ("a", 1.0, (1.0, 0.0)), ("b", 3.0, (0.0, 1.0)), ("c", 3.0, (0.0, 0.5)), ("d", 2.0, (1.0, 0.0)),
    )]  # fmt: skip

    def names(groups: Sequence[Sequence[Candidate]]) -> list[str]:
        return ["".join(one.text for one in group) for group in groups]

    assert names(best(2)(rows)) == ["b", "c"]
    assert names(best(3, pooled=True)(rows)) == ["bcd"]
    assert list(from_nothing(rows)) == [()]
    assert names(pareto(rows)) == ["a", "b", "d"]  # c is worse than b in one aim and better in none


def test_parents_are_drawn_by_their_scores() -> None:
    """exp(4), exp(1.8), exp(.9) are 54.598, 6.0496, 2.4596 of 63.107; the draw without replacement follows them."""
    scores = (4.0, 1.8, 0.9)
    assert shares(scores) == pytest.approx([0.865162, 0.095863, 0.038975], abs=1e-6)
    infinite = float("inf")
    assert shares([-infinite, -infinite]) == [0.5, 0.5]
    assert shares([infinite, 1.0]) == [1.0, 0.0]
    rows = [Candidate(name, Checked(score)) for name, score in zip("abc", scores, strict=True)]
    drawn = [[one.text for one in sampled(2, seed=seed)(rows)[0]] for seed in range(400)]
    assert sum(names[0] == "a" for names in drawn) == pytest.approx(346, abs=25)
    assert all(len(set(names)) == 2 for names in drawn)
    assert sampled(2, seed=7)(rows) == sampled(2, seed=7)(rows)
    assert [len(group) for group in sampled(5, pooled=False)(rows)] == [1, 1, 1]


def test_a_model_proposes_from_feedback_and_another_checks() -> None:
    """Two groups of parents are asked for in one batch; checks ask under a role of their own."""
    shown: list[list[str]] = []

    def writer(request: Ask, sample: int) -> str:
        shown.append([plain_text(m) for m in request.messages])
        return plain_text(request.messages[-2])[:3] + str(sample) if len(request.messages) > 1 else f"p{sample}"

    def judged(text: str) -> Flow[Checked]:
        (reply,) = yield from ask(Ask((Message("user", text),), role="judge"))
        return Checked(float(plain_text(reply.message)), feedback=f"{text} is short")

    def agent(task: Task, session: Session) -> Flow[str]:
        propose = from_model([Message("user", task.prompt)], samples=2)
        refined = yield from refine(propose, judged, select=best(2), rounds=2)
        return refined.best.text

    world = Bench()
    roles = {
        "solver": Scripted(writer, renderer=layout()),
        "judge": Scripted(lambda request, sample: str(len(plain_text(request.messages[0])))),
    }
    (episode,) = drive(agent, world.tasks("train", 1), world, roles)
    assert episode.trajectories[0].answer == "p00"
    assert shown[2] == ["task 0", "p0", "p0 is short"]
    assert shown[4] == ["task 0", "p1", "p1 is short"]
    assert episode.spent["solver"].asks == 3
    assert episode.spent["judge"].asks == 6


def test_what_cannot_be_done_is_refused() -> None:
    with pytest.raises(ValueError, match="rounds is 0; the least is 1"):
        settled(refine(one_more, length, rounds=0))
    with pytest.raises(ValueError, match="nothing was ever proposed"):
        settled(refine(lambda parents: [], length))
    with pytest.raises(RuntimeError, match="asks a model"):
        settled(refine(from_model([Message("user", "x")]), length))
