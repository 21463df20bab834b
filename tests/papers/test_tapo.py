"""TAPO: scores by source, the gate, the length of own tokens, and which groups train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.contracts.checks import MIXED, check_credit, check_reward

from ferrule.core.arrays import apply
from ferrule.core.records import Call, Message, Observation, Score, Task, Trajectory, Turn
from ferrule.objectives.reduce import token_mean
from ferrule.papers import find, tapo
from ferrule.papers.tapo import experiment
from ferrule.papers.tapo.scores import final_answer, normal_form, soft_score, text_gate
from ferrule.train.grpo import grpo
from ferrule.train.loop import Settings, check

FACT = Task("t", "?", answer="USA", meta={"source": "nq"})
PLAIN = Task("t", "?", answer="4", meta={"verifier": "numeric"})


def episode(
    calls: Sequence[tuple[str, Any]], answer: str | None = "USA", *, text: str = "", tokens: int = 10, task: Task = FACT
) -> Trajectory:
    """One turn of calls (tool and status), then the answer; ``tokens`` are written in all."""
    turns = []
    if calls:
        reply = Message("assistant", text, calls=tuple(Call(name, {"query": "q"}) for name, _ in calls))
        seen = tuple(Observation("some text", status=status) for _, status in calls)
        turns.append(Turn(0, None, (1, 2), (), (), reply, observations=seen))
    last = Message("assistant", answer or text)
    ids = tuple(range(tokens))
    turns.append(Turn(len(turns), len(turns) - 1 if turns else None, (3,), ids, (-0.1,) * tokens, last))
    return Trajectory(task, tuple(turns), answer)


def test_a_found_fact() -> None:
    (score,) = tapo.tapo_reward(FACT, [episode([("search", "ok")])])
    assert (score.value, score.parts["acc"]) == (1, 1)
    assert score.info["calls"] == {"search": 1}
    assert tapo.tapo_reward(FACT, [episode([("search", "ok")])], reference=True)[0].value == 1


def test_calls_are_counted_per_tool() -> None:
    (score,) = tapo.tapo_reward(FACT, [episode([("search", "ok"), ("code", "error"), ("search", "ok")])])
    assert score.info["calls"] == {"search": 2, "code": 1}


def test_scores_of_facts() -> None:
    """One letter in ten is wrong: .9, which is not above .9. Two edits in three letters are too far."""
    assert soft_score("Washingtan", ["Washington", "DC"], source="nq") == 0.9
    assert soft_score("The USA", "usa", source="nq") == 1
    assert soft_score("UAS", "usa", source="nq") == 0
    near = replace(FACT, answer=["Washington", "DC"])
    (score,) = tapo.tapo_reward(near, [episode([], "Washingtan", task=near)])
    assert (score.value, score.parts["acc"]) == (0.9, 0)


def test_scores_of_numbers() -> None:
    assert soft_score("1.0005", "1", source="calculator") == 1
    assert soft_score("1.0015", "1", source="calculator") == 0
    assert soft_score("1+2i", "1 + 2i", source="calculator") == 1
    assert soft_score("0.999", "1", source="calculator") == soft_score("1.001", "1", source="calculator") == 1
    assert soft_score("two", "2", source="complex") == 1
    assert soft_score("about 105.1 km", "100", source="complex") == 0
    assert soft_score("104", "100", source="complex") == 1
    assert soft_score("two", "2", source="gsm8k") == 1
    assert soft_score("1,234", "1234", source="dapo_math") == 1
    assert soft_score("204", "204", source="aime2025") == 1


@pytest.mark.parametrize("source", ["nq", "calculator", "complex", "default"])
@pytest.mark.parametrize("answer", [None, "", "+", "--1", "1e999", "nan", "é" * 300])
def test_no_answer_breaks_a_rule(source: str, answer: str | None) -> None:
    assert soft_score(answer, "7", source=source) == 0


def test_an_unknown_source_is_refused() -> None:
    with pytest.raises(ValueError, match="did you mean 'gsm8k'"):
        soft_score("1", "1", source="gsm8")


def test_only_the_end_of_an_answer_counts() -> None:
    assert soft_score("usa" + "x" * 100, "usa", source="nq") == 0
    assert normal_form(" Twelve ") == "12"
    assert final_answer("<answer>a</answer><answer> b </answer>") == " b "
    assert final_answer("bare") == "bare"


GOOD = "<think>a</think><search>b</search><response>c</response><answer>USA</answer>"


@pytest.mark.parametrize(
    ("text", "published", "strict"),
    [
        (GOOD, True, True),
        (GOOD + " indeed", False, False),
        ("<answer>a</answer><think>b</think>", False, False),
        ("<tool>x</tool><answer>a</answer>", False, False),
        ("well <think>a</think> so <answer>b</answer>", True, False),
        ("<Think>a</Think><answer></answer>", True, True),
        ("<think>never closed<answer>a</answer>", True, False),
        ("", False, False),
        ("<answer>", False, False),
    ],
)
def test_gate(text: str, published: bool, strict: bool) -> None:
    assert text_gate(text) is published
    assert text_gate(text, anchored=True) is strict


def test_gate_is_quick_on_tags_that_never_close() -> None:
    assert not text_gate("<a>" * 30_000)
    assert not text_gate("".join(f"<t{i}>" for i in range(5_000)))


def test_wrong_form_costs_one() -> None:
    """A result block of the model's own passes the published gate and not the record of calls."""
    broken = [episode([("search", "malformed")]), episode([], None), episode([], "USA<response>x</response>")]
    assert [s.value for s in tapo.tapo_reward(FACT, broken)] == [-1, -1, -1]
    assert [s.parts["acc"] for s in tapo.tapo_reward(FACT, broken)] == [0, 0, 0]
    invented = episode([("search", "ok")], text="<response>x</response>")
    assert tapo.tapo_reward(FACT, [invented])[0].value == -1
    assert tapo.tapo_reward(FACT, [invented], reference=True)[0].value == 1
    assert tapo.tapo_reward(FACT, [episode([], "")])[0].value == 0


