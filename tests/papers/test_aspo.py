"""ASPO: support with and without a tool, the push behind the comparison, and the bonus that breaks it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from tests.contracts.checks import check_credit, check_reward

from ferrule.core.arrays import Signals, apply, chain, pack
from ferrule.core.records import Call, Message, Observation, Score, Span, Task, Trajectory, Turn
from ferrule.credit.group import group_relative
from ferrule.papers import aspo, find
from ferrule.papers.claims import aspo as claim
from ferrule.train.grpo import grpo
from ferrule.train.loop import Settings, check

TASK = Task("t", "?", answer="yes")
PROMPT = (7,) * 5


def played(right: int, at: int | None, length: int, *, status: str = "ok") -> Trajectory:
    """A reply of ``length`` tokens, the observation's token included, with its first call at ``at`` (None: no call)."""
    if at is None:
        turn = Turn(0, None, PROMPT, (1,) * length, (-0.5,) * length, Message("assistant", "x"))
        return Trajectory(TASK, (turn,), answer="yes" if right else "no")
    size = min(at + 1, length - 2)
    first = Turn(
        0,
        None,
        PROMPT,
        (1,) * size,
        (-0.5,) * size,
        Message("assistant", calls=(Call("f"),)),
        observations=(Observation("r", status=status),),  # type: ignore[arg-type]
        spans=(Span("call", at, size),),
    )
    rest = length - size - 1
    last = Turn(1, 0, (3,), (2,) * rest, (-0.5,) * rest, Message("assistant", "x"))
    return Trajectory(TASK, (first, last), answer="yes" if right else "no")


def packed(rows: Sequence[Trajectory], values: Sequence[float], groups: Sequence[int] | None = None) -> Signals:
    return pack(rows, [Score(v, parts={"outcome": v}) for v in values], groups or [0] * len(rows))


def per_row(adv_NT: np.ndarray, signals: Signals) -> list[float]:
    for row, turn in zip(adv_NT, signals.turn_NT, strict=True):
        assert len(set(row[turn >= 0].tolist())) == 1
        assert not row[turn < 0].any()
    return [float(row[turn >= 0][0]) for row, turn in zip(adv_NT, signals.turn_NT, strict=True)]


GRPO = grpo(num_generations=4).credit


def test_earlier_calls_of_right_answers_gain() -> None:
    """Positions 100 and 400 of right answers, lengths 1000 and 800: -2 (p - 250) / 900 = +-1/3, within .7 * .5."""
    rows = [played(1, 100, 1000), played(1, 400, 800), played(1, None, 600), played(0, 50, 1200)]
    signals = packed(rows, [1, 1, 1, 0])
    assert per_row(apply(GRPO, signals), signals) == pytest.approx([0.5, 0.5, 0.5, -1.5], abs=1e-5)
    shaped = per_row(apply(chain(GRPO, aspo.early_calls), signals), signals)
    assert shaped == pytest.approx([0.8333, 0.1667, 0.5, -1.5], abs=1e-4)


def test_groups_of_right_answers_get_nothing_where_a_bonus_decides_everything() -> None:
    rows = [played(1, at, 1000) for at in (100, 200, 300, 400)]
    signals = packed(rows, [1, 1, 1, 1])
    assert not apply(chain(GRPO, aspo.early_calls), signals).any()
    bonus = aspo.bonus_reward(TASK, rows)
    found = per_row(apply(GRPO, pack(rows, bonus, [0] * 4)), signals)
    assert found == pytest.approx([1.118, 0.5, -0.5, -1.118], abs=1e-3)


def test_the_push_is_cut_to_a_share_of_the_advantage() -> None:
    """A = .2: raw pushes of +-.5 become +-.14."""
    rows = [played(1, 100, 1000), played(1, 600, 1000)]
    signals = replace(packed(rows, [1, 1]))
    base = np.where(signals.turn_NT >= 0, 0.2, 0.0)
    shaped = aspo.early_calls(replace(signals, adv_NT=base))
    assert per_row(shaped, signals) == pytest.approx([0.34, 0.06])


def test_a_lone_eligible_answer_stays() -> None:
    rows = [played(1, 100, 1000), played(1, None, 500), played(0, 300, 700)]
    signals = packed(rows, [1, 1, 0])
    assert apply(chain(GRPO, aspo.early_calls), signals) == pytest.approx(apply(GRPO, signals))


def test_calls_that_never_ran_are_no_calls() -> None:
    rows = [played(1, 100, 1000, status="malformed"), played(1, 300, 1000), played(0, None, 9)]
    signals = packed(rows, [1, 1, 0])
    assert apply(chain(GRPO, aspo.early_calls), signals) == pytest.approx(apply(GRPO, signals))


