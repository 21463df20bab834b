"""CodeDance: pay by difficulty, blame per turn, and the two levels together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.contracts.checks import MIXED, check_credit, check_reward

from ferrule.core.arrays import Signals, apply, pack
from ferrule.core.records import Call, Message, Observation, Score, Task, Trajectory, Turn
from ferrule.papers import codedance, find
from ferrule.papers.claims import codedance as claim
from ferrule.train.grpo import grpo
from ferrule.train.loop import Settings, check

TASK = Task("t", "?", answer="yes")


def episode(right: bool, outcomes: Sequence[bool | str], *, answer: str | None = None, closed: bool = True) -> Any:
    """One turn per outcome (ok or not, or the text of an observation of status ok), then the answering turn."""
    turns = []
    for k, good in enumerate(outcomes):
        seen = Observation(good) if isinstance(good, str) else Observation("x", "ok" if good else "error")
        reply = Message("assistant", calls=(Call("code", id="c"),))
        turns.append(Turn(k, k - 1 if k else None, (9,), (1, 2), (-0.1, -0.1), reply, observations=(seen,)))
    if closed:
        k = len(turns)
        turns.append(Turn(k, k - 1 if k else None, (9,), (3,), (-0.1,), Message("assistant", "yes")))
    return Trajectory(TASK, tuple(turns), answer or ("yes" if right else "no"))


GROUP = [episode(True, [True, True]), episode(True, []), episode(False, [False, True]), episode(False, [False])]


def packed(group: Sequence[Trajectory], **settings: Any) -> Signals:
    scores = codedance.balanced_reward(TASK, group, **settings)
    return pack(group, scores, [0] * len(group))


def test_difficulty() -> None:
    values = [codedance.difficulty(mu) for mu in (0, 0.25, 0.5, 0.75, 1)]
    assert values == pytest.approx([0.7820, 0.6808, 0.3000, -0.0808, -0.1820], abs=5e-5)


def test_returns_of_turns() -> None:
    """-.5 - .2 * .1 = -.52."""
    assert codedance.turn_returns([-0.5, 0, -0.5, 0]) == pytest.approx([-0.52, -0.1, -0.5, 0])
    assert codedance.turn_returns([]) == []


def test_rewards_of_a_group() -> None:
    scores = codedance.balanced_reward(TASK, GROUP)
    assert [s.parts["base"] for s in scores] == [1, 1, 0, 0]
    assert [s.parts["tools"] for s in scores] == [1.5, 0, 0.25, 0]
    assert [s.info["difficulty"] for s in scores] == pytest.approx([0.3] * 4)
    assert [s.value for s in scores] == pytest.approx([1.45, 1, 0.075, 0])
    assert [s.turns for s in scores] == [(0, 0, 0), (0,), (-0.5, 0, 0), (-0.5, 0)]


def test_credit_of_the_group() -> None:
    """Open turns are worth 0, 0, -.5, 0, -.5: mean -.2, spread .24495."""
    signals = packed(GROUP)
    adv_NT = codedance.two_levels(signals)
    heads = {(n, k): adv_NT[n][signals.turn_NT[n] == k][0] for n in range(4) for k in range(int(signals.turns_N[n]))}
    episodes = [heads[n, int(signals.turns_N[n]) - 1] for n in range(4)]
    assert episodes == pytest.approx([1.1524, 0.5190, -0.7830, -0.8885], abs=1e-4)
    assert [heads[0, k] for k in range(3)] == pytest.approx([1.3157, 1.3157, 1.1524], abs=1e-4)
    assert [heads[2, k] for k in range(3)] == pytest.approx([-1.0279, -0.6197, -0.7830], abs=1e-4)
    assert [heads[3, k] for k in range(2)] == pytest.approx([-1.1335, -0.8885], abs=1e-4)
    blame = codedance.turn_credit(signals)
    assert sorted({round(v, 4) for v in blame[signals.turn_NT >= 0]}) == [-1.2247, 0, 0.8165]
    assert not adv_NT[signals.turn_NT < 0].any()


def test_family_of_mathematics() -> None:
    """Three of four calls worked: .75 * 2."""
    (score,) = codedance.balanced_reward(TASK, [episode(True, [True, False, True, True])], family="math")
    assert (score.parts["base"], score.parts["tools"]) == (1.2, 1.5)
    with pytest.raises(ValueError, match="did you mean 'math'"):
        codedance.balanced_reward(TASK, [], family="maths")


def test_difficulty_is_the_mean_base_score_or_the_mean_accuracy() -> None:
    """Mathematics, one of two right: base 1.2 and 0, mean .6; 1.2 + 2 d. Without an answer the base is -.2."""
    halves = [episode(True, [True]), episode(False, [])]
    by_base = codedance.balanced_reward(TASK, halves, family="math")
    assert by_base[0].info["difficulty"] == pytest.approx(0.1100, abs=5e-5)
    assert [s.value for s in by_base] == pytest.approx([1.4201, 0], abs=5e-5)
    by_accuracy = codedance.balanced_reward(TASK, halves, family="math", difficulty_by="accuracy")
    assert [s.value for s in by_accuracy] == pytest.approx([1.8, 0])
    silent = [Trajectory(TASK, (), None), episode(True, [True])]
    scores = codedance.balanced_reward(TASK, silent)
    assert scores[0].info["difficulty"] == pytest.approx(0.4900, abs=5e-5)
    assert [s.value for s in scores] == pytest.approx([-0.2, 1.7350], abs=5e-5)
    with pytest.raises(ValueError, match="'base'"):
        codedance.balanced_reward(TASK, halves, difficulty_by="bases")


def test_what_counts_as_failure() -> None:
    quiet, mention = Observation(""), Observation("the Error rate is 3 %")
    failed = Observation("Traceback", "error")
    assert [codedance.succeeded(o) for o in (quiet, mention, failed)] == [True, True, False]
    assert [codedance.succeeded(o, reference=True) for o in (quiet, mention, failed)] == [False, False, True]
    late = Observation("was stopped after 15 s", "timeout")
    assert not codedance.succeeded(late)
    assert not codedance.succeeded(late, reference=True)
    (score,) = codedance.balanced_reward(TASK, [episode(True, ["Error 404 explained"])], reference=True)
    assert score.turns == (-0.5, 0)


def test_form_errors() -> None:
    silent = Trajectory(TASK, (), None)
    long = episode(True, [], answer="yes" * 400)
    scores = codedance.balanced_reward(TASK, [silent, long])
    assert [s.parts["base"] for s in scores] == [-0.2, -0.2]
    good = "<think>a</think><answer>b</answer>"
    assert not codedance.tag_error(good)
    assert codedance.tag_error(good + "<answer>c</answer>")
    assert codedance.tag_error("<think>" + good)
    assert not codedance.tag_error("<think>" + good, family="math")
    assert codedance.tag_error("<think>a</think><code>1</code><answer>b</answer>", family="math")
    with pytest.raises(ValueError, match="did you mean 'math'"):
        codedance.tag_error(good, family="mathh")


def said(text: str) -> Trajectory:
    """One turn that answers in text of its own; the loop hands that text on as the answer."""
    return Trajectory(TASK, (Turn(0, None, (9,), (3,), (-0.1,), Message("assistant", text)),), text)


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("yes", 1.0),
        ("<answer>yes</answer>", 1.0),
        ("<think>a</think>yes", 1.0),
        ("<think>a</think><answer>no</answer><answer>yes</answer>", 0.8),
        ("<think>a<answer>yes</answer>", 0.8),
        (f"<think>{'a' * 1300}</think><answer>yes</answer>", 1.0),
        (f"<answer>{'yes' * 400}</answer>", -0.2),
    ],
)
def test_tags_are_judged_where_there_are_any_and_only_the_answer_has_a_limit(text: str, base: float) -> None:
    def right(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
        return [Score(1.0, parts={"outcome": 1.0}) for _ in trajectories]

    (score,) = codedance.balanced_reward(TASK, [said(text)], base=right)
    assert score.parts["base"] == pytest.approx(base)


def test_an_episode_that_ends_in_a_call_is_blamed_for_it() -> None:
    signals = packed([episode(False, [True, False], closed=False), episode(True, [True])])
    blame = codedance.turn_credit(signals)
    assert blame[0][signals.turn_NT[0] == 1].max() < 0
    assert blame[1][signals.turn_NT[1] == 1].tolist() == [0]


def test_turn_values_without_spread_stay_raw() -> None:
    signals = packed([episode(True, [False]), episode(False, [False])])
    blame = codedance.turn_credit(signals)
    assert blame[0][signals.turn_NT[0] == 0].tolist() == [-0.5, -0.5]
    assert not codedance.turn_credit(packed([episode(True, [])])).any()


def test_the_turn_term_is_an_ablation_that_differs() -> None:
    signals = packed(GROUP)
    assert not np.allclose(codedance.two_levels(signals), codedance.two_levels(signals, weight=0.0))


def test_pieces_keep_the_promises_of_their_kinds() -> None:
    check_reward(codedance.balanced_reward)
    check_reward(claim.constant_bonus)
    for rule in (codedance.turn_credit, codedance.two_levels):
        check_credit(rule)
    check_credit(lambda signals: codedance.turn_credit(replace(signals, turn_reward_NK=0 * signals.turn_reward_NK)))


def test_recipe_is_sound() -> None:
    for reference in (False, True):
        changed = codedance.recipe(grpo(), reference=reference)
        assert check(changed, Settings(per_device_train_batch_size=8, gradient_accumulation_steps=1)) == 1
        # By the published rule a failure whose text mentions none is a success: .3 * .5 more, or all of it.
        values = [1.45, 1, 0.15, 0.15] if reference else [1.45, 1, 0.075, 0]
        assert [s.value for s in changed.reward(TASK, GROUP)] == pytest.approx(values)
        assert apply(changed.credit, MIXED).shape == MIXED.turn_NT.shape


def test_paper_is_found() -> None:
    assert find("codedance") is codedance.PAPER