@pytest.mark.parametrize(
    ("text", "own", "published"),
    [
        ("USA", 1, 1),
        ("<think>a</think>USA", 1, 1),
        ("<think>a</think><answer>USA</answer>", 1, 1),
        ("<Think>a</Think><Answer>USA</Answer>", 1, 1),
        ("<answer>USA</answer> indeed", -1, -1),
        ("<answer>USA</answer><think>b</think>", -1, -1),
        ("<foo>x</foo><answer>USA</answer>", -1, -1),
        ("<think>USA</think>", -1, -1),
        ("<answer></answer>", 0, 0),
    ],
)
def test_the_form_of_the_last_reply(text: str, own: float, published: float) -> None:
    """As the plain loop hands it on, tags and all."""
    assert tapo.tapo_reward(FACT, [episode([], text)])[0].value == own
    assert tapo.tapo_reward(FACT, [episode([], text)], reference=True)[0].value == published


def test_calls_that_end_the_episode_are_not_counted() -> None:
    ended = Observation("USA", terminal=True)
    reply = Message("assistant", "<think>a</think>", calls=(Call("finish"),))
    (score,) = tapo.tapo_reward(
        FACT, [Trajectory(FACT, (Turn(0, None, (1,), (2,), (-0.1,), reply, (), (ended,)),), "USA")]
    )
    assert (score.value, score.info["calls"]) == (1, {})


def test_a_missing_gold_is_no_text() -> None:
    with pytest.raises(ValueError, match="no gold"):
        soft_score("None", None, source="gsm8k")


