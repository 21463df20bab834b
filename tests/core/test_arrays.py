from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferrule.core.arrays import Signals, apply, by_name, chain, nearest, pack, part_of, spread_turns
from ferrule.core.records import Call, Message, Observation, Score, Task, Trajectory, Turn

TASK = Task("t", "p")


def turn(index: int, parent: int | None, given: int, sampled: int, statuses: tuple[str, ...] = ()) -> Turn:
    """A turn whose ids name it: given ids are 100 * turn + position, sampled ids 1000 * turn + position."""
    calls = tuple(Call("tool", id=f"call_{i}") for i in range(len(statuses)))
    return Turn(
        id=index,
        parent=parent,
        given=tuple(100 * index + i for i in range(given)),
        sampled=tuple(1000 * index + i for i in range(sampled)),
        logps=tuple(-0.5 - i for i in range(sampled)),
        reply=Message("assistant", "x", calls),
        observations=tuple(Observation("seen", status) for status in statuses),  # type: ignore[arg-type]
    )


def tree() -> list[Trajectory]:
    """A tree of two leaves below one root, and a second episode that rewrote its context.

    0 - 1 (leaf)        0 | 1 (a new segment: turn 1 extends nothing)
      \\ 2 (leaf)
    """
    root = turn(0, None, 2, 1, ("ok", "malformed"))
    left, right = turn(1, 0, 1, 2, ("timeout",)), turn(2, 0, 1, 1, ("unknown_tool", "refused", "error"))
    first, fresh = turn(0, None, 1, 1), turn(1, None, 2, 1)
    return [
        Trajectory(TASK, (root, left), "a"),
        Trajectory(TASK, (root, right)),
        Trajectory(TASK, (first, fresh), "b"),
    ]


def packed(**more: Any) -> Signals:
    scores = [Score(1.0, turns=(0.25,), parts={"outcome": 1.0}), Score(0.0), Score(0.5, parts={"format": 2.0})]
    return pack(tree(), scores, [0, 0, 1], episodes=[4, 4, 5], **more)


def test_ids_are_laid_out_as_they_were() -> None:
    """Row 0: given 0, 1, sampled 0 of the root, then given 100 and sampled 1000, 1001 of turn 1."""
    s = packed()
    assert s.ids_NT.tolist() == [
        [0, 1, 0, 100, 1000, 1001],
        [0, 1, 0, 200, 2000, -1],
        [0, 0, 100, 101, 1000, -1],
    ]
    assert s.size_N.tolist() == [6, 5, 5]


def test_turn_index_is_minus_one_off_the_models_tokens() -> None:
    assert packed().turn_NT.tolist() == [
        [-1, -1, 0, -1, 1, 1],
        [-1, -1, 0, -1, 1, -1],
        [-1, 0, -1, -1, 1, -1],
    ]


def test_log_probs_stand_at_the_models_tokens_only() -> None:
    s = packed()
    assert s.logp_NT[0].tolist() == [0.0, 0.0, -0.5, 0.0, -0.5, -1.5]
    assert not s.logp_NT[s.turn_NT < 0].any()


def test_branches_of_a_tree_share_the_ids_of_their_prefix() -> None:
    """Episodes 4 and 5, stride 3 (largest turn id 2, plus one): root 12, leaves 13 and 14, the other episode 15, 16."""
    s = packed()
    assert s.node_NK.tolist() == [[12, 13], [12, 14], [15, 16]]
    assert s.episode_N.tolist() == [4, 4, 5]


def test_episodes_never_share_nodes() -> None:
    one = Trajectory(TASK, (turn(0, None, 1, 1),))
    s = pack([one, one], [Score(0.0)] * 2, [0, 0])
    assert s.node_NK[0, 0] != s.node_NK[1, 0]
    assert s.episode_N.tolist() == [0, 1]


def test_a_rewritten_context_starts_a_segment() -> None:
    assert packed().segment_NT.tolist() == [
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, -1],
        [0, 0, 1, 1, 1, -1],
    ]


def test_a_turn_that_extends_an_earlier_one_starts_a_segment() -> None:
    """Turn 2 extends turn 0 and not turn 1 before it: what the model saw there lacks turn 1."""
    path = Trajectory(TASK, (turn(0, None, 1, 1), turn(1, 0, 1, 1), turn(2, 0, 1, 1)))
    s = pack([path], [Score(0.0)], [0])
    assert s.segment_NT.tolist() == [[0, 0, 0, 0, 1, 1]]


def test_calls_are_counted_by_what_became_of_them() -> None:
    """Row 0: ok and timeout ran, one was malformed. Row 1: ok and error ran; unknown and refused calls did not."""
    s = packed()
    assert s.calls_N.tolist() == [2, 2, 0]
    assert s.malformed_N.tolist() == [1, 1, 0]


def test_channels_and_turn_rewards() -> None:
    s = packed(step=3)
    assert s.channels == ("outcome", "format")
    assert s.parts_CN.tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 2.0]]
    assert s.turn_reward_NK.tolist() == [[0.25, 0.0], [0.0, 0.0], [0.0, 0.0]]
    assert (s.reward_N.tolist(), s.group_N.tolist(), s.step) == ([1.0, 0.0, 0.5], [0, 0, 1], 3)


