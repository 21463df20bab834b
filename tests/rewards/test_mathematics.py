r"""Mathematical answers: which are equal and which are not, in both directions; and comparisons that take too long."""

from __future__ import annotations

import threading
import time

import pytest

from ferrule.core.records import Task, Trajectory
from ferrule.rewards.comparing import limited
from ferrule.rewards.mathematics import equal, formula
from ferrule.rewards.outcome import outcome
from ferrule.rewards.verify import compare, verify

EQUAL = [
    # numbers
    (r"11\sqrt{2}", r"\sqrt{242}"), (r"\frac{1}{2}", "0.5"), ("1/2", r"\dfrac12"), ("1,000", "1000"), (r"1{,}000", "1000"),
    (r"2\frac{1}{2}", "2.5"), (r"90^\circ", "90"), ("10^{5}", "100000"), ("2^{10}", "1024"), (r"\sqrt{8}", r"2\sqrt{2}"),
    (r"-\frac{1}{2}", "-0.5"), (r"\frac{-1}{2}", r"-\frac12"), (r"3\pi", r"\pi \cdot 3"), ("1.50", "1.5"), ("5!", "120"),
    (r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{3}}"), (r"\log_2 8", "3"), (r"\binom{5}{2}", "10"), ("|{-3}|", "3"),
    (r"\infty", r"\infty"),
    # units, signs of currencies, per cent
    (r"5\text{ cm}", "5"), ("5 cm", "5"), ("$5", "5"), (r"\$5", "5"), (r"10\%", "10%"),
    (r"12\text{ square units}", "12"), (r"\text{5 apples}", "5"), ("10 meters", "10 m"), ("5 square cm", r"5\text{ cm}^2"),
    ("5 hours", "5 hrs"), ("100 miles per hour", "100 mph"), ("$100", "100 dollars"), ("20 percent", r"20\%"),
    ("5cm", "5"), (r"90^\circ", "90 degrees"), (r"1.5\times10^3", "1500"), ("about 5 kilometers", "5 km"),
    ("It takes 15.", "15 minutes"), ("She has $10 left.", "10 dollars"), ("He walked 5 kilometers in 2 h: 5 km", "5 km"),
    # numbers as people and programs write them
    ("3 1/2", "7/2"), ("1.5e3", "1500"), ("2e-3", "0.002"), ("1 000", "1000"), (r"1\,000", "1000"), ("negative 5", "-5"),
    ("\u22125", "-5"), ("\u2013 5", "-5"), ("3 million", "3000000"), ("$1.5 billion", "1500000000"), ("2 dozen", "24"),
    ("**42**", "42"), ('"Paris"', "Paris"), ("42 is the answer", "42"), ("5.00", "5"), ("+5", "5"), ("3 - 1", "2"),
    # algebra
    ("2ab", "2ba"), ("2xy + 3", "3 + 2yx"), ("xy + 3", "yx+3"), (r"\frac{1}{2}mv^2", r"\frac{m v^2}{2}"), ("3t", "t \\cdot 3"),
    ("(ab)^2", "a^2b^2"), ("a=1, b=2", "b=2, a=1"), ("x=1, y=2", "(1,2)"), ("1, 2", "(1,2)"), ("area = 5", "5"), ("x=2 or x=3", "3, 2"),
    ("p - q", "-q + p"), ("6 - 5i", "-5i+6"), ("x^2+2x+1", "(x+1)^2"), ("x = 5", "5"), ("y = 2x + 1", "y=2x+1"),
    (r"\sin^2 x + \cos^2 x", "1"), ("x>3", "x > 3"), ("x>3", "3<x"),
    # the imaginary unit, both signs, degrees, and formulas as programs write them
    (r"e^{i\pi}", "-1"), (r"e^{2\pi i}", "1"), ("i^2", "-1"), (r"\sqrt{-1}", "i"), ("-i", r"e^{-i\pi/2}"), ("4i", r"2i \cdot 2"),
    (r"3\sqrt{2}i", r"3i\sqrt{2}"), (r"e^{i\theta}", r"\cos\theta + i\sin\theta"), (r"\sin 30^\circ", "1/2"),
    (r"x = \frac{-1\pm\sqrt5}{2}", r"\frac{-1+\sqrt5}{2}, \frac{-1-\sqrt5}{2}"), (r"2 \mp \sqrt{3}", r"2+\sqrt3, 2-\sqrt3"),
    ("pi/2", r"\frac{\pi}{2}"), ("x**2 + 1", "x^2+1"), ("2*sqrt(3)", r"2\sqrt3"), (r"\infty", "infinity"), (r"\binom52", "10"),
    (r"\ln e", "1"), (r"\sqrt[3]{27}", "3"), (r"\lim_{x\to 0}\frac{\sin x}{x}", "1"), (r"\int_0^1 x\,dx", r"\frac12"),
    # sets, tuples, intervals, matrices
    (r"x \geq 3", r"[3,\infty)"), (r"x \in (0,1)", "0<x<1"), (r"(-\infty,\infty)", r"\mathbb{R}"),
    (r"(3, \frac{\pi}{2})", r"(3, \pi/2)"), ("[0,1]", "[0, 1]"), ("[0,1]", "$[0,1]$"), (r"\{1,2,3\}", r"\{3,2,1\}"),
    ("1,2,3", "3, 1, 2"), (r"(-\infty, 3]", r"(-\infty,3]"), (r"(0,1)\cup(2,3)", r"(2,3) \cup (0,1)"), (r"\pm 2", "-2, 2"),
    (r"\left(1, 2\right)", "(1,2)"), ("(1,2,3)", "(1, 2, 3)"), (r"\emptyset", r"\emptyset"), (r"x \in [0,1]", "[0,1]"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
    ("1, 1, 2", "2, 1, 1"), (r"0.\overline{3}", "1/3"), (r"1.1\overline{6}", "7/6"), (r"\langle 1,2\rangle", "(1,2)"), (r"\varnothing", r"\emptyset"), ("(1,2),(3,4)", "(3,4), (1,2)"),
    (r"\boxed{2}, \boxed{3}", "3, 2"), (r"First \boxed{3}, finally \boxed{4}", "4"), (r"\boxed{\boxed{7}}", "7"),
    # text, and formulas in sentences
    ("2023-01-05", "2023-01-05"), ("12:05", "12:05"), ("10:30 AM", "10:30 am"), ("10 Downing Street", "10 downing street"),
    (r"\text{Evelyn}", "Evelyn"), ("evelyn", r"\text{Evelyn}"), ("A", "(A)"), ("The answer is (A).", "A"),
    (r"\text{No real solution}", "no real solution"), ("red and blue", "red and blue"), (r"\boxed{42}", "42"),
    (r"The answer is 11\sqrt{2}.", r"11\sqrt{2}"), (r"so $\frac{1}{2}$", "0.5"), ("Thus x = 3 or x = 5", "3, 5"),
]  # fmt: skip
DIFFERENT = [
    (r"1 - \sqrt{2}", "1"), (r"3\pi", "3"), (r"11\sqrt{2}", "11"), ("6 - 5i", "5"), ("6 - 5i", "6"), ("-5", "5"),
    (r"\frac{11}{2}", r"\frac{1}{12}"), ("1 1/2", "11/2"), (r"\frac{1}{2}", r"\frac{1}{3}"), ("0.5", "5"), ("1,000", "1"),
    ("10^5", "10"), ("2^{10}", "10"), (r"\sqrt{8}", "8"), (r"\sqrt{-1}", "1"), ("i", "1"), ("e", "2.7"), ("3:4", "4:3"),
    (r"\infty", r"-\infty"), ("p - q", "p + q"), ("p - q", "q - p"), ("x^2+2x+1", "x^2+2x+2"), ("x^2", "x"), ("x+y", "xy"),
    ("x^{12}", "x^1 2"), ("x=5", "x=6"), ("y=2x+1", "y=2x+2"), ("x>3", "x<3"), ("x>3", "3"), ("(3,1)", "(5,2)"),
    (r"e^{i\pi}", "1"), (r"e^{i\pi}", "i"), (r"e^{i}", "e"), ("2i", "2"), ("1+2i", "1-2i"), (r"\sqrt[3]{27}", "9"), (r"\ln 2", "2"),
    (r"\sin 30^\circ", "30"), (r"\sin 30^\circ", r"\frac{\sqrt3}{2}"), (r"1\pm\sqrt2", r"1+\sqrt2, 1+\sqrt3"), (r"x = \pm 2", "x = 2"),
    ("pi/2", "pi"), ("pi/2", "1/2"), ("x**2", "2"), ("pi", "3"), ("2^{x}", "x^2"), ("a_1", "a_2"), (r"x \geq 3", r"(3,\infty)"),
    # units and other words
    ("50 cents", "50 dollars"), ("5 days", "5 hours"), ("10:30 AM", "10:30 PM"), ("It takes him 15 hours.", "15 minutes"), ("He walked 5 miles.", "5 km"), ("The area is 5 cm^2.", r"5\text{ m}^2"),
    ("10 cm", "10 m"), ("5 km", "5 miles"), ("5 hours", "5 minutes"), ("5cm", "5mm"), (r"5\text{ cm}^2", r"5\text{ cm}^3"),
    (r"5\text{ cm}", r"5\text{ m}"), ("3/4 cup", "3/4 tsp"), ("5 men", "5 women"), ("100 miles per hour", "100 km per hour"),
    ("Apollo 11", "Voyager 11"), ("room 12", "floor 12"), ("10 Downing Street", "10 Baker Street"), ("3 million", "3"),
    ("negative 5", "5"), ("The answer is not 42.", "42"), ("It isn't 42.", "42"), ("5 dollars and 10 cents", "10"),
    ("5 to 6", "6"), ("5\u20136", "5"), ("from 3 to 10", "10"), ("10 out of 20", "20"), ("1 in 4", "4"), ("5 times 4", "4"),
    # what is no formula
    ("2023-01-05", "2023-02-04"), ("1/2/2023", "2/4/2023"), ("12:30", "2:05"), ("1.2.3", "1.2"), ("0x1F", "0"),
    ("192.168.0.1", "192.168.0.2"), ("3-1 score", "4-2 score"), ("New York", "York New"), ("listen here", "silent here"),
    ("no solution", "solution no"),
    # factors are no words
    ("2ab", "2"), ("2ab", "2cd"), ("3xy", "3"), ("2xy+3", "3"), ("2xy+3", "2xz+3"), ("xy + 3", "3"), ("3t", "3"),
    (r"2\pi r h", r"2\pi r"), (r"\frac{1}{2}mv^2", r"\frac{1}{2}"), ("10^{100}", "10^{99}"), ("101_2", "101_3"),
    ("3 1/2", "31/2"), ("3 1/2", "3/2"), ("1 000", "0"), ("1e5", "15"), ("0.333", r"\frac{1}{3}"), (r"\pi", "3.14"),
    # lists
    ("1,2,2", "1,2"), ("1,1,2", "1,2,2"), ("a=1, b=2", "a=2, b=1"), ("a=1, b=2", "2, 1"), ("x=1, y=2", "(2,1)"), ("2, 1", "(1,2)"), (r"0.\overline{3}", "0.3"),
    (r"\boxed{2}, \boxed{3}", "3"), (r"\langle 1,2\rangle", "(2,1)"), ("(1,2),(3,4)", "(1,2)"),
    ("(1,2)", "(2,1)"), ("(1,2)", "[1,2]"), ("[0,1]", "(0,1)"), ("(0,1]", "[0,1)"), ("[0,1]", "1"), ("1,2", "1,2,3"),
    (r"(3, \frac{\pi}{2})", "3"), (r"\{1,2\}", r"\{1,2,3\}"), ("1, 2", "12"), ("1 2", "12"), ("(1,2,3)", "(1,2)"),
    ("(1,2,3)", r"\{1,2,3\}"), ("(2,1,3)", "(1,2,3)"), (r"(-\infty, 3]", r"(-\infty,3)"), (r"(0,1)\cup(2,3)", "(0,1)"),
    (r"\pm 2", "2"), (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}2\\1\end{pmatrix}"), (r"\boxed{42}", "4"),
    (r"\text{Evelyn}", r"\text{Evan}"), ("Evelyn", "Carla"), ("A", "B"), ("The answer is (B).", "A"), ("AB", "BA"),
    (r"\text{yes}", r"\text{no}"), ("sine", "e"), (r"The answer is 1 - \sqrt{2} exactly.", "2"), ("", "5"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("pairs", "right"), [(EQUAL, True), (DIFFERENT, False), ([(a, a) for a, _ in EQUAL + DIFFERENT if a], True)]
)
def test_pairs_in_both_directions(pairs: list[tuple[str, str]], right: bool) -> None:
    assert len(pairs) >= 50
    wrong = [(a, b) for one, two in pairs for a, b in ((one, two), (two, one)) if equal(a, b) is not right]
    assert wrong == []


def test_of_a_sentence_its_last_formula_is_the_answer() -> None:
    said = {
        r"The area is 11\sqrt{2} square units.": r"11\sqrt{2}",
        "so 1,000 in all": "1,000",
        "p - q": "p - q",
        "x = 3 or x = 5": "x = 3, x = 5",
    }
    assert {text: formula(text) for text in said} == said


@pytest.mark.parametrize(
    ("name", "gold"), [("regex", r"(a+)+b"), ("regex", r"(a|a)*b|(a*)*c"), ("math-verify", "9^{9^{9^{9}}} + 1")]
)
def test_a_comparison_ends_at_its_limit(name: str, gold: str) -> None:
    compared = compare(name, "a" * 40 if name == "regex" else "8^{9^{9^{9}}}", gold, seconds=0.3)
    assert compared.value == 0.0
    if name == "regex":
        assert (compared.status, compared.problem) == ("timeout", "verifier 'regex' was stopped after 0.3 s")
    assert compare(name, "7", "7").value == 1.0  # a new helper takes its place


def test_an_expression_that_takes_long_ends_as_well() -> None:
    """Sorting 60,000 letters thousands of times takes some 200 ms until its budget of steps ends it."""
    gold = "len([0 for p in answer[:80] for q in answer[:80] if sorted(answer) == 'b']) == 0"
    compared = compare("python", "a" * 60_000, gold, seconds=0.02)
    assert (compared.value, compared.status) == (0.0, "timeout")


def test_a_limit_is_data_in_the_score() -> None:
    task = Task("t", "p", ["nothing", r"(a+)+b"], meta={"verifier": "regex"})
    path = Trajectory(task, (), answer="a" * 40)
    (score,) = outcome(task, [path])
    assert (score.value, score.info["comparison"]) == (0.0, "timeout")
    (right,) = outcome(task, [Trajectory(task, (), answer="nothing")])
    assert (right.value, dict(right.info)) == (1.0, {})


def test_helpers_are_used_again_and_by_several_threads() -> None:
    verify("regex", "a", "a")
    begin, results = time.monotonic(), list[float]()
    work = [threading.Thread(target=lambda: results.append(verify("regex", "ab", "a."))) for _ in range(6)]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert results == [1.0] * 6
    assert time.monotonic() - begin < 100


def test_an_invalid_gold_is_refused_and_the_helper_lives_on() -> None:
    with pytest.raises(ValueError, match="not a pattern"):
        limited("regex", "a", "(")
    assert limited("regex", "\ud800", ".").value == 1.0
