"""Trees: values of descendants, siblings compared, and shared steps once."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from tests.contracts.checks import check_credit

from ferrule.core.arrays import Signals, apply, pack
from ferrule.core.records import Message, Score, Task, Trajectory, Turn
from ferrule.credit.tree import first_visits, tree_relative, tree_rewards

TASK = Task("t", "?")


def step(number: int, parent: int | None, tokens: int = 2) -> Turn:
    return Turn(number, parent, (9,), (number,) * tokens, (-0.5,) * tokens, Message("assistant", str(number)))


# Nodes 0 and 1 come from the prompt, 2 and 3 follow 0, and 4 follows 1.
NODES = {0: step(0, None), 1: step(1, None), 2: step(2, 0), 3: step(3, 0), 4: step(4, 1)}
PATHS = [(0, 2), (0, 3), (1, 4)]
FORM = [0.5, 0.5, 0.5, 0.0, 0.5]


def tree(outcomes: list[float], form: list[float] = FORM) -> Signals:
    rows = [Trajectory(TASK, tuple(NODES[i] for i in path)) for path in PATHS]
    scores = [Score(r, turns=tuple(form[i] for i in path)) for r, path in zip(outcomes, PATHS, strict=True)]
    return pack(rows, scores, [0, 0, 0], episodes=[0, 0, 0])


def per_node(value_NK: np.ndarray) -> list[float]:
    found: dict[int, set[float]] = {}
    for n, path in enumerate(PATHS):
        for k, node in enumerate(path):
            found.setdefault(node, set()).add(float(value_NK[n, k]))
    assert all(len(values) == 1 for values in found.values())
    return [found[node].pop() for node in sorted(found)]


def advantages(signals: Signals, **settings: Any) -> list[float]:
    adv_NT = apply(partial(tree_relative, **settings), signals)
    out = np.zeros(signals.node_NK.shape)
    for n, k in zip(*np.nonzero(signals.node_NK >= 0), strict=True):
        own = adv_NT[n, signals.turn_NT[n] == k]
        assert len(set(own.tolist())) == 1
        out[n, k] = own[0]
    return per_node(out)


@pytest.mark.parametrize(("join", "first"), [("max", 1.45), ("mean", 0.975)])
def test_rewards_of_steps(join: Any, first: float) -> None:
    """Outcomes 1, 0, 0: node 0 is one step away from a right answer, .95 (or .475 as a mean) + .5."""
    signals = tree([1, 0, 0])
    values = per_node(apply(partial(tree_rewards, join=join), signals))
    assert values == pytest.approx([first, 0.5, 1.5, 0.0, 0.5])


def test_advantages() -> None:
    """Paths 1.1547, -.5774, -.5774; forks +-.7071 for {0, 1} and {2, 3}; node 4 has no sibling."""
    expected = [0.9958, -1.2845, 1.8618, -1.2845, -0.5773]
    assert advantages(tree([1, 0, 0])) == pytest.approx(expected, abs=2e-4)
    paths = advantages(tree([1, 0, 0]), fork_weight=0.0)
    assert paths == pytest.approx([0.2887, -0.5774, 1.1547, -0.5774, -0.5774], abs=1e-4)
    forks = advantages(tree([1, 0, 0]), trajectory_weight=0.0)
    assert forks == pytest.approx([0.7071, -0.7071, 0.7071, -0.7071, 0.0], abs=1e-4)


def test_nothing_to_compare() -> None:
    assert advantages(tree([0, 0, 0], [0.5] * 5)) == [0.0] * 5
    only = advantages(tree([0, 0, 0], [0.5, 0.5, 0.5, 0.0, 0.5]))
    assert only == pytest.approx([0, 0, 0.7071, -0.7071, 0], abs=1e-4)


def test_decay_prefers_short_ways() -> None:
    """Two right answers, one a step longer: its first step is worth .95 less what the form of steps adds."""
    rows = [Trajectory(TASK, (NODES[0],)), Trajectory(TASK, (NODES[1], NODES[4]))]
    signals = pack(rows, [Score(1.0), Score(1.0)], [0, 0], episodes=[0, 0])
    assert apply(tree_rewards, signals).tolist() == pytest.approx(np.asarray([[1, 0], [0.95, 1]]))
    assert apply(tree_relative, signals)[0, 1] > 0 > apply(tree_relative, signals)[1, 1]
    assert not apply(partial(tree_relative, gamma=1.0), signals).any()


@pytest.mark.parametrize(
    ("settings", "match"), [({"join": "maximum"}, "known: max, mean|'max'"), ({"gamma": 1.1}, "between 0 and 1")]
)
def test_bad_settings_are_refused(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        apply(partial(tree_rewards, **settings), tree([1, 0, 0]))


def test_shared_steps_are_visited_once() -> None:
    signals = tree([1, 0, 0])
    first = apply(first_visits, signals).astype(bool)
    visited = [sorted(set(signals.turn_NT[n][first[n]].tolist())) for n in range(3)]
    assert visited == [[0, 1], [1], [0, 1]]
    assert first.sum() == 10


def test_trees_of_different_episodes_share_nothing() -> None:
    """Equal turn ids in two episodes are two steps; groups are compared apart."""
    one = [Trajectory(TASK, tuple(NODES[i] for i in path)) for path in PATHS]
    scores = [Score(r) for r in (1.0, 0.0, 0.0, 5.0, 5.0, 5.0)]
    both = pack([*one, *one], scores, [0, 0, 0, 1, 1, 1], episodes=[0, 0, 0, 1, 1, 1])
    adv_NT = apply(tree_relative, both)
    alone = pack(one, scores[:3], [0, 0, 0], episodes=[0, 0, 0])
    assert np.allclose(adv_NT[:3], apply(tree_relative, alone))
    assert apply(first_visits, both).sum() == 20


def test_paths_without_turns_and_lone_paths() -> None:
    rows = [Trajectory(TASK, ()), Trajectory(TASK, (NODES[0],)), Trajectory(TASK, (NODES[1],))]
    signals = pack(rows, [Score(1.0), Score(0.0), Score(0.0)], [0, 0, 1], episodes=[0, 0, 1])
    adv_NT = apply(tree_relative, signals)
    assert np.isfinite(adv_NT).all()
    assert not adv_NT[2].any()
    empty = pack(rows[:1], [Score(1.0)], [0])
    assert apply(tree_relative, empty).shape == (1, 0)
    assert apply(first_visits, empty).shape == (1, 0)


def test_the_order_of_paths_does_not_matter() -> None:
    signals = tree([1, 0, 0])
    order = np.asarray([2, 0, 1])
    turned = replace(
        signals, **{
            name: getattr(signals, name)[order]
            for name in ("reward_N", "group_N", "turn_NT", "node_NK", "turn_reward_NK", "turns_N")
        },
    )  # fmt: skip
    assert np.allclose(apply(tree_relative, turned), apply(tree_relative, signals)[order])


@pytest.mark.parametrize("rule", [tree_relative, first_visits])
def test_rules_keep_the_promises_of_their_kind(rule: Any) -> None:
    check_credit(rule)


@pytest.mark.parametrize("where", ["reward_N", "turn_reward_NK"])
def test_rewards_that_are_not_finite_are_refused(where: str) -> None:
    known = {
        "reward_N": np.asarray([1.0, 0.0]),
        "group_N": np.zeros(2, dtype=np.int64),
        "turn_NT": np.zeros((2, 1), dtype=np.int64),
        "node_NK": np.asarray([[0], [1]]),
        "turn_reward_NK": np.zeros((2, 1)),
        "turns_N": np.ones(2, dtype=np.int64),
    }
    known[where] = known[where] + np.nan
    with pytest.raises(ValueError, match="finite"):
        tree_relative(**known)
