"""TIM: worked examples, signs of myopia, judged questions, pairs of equal answers, and the stand-in."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from tests.rewards.judges import judged
from tests.toys import WORLDS, tiny_policy

from ferrule.agents.react import ToolLoop
from ferrule.agents.search import Budget
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, Observation, Task, Trajectory, Turn, plain_text
from ferrule.data.formats import Pair
from ferrule.evaluate.methods import known_of
from ferrule.evaluate.wins import by_calls, wins
from ferrule.objectives.preference import dpo
from ferrule.papers import find, tim
from ferrule.policies.scripted import Scripted
from ferrule.rewards.derivation import missing, right_steps, split_steps, stated
from ferrule.rewards.pairwise import agreed
from ferrule.rewards.signs import high_risk, patterns, signs
from ferrule.studies.standins.lemmas import Lemmas, after, right_lemmas, solved
from ferrule.train.grpo import grpo

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_worked_examples() -> None:
    """1 wins, 2 miss rate, 3 right steps, 4 both orders, 6 buckets; each is worked out in the test of its module."""
    counted = wins([1.0] * 5 + [0.0] * 3 + [0.5] * 2)
    assert [counted[name] for name in ("first", "second", "tie", "gap", "decided")] == pytest.approx(
        [0.5, 0.3, 0.2, 0.2, 0.625]
    )
    rate = missing([[True, True, True, False], [True, False]])
    assert (rate.mean, rate.pooled) == (pytest.approx(0.375), pytest.approx(1 / 3))
    steps = right_steps([[0.9, 0.3, 0.8], [0.7]])
    assert (steps.mean, steps.pooled) == (pytest.approx(0.8333, abs=1e-4), pytest.approx(0.75))
    assert [agreed("1", "2"), agreed("1", "1"), agreed("tie", "1")] == [1.0, 0.5, 0.5]
    assert list(by_calls([2, 3, 7], [0.6, 0.8, 0.1], (1, 5, 10)).values())[:3] == [None, pytest.approx(0.7), 0.1]


def test_dpo_worked() -> None:
    """Chosen -12 (ref -13), rejected -14 (ref -13), beta .5: margin .5 * (1 + 1) = 1, loss -log sigmoid(1) = .3133."""
    chosen, rejected, reference = (torch.tensor([value]) for value in (-12.0, -14.0, -13.0))
    loss = dpo(chosen, rejected, reference, reference, beta=0.5)
    assert loss.item() == pytest.approx(math.log1p(math.exp(-1.0)))
    assert loss.item() == pytest.approx(0.3133, abs=1e-4)


TASK = Task("t", "How many?", "9", meta={"solution_steps": ("n is odd", "so n = 9")})


def played(*turns: tuple[str, str, str], answer: str = "9") -> Trajectory:
    """A trajectory of turns: what was said, the code that was called ("" for none), and what it printed."""
    made = []
    for number, (text, code, printed) in enumerate(turns):
        calls = (Call("python", {"code": code}, id=f"c{number}"),) if code else ()
        seen = (Observation(printed),) if code else ()
        reply = Message("assistant", text, calls)
        made.append(Turn(number, number - 1 if number else None, (), (), (), reply, observations=seen))
    return Trajectory(TASK, tuple(made), answer)


def test_signs_and_patterns() -> None:
    myopic = played(("", "for i in range(9): print(i)", "8\n9"), ("The answer is 9.", "", ""))
    seen = signs(myopic)
    # four words of derivation, and five of code
    assert (seen.calls, seen.before, seen.after, seen.echoed, seen.loops, seen.checks) == (1, 0.0, 1, True, True, False)
    assert seen.own == pytest.approx(4 / 9)
    assert {name for name, flag in patterns(seen).items() if flag} == {
        "enumeration", "skipped derivation", "premature stop",
    }  # fmt: skip
    derived = played(("n is odd. So n = 9.", "print(9)", "9"), ("It agrees.", "", ""), ("It is 9.", "", ""))
    seen = signs(derived)
    assert (seen.before, seen.after, seen.echoed) == (pytest.approx(2 / 4), 2, False)
    assert not any(patterns(seen).values())
    assert not high_risk(seen)
    assert high_risk(seen, most=0)
    checked = played(("Let n be odd.", "print(9)", "9"), ("This confirms it. So it is 9.", "", ""))
    assert patterns(signs(checked)) == {
        "enumeration": False, "skipped derivation": False, "check as guarantee": True, "premature stop": False,
    }  # fmt: skip
    alone = signs(played(("So n = 9.", "", "")))
    assert (alone.calls, alone.before, alone.after, alone.own) == (0, 1.0, 0, 1.0)
    assert not high_risk(alone)
    for printed in ("9.5", "0.9", "-9", "19", "9,000"):
        assert not signs(played(("", "print(x)", printed), ("It is 9.", "", ""))).echoed
    assert not signs(played(("", "print(x)", "a b"), ("Done.", "", ""), answer=" ")).echoed


def test_myopia_is_judged_where_the_risk_is_high() -> None:
    paths = [
        played(("", "print(9)", "9"), ("The answer is 9.", "", "")),
        played(("", "print(3 * 3)", "9"), ("n is odd. So n = 9.", "", "")),
        played(("So n = 9.", "", "")),
    ]
    judge = Scripted(lambda request, sample: "sound" if "n is odd" in plain_text(request.messages[-1]) else "myopic")
    assert tim.myopic_share(paths, {"judge": judge}) == {"high risk": pytest.approx(2 / 3), "myopic": 0.5}
    assert tim.myopic_share([], {"judge": judge}) == {"high risk": None, "myopic": None}
    assert tim.myopic_share(paths, {"judge": Scripted(["perhaps"] * 9)})["myopic"] is None


def test_questions_to_judges() -> None:
    kind, (asked,) = judged(tim.error_kind(TASK, ["n is odd", "n = 8"], 1), lambda text: "An assumption.")
    assert kind == "assumption"
    assert "Steps before:\nn is odd\n" in asked
    assert "Wrong step:\nn = 8\n" in asked
    assert judged(tim.needs_more("Prove it."), lambda text: "helpful")[0] is True
    assert judged(tim.needs_more("Prove it."), lambda text: "sufficient")[0] is False
    assert judged(tim.needs_more("Prove it."), lambda text: "helpful or sufficient")[0] is None


def test_results_are_evidence() -> None:
    agent = tim.as_evidence(ToolLoop(system="Be brief.", turns=3))
    assert agent == ToolLoop(system=f"{tim.EVIDENCE}\n\nBe brief.", turns=3)
    assert tim.as_evidence(ToolLoop()).system == tim.EVIDENCE
    with pytest.raises(TypeError, match="Budget has no system text"):
        tim.as_evidence(Budget())


def test_records_of_pymath() -> None:
    """Three of five residues are for evaluation: about 60 %; each problem is in one part."""
    rows = [
        {"id": i, "source": "AIME", "problem": f"What is {i}?", "answer": i, "solution_steps": ["so"]}
        for i in range(500)
    ]
    test, train = (tim.pymath(rows, part=part) for part in ("test", "train"))
    assert len(test) + len(train) == 500
    assert 0.55 < len(test) / 500 < 0.65
    assert test[0].meta["solution_steps"] == ("so",)
    with pytest.raises(ValueError, match="record 1 has no list of solution_steps"):
        tim.pymath([{**rows[0], "solution_steps": "so"}])
    with pytest.raises(ValueError, match="record 2 has no problem and no answer"):
        tim.pymath([rows[0], {"solution_steps": ["so"]}])
    with pytest.raises(ValueError, match="did you mean 'test'"):
        tim.pymath(rows, part="tset")


def test_quality_by_judges() -> None:
    full, half, none = (played((text, "", "")) for text in ("n is odd. So n = 9.", "n is odd.", "Hm."))
    assert [score.value for score in tim.by_coverage(stated, {})(TASK, [full, half, none])] == [1.0, 0.5, 0.0]

    def judge(request: Ask, sample: int) -> str:
        first, second = plain_text(request.messages[-1]).split("Candidate 2:")
        longer = len(first.split("Candidate 1:")[1]) - len(second.split("Which is")[0])
        return '{"better": "1"}' if longer > 0 else '{"better": "2"}'

    scores = tim.by_comparison({"judge": Scripted(judge)})(TASK, [half, full, none])
    assert [(score.value, score.drop) for score in scores] == [(0.5, False), (1.0, False), (0.0, False)]


def test_what_a_judge_leaves_open_is_in_no_pair() -> None:
    """A reply about one step of the second cannot be read; of three comparisons the one of 0 and 2 has no result."""
    paths = [played((text, "", "")) for text in ("n is odd. So n = 9.", "n is odd.", "Hm.")]
    unsure = tim.by_coverage(lambda task, steps: [True, None] if len(steps) == 1 else [True, True], {})(TASK, paths)
    assert [score.drop for score in unsure] == [False, True, True]

    def better(task: Task, first: str, second: str) -> float | None:
        return None if "9" in first and "Hm" in second else 1.0

    scores = tim.by_comparison({}, better)(TASK, paths)
    assert [(score.value, score.drop) for score in scores] == [(1.0, True), (0.5, False), (0.0, True)]


def test_only_right_answers_with_a_call_are_alike() -> None:
    called = played(("", "print(9)", "9"), ("9", "", ""))
    assert tim.equal_answers(called) == "right"
    assert tim.equal_answers(replace(called, answer="8")) is None
    assert tim.equal_answers(played(("9", "", ""))) is None


def test_pairs_keep_the_answer_and_differ_in_derivation() -> None:
    """One of two samples states the step after its call, and is preferred; both end in the same answer."""
    world = WORLDS["user"]
    codec = tiny_policy().renderer.codec

    def model(request: Ask, sample: int) -> str:
        task = next(t for t in tasks if t.prompt == plain_text(request.messages[0]))
        if request.messages[-1].role != "tool":
            text = task.prompt[len("What is ") : -1]
            return codec.write(Message("assistant", "", (Call("calculator", {"expression": text}),)))
        return f"I add them. {task.answer}" if request.seed is not None and odd(request) else str(task.answer)

    seen: dict[str, int] = {}

    def odd(request: Ask) -> bool:
        prompt = plain_text(request.messages[0])
        seen[prompt] = seen.get(prompt, 0) + 1
        return seen[prompt] % 2 == 1

    tasks = [
        replace(task, meta={**task.meta, "solution_steps": ("I add them",), "verifier": "numeric"})
        for task in world.tasks("train", 2)
    ]

    class Stated:
        name = world.name

        def tasks(self, split: str, count: int, **how: object) -> list[Task]:
            return tasks[:count]

        start = staticmethod(world.start)

    policy = Scripted(model, renderer=tiny_policy().renderer)
    base = replace(grpo(num_generations=2), agent=ToolLoop())
    (stage,) = tim.method(base, Stated(), tasks=2).stages  # type: ignore[arg-type]
    drawn = stage.data(policy, 0)  # type: ignore[union-attr]
    assert len(drawn.items) == 2
    for pair in drawn.items:
        assert isinstance(pair, Pair)
        chosen, rejected = (sum(turn >= 0 for turn in row.turn) for row in (pair.chosen, pair.rejected))
        assert chosen > rejected
    assert stage.reference  # type: ignore[union-attr]


def test_chains_of_lemmas() -> None:
    world = Lemmas(3)
    train, test = world.tasks("train", 60), world.tasks("test", 60)
    assert not {task.id for task in train} & {task.id for task in test}
    assert train == world.tasks("train", 60)
    assert after(7, "+2 -5") == [9, 4]
    with pytest.raises(ValueError, match="give one or more"):
        after(7, "2 + 3")
    for task in (*train, *test):
        values = [task.meta["start"], *after(task.meta["start"], " ".join(task.meta["parts"]))]
        for place, lemma in enumerate(task.meta["solution_steps"]):
            name, worked, value = lemma.split(" = ")
            before, sign, digit = worked.split()
            assert (name, int(before), int(value)) == ("abc"[place], values[place], values[place + 1])
            assert int(value) == int(before) + int(sign + digit)
        assert all(0 <= value <= 99 for value in values)
        assert all(0 < abs(new - old) <= 33 for old, new in pairwise(values))
        assert task.answer == str(values[-1])


def test_solutions_are_right_and_lose_lemmas_as_told() -> None:
    world, rng = Lemmas(3), random.Random(0)
    for task in world.tasks("train", 20):
        with_tool = world.start(task)
        messages, _ = solved(task, rng, tools=True, myopic=0.0)
        results = [m for m in messages if m.role == "tool"]
        calls = [call for m in messages for call in m.calls]
        assert [plain_text(m) for m in results] == [with_tool.act(call).text for call in calls]
        said = tuple(s for m in messages if m.role == "assistant" for s in split_steps(plain_text(m)))
        assert stated(task, said) == [True] * 3
        assert right_lemmas(task, said) == [1.0] * 3 + [None]
        bare, _ = solved(task, rng, tools=True, myopic=1.0)
        assert "=" not in "".join(plain_text(m) for m in bare if m.role == "assistant")
        alone, tools = solved(task, rng, tools=False, myopic=1.0)
        assert (len(alone), tools) == (2, ())
    assert right_lemmas(task, ["So it is.", "a = 98 + 1 = 99."]) == [None, 0.0]


def test_paper_is_found() -> None:
    assert find("tim") is tim.PAPER
    assert "tim-method" in known_of([tim.PAPER]).methods
