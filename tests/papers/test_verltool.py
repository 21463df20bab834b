"""VerlTool: its rewards, the recipes, and the rows without loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from tests.contracts.checks import check_reward, signals_of

from ferrule.agents.action import ActionLoop
from ferrule.core.arrays import pack
from ferrule.core.recipe import Recipe
from ferrule.core.records import Call, Finish, Message, Observation, Score, Status, Task, Trajectory, Turn
from ferrule.credit.acted import mt_grpo
from ferrule.credit.group import group_relative
from ferrule.objectives.reduce import token_mean
from ferrule.objectives.surrogate import surrogate
from ferrule.papers import find, verltool
from ferrule.papers.claims import verltool as claim
from ferrule.rewards.efficiency import call_cost
from ferrule.rewards.outcome import outcome

TASK = Task("t", "?", answer="yes")


def acted(*calls: tuple[str, Status], text: str = "", answer: str | None = "yes", task: Task = TASK) -> Trajectory:
    asked = tuple(Call("f") for _ in calls)
    seen = tuple(Observation(shown, status) for shown, status in calls)
    turn = Turn(0, None, (9,), (1,), (-0.1,), Message("assistant", text, calls=asked), observations=seen)
    return Trajectory(task, (turn,), answer=answer)


def values(scores: Sequence[Score]) -> list[float]:
    return [score.value for score in scores]


def test_turn_reward() -> None:
    """ "42" and "NameError: x" are valid, "junk" is not: 0.3 * 1/2 + 0.05 = 0.2."""
    path = acted(("42", "ok"), ("NameError: x", "error"), ("junk", "malformed"))
    assert verltool.turn_reward(path) == pytest.approx(0.2)
    assert verltool.turn_reward(path, reference=True) == pytest.approx(0.2)
    assert verltool.turn_reward(acted()) == 0.0
    printed = acted(("Error: none found", "ok"), (" ", "ok"))
    assert verltool.turn_reward(printed) == pytest.approx(0.3 + 0.1)
    assert verltool.turn_reward(printed, reference=True) == 0.0


def test_search_answers_match_in_exact_form() -> None:
    """A hyphen is deleted, not spaced, so the words fuse; eleven tags are more than ten."""
    task = Task("s", "Who? <answer>eiffel tower</answer>", answer="eiffel tower")

    def value(text: str, **more: Any) -> float:
        return verltool.search_reward(task, [acted(text=text, task=task)], **more)[0].value

    assert verltool.exact_form("The Eiffel-Tower!") == "eiffeltower"
    assert value("<answer>The Eiffel-Tower!</answer>") == 0.0
    assert value("<answer>The Eiffel Tower!</answer>") == 1.0
    assert value("<answer>x</answer><answer>an eiffel  tower</answer>") == 1.0
    assert value("<answer>Eiffel Tower</answer>" * 11) == 0.25
    assert value("<answer>Eiffel Tower</answer>" * 10) == 1.0
    assert value("<answer>" * 11 + "eiffel tower</answer>") == 0.0
    assert value("eiffel tower") == 0.0
    assert value("eiffel tower", reference=True) == 1.0
    listed = replace(task, answer=["Rome", "Eiffel Tower"])
    assert values(verltool.search_reward(listed, [acted(text="<answer>rome</answer>")])) == [1.0]


def test_maths_reward_and_its_penalties() -> None:
    group = [
        acted(("1", "ok")),
        acted(("?", "malformed"), answer="no"),
        acted(),
        acted(("1", "ok"), ("late", "timeout")),
    ]
    assert values(verltool.torl_reward(TASK, group)) == [1, -1, 1, 1]
    assert [s.parts["outcome"] for s in verltool.torl_reward(TASK, group)] == [1, 0, 1, 1]
    strict = verltool.torl_reward(TASK, group, invalid_call=0.25, no_call=0.25, failed_call=0.25)
    assert values(strict) == [1.0, -1.5, 0.75, 0.75]


def test_deep_search_penalty_is_dead_in_the_reference() -> None:
    group = [acted(("1", "ok")), acted(), acted(("1", "ok"), answer=None)]
    assert values(verltool.deep_search_reward(TASK, group)) == [1.1, 1.0, -1.0]
    assert values(verltool.deep_search_reward(TASK, group, reference=True)) == [1.1, 1.0, 0.1]


def test_image_reward_looks_at_the_group() -> None:
    """One caller of five is a share of 0.2: 0.5 * (0.3 - 0.2) = 0.05 for it; its third call costs 2 * 0.05."""
    group = [acted(("1", "ok"), ("2", "ok"), ("3", "ok")), *(acted() for _ in range(4))]
    assert values(verltool.image_reward(TASK, group)) == pytest.approx([1.0 + 0.05 - 0.1, 1, 1, 1, 1])
    assert values(verltool.image_reward(TASK, group[:2])) == pytest.approx([1.0 - 0.1, 1.0])


def test_rewards_keep_the_promises_of_their_kind() -> None:
    for reward in (
        verltool.torl_reward,
        verltool.search_reward,
        verltool.deep_search_reward,
        verltool.image_reward,
        partial(verltool.with_turn_reward, base=outcome),
    ):
        check_reward(reward)


def test_an_answer_given_by_a_call_is_no_tool_turn() -> None:
    reply = Message("assistant", calls=(Call("answer", id="a"),))
    turn = Turn(0, None, (1,), (2,), (-0.1,), reply, observations=(Observation("4", terminal=True),))
    path = Trajectory(Task("t", "?", answer="4"), (turn,), "4")
    (score,) = verltool.with_turn_reward(path.task, [path], base=outcome)
    assert (call_cost(path), score.parts["turn"], score.parts["acted"]) == (0, 0, -1)


def test_the_published_split_looks_for_a_result_tag() -> None:
    """The first valid call is in turn 0, the first observation with a tag in turn 1; without a tag there is no split."""
    plain = acted(("1", "ok")).turns[0]
    for text in ("a <result>\n2\n</result>", "<output>2</output>"):
        tagged = replace(plain, id=1, parent=0, observations=(Observation(text),))
        path = Trajectory(TASK, (plain, tagged), "yes")
        splits = [verltool.with_turn_reward(TASK, [path], reference=r)[0].parts["acted"] for r in (False, True)]
        assert splits == [0.0, 1.0]
    (score,) = verltool.with_turn_reward(TASK, [acted(("1", "ok"))], reference=True)
    assert score.parts["acted"] == -1.0


def test_rows_are_all_told_of() -> None:
    with pytest.raises(ValueError, match="1 rows; the batch has 2"):
        verltool.without_rows(signals_of([0, 1], [0, 0]), [True])


def test_turn_credit_differs_from_outcome_credit_where_it_must() -> None:
    """Equal outcomes, one clean call and one failed: outcome credit sees nothing, turn credit the acting turn alone."""
    group = [
        Trajectory(
            TASK,
            (
                replace(acted(("1", status)).turns[0], sampled=(1, 2), logps=(0.0, 0.0)),
                Turn(1, 0, (8,), (3,), (0.0,), Message("assistant", "yes")),
            ),
            "yes",
        )
        for status in ("ok", "error")
    ]
    changed = verltool.recipe(Recipe(ActionLoop(), outcome, group_relative, surrogate, token_mean))
    signals = pack(group, changed.reward(TASK, group), [0, 0])
    assert (group_relative(signals.reward_N, signals.group_N, signals.turn_NT) == 0).all()
    adv = changed.credit(signals)
    assert (adv[0, :4] > adv[1, :4])[1:3].all()
    assert mt_grpo(signals)[:, 4].tolist() == [0, 0]
    assert [s.parts["acted"] for s in changed.reward(TASK, group)] == [0.0, 0.0]


def test_recipes_say_what_they_change() -> None:
    base = Recipe(ActionLoop(), outcome, group_relative, surrogate, token_mean, num_generations=4)
    maths = verltool.maths_recipe(base)
    assert (maths.num_generations, maths.agent) == (16, base.agent)
    assert values(maths.reward(TASK, [acted(answer="no")])) == [-1.0]
    changed = verltool.recipe(base)
    assert (changed.num_generations, changed.reduce) == (4, base.reduce)
    assert set(changed.reward(TASK, [acted()])[0].parts) == {"outcome", "turn", "acted"}


def test_rows_without_loss() -> None:
    """A finished episode with a call, one cut at a limit, one that did nothing, and one that boxed an answer."""
    loop = ActionLoop(turns=4)

    def last(finish: Finish = "stop") -> Turn:
        return Turn(1, 0, (8,), (3,), (0.0,), Message("assistant", "end"), finish=finish)

    ended = replace(acted(("1", "ok")), turns=(*acted(("1", "ok")).turns, last()))
    overlong = replace(ended, turns=(ended.turns[0], last("length")))
    void = Trajectory(TASK, (replace(last(), id=0, parent=None),), "end")
    rows = [ended, overlong, void, replace(void, answer="\\boxed{3}")]
    assert verltool.carries_loss(rows, loop) == [True, False, False, True]
    assert verltool.carries_loss(rows, loop, mask_overlong=False, mask_void=False) == [True] * 4
    assert verltool.carries_loss(rows, loop, mask_overlong=False) == [True, True, False, True]
    signals = pack(rows, [Score(0.0)] * 4, [0] * 4)
    left = verltool.without_rows(signals, [True, False, True, True]).turn_NT
    assert (left[1] == -1).all()
    assert (left[[0, 2, 3]] == signals.turn_NT[[0, 2, 3]]).all()


def test_observation_tokens_lie_between_model_tokens() -> None:
    ids = np.array([[5, 6, 1, 2, 50, 51, 3, 60, -1]])
    turn = np.array([[-1, -1, 0, 0, -1, -1, 1, -1, -1]])
    assert claim._observed(ids, turn).tolist() == [[-1, -1, -1, -1, 0, 0, -1, -1, -1]]


def test_the_mask_keeps_observations_out_of_the_gradient() -> None:
    """Both arms begin with the same model; only without the mask does an observation token have a derivative."""
    size = {"trajectories": 6, "mean": 0.0, "tasks": 16, "steps": 1}
    on, off = (claim.STUDY.arms[name](seed=11, **size) for name in ("mask on", "mask off"))
    assert on["before"] == off["before"]
    assert (on["gradient"], off["gradient"] > 0) == (0.0, True)
    assert off["rise"] > on["rise"]


def test_schedules_are_compared_as_lock_step_over_asynchronous() -> None:
    """Twice the time in lock-step is a ratio of 2 under both laws of tool times."""
    seconds = dict.fromkeys(claim.STUDY.machine, 1.0)
    rows = {"lock-step": dict.fromkeys(seconds, 2.0), "asynchronous": seconds}
    assert [condition.values([rows]) for condition in claim.STUDY.asks[:2]] == [(2.0,), (2.0,)]


def test_paper_is_found() -> None:
    assert find("verltool") is verltool.PAPER
