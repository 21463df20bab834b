"""VerlTool: the turn loop token for token, cutting, rewards, turn-level credit, loss masks, and the schedules."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.contracts.checks import check_reward, signals_of
from tests.toys import Bench

from ferrule.core.arrays import Signals, pack
from ferrule.core.recipe import Recipe
from ferrule.core.records import (
    Ask,
    Call,
    Message,
    Observation,
    Reply,
    Score,
    Session,
    Status,
    Task,
    Tool,
    Trajectory,
    Turn,
)
from ferrule.credit.group import group_relative
from ferrule.objectives.reduce import token_mean
from ferrule.objectives.surrogate import surrogate
from ferrule.papers import verltool
from ferrule.papers.verltool import credit, experiment, rewards
from ferrule.papers.verltool.loop import ActionLoop, asynchronous_seconds, cut, finished, lock_step_seconds, stop_reason
from ferrule.policies.scripted import Scripted
from ferrule.rewards.outcome import outcome
from ferrule.rollout.drive import drive
from ferrule.tools.sql import sql_tool
from ferrule.worlds.session import ToolSession

TASK = Task("t", "?", answer="yes")

# -------------------------------------------------------------------------------------------------------- the turn loop


class Ids:
    """A policy over bare ids: what it samples, whether a stop string ended it; observations are texts of ids."""

    def __init__(self, *turns: tuple[Sequence[int], str]) -> None:
        self.turns = turns
        self.asked: list[Ask] = []

    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        return [[self._reply(ask)] for ask in asks]

    def _reply(self, ask: Ask) -> Reply:
        self.asked.append(ask)
        sampled, ending = self.turns[sum(m.role == "assistant" for m in ask.messages)]
        new = [int(i) for m in ask.messages[ask.fresh :] for i in str(m.content).split()]
        message = Message("assistant", "".join(f"{i} " for i in sampled) + ("</t>" if ending == "</t>" else ""))
        if ending == "</t>":
            message = replace(message, calls=(Call("look", {}, id=str(len(ask.messages))),))
        return Reply(
            message,
            given=(*ask.context, *new),
            sampled=tuple(sampled),
            logps=(0.0,) * len(sampled),
            finish="length" if ending == "length" else "stop",
        )


@dataclass(frozen=True)
class Shows:
    """A world whose tool shows texts of ids one after another; a text that ends in ``done`` ends the episode."""

    texts: tuple[str, ...]
    name: str = "shows"

    def tasks(self, *_: Any, **__: Any) -> list[Task]:
        return [Task("t", "7 7 7")]

    def start(self, task: Task, seed: int = 0) -> Session:
        left = list(self.texts)

        def look() -> Observation:
            text = left.pop(0)
            return Observation(text.removesuffix(" done"), terminal=text.endswith("done"))

        return ToolSession(task, lambda _: (Tool("look", "", {"type": "object", "properties": {}}, run=look),))


def spell(ids: Sequence[int]) -> str:
    return " ".join(map(str, ids))


def read(text: str) -> list[int]:
    return [int(word) for word in text.split()]


LOOP = ActionLoop(turns=4, stop=("</t>",), encode=read, decode=spell, marker="900 901", max_action=8, max_response=40)


def played(loop: ActionLoop, shown: Sequence[str], *turns: tuple[Sequence[int], str]) -> tuple[Trajectory, Ids]:
    world, policy = Shows(tuple(shown)), Ids(*turns)
    (episode,) = drive(loop, world.tasks(), world, policy)
    assert not episode.problem
    return episode.trajectories[0], policy


def response(trajectory: Trajectory) -> tuple[list[int], list[int]]:
    """Ids after the prompt and their mask."""
    signals = pack([trajectory], [Score(0.0)], [0])
    prompt = len(trajectory.turns[0].given)
    return signals.ids_NT[0, prompt:].tolist(), (signals.turn_NT[0, prompt:] >= 0).astype(int).tolist()


def test_turns_token_for_token() -> None:
    """gen [1,2] stop </t>, obs [50], gen [3] end: ids [1,2,50,3], mask [1,1,0,1]."""
    path, _ = played(LOOP, ["50"], ([1, 2], "</t>"), ([3], "end"))
    assert response(path) == ([1, 2, 50, 3], [1, 1, 0, 1])
    assert stop_reason(path, LOOP) == "model_chose_to_finish"
    assert finished(stop_reason(path, LOOP))
    assert rewards.valid_calls(path) == 1


def test_a_call_in_the_last_reply_is_dropped() -> None:
    """M = 2 tool turns are 3 generations; the third wants a tool as well, which is not called."""
    loop = replace(LOOP, turns=2)
    path, _ = played(loop, ["50 51", "52", "53"], ([1, 2], "</t>"), ([3], "</t>"), ([4], "</t>"))
    assert response(path) == ([1, 2, 50, 51, 3, 52, 4], [1, 1, 0, 0, 1, 0, 1])
    assert stop_reason(path, loop) == "max_turns_reached"
    assert not finished("max_turns_reached")
    assert rewards.valid_calls(path) == 2


def test_every_reply_gets_what_is_left() -> None:
    """Action 8, response 12: min(8, 12) = 8; after 2 + 3 tokens min(8, 7) = 7; after 7 more none is left."""
    loop = replace(LOOP, max_response=12)
    path, policy = played(loop, ["50 51 52", "60"], ([1, 2], "</t>"), ([3] * 6, "</t>"))
    assert [ask.max_tokens for ask in policy.asked] == [8, 7]
    assert stop_reason(path, loop) == "max_model_len_exceeded"


def test_other_reasons_to_stop() -> None:
    path, _ = played(LOOP, ["50 done"], ([1], "</t>"))
    assert stop_reason(path, LOOP) == "tool_signaled_done"
    assert path.answer == "50"
    path, _ = played(LOOP, [], ([1] * 8, "length"))
    assert stop_reason(path, LOOP) == "no_action_stop_token"
    path, _ = played(replace(LOOP, max_response=8), [], ([1] * 8, "length"))
    assert stop_reason(path, replace(LOOP, max_response=8)) == "max_response_length_reached"
    assert stop_reason(Trajectory(TASK, ()), LOOP) == "max_model_len_exceeded"


def test_the_model_sees_cut_observations() -> None:
    """60 ids at limit 4 in the middle: the first two, the marker, the last two."""
    path, _ = played(replace(LOOP, max_observation=4), [spell(range(50, 60))], ([1], "</t>"), ([2], "end"))
    assert response(path)[0] == [1, 50, 51, 900, 901, 58, 59, 2]


def test_without_ids_bytes_are_counted() -> None:
    """Prompt excluded: 'aaaa' is 4 of 10, '7' 1 more, so 5 are left; the text after the stop string never counts."""
    asked: list[int | None] = []

    def speak(ask: Ask, sample: int) -> str:
        asked.append(ask.max_tokens)
        return "aaaa" if len(ask.messages) > 1 else "aa<t>invented"

    policy = Scripted(speak)
    loop = ActionLoop(stop=("<t>",), max_action=9, max_response=10)
    (episode,) = drive(loop, Bench().tasks("train", 1), Bench(), policy)
    assert asked[0] == 9
    text = "malformed call: no action could be read before the stop string"
    assert asked[1:] == ([] if 10 - 5 - len(text) <= 0 else [10 - 5 - len(text)])
    assert episode.trajectories[0].answer == "aa<t>"


def test_ids_are_cut_on_the_named_side() -> None:
    ids, marker = range(50, 60), [900, 901]
    assert cut(ids, 4, marker=marker, side="left") == (56, 57, 58, 59, 900, 901)
    assert cut(ids, 4, marker=marker, side="right") == (50, 51, 52, 53, 900, 901)
    assert cut(ids, 4, marker=marker, side="middle") == (50, 51, 900, 901, 58, 59)
    assert cut(ids, 10, marker=marker) == tuple(ids)
    assert cut(ids, 1, marker=marker) == (900, 901)
    with pytest.raises(ValueError, match="known: left, middle, right"):
        cut(ids, 4, side="up")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the least is 0"):
        cut(ids, -1)
    with pytest.raises(ValueError, match="ActionLoop needs"):
        ActionLoop(max_action=0)


# -------------------------------------------------------------------------------------------------------------- rewards


def acted(*calls: tuple[str, Status], text: str = "", answer: str | None = "yes", task: Task = TASK) -> Trajectory:
    made = tuple(Call("f") for _ in calls)
    seen = tuple(Observation(shown, status) for shown, status in calls)
    turn = Turn(0, None, (9,), (1,), (-0.1,), Message("assistant", text, calls=made), observations=seen)
    return Trajectory(task, (turn,), answer=answer)


def values(scores: Sequence[Score]) -> list[float]:
    return [score.value for score in scores]


def test_turn_reward() -> None:
    """ "42" and "NameError: x" are valid, "junk" is not: 0.3 * 1/2 + 0.05 = 0.2."""
    path = acted(("42", "ok"), ("NameError: x", "error"), ("junk", "malformed"))
    assert rewards.turn_reward(path) == pytest.approx(0.2)
    assert rewards.turn_reward(path, reference=True) == pytest.approx(0.2)
    assert rewards.turn_reward(acted()) == 0.0
    printed = acted(("Error: none found", "ok"), (" ", "ok"))
    assert rewards.turn_reward(printed) == pytest.approx(0.3 + 0.1)
    assert rewards.turn_reward(printed, reference=True) == 0.0


def test_search_answers_match_in_normal_form() -> None:
    """A hyphen is deleted, not spaced, so the words fuse; eleven tags are more than ten."""
    task = Task("s", "Who? <answer>eiffel tower</answer>", answer="eiffel tower")

    def value(text: str, **more: Any) -> float:
        return rewards.search_reward(task, [acted(text=text, task=task)], **more)[0].value

    assert rewards.normal_form("The Eiffel-Tower!") == "eiffeltower"
    assert value("<answer>The Eiffel-Tower!</answer>") == 0.0
    assert value("<answer>The Eiffel Tower!</answer>") == 1.0
    assert value("<answer>x</answer><answer>an eiffel  tower</answer>") == 1.0
    assert value("<answer>Eiffel Tower</answer>" * 11) == 0.25
    assert value("<answer>Eiffel Tower</answer>" * 10) == 1.0
    assert value("<answer>" * 11 + "eiffel tower</answer>") == 0.0
    assert value("eiffel tower") == 0.0
    assert value("eiffel tower", reference=True) == 1.0
    listed = replace(task, answer=["Rome", "Eiffel Tower"])
    assert values(rewards.search_reward(listed, [acted(text="<answer>rome</answer>")])) == [1.0]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ([(1, "a"), (2, "b")], [("b", 2), ("a", 1)], True),
        ([(1, "a"), (2, "b")], [("a", 2), ("b", 1)], False),
        ([(1, 2), (2, 1)], [(1, 1), (2, 2)], False),
        ([(1,), (1,)], [(1,)], False),
        ([(1,), (1,), (2,)], [(1,), (2,), (2,)], False),
        ([(1, 1)], [(1,)], False),
        ([(1, 2, 3), (4, 5, 6)], [[6, 4, 5], [3, 1, 2]], True),
        ([], [], True),
        ([(None, 1.0)], [(1, None)], True),
        ([tuple(range(12))] * 3, [tuple(reversed(range(12)))] * 3, True),
        ([(0,) * 14 + (1,)], [(0,) * 14 + (2,)], False),
    ],
)
def test_tables_are_equal_up_to_their_columns(one: Any, other: Any, same: bool) -> None:
    assert rewards.same_table(one, other) is same
    assert rewards.same_table(other, one) is same


def test_sql_reward(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as base, base:
        base.executescript("CREATE TABLE t (a INTEGER, b TEXT); INSERT INTO t VALUES (1, 'x'), (2, 'y');")
    reward = rewards.sql_reward(rewards.by_tool(lambda task: sql_tool(path, rows=1000)))
    task = Task("q", "?", answer="SELECT a, b FROM t ORDER BY a")
    call = ("1", "ok")
    texts: Mapping[str, float] = {
        "<think>so</think><solution>SELECT b, a FROM t ORDER BY b DESC</solution>": 1.0,
        "<think>so</think><solution>SELECT a FROM t</solution>": 0.0,
        "<think>so</think><solution>SELECT nothing FROM nowhere</solution>": 0.0,
        "<solution>SELECT a, b FROM t</solution>": -1.0,
        "<think>so</think> no solution": -1.0,
    }
    for text, wanted in texts.items():
        assert values(reward(task, [acted((str(call[0]), "ok"), text=text)])) == [wanted], text
    assert values(reward(task, [acted(text="<solution>SELECT a, b FROM t</solution>")])) == [1.0]
    check_reward(rewards.sql_reward(lambda task, query: [(len(query),)]))


def test_maths_reward_and_its_penalties() -> None:
    group = [
        acted(("1", "ok")),
        acted(("?", "malformed"), answer="no"),
        acted(),
        acted(("1", "ok"), ("late", "timeout")),
    ]
    assert values(rewards.torl_reward(TASK, group)) == [1, -1, 1, 1]
    assert [s.parts["outcome"] for s in rewards.torl_reward(TASK, group)] == [1, 0, 1, 1]
    strict = rewards.torl_reward(TASK, group, invalid_call=0.25, no_call=0.25, failed_call=0.25)
    assert values(strict) == [1.0, -1.5, 0.75, 0.75]


def test_deep_search_penalty_is_dead_in_the_reference() -> None:
    group = [acted(("1", "ok")), acted(), acted(("1", "ok"), answer=None)]
    assert values(rewards.deep_search_reward(TASK, group)) == [1.1, 1.0, -1.0]
    assert values(rewards.deep_search_reward(TASK, group, reference=True)) == [1.1, 1.0, 0.1]


def test_image_reward_looks_at_the_group() -> None:
    """One caller of five is a share of 0.2: 0.5 * (0.3 - 0.2) = 0.05 for it; its third call costs 2 * 0.05."""
    group = [acted(("1", "ok"), ("2", "ok"), ("3", "ok")), *(acted() for _ in range(4))]
    assert values(rewards.image_reward(TASK, group)) == pytest.approx([1.0 + 0.05 - 0.1, 1, 1, 1, 1])
    assert values(rewards.image_reward(TASK, group[:2])) == pytest.approx([1.0 - 0.1, 1.0])


def test_rewards_keep_the_promises_of_their_kind() -> None:
    for reward in (
        rewards.torl_reward,
        rewards.search_reward,
        rewards.deep_search_reward,
        rewards.image_reward,
        partial(rewards.with_turn_reward, base=outcome),
    ):
        check_reward(reward)


# --------------------------------------------------------------------------------------------------------------- credit


def channelled(signals: Signals, turn: Sequence[float], acting: Sequence[float]) -> Signals:
    return replace(signals, parts_CN=np.array([turn, acting], dtype=float), channels=("turn", "acted"))


def test_turn_credit_of_one_group() -> None:
    """R = [1, 0]: +-.5 / .7071 = +-.7071. T = [.35, .2]: +-.075 / .10607 = +-.7071; together 1.4142 up to the call."""
    turn_NT = np.array([[0, 0, -1, 1, 1], [0, 0, -1, -1, 1]])
    bare = replace(signals_of([0, 1], [0, 0]), turn_NT=turn_NT, reward_N=np.array([1.0, 0.0]))
    signals = channelled(bare, [0.35, 0.2], [0, 0])
    want = [[1.4142, 1.4142, 0, 0.7071, 0.7071], [-1.4142, -1.4142, 0, 0, -0.7071]]
    assert credit.mt_grpo(signals) == pytest.approx(np.array(want), abs=2e-5)
    outcome_NT = group_relative(bare.reward_N, bare.group_N, turn_NT, std="unbiased")
    assert credit.mt_grpo(signals, c=0.0) == pytest.approx(outcome_NT)
    never = credit.mt_grpo(channelled(bare, [-0.9, 0.2], [-1, -1]))  # R + T is .1 and .2: the order turns round
    assert never[:, 0] == pytest.approx([-0.7071, 0.7071], abs=1e-4)
    assert (never[turn_NT < 0] == 0).all()
    with pytest.raises(ValueError, match=r"'acted', which is absent; wrap the reward in with_turn_reward"):
        credit.mt_grpo(bare)


def test_equal_rewards_get_no_credit() -> None:
    signals = channelled(signals_of([0, 1, 2], [0, 0, 0], equal=True), [0.2] * 3, [0, 1, 0])
    assert (credit.mt_grpo(signals) == 0).all()
    assert (credit.mt_grpo_whitened(signals) == 0).all()


@pytest.mark.parametrize("values", [[0.0, 1e-7], [0.1 + 0.2, 0.3]])
def test_rewards_that_only_rounding_tells_apart_are_not_blown_up(values: list[float]) -> None:
    """Centred and not divided: at most 5e-8; beside a group that differs, whitening leaves them at 0."""
    signals = replace(signals_of([0, 1, 0, 1], [0, 0, 1, 1]), reward_N=np.array([*values, 1.0, 0.0]))
    spread = channelled(signals, [0.2, 0.2, 0.3, 0.1], [0, 0, 0, 0])
    found = credit.mt_grpo(spread)
    assert np.abs(found[:2]).max() <= 5.1e-8
    assert np.abs(found[2:]).max() > 0.7
    assert (credit.mt_grpo_whitened(spread)[:2] == 0).all()


def test_an_answer_given_by_a_call_is_no_tool_turn() -> None:
    reply = Message("assistant", calls=(Call("answer", id="a"),))
    turn = Turn(0, None, (1,), (2,), (-0.1,), reply, observations=(Observation("4", terminal=True),))
    path = Trajectory(Task("t", "?", answer="4"), (turn,), "4")
    (score,) = rewards.with_turn_reward(path.task, [path], base=outcome)
    assert (rewards.valid_calls(path), score.parts["turn"], score.parts["acted"]) == (0, 0, -1)


def test_rows_are_all_told_of() -> None:
    with pytest.raises(ValueError, match="1 rows; the batch has 2"):
        credit.without_rows(signals_of([0, 1], [0, 0]), [True])


def test_whitening_leaves_groups_without_a_difference_alone() -> None:
    """The published form pushes them by the batch's mean, which is not 0 as soon as rows differ in length."""
    signals = replace(signals_of([0, 1, 0, 1], [0, 0, 1, 1]), reward_N=np.array([1.0, 0.0, 1.0, 1.0]))
    spread = channelled(signals, [0.3, 0.1, 0.2, 0.2], [0, 0, 0, 0])
    mine = signals.turn_NT >= 0
    kept, pushed = credit.mt_grpo_whitened(spread), credit.mt_grpo_whitened(spread, reference=True)
    assert (kept[2:] == 0).all()
    assert (pushed[2:][mine[2:]] != 0).all()
    assert (kept[:2] == pushed[:2]).all()
    assert pushed[mine].mean() == pytest.approx(0.0, abs=1e-9)
    assert pushed[mine].std(ddof=1) == pytest.approx(1.0, abs=1e-6)


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
    assert credit.mt_grpo(signals)[:, 4].tolist() == [0, 0]
    assert [s.parts["acted"] for s in changed.reward(TASK, group)] == [0.0, 0.0]