def test_right_answers_with_an_advantage_of_0_or_less_are_left_alone() -> None:
    rows = [played(1, 100, 1000), played(1, 900, 1000), played(1, 500, 1000)]
    signals = packed(rows, [0.2, 1.0, 0.6])
    plain, shaped = apply(GRPO, signals), apply(chain(GRPO, aspo.early_calls), signals)
    assert per_row(shaped, signals)[0] == per_row(plain, signals)[0] < 0
    assert (np.sign(shaped) == np.sign(plain)).all()


def test_signs_never_change() -> None:
    """Of 200 random groups of 8 the bonus pushes right answers down, the shaped advantages never do."""
    rng = np.random.default_rng(100)
    down = {"bonus": 0, "shaped": 0}
    for _ in range(200):
        right = (rng.random(8) < rng.random()).astype(int)
        rows = [played(int(r), int(at), 40) for r, at in zip(right, rng.integers(0, 30, 8), strict=True)]
        signals = packed(rows, [float(r) for r in right])
        bonus = apply(GRPO, pack(rows, aspo.bonus_reward(TASK, rows), [0] * 8))
        shaped = apply(chain(GRPO, aspo.early_calls), signals)
        down["bonus"] += int((bonus[right == 1] < 0).any(1).sum())
        down["shaped"] += int((shaped[right == 1] < 0).any(1).sum())
    assert down["bonus"] > 50
    assert down["shaped"] == 0


def test_support() -> None:
    """.3 * 2^-20 = 2.86e-7: with eps 1e-4 only the model with the tool has it in its support."""
    text = aspo.text_probability(0.3, 20)
    assert text == pytest.approx(2.86e-7, rel=1e-3)
    assert aspo.support([0.3, text], eps=1e-4) == [True, False]


def test_guessing_follows_the_formula() -> None:
    """1 - (1 - 2^-8)^256 = .63 of 40 inputs; with the tool all."""
    assert float(np.mean([claim.guessing(8, tool=False, seed=s).mean() for s in range(100, 105)])) == (
        pytest.approx(0.63, abs=0.1)
    )
    assert claim.guessing(12, tool=True, seed=100).mean() == 1.0


def test_lengths_are_counted_from_the_first_token_of_the_model() -> None:
    own = np.asarray([[0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], dtype=bool)
    start_N, length_N = aspo.reply_lengths(own)
    assert start_N.tolist() == [1, 0, 0]
    assert length_N.tolist() == [3, 0, 5]


def test_pieces_keep_the_promises_of_their_kind() -> None:
    check_reward(aspo.bonus_reward)
    check_credit(chain(group_relative, aspo.early_calls))


def test_recipe_changes_the_credit_alone() -> None:
    base = grpo(num_generations=4)
    changed = aspo.recipe(base, delta=-2.5, limit=0.9)
    assert replace(changed, credit=base.credit) == base
    assert check(changed, Settings(per_device_train_batch_size=4, gradient_accumulation_steps=1)) == 1
    for bad in ({"limit": 1.0}, {"limit": -0.1}, {"delta": float("nan")}):
        with pytest.raises(ValueError, match="below 1"):
            aspo.recipe(base, **bad)


def test_who_is_right_is_told_by_a_channel_that_is_there() -> None:
    rows = [played(1, 2, 9), played(1, 5, 9), played(0, 2, 9)]
    signals = pack(rows, [Score(v, parts={"accuracy": a}) for v, a in ((1, 1), (1, 1), (0.1, 0))], [0] * 3)
    with pytest.raises(ValueError, match=r"no reward channel 'outcome' tells who is right.*accuracy"):
        apply(aspo.recipe(grpo()).credit, signals)
    found = apply(aspo.recipe(grpo(), channel="accuracy").credit, signals)
    base = apply(grpo().credit, signals)
    assert (found[2] == base[2]).all()
    assert found[0].max() > base[0].max() > found[1].max()
    with pytest.raises(ValueError, match="behind another rule"):
        apply(aspo.early_calls, signals)


def test_an_empty_batch() -> None:
    assert apply(chain(group_relative, aspo.early_calls), pack([], [], [])).shape == (0, 0)


def test_where_the_first_call_begins() -> None:
    assert [aspo.first_call_position(played(1, at, 9)) for at in (2, 0, None)] == [2, 0, None]


def test_feasible_support() -> None:
    """The only trajectory with a chance costs 900 tokens."""
    assert aspo.feasible([0.2, 0.0], [900, 10], budget=900)
    assert not aspo.feasible([0.2, 0.0], [900, 10], budget=899)
    assert not aspo.feasible([], [], budget=1)


def test_paper_is_found() -> None:
    assert find("aspo") is aspo.PAPER
