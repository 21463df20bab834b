"""A model's own steps, and the reference steps in them: the worked examples of paper 11, by rule and by judges."""

from __future__ import annotations

import math

import pytest
from tests.rewards.judges import judged

from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, Observation, Task, Trajectory, Turn
from ferrule.policies.scripted import Scripted
from ferrule.rewards.derivation import (
    coverage,
    judged_coverage,
    missing,
    own_steps,
    reference_steps,
    right_steps,
    share,
    split_steps,
    stated,
)
from ferrule.rewards.steps import judged_steps, modelled_steps
from ferrule.rollout.settle import settle

TASK = Task("t", "How many?", "9", meta={"solution_steps": ("n is odd", "so n = 9")})


def path(*replies: Message, results: tuple[str, ...] = ()) -> Trajectory:
    """A trajectory of replies; each call is answered by the next result."""
    turns, rest = [], list(results)
    for number, reply in enumerate(replies):
        seen = tuple(Observation(rest.pop(0)) for _ in reply.calls)
        turns.append(Turn(number, number - 1 if number else None, (), (), (), reply, observations=seen))
    return Trajectory(TASK, tuple(turns), "9")


def test_miss_rate_worked() -> None:
    """A misses 1 of 4 and B 1 of 2 reference steps: mean (.25 + .5)/2 = .375, pooled 2/6."""
    rate = missing([[True, True, False, True], [True, False]])
    assert (rate.mean, rate.pooled, rate.count) == (pytest.approx(0.375), pytest.approx(2 / 6), 2)


def test_right_steps_worked() -> None:
    """Scores [[.9, .3, .8], [.7]] at .5: 2/3 and 1, mean .8333, pooled 3/4; a score of .5 counts as right."""
    rate = right_steps([[0.9, 0.3, 0.8], [0.7]])
    assert (rate.mean, rate.pooled) == (pytest.approx(5 / 6), pytest.approx(0.75))
    assert right_steps([[0.5, 0.49]]).mean == 0.5


def test_unknown_steps_count_for_nothing() -> None:
    rate = share([[True, None], [None], []])
    assert (rate.mean, rate.pooled, rate.count, rate.unknown) == (1.0, 1.0, 1, 2)
    assert math.isnan(share([]).mean)
    assert share([[None]]).as_dict() == {"mean": None, "pooled": None, "count": 0, "unknown": 1}


def test_code_and_results_are_no_steps() -> None:
    code = "# n is odd\nprint(9)  # so n = 9"
    first = Message(
        "assistant", "Let me look.\n```python\n# so n = 9\nprint(3)\n```\nOdd.", (Call("python", {"code": code}),)
    )
    said = path(first, Message("assistant", "1. It is 9."), results=("n is odd. so n = 9",))
    assert own_steps(said) == ("Let me look.", "Odd.", "It is 9.")
    assert own_steps(said, comments=True) == ("Let me look.", "so n = 9", "Odd.", "n is odd", "It is 9.")
    assert split_steps("2) 3.5 + 1 = 4.5; fine\n\n7.") == ["2) 3.5 + 1 = 4.5;", "fine"]


def test_a_bare_number_is_no_step() -> None:
    assert split_steps("3.5\n1,234\n-1/2\n(3)\n1.2. So x = 3.5\n5 + 3 = 8") == ["So x = 3.5", "5 + 3 = 8"]


@pytest.mark.parametrize(
    ("text", "said", "stands"),
    [
        ("n = 9", "so n = 9, and on", True), ("n = 9", "n = 9.5", False), ("n = 9", "n = 9,000", False),
        ("n = 9", "n = 9,8", True), ("5 + 3 = 8", "1.5 + 3 = 8", False), ("5 + 3 = 8", "-5 + 3 = 8", False),
        ("5 + 3 = 8", "x = -5 + 3 = 8", False), ("9", "8-9", True), ("9", "[8,9]", True), ("9", "\u22129", False),
        ("-9", "-9", True), ("x", "-x", True),
    ],
)  # fmt: skip
def test_a_number_is_no_part_of_a_longer_one(text: str, said: str, stands: bool) -> None:
    task = Task("t", "?", meta={"solution_steps": (text,)})
    assert stated(task, [said]) == [stands]


def test_reference_steps_are_a_list() -> None:
    assert reference_steps(Task("t", "?", meta={"solution_steps": None})) == ()
    with pytest.raises(ValueError, match="'t' are one text"):
        reference_steps(Task("t", "?", meta={"solution_steps": "n is odd. so n = 9"}))


def test_stated_steps() -> None:
    assert stated(TASK, ["Since N  is odd, go on.", "so n = 91"]) == [True, False]
    assert stated(TASK, ["So n = 9."]) == [False, True]
    score, empty = coverage(TASK, [path(Message("assistant", "n is odd.")), path()])
    assert (score.value, score.parts, empty.value) == (0.5, {"coverage": 0.5}, 0.0)
    assert coverage(Task("u", "?"), [path()])[0].value == 0.0


def test_a_judge_is_asked_about_every_reference_step() -> None:
    """The second reply cannot be read, which is no coverage."""
    verdicts, asked = judged(
        judged_coverage()(TASK, ["It is 9."]), lambda text: "Covered" if "n is odd" in text else "covered or missing"
    )
    assert verdicts == (True, None)
    assert len(asked) == 2
    assert all("It is 9." in text and "How many?" in text for text in asked)


def test_judges_of_steps() -> None:
    """Every step is judged after those before it; nobody says that these are right."""
    scores, asked = judged(
        judged_steps()(TASK, ["a", "b", "c"]), lambda text: "wrong" if "step:\nb" in text else "right"
    )
    assert scores == [1.0, 0.0, 1.0]
    assert "a\nb" in asked[2]
    assert not any("all of them right" in text for text in asked)


def test_a_process_reward_model_scores_all_steps_at_once() -> None:
    def model(request: Ask, sample: int) -> str:
        replies = [m for m in request.messages if m.role == "assistant"]
        return "[0.9, 0.3]" if len(replies) == 2 else "[1]"

    flows = [modelled_steps()(TASK, ["a", "b"]), modelled_steps()(TASK, ["a", "b", "c"])]
    told = settle(flows, {"scorer": Scripted(model)})  # type: ignore[arg-type]
    assert told.values == ([0.9, 0.3], [None, None, None])
    assert told.spent["scorer"].asks == 2