def test_recipes_say_what_they_change() -> None:
    base = Recipe(ActionLoop(), outcome, group_relative, surrogate, token_mean, samples=4)
    maths = verltool.maths_recipe(base)
    assert (maths.samples, maths.agent) == (16, base.agent)
    assert values(maths.reward(TASK, [acted(answer="no")])) == [-1.0]
    changed = verltool.recipe(base)
    assert (changed.samples, changed.reduce) == (4, base.reduce)
    assert set(changed.reward(TASK, [acted()])[0].parts) == {"outcome", "turn", "acted"}


def test_rows_without_loss() -> None:
    ended, _ = played(LOOP, ["50"], ([1, 2], "</t>"), ([3], "end"))
    overlong, _ = played(LOOP, [], ([1] * 8, "length"))
    void, _ = played(LOOP, [], ([3], "end"))
    boxed = replace(void, answer="\\boxed{3}")
    rows = [ended, overlong, void, boxed]
    assert credit.carries_loss(rows, LOOP) == [True, False, False, True]
    assert credit.carries_loss(rows, LOOP, mask_overlong=False, mask_void=False) == [True] * 4
    assert credit.carries_loss(rows, LOOP, mask_overlong=False) == [True, False, False, True]
    signals = pack(rows, [Score(0.0)] * 4, [0] * 4)
    left = credit.without_rows(signals, [True, False, True, True]).turn_NT
    assert (left[1] == -1).all()
    assert (left[[0, 2, 3]] == signals.turn_NT[[0, 2, 3]]).all()


