"""Three-way grades: forms, orders, tolerance, and judges that say nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.rewards.judges import judged

from ferrule.core.records import Message, Reply, Task, Trajectory
from ferrule.rewards.graded import Gold, Graded, gold_of, graded, judged_answer, same_values, three_way


@pytest.mark.parametrize(
    ("text", "gold"),
    [
        ("42", Gold(("42",))),
        ("Paris, France", Gold(("Paris, France",))),
        ("[b, a]", Gold(("b", "a"), ordered=False)),
        ("{b, a}", Gold(("b", "a"))),
        ('["x, y", 3]', Gold(("x, y", "3"), ordered=False)),
        ("{1,234, 5}", Gold(("1,234", "5"))),
        ("[a, b; c]", Gold(("a, b", "c"), ordered=False)),
        ("[[1, 2], [3]]", Gold(("[1, 2]", "[3]"), ordered=False)),
    ],
)
def test_brackets_say_whether_the_order_counts(text: str, gold: Gold) -> None:
    assert gold_of(text) == gold


@pytest.mark.parametrize(
    ("answer", "gold", "grade"),
    [
        ('{"answer": [42]}', "42", "correct"),
        ('{"answer": "42"}', "42", "correct"),
        ('Done.\n```json\n{"final_answer": ["a", "b"]}\n```', "[b, a]", "correct"),
        ('{"answer": ["a", "b"]}', "{b, a}", "wrong"),
        ('{"answer": ["b", "a"]}', "{b, a}", "correct"),
        ('{"answer": ["a", "a"]}', "[a, b]", "wrong"),  # each expected value once
        ('{"answer": ["a", "b", "c"]}', "[a, b]", "wrong"),
        ("So it is\n42", "42", "misformatted"),
        ("b, a", "[a, b]", "misformatted"),
        ("[b, a]", "{a, b}", "wrong"),
        ("Paris, France", "paris,  france", "misformatted"),
        ('{"answer": [109]}', "100", "correct"),  # 9 % off
        ('{"answer": [111]}', "100", "wrong"),
        ('{"answer": ["$1,050"]}', "1000", "correct"),
        ('{"answer": [0.01]}', "0", "wrong"),  # 10 % of 0 is nothing
        ('{"result": [42]}', "42", "wrong"),
        ('```json\n{"x": 1}\n```\nso\n```JSON\n{"final_answer": [42]}\n```', "42", "correct"),  # the last with a key
        ('{"answer": null, "final_answer": [42]}', "42", "correct"),
        ('The answer is {"final_answer": [42]}', "42", "misformatted"),
        ('{"answer": "b, a"}', "[a, b]", "misformatted"),  # one text in the place of a list
        ('{"answer": ["[b, a]"]}', "[a, b]", "misformatted"),
        ('{"answer": [[1, 2], [3]]}', "[[1, 2], [3]]", "correct"),
        ('{"answer": [0.33]}', "0.3", "correct"),  # 10 % off, whatever floats make of it
        ('{"answer": ["e4"]}', "3", "wrong"),  # no number
        ('{"answer": ["42."]}', "42", "correct"),
        ('{"answer": ["3 4"]}', "34", "wrong"),
        ('{"answer": ["$ 1 050", "5 %"]}', "[5, 1000]", "correct"),
        ('{"answer": [5]}', "1e999", "wrong"),  # more than a float holds: a text
        ('{"answer": ["caf\u00e9"]}', "Cafe\u0301", "correct"),
        ("", "42", "wrong"),
    ],
)
def test_grades(answer: str, gold: str, grade: Graded) -> None:
    assert graded(answer, gold_of(gold)) == grade


def test_the_tolerance_is_a_setting_and_matches_one_to_one() -> None:
    """Within 10 %, 100 passes for 95 and for 109, and 95 for 95 alone: 100 must stand for 109."""
    assert same_values(["100", "95"], Gold(("95", "109"), ordered=False))
    assert not same_values(["100", "95"], Gold(("95", "109"), ordered=False), tolerance=0.05)
    assert graded('{"answer": [101]}', gold_of("100"), tolerance=0.0) == "wrong"
    with pytest.raises(ValueError, match="tolerance is 1"):
        same_values([], Gold(()), tolerance=1)


@pytest.mark.parametrize("answer", ["[" * 9999, '{"answer": ' + "[" * 9999, f'["{"[" * 9999}'])
def test_an_answer_nested_too_deeply_is_wrong(answer: str) -> None:
    assert graded(answer, gold_of("3")) == "wrong"


def test_no_answer_is_wrong() -> None:
    assert graded(None, gold_of("42")) == "wrong"


def test_a_badly_formatted_answer_is_rewarded_and_said_to_be_one() -> None:
    task = Task("t", "?", "[a, b]")
    paths = [Trajectory(task, (), text) for text in ('{"answer": ["b", "a"]}', "b, a", "c", None)]
    scores = three_way()(task, paths)
    assert [(score.value, score.parts["formatted"]) for score in scores] == [(1, 1), (1, 0), (0, 0), (0, 0)]
    listed = replace(task, answer=["a", "b"])
    assert [score.value for score in three_way()(listed, paths)] == [1, 1, 0, 0]
    values = replace(task, answer=[None, True, 3])
    (score,) = three_way()(values, [Trajectory(values, (), '{"answer": [3, true, null]}')])
    assert score.value == 1


@pytest.mark.parametrize(
    ("said", "grade"),
    [
        ("Correct.", "correct"), ("It is misformatted", "misformatted"), ("WRONG", "wrong"),
        ("It passes!", None), ("correct or wrong", None), ("not correct", None),
    ],
)  # fmt: skip
def test_judges_grade_or_say_nothing(said: str, grade: Graded | None) -> None:
    result, (question,) = judged(judged_answer("Q?", "41", "{41, 42}"), lambda text: said)
    assert result == grade
    assert "{41, 42}" in question
    assert "10%" in question


def test_a_reply_that_was_cut_off_grades_nothing() -> None:
    flow = judged_answer("Q?", "41", "41")
    next(flow)
    with pytest.raises(StopIteration) as stop:
        flow.send([Reply(Message("assistant", "correct"), finish="length")])
    assert stop.value.value is None


def test_without_an_answer_nobody_is_asked() -> None:
    assert judged(judged_answer("Q?", None, "41"), lambda text: "correct") == ("wrong", [])
