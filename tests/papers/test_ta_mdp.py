"""TA-MDP: joint and decomposed credit, effective weights, bounds, and calls of bounded depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.contracts.checks import MIXED, check_credit, check_reward, example_trajectories

from ferrule.core.arrays import FloatArray, Signals, apply
from ferrule.core.records import Call, Message, Observation, Task, Trajectory, Turn
from ferrule.credit.channels import effective_weights
from ferrule.papers import find, ta_mdp
from ferrule.papers.claims import ta_mdp as claim
from ferrule.train.grpo import grpo
from ferrule.train.loop import check
from ferrule.train.settings import Settings
from ferrule.worlds.arithmetic import Arithmetic
from ferrule.worlds.limited import limited


def signals_of(parts: Sequence[Sequence[float]]) -> Signals:
    """One group of one-token rows with these components."""
    n = len(parts[0])
    one_N1 = np.zeros((n, 1), dtype=np.int64)
    return replace(
        MIXED,
        reward_N=np.zeros(n),
        group_N=np.zeros(n, dtype=np.int64),
        turn_NT=one_N1,
        logp_NT=np.zeros((n, 1)),
        parts_CN=np.asarray(parts, dtype=np.float64),
        channels=tuple(f"r{k}" for k in range(len(parts))),
    )


def credits(parts: Sequence[Sequence[float]], weights: Sequence[float]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Joint and decomposed advantages per row, and effective weights."""
    signals = signals_of(parts)
    named = {f"r{k}": w for k, w in enumerate(weights)}
    rows = [apply(rule(weights=named, eps=0.0), signals)[:, 0] for rule in (ta_mdp.joint, ta_mdp.decomposed)]
    (real,) = effective_weights(signals.parts_CN, signals.group_N, weights_C=np.asarray(weights))
    assert ta_mdp.identity_gap(signals, weights=named) < 1e-12
    return rows[0], rows[1], real


def test_two_rollouts() -> None:
    """R = [.25, .75]; equal component gradients do not make the surrogates equal."""
    joint, decomposed, real = credits([[0, 1], [1, 0]], [0.75, 0.25])
    assert joint == pytest.approx([-1, 1])
    assert decomposed == pytest.approx([-0.5, 0.5])
    assert real == pytest.approx([1.5, 0.5])
    ratios = np.asarray([0.9, 1.1])
    assert (float((ratios * joint).mean()), float((ratios * decomposed).mean())) == pytest.approx((0.1, 0.05))


def test_a_constant_component_weighs_nothing() -> None:
    joint, decomposed, real = credits([[1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 1, 1]], [0.6, 0.3, 0.1])
    assert joint == pytest.approx([1.3416, 0.4472, -0.4472, -1.3416], abs=1e-4)
    assert decomposed == pytest.approx([0.9, 0.3, -0.3, -0.9])
    assert real == pytest.approx([0.8944, 0.4472, 0], abs=1e-4)


def test_directions_differ_where_spreads_do() -> None:
    """A rare and an even component: the two forms are not proportional."""
    joint, decomposed, _ = credits([[1, 0, 0, 0], [1, 0, 1, 0]], [0.5, 0.5])
    cosine = float(joint @ decomposed / np.linalg.norm(joint) / np.linalg.norm(decomposed))
    assert cosine < 1 - 1e-4


def test_all_constant_and_alone() -> None:
    for parts in ([[1.0, 1.0], [0.0, 0.0]], [[1.0], [0.5]]):
        joint, decomposed, real = credits(parts, [0.7, 0.3])
        assert not joint.any()
        assert not decomposed.any()
        assert not real.any()