def test_length_of_own_tokens_has_no_floor() -> None:
    group = [episode([], tokens=n) for n in (500, 1024, 1536, 2048, 3000)]
    values = [score.parts["overlong"] for score in tapo.tapo_reward(FACT, group)]
    assert values == pytest.approx([0, 0, -0.5, -1, -1.9296875])
    assert [s.value for s in tapo.tapo_reward(FACT, group)] == pytest.approx([1 + v for v in values])


def test_a_task_without_a_source_is_judged_by_the_base() -> None:
    (score,) = tapo.tapo_reward(PLAIN, [episode([], "it is 4.0", task=PLAIN)])
    assert (score.value, score.parts["acc"]) == (1, 1)


@pytest.mark.parametrize(
    ("accs", "kept"), [([1, 1, 1, 1], False), ([0, 1, 0, 0], True), ([0, 0, 0, 0], False), ([1], True)]
)
def test_filter(accs: Sequence[int], kept: bool) -> None:
    """Rewards may differ by length where accuracies do not: such a group is dropped."""
    keep = tapo.recipe(grpo()).keep
    assert keep is not None
    scores = [Score(a - 0.1 * i, parts={"acc": float(a)}) for i, a in enumerate(accs)]
    assert keep([], scores) is kept


def test_pieces_keep_the_promises_of_their_kinds() -> None:
    check_reward(tapo.tapo_reward)
    check_credit(tapo.thinned)
    check_credit(tapo.recipe(grpo()).credit)


def test_observations_in_the_denominator_scale_the_advantage() -> None:
    """Two own tokens, and two observations within the response: half."""
    turn_NT = np.asarray([[-1, 0, -1, -1, 1, -1]])
    adv_NT = np.where(turn_NT >= 0, 1.0, 0.0)
    thin = tapo.thinned(adv_NT, turn_NT, np.asarray([5]))
    assert thin.tolist() == (adv_NT / 2).tolist()
    assert not tapo.thinned(np.zeros((1, 2)), np.full((1, 2), -1), np.asarray([0])).any()


def test_recipe_is_sound() -> None:
    changed = tapo.recipe(grpo())
    assert changed.minibatches == 4
    assert check(changed, Settings(per_device_train_batch_size=8)) == 2
    assert changed.objective.keywords == {"lo": 0.2, "hi": 0.28, "dual": 10.0}
    assert (changed.reduce, changed.refill, changed.samples) == (token_mean, 9, 4)
    published = tapo.recipe(grpo(), reference=True)
    seen = replace(MIXED, size_N=np.full(len(MIXED.size_N), MIXED.turn_NT.shape[1]))
    plain, thin = apply(changed.credit, seen), apply(published.credit, seen)
    assert np.abs(thin).sum() < np.abs(plain).sum()


def test_exact_evaluation_agrees_with_play() -> None:
    from ferrule.studies.table import Player

    rng = np.random.default_rng(100)
    logits = rng.normal(size=(9, 4))
    chance = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = experiment.evaluate(chance)
    for kind in experiment.NEEDS:
        task = Task(kind, "?", "right", meta={"kind": kind})
        played = [experiment.play(task, Player(chance, rng)) for _ in range(3000)]
        assert np.mean([t.answer == "right" for t in played]) == pytest.approx(found[f"accuracy {kind}"], abs=0.03)
        assert np.mean([len(t.calls) for t in played]) == pytest.approx(found[f"calls {kind}"], abs=0.08)


def test_claim_runs_and_is_honest_about_its_data() -> None:
    first = tapo.claim("tiny", seeds=(0, 1, 2))
    again = experiment.trained("tapo", seed=1, steps=experiment.SCALES["tiny"])
    assert again == {name: numbers[1] for name, numbers in first.arms["tapo"].items()}
    assert set(first.arms) == set(experiment.ARMS)
    assert min(first.arms["tapo"]["informative groups"]) == 1
    assert first.verdict in ("held", "not held", "undecided")
    with pytest.raises(ValueError, match="known: small, tiny"):
        tapo.claim("large")


def test_paper_is_found() -> None:
    assert find("tapo") is tapo.PAPER
