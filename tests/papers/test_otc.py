"""OTC: the coefficient, the group reward, and what the product does that a sum does not."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pytest
from tests.contracts.checks import check_reward

from ferrule.core.recipe import Recipe
from ferrule.core.records import Call, Message, Observation, Score, Task, Trajectory, Turn
from ferrule.credit.group import group_relative
from ferrule.objectives.reduce import token_mean
from ferrule.objectives.surrogate import surrogate
from ferrule.papers import find, otc
from ferrule.papers.claims import otc as claim
from ferrule.rewards.efficiency import productivity
from ferrule.rewards.outcome import outcome

TASK = Task("t", "?", answer="yes")


def played(right: bool, calls: int, *, unread: int = 0) -> Trajectory:
    """An episode with executed calls and calls that could not be read."""
    made = [Observation("r")] * calls + [Observation("?", status="malformed")] * unread
    reply = Message("assistant", calls=tuple(Call("f") for _ in made))
    turn = Turn(0, None, (), (1,), (-0.1,), reply, observations=tuple(made))
    return Trajectory(TASK, (turn,), answer="yes" if right else "no")


def values(rights: Sequence[int], calls: Sequence[int], **settings: object) -> list[float]:
    group = [played(bool(r), m) for r, m in zip(rights, calls, strict=True)]
    return [score.value for score in otc.otc_reward(TASK, group, **settings)]  # type: ignore[arg-type]


def test_coefficient_without_a_group() -> None:
    """cos(m pi / (2m + c)): with c = 4 and m = 1 cos(pi / 6) = .866025; with c = 1 cos(pi / 3) = .5."""
    four = [otc.coefficient_alone(m, c=4) for m in range(6)]
    assert four == pytest.approx([1, 0.866025, 0.707107, 0.587785, 0.5, 0.433884], abs=1e-6)
    one = [otc.coefficient_alone(m, c=1) for m in range(6)]
    assert one == pytest.approx([1, 0.5, 0.309017, 0.222521, 0.173648, 0.142315], abs=1e-6)
    with pytest.raises(ValueError, match="above 0"):
        otc.coefficient_alone(1, c=0)


def test_coefficient_of_a_group() -> None:
    """n = 2, m = 1: f = 4/3, sin(f pi / 4) = sin(pi / 3). The peak is 1 at m = n."""
    two = [otc.coefficient_group(m, 2) for m in range(7)]
    assert two == pytest.approx([0, 0.866025, 1, 0.951057, 0.866025, 0.781831, 0.707107], abs=1e-6)
    one = [otc.coefficient_group(m, 1) for m in range(5)]
    assert one == pytest.approx([0, 1, 0.866025, 0.707107, 0.587785], abs=1e-6)
    none = [otc.coefficient_group(m, 0, c=4) for m in range(5)]
    assert none == pytest.approx([1, 0.866025, 0.707107, 0.587785, 0.5], abs=1e-6)


def test_group_rewards() -> None:
    """The optimum is the fewest calls among right answers: 1, then 0; without a right answer all is 0."""
    assert values([1, 1, 1, 0], [1, 2, 4, 0], c=4.0) == pytest.approx([1, 0.866025, 0.587785, 0], abs=1e-6)
    assert values([1, 1, 0, 0], [0, 3, 0, 2], c=4.0) == pytest.approx([1, 0.587785, 0, 0], abs=1e-6)
    assert values([0, 0], [0, 3]) == [0, 0]


def test_tool_productivity() -> None:
    assert productivity([1, 0, 1, 1], [1, 3, 0, 2]) == 0.5


def test_form_without_a_group_and_scale() -> None:
    """Two calls are half as far as the optimum of the group says: the form without a group never looks at it."""
    assert values([1, 1], [2, 2], grouped=False, c=4.0, alpha=2.0) == pytest.approx([1.414214] * 2, abs=1e-6)
    assert values([1, 1], [2, 2]) == pytest.approx([1, 1])


def test_wrong_answers_are_never_paid_for_waste() -> None:
    """With base rewards of -1 and +1, a smaller factor on a wrong answer would raise its reward."""

    def signed(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
        return [Score(1.0 if t.answer == "yes" else -1.0) for t in trajectories]

    assert values([1, 0, 0], [1, 0, 6], base=signed) == [1, -1, -1]


def test_which_calls_count_is_a_hook() -> None:
    group = [played(True, 1, unread=3), played(True, 2)]
    assert [s.value for s in otc.otc_reward(TASK, group)] == pytest.approx([1, 0.866025], abs=1e-6)
    every = [s.value for s in otc.otc_reward(TASK, group, cost=lambda call, observation: 1.0)]
    assert every == pytest.approx([otc.coefficient_group(4, 2), 1.0])


def test_running_minimum() -> None:
    memory = otc.BestCalls()
    assert values([1], [1], memory=memory) == [1.0]
    assert values([1, 1], [2, 4], memory=memory) == pytest.approx([0.866025, 0.587785], abs=1e-6)
    assert values([0], [0], memory=memory) == [0.0]
    assert memory.best == {"t": 1.0}


def test_recipe_changes_the_reward_alone() -> None:
    base = Recipe(lambda task, session: iter(()), outcome, group_relative, surrogate, token_mean)  # type: ignore[arg-type,return-value]
    changed = otc.recipe(base)
    group = [played(True, 1), played(True, 4)]
    assert [s.value for s in base.reward(TASK, group)] == [1, 1]
    assert [s.value for s in changed.reward(TASK, group)] == pytest.approx([1, 0.587785], abs=1e-6)
    assert (changed.credit, changed.objective, changed.agent) == (base.credit, base.objective, base.agent)


def test_rewards_keep_the_promises_of_their_kind() -> None:
    check_reward(partial(otc.otc_reward, grouped=False))
    check_reward(claim.additive_reward)


def test_the_additive_control_differs_where_it_must() -> None:
    """On all-wrong groups the product gives nothing to compare, the sum pays the frugal rollout."""
    group = [played(False, 0), played(False, 4)]
    assert [s.value for s in otc.otc_reward(TASK, group)] == [0, 0]
    frugal, wasteful = (s.value for s in claim.additive_reward(TASK, group))
    assert frugal > wasteful


def test_paper_is_found() -> None:
    assert find("otc") is otc.PAPER