@pytest.mark.parametrize(
    ("form", "accuracy", "tools"),
    [
        ([1, 0, 1], [0, 0, 0], [1 / 3, 2 / 3, 1 / 3]),
        ([1, 0], [0, 0], [0, 1 / 3]),
        ([0] * 3, [0.1] * 3, [0.1] * 3),
        ([1] * 3, [0.1] * 3, [0.1] * 3),
    ],
)
def test_sums_that_only_rounding_tells_apart_are_tied(
    form: list[float], accuracy: list[float], tools: list[float]
) -> None:
    """0.1 * 1 is 0.3 * 1/3 but for rounding: nothing is compared, and no weight is made of it."""
    signals = replace(signals_of([form, accuracy, tools]), channels=tuple(ta_mdp.WEIGHTS))
    for std, ddof in (("population", 0), ("unbiased", 1)):
        assert not apply(ta_mdp.joint(eps=0.0, std=std), signals).any()  # type: ignore[arg-type]
        real = effective_weights(
            signals.parts_CN, signals.group_N, weights_C=np.asarray(list(ta_mdp.WEIGHTS.values())), ddof=ddof
        )
        assert not real.any()
        assert ta_mdp.identity_gap(signals, std=std) == 0.0  # type: ignore[arg-type]


def test_the_identity_holds_on_unequal_groups() -> None:
    weights = {"outcome": 0.6, "format": 0.4}
    assert ta_mdp.identity_gap(MIXED, weights=weights) < 1e-12


def test_calls_are_bounded() -> None:
    """With a depth of 2 the third call is an error, and an answer is all that is left: no tool is on offer."""
    world = limited(Arithmetic(tools=("calculator",)), 2)
    session = world.start(world.tasks("train", 1)[0])
    on_offer, statuses = [], []
    for _ in range(4):
        on_offer.append(len(session.tools))
        statuses.append(session.act(Call("calculator", {"expression": "1 + 1"})).status)
    assert on_offer == [1, 1, 0, 0]
    assert statuses == ["ok", "ok", "refused", "refused"]


TASK = Task("t", "?", answer="4", meta={"verifier": "numeric"})


def episode(statuses: Sequence[Any], answer: str | None = "4") -> Trajectory:
    reply = Message("assistant", calls=tuple(Call("f") for _ in statuses))
    seen = tuple(Observation("r", status=status) for status in statuses)
    return Trajectory(TASK, (Turn(0, None, (), (1,), (-0.1,), reply, observations=seen),), answer=answer)


def test_components_of_an_episode() -> None:
    group = [episode(["ok", "error"]), episode([]), episode(["malformed"], "5"), episode(["ok"], None)]
    scores = ta_mdp.composite_reward(TASK, group)
    assert [dict(s.parts) for s in scores] == [
        {"format": 1, "accuracy": 1, "tools": 0.5},
        {"format": 1, "accuracy": 1, "tools": 1},
        {"format": 0, "accuracy": 0, "tools": 0},
        {"format": 0, "accuracy": 0, "tools": 1},
    ]
    assert [s.value for s in scores] == pytest.approx([0.85, 1, 0, 0.3])
    with pytest.raises(ValueError, match="did you mean 'tools'"):
        ta_mdp.composite({"tool": ta_mdp.well_formed})


def test_pieces_keep_the_promises_of_their_kinds() -> None:
    check_reward(ta_mdp.composite_reward)
    for rule in (ta_mdp.joint, ta_mdp.decomposed):
        check_credit(rule(weights={"outcome": 0.6, "format": 0.4}))


def test_recipe_is_sound_and_combines_either_way() -> None:
    group = example_trajectories(TASK)
    for combine in ("decomposed", "joint"):
        changed = ta_mdp.recipe(grpo(), combine=combine)
        assert check(changed, Settings(per_device_train_batch_size=8, gradient_accumulation_steps=1)) == 1
        assert set(changed.reward(TASK, group)[0].parts) == set(ta_mdp.WEIGHTS)
    with pytest.raises(ValueError, match="did you mean 'joint'"):
        ta_mdp.recipe(grpo(), combine="joined")


def test_slope_of_a_known_rate() -> None:
    """The mean of 1 / (2 sqrt(t)) over t updates is about 1 / sqrt(T)."""
    squared = [0.5 / np.sqrt(t) for t in range(1, 4001)]
    assert claim.rate_slope(squared) == pytest.approx(-0.5, abs=0.05)


def test_paper_is_found() -> None:
    assert find("ta-mdp") is ta_mdp.PAPER
