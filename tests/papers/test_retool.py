"""ReTool: rewards and recipes."""

from __future__ import annotations

from functools import partial

import pytest

from ferrule.core.recipe import Recipe
from ferrule.core.records import Call, Message, Observation, Task, Trajectory, Turn
from ferrule.credit.group import group_relative
from ferrule.data.formats import Row
from ferrule.objectives.reduce import token_mean
from ferrule.objectives.surrogate import surrogate
from ferrule.papers import find, retool
from ferrule.papers.claims import retool as claim
from ferrule.rewards.outcome import outcome
from ferrule.worlds.arithmetic import Arithmetic

TASK = Task("t", "How much is 6 times 7?", answer="42")


def answered(answer: str | None, calls: int = 0) -> Trajectory:
    reply = Message("assistant", calls=tuple(Call("code_interpreter") for _ in range(calls)))
    turn = Turn(0, None, (), (1,), (-0.1,), reply, observations=(Observation("1"),) * calls)
    return Trajectory(TASK, (turn,), answer=answer)


def test_reward_of_the_paper() -> None:
    """The last box counts; no box is wrong, and code earns nothing."""
    group = [
        answered("\\boxed{2} then \\boxed{42}"),
        answered("\\boxed{42} then \\boxed{2}", 3),
        answered("42"),
        answered(None),
    ]
    assert [s.value for s in retool.retool_reward(TASK, group)] == [1, -1, -1, -1]
    assert [s.value for s in retool.retool_reward(TASK, group, need_box=False)] == [1, -1, 1, -1]


def test_reward_of_the_community() -> None:
    """Messages 2, 4, 6, 8, 10, 12, 20 are 0, 1, 2, 3, 4, 5, 9 calls; the reward of wrong answers stops at -.6."""
    wrong = [answered("\\boxed{1}", calls) for calls in (0, 1, 2, 3, 4, 5, 9)]
    got = [s.value for s in retool.community_reward(TASK, wrong)]
    assert got == pytest.approx([-1, -0.9, -0.8, -0.7, -0.6, -0.6, -0.6])
    assert retool.community_reward(TASK, [answered("\\boxed{42}", 9)])[0].value == 1.0


def test_the_two_rewards_differ_on_hopeless_groups() -> None:
    """Ablation: with all answers wrong the paper's reward gives nothing to learn from, the community's pays for
    calls.
    """
    group = [answered("\\boxed{1}", calls) for calls in (0, 4)]
    assert len({s.value for s in retool.retool_reward(TASK, group)}) == 1
    assert len({s.value for s in retool.community_reward(TASK, group)}) == 2


def test_recipes() -> None:
    base = Recipe(lambda task, session: iter(()), outcome, group_relative, surrogate, token_mean)  # type: ignore[arg-type,return-value]
    paper, community = retool.recipe(base), retool.community_recipe(base)
    assert paper.critic is not None
    assert paper.reward is retool.retool_reward
    assert community.critic is None
    assert isinstance(community.objective, partial)
    assert community.objective.keywords == {"lo": 0.2, "hi": 0.28, "dual": 10.0}
    small = retool.small_recipe(base)
    assert (small.num_generations, small.critic) == (base.num_generations, None)


def test_learned_output_follows_the_turn_before_it() -> None:
    """The prompt stays unlearned; what stands between two turns counts to the first of them."""
    row = Row((5, 6, 7, 8, 9, 10), (-1, -1, 0, -1, -1, 1))
    (whole,) = claim.learned_whole(lambda policy, lap: [row])(None, 0)  # type: ignore[arg-type]
    assert (whole.ids, whole.turn) == (row.ids, (-1, -1, 0, 0, 0, 1))


def test_without_a_cold_start_questions_are_answered_at_once() -> None:
    world = claim.Answered(tools=("python",))
    (task,) = world.tasks("train", 1, levels=(3,))
    assert world.demonstrate(task).rounds == ()
    assert world.demonstrate(task).answer == task.answer
    assert Arithmetic(tools=("python",)).demonstrate(task).rounds != ()


def test_paper_is_found() -> None:
    assert find("retool") is retool.PAPER