# ------------------------------------------------------------------------------------------------------------ the claim


def test_schedules_of_two_trajectories() -> None:
    """Lock-step: (2 + 5) + (3 + 0) = 10 s. Alone A takes 6 s and B 7 s."""
    times = [[(2, 1), (3, 0)], [(1, 5), (1, 0)]]
    assert lock_step_seconds(times) == 10
    assert asynchronous_seconds(times) == 7
    assert lock_step_seconds([[(1, 0)], [(2, 1), (1, 1)]]) == 5
    assert (lock_step_seconds([]), asynchronous_seconds([])) == (0, 0)


def test_both_schedules_leave_the_same_tokens() -> None:
    found = experiment.race(experiment.heavy, 3, seed=5, trajectories=12, mean=0.001)
    assert found["same"] == 1.0
    assert found["bound"] > 1


def test_laws_have_mean_one() -> None:
    """Lomax with index 2: mean 1 / (2 - 1) = 1; its spread is infinite, so the mean is taken from quantiles."""
    import random

    rng = random.Random(0)
    assert np.mean([experiment.exponential(rng) for _ in range(20_000)]) == pytest.approx(1, abs=0.03)
    heavy = np.sort([experiment.heavy(rng) for _ in range(20_000)])
    assert np.median(heavy) == pytest.approx(2**0.5 - 1, abs=0.02)
    assert heavy[-200] == pytest.approx(9.0, rel=0.2)  # 1 % lie beyond 0.01 ** -0.5 - 1


