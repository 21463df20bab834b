"""Rules behind a comparison: pushes that keep signs, small advantages dropped, and means over the rows that have any."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.contracts.checks import check_credit, signals_of

from ferrule.core.arrays import apply, chain
from ferrule.credit.group import group_relative
from ferrule.credit.shape import drop_small, nudged, spread_out, thinned

OWN = np.ones((4, 2), dtype=bool)


def rows(*values: float) -> np.ndarray:
    return np.repeat(np.asarray(values, dtype=float)[:, None], 2, axis=1)


def push(adv: np.ndarray, feature: list[float], scale: list[float], eligible: list[int], **more: float) -> np.ndarray:
    settings = {"delta": -2.0, "limit": 0.7, **more}
    n = len(adv)
    return nudged(
        adv,
        OWN[:n],
        np.zeros(n, dtype=np.int64),
        np.asarray(feature, dtype=float),
        np.asarray(scale, dtype=float),
        np.asarray(eligible, dtype=bool),
        **settings,
    )


def test_a_push_by_the_mean_of_the_eligible() -> None:
    """Features 100 and 400 of scales 1000 and 800: -2 * -+150 / 900 = +-1/3; the others keep theirs."""
    found = push(rows(0.5, 0.5, 0.5, -1.5), [100, 400, -1, 50], [1000, 800, 600, 1200], [1, 1, 0, 0])
    assert found[:, 0] == pytest.approx([0.8333, 0.1667, 0.5, -1.5], abs=1e-4)


def test_a_push_is_cut_at_its_share() -> None:
    assert push(rows(0.2, 0.2), [0, 100], [200, 200], [1, 1])[:, 0] == pytest.approx([0.34, 0.06])


def test_nothing_to_push() -> None:
    """One eligible row, none at all, a scale of 0, and advantages of 0 or below."""
    adv = rows(0.5, 0.5, 0.0, -1.0)
    assert np.array_equal(push(adv, [1, 9, 9, 9], [5, 5, 5, 5], [1, 0, 0, 0]), adv)
    assert np.array_equal(push(adv, [1, 9, 9, 9], [5, 5, 5, 5], [0, 0, 0, 0]), adv)
    assert np.array_equal(push(adv, [1, 9, 9, 9], [0, 0, 0, 0], [1, 1, 1, 1]), adv)
    assert np.array_equal(push(adv, [1, 9, 3, 20], [5, 5, 5, 5], [0, 0, 1, 1]), adv)


@pytest.mark.parametrize("limit", [1.0, -0.1])
def test_a_limit_that_could_change_signs_is_refused(limit: float) -> None:
    with pytest.raises(ValueError, match="signs could change"):
        push(rows(0.5), [1], [1], [1], limit=limit)


@given(
    st.lists(st.tuples(st.floats(-3, 3), st.floats(0, 1e3), st.floats(1, 1e3), st.booleans()), min_size=1, max_size=8),
    st.floats(-5, 5),
    st.floats(0, 0.99),
)
def test_no_sign_ever_changes(some: list[tuple[float, float, float, bool]], delta: float, limit: float) -> None:
    adv, feature, scale, eligible = (list(column) for column in zip(*some, strict=True))
    n = len(some)
    adv_NT = np.asarray(adv)[:, None]
    found = nudged(
        adv_NT,
        np.ones((n, 1), dtype=bool),
        np.arange(n) % 2,
        np.asarray(feature),
        np.asarray(scale),
        np.asarray(eligible),
        delta=delta,
        limit=limit,
    )
    assert (np.sign(found) == np.sign(adv_NT)).all()
    assert (np.abs(found - adv_NT) <= limit * np.abs(adv_NT) + 1e-12).all()


def test_groups_are_pushed_apart() -> None:
    adv = rows(0.5, 0.5, 0.5, 0.5)
    groups = np.asarray([0, 1, 0, 1])
    settings = {"delta": 1.0, "limit": 0.9}
    found = nudged(adv, OWN, groups, np.asarray([0.0, 5, 2, 5]), np.full(4, 10.0), np.ones(4, dtype=bool), **settings)
    assert found[:, 0] == pytest.approx([0.4, 0.5, 0.6, 0.5])


def test_only_the_tokens_of_the_model_are_pushed() -> None:
    own = np.asarray([[True, False], [True, False]])
    found = nudged(
        np.where(own, 0.5, 0.0), own, np.zeros(2, dtype=int), np.asarray([0.0, 1]), np.ones(2), np.ones(2, dtype=bool),
        delta=1.0, limit=0.5,
    )  # fmt: skip
    assert found.tolist() == [[0.25, 0.0], [0.75, 0.0]]


def test_small_advantages_become_0() -> None:
    turn = np.asarray([[0, 0], [0, -1]])
    found = drop_small(np.asarray([[0.01, -0.0099], [0.5, 0.5]]), turn)
    assert found.tolist() == [[0.01, 0.0], [0.5, 0.0]]


def test_a_mean_over_the_rows_that_have_any() -> None:
    """Six tokens, two of them in the row with an advantage: scaled by 3, the mean over all is that over the two."""
    turn = np.asarray([[0, 0, -1], [0, 0, 0], [0, -1, -1]])
    adv = np.asarray([[0.5, 0.5, 0], [0, 0, 0], [0, 0, 0]])
    found = spread_out(adv, turn)
    assert found.sum() / 6 == pytest.approx(0.5)
    assert not spread_out(np.zeros_like(adv), turn).any()
    assert spread_out(np.zeros((0, 0)), np.zeros((0, 0), dtype=int)).shape == (0, 0)


@pytest.mark.parametrize("rule", [drop_small, spread_out])
def test_rules_keep_the_promises_of_their_kind(rule: object) -> None:
    check_credit(rule)  # type: ignore[arg-type]


def test_rules_stack() -> None:
    signals = signals_of([0, 1, 2, 3], [0, 0, 1, 1])
    stacked = apply(chain(group_relative, partial(drop_small, least=0.2), spread_out), signals)
    assert np.isfinite(stacked).all()
    assert not stacked[signals.turn_NT < 0].any()


def test_observations_in_the_denominator_scale_the_advantage() -> None:
    """Two own tokens, and two observations within the response: half."""
    turn_NT = np.asarray([[-1, 0, -1, -1, 1, -1]])
    adv_NT = np.where(turn_NT >= 0, 1.0, 0.0)
    thin = thinned(adv_NT, turn_NT, np.asarray([5]))
    assert thin.tolist() == (adv_NT / 2).tolist()
    assert not thinned(np.zeros((1, 2)), np.full((1, 2), -1), np.asarray([0])).any()
