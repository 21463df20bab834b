"""TGRL: the answer tool, the levels of the reward, centred groups, and four interfaces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from tests.contracts.checks import check_credit, check_reward
from tests.toys import tiny_policy

from ferrule.agents.react import ToolLoop
from ferrule.core.arrays import apply, pack
from ferrule.core.records import Call, Message, Observation, Reply, Score, Task, Trajectory, Turn
from ferrule.objectives.reduce import Totals
from ferrule.papers import find, tgrl
from ferrule.rollout.drive import drive
from ferrule.tools.calculator import calculator
from ferrule.train.grpo import grpo
from ferrule.train.loop import Settings, check
from ferrule.train.sample import sample
from ferrule.worlds.session import Toolbox

TASK = Task("t", "?", answer="4")


def episode(called: bool, right: bool, good: int, bad: int, stray: bool) -> Trajectory:
    """One turn with all calls, the answer call last."""
    calls = [Observation("r")] * good + [Observation("?", "malformed")] * bad
    calls += [Observation("4" if right else "5", terminal=True)] if called else []
    text = "<think>so</think>" + (" well" if stray else "")
    reply = Message("assistant", text, calls=tuple(Call("f") for _ in calls))
    turn = Turn(0, None, (1,), (2, 3), (-0.1, -0.1), reply, observations=tuple(calls))
    return Trajectory(TASK, (turn,), "4" if right else ("5" if called else None))


@pytest.mark.parametrize(
    ("case", "value"),
    [
        ((True, True, 2, 0, False), 2),
        ((True, False, 2, 0, False), 0),
        ((True, True, 1, 1, False), 1),
        ((True, False, 0, 2, False), -1),
        ((False, False, 3, 0, False), -2),
        ((True, True, 0, 0, True), 0),
    ],
)
def test_levels(case: tuple[bool, bool, int, int, bool], value: int) -> None:
    (score,) = tgrl.level_reward(TASK, [episode(*case)])
    assert score.value == value
    assert score.parts["answer"] + score.parts["format"] == value


def test_a_right_answer_outside_the_tool_is_no_answer() -> None:
    bare = Trajectory(TASK, (Turn(0, None, (1,), (2,), (-0.1,), Message("assistant", "4")),), "4")
    assert tgrl.level_reward(TASK, [bare])[0].value == -2


@pytest.mark.parametrize(
    ("text", "stray"),
    [
        ("", False),
        ("<think>a\nb</think>\n", False),
        ("<think>a", True),
        ("<tool_response>5</tool_response>", True),
        ("x", True),
    ],
)
def test_text_outside_tags(text: str, stray: bool) -> None:
    """Results that the model wrote itself are text outside tags."""
    assert tgrl.outside(Message("assistant", text)) is stray


def centred(values: Sequence[float]) -> list[float]:
    rows = [episode(True, True, 0, 0, False)] * len(values)
    signals = pack(rows, [Score(v) for v in values], [0] * len(values))
    adv_NT = apply(tgrl.recipe(grpo()).credit, signals)
    return [float(row.max() if row.max() > 0 else row.min()) for row in adv_NT]


def test_groups_are_centred_and_not_scaled() -> None:
    assert centred([2, 0, -2, 0]) == [2, 0, -2, 0]
    keep: Any = tgrl.recipe(grpo()).keep
    assert keep([], [Score(v) for v in (2.0, 0, -2, 0)])
    assert not keep([], [Score(2.0)] * 4)
    assert not keep([], [Score(2.0)])


class Says:
    """A policy that makes the given calls in every reply."""

    def __init__(self, *calls: Call) -> None:
        self.calls = calls

    def generate(self, asks: Sequence[Any]) -> list[list[Reply]]:
        return [[Reply(Message("assistant", calls=self.calls)) for _ in range(a.n)] for a in asks]


WORLD = Toolbox((calculator, tgrl.answer_tool()))


def test_the_answer_tool_ends_the_episode_after_the_calls_beside_it() -> None:
    policy = Says(Call("answer", {"answer": "4"}, id="a"), Call("calculator", {"expression": "2+2"}, id="b"))
    (done,) = drive(ToolLoop(), [TASK], WORLD, policy)
    trajectory = done.trajectories[0]
    assert (trajectory.answer, trajectory.finish, len(trajectory.turns)) == ("4", "answer", 1)
    assert [o.status for _, o in trajectory.calls] == ["ok", "ok"]
    assert tgrl.level_reward(TASK, [trajectory])[0].value == 2


@pytest.mark.parametrize("given", ["4", r"\boxed{4}", r"$\boxed{ 4 }$", r"so \boxed{5}, no: \boxed{4}"])
def test_a_boxed_answer_is_the_answer(given: str) -> None:
    (done,) = drive(ToolLoop(), [TASK], WORLD, Says(Call("answer", {"answer": given}, id="a")))
    signals = pack(done.trajectories, [Score(0.0)], [0])
    assert done.trajectories[0].answer == "4"
    assert (signals.calls_N.tolist(), signals.first_call_N.tolist()) == ([0], [-1])


def test_an_answer_without_its_argument_is_malformed() -> None:
    (done,) = drive(ToolLoop(turns=2), [TASK], WORLD, Says(Call("answer", {}, id="a")))
    trajectory = done.trajectories[0]
    assert trajectory.answer is None
    assert not tgrl.answered(trajectory)
    assert tgrl.level_reward(TASK, [trajectory])[0].value == -2


def test_pieces_keep_the_promises_of_their_kinds() -> None:
    check_reward(tgrl.level_reward)
    check_credit(tgrl.recipe(grpo()).credit)


def test_recipe_is_sound_and_divides_by_a_constant() -> None:
    import torch

    changed = tgrl.recipe(grpo(), longest=10.0)
    assert check(changed, Settings(per_device_train_batch_size=8, gradient_accumulation_steps=1)) == 1
    assert (changed.num_generations, changed.objective.keywords) == (8, {"lo": 0.2, "hi": 0.28})
    loss = torch.ones(2, 3)
    turn = torch.tensor([[0, 0, -1], [0, -1, -1]])
    assert float(changed.reduce(loss, turn, Totals(3, 2))) == pytest.approx(3 / 20)


def test_a_step_with_a_policy_that_never_answers() -> None:
    """All groups are flat at -2: nothing is left to train on, and nothing breaks."""
    from ferrule.core.recipe import vary

    changed = vary(tgrl.recipe(grpo(num_generations=2), refill=1), agent=ToolLoop(turns=1, max_tokens=4))
    batch = sample(changed, lambda count: [TASK] * count, 1, WORLD, tiny_policy())
    assert (len(batch.groups), batch.dropped) == (0, 2)


def test_paper_is_found() -> None:
    assert find("tgrl") is tgrl.PAPER