def test_observation_tokens_lie_between_model_tokens() -> None:
    ids = np.array([[5, 6, 1, 2, 50, 51, 3, 60, -1]])
    turn = np.array([[-1, -1, 0, 0, -1, -1, 1, -1, -1]])
    assert experiment._observed(ids, turn).tolist() == [[-1, -1, -1, -1, 0, 0, -1, -1, -1]]


@pytest.mark.usefixtures("one_thread")
def test_claim_runs_and_is_honest_about_its_data() -> None:
    """The mask decides whether observations are learned; the wall times of so small a run decide nothing."""
    claim = verltool.claim("tiny", seeds=(11, 12, 13))
    assert (verltool.PAPER.number, claim.paper) == (24, verltool.PAPER.slug)
    assert claim.size == "tiny"
    assert "simulat" in claim.measured
    assert {"lock-step", "asynchronous", "mask on", "mask off"} == set(claim.arms)
    same = next(c for c in claim.setup["conditions"] if "equal trajectories" in c["name"])
    assert (same["effect"], same["verdict"]) == (1.0, "held")
    assert len(claim.setup["ratios"]["heavy tail, 3 turns"]["ratio"]) == 3
    on, off = claim.arms["mask on"], claim.arms["mask off"]
    assert on["before"] == off["before"]
    assert on["gradient"] == [0.0] * 3
    assert min(off["gradient"]) > 0
    assert all(bare > masked for bare, masked in zip(off["rise"], on["rise"], strict=True))
    with pytest.raises(ValueError, match="known: small, tiny"):
        verltool.claim("huge")