def test_nothing_packs_to_empty_arrays() -> None:
    s = pack([], [], [])
    assert (s.ids_NT.shape, s.node_NK.shape, s.parts_CN.shape) == ((0, 0), (0, 0), (0, 0))


def test_a_trajectory_without_turns_is_a_row_of_padding() -> None:
    s = pack([Trajectory(TASK, ()), tree()[0]], [Score(0.0)] * 2, [0, 0])
    assert s.turns_N.tolist() == [0, 2]
    assert (s.turn_NT[0] == -1).all()
    assert (s.node_NK[0] == -1).all()


def test_pack_refuses_lists_of_different_lengths() -> None:
    with pytest.raises(ValueError, match="3 trajectories, 2 scores and 3 groups"):
        pack(tree(), [Score(0.0)] * 2, [0, 0, 0])


def test_more_turn_scores_than_turns_are_refused() -> None:
    with pytest.raises(ValueError, match="score 0 has 3 turn scores for a trajectory of 2 turns"):
        pack(tree()[:1], [Score(0.0, turns=(1.0, 2.0, 3.0))], [0])


# ---------------------------------------------------------------------------------------------------------- functions


def test_by_name_hands_over_what_parameters_name() -> None:
    def rule(reward_N: Any, *, eps: float = 0.5, step: int = 9) -> Any:
        return (reward_N, eps, step)

    assert by_name(rule, {"reward_N": 1, "group_N": 2, "step": 3}) == (1, 0.5, 3)


def test_by_name_leaves_bound_parameters_alone() -> None:
    def rule(reward_N: Any, step: int) -> Any:
        return (reward_N, step)

    assert by_name(partial(rule, step=7), {"reward_N": 1, "step": 3}) == (1, 7)


def test_by_name_lists_the_known_names() -> None:
    def rule(rewards_N: Any) -> Any:
        return rewards_N

    with pytest.raises(TypeError, match=r"rule asks for 'rewards_N'.*did you mean 'reward_N'\?.*group_N"):
        by_name(rule, {"reward_N": 1, "group_N": 2})


def test_nearest_lists_all_when_none_is_near() -> None:
    assert nearest("zzz", ["beta", "alpha"]) == "known: alpha, beta"
    assert nearest("alfa", ["beta", "alpha"]).startswith("did you mean 'alpha'?")


def test_signals_named_leaves_absent_ones_out() -> None:
    assert "value_NT" not in packed().named()
    assert "value_NT" in replace(packed(), value_NT=np.zeros((3, 6))).named()


def test_a_credit_rule_may_name_the_signals_themselves() -> None:
    def rule(signals: Signals, reward_N: Any) -> Any:
        return signals.logp_NT * 0 + reward_N[:, None]

    assert apply(rule, packed())[:, 0].tolist() == [1.0, 0.0, 0.5]


def test_chain_hands_the_advantages_on() -> None:
    """First rule: 1 everywhere; second: doubles; third: adds the reward: 2 + (1, 0, 0.5)."""

    def ones(turn_NT: Any) -> Any:
        return np.ones(turn_NT.shape)

    def double(adv_NT: Any) -> Any:
        return 2 * adv_NT

    def shifted(adv_NT: Any, reward_N: Any) -> Any:
        return adv_NT + reward_N[:, None]

    assert apply(chain(ones, double, shifted), packed())[:, 0].tolist() == [3.0, 2.0, 2.5]
    with pytest.raises(ValueError, match="at least one"):
        chain()
    with pytest.raises(TypeError, match="adv_NT"):
        apply(chain(double), packed())


def test_spread_turns_gives_tokens_the_value_of_their_turn() -> None:
    turn_NT = np.array([[-1, 0, 0, -1, 1], [0, -1, 1, 1, -1]])
    out = spread_turns(np.array([[5.0, 7.0], [1.0, 2.0]]), turn_NT)
    assert out.tolist() == [[0, 5, 5, 0, 7], [1, 0, 2, 2, 0]]


@given(st.lists(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 4)), max_size=4), max_size=5))
def test_every_sampled_token_is_a_model_token_and_nothing_else_is(shapes: list[list[tuple[int, int]]]) -> None:
    """Per row: the number of entries >= 0 equals the sampled tokens, and reading them back gives the sampled ids."""
    rows = [
        Trajectory(TASK, tuple(turn(k, k - 1 if k else None, g, s) for k, (g, s) in enumerate(shape)))
        for shape in shapes
    ]
    signals = pack(rows, [Score(0.0)] * len(rows), [0] * len(rows))
    for n, row in enumerate(rows):
        mine = signals.turn_NT[n] >= 0
        assert signals.ids_NT[n][mine].tolist() == [i for t in row.turns for i in t.sampled]
        assert mine.sum() == row.sampled_count
        assert signals.size_N[n] == sum(len(t.given) + len(t.sampled) for t in row.turns)


def test_a_part_that_nothing_has_is_zero_everywhere() -> None:
    parts_CN = np.array([[1.0, 0.0, 2.0], [5.0, 6.0, 7.0]])
    assert part_of(parts_CN, ("a", "b"), "b").tolist() == [5.0, 6.0, 7.0]
    assert part_of(parts_CN, ("a", "b"), "c").tolist() == [0.0, 0.0, 0.0]
