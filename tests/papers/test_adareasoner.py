"""AdaReasoner: the ladder of a call, its mean over turns, the gate, the asymmetric total, and renamed worlds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from tests.contracts.checks import check_reward

from ferrule.core.records import Call, Message, Observation, Score, Task, Tool, Trajectory, Turn
from ferrule.credit.group import group_relative
from ferrule.papers import adareasoner, find
from ferrule.train.grpo import grpo
from ferrule.train.loop import check
from ferrule.train.settings import Settings
from ferrule.worlds.aliased import renamed
from ferrule.worlds.apis import Apis

REQUIRED = {"Point": ["image", "description"], "AStar": ["start", "goal", "obstacles"]}
FULL = Call("AStar", {"start": 1, "goal": 2, "obstacles": []})
TASK = Task("t", "?", answer="yes")
TOOLS = [
    Tool(name, "", {"type": "object", "required": names}, run=lambda **given: "") for name, names in REQUIRED.items()
]


def test_reducer() -> None:
    """Trailing zeros go, inner ones count, and nothing counts behind the padding."""
    rows: list[list[float]] = [[4, 4, 0], [4, 0, 4, 0, -1, -1], [1, 2, 3, 4], [2.5, 0, 4], [-1, 4], [], [0, 0]]
    assert [adareasoner.reduced(row) for row in rows] == pytest.approx([4, 8 / 3, 2.5, 13 / 6, 0, 0, 0])
    assert adareasoner.reduced([4, 0, 0], trim=False) == pytest.approx(4 / 3)


def acting(*calls: Call, seen: bool = True, texts: Sequence[str] = ()) -> Trajectory:
    turns = [
        Turn(k, None, (), (1,), (0.0,), Message("assistant", "", (call,)), observations=(Observation("r"),) * seen)
        for k, call in enumerate(calls)
    ]
    turns += [Turn(len(turns) + k, None, (), (1,), (0.0,), Message("assistant", t)) for k, t in enumerate(texts)]
    return Trajectory(TASK, tuple(turns), "no")


def test_settings_of_the_ladder_are_checked_without_schemas_too() -> None:
    for names, said in (("bogus", "unknown ladder 'bogus'"), ("union", "give them as offered")):
        with pytest.raises(ValueError, match=said):
            adareasoner.adareasoner_reward(TASK, [acting(FULL)], names=names)  # type: ignore[arg-type]


def test_values_of_a_judge_are_shares_and_calls_that_were_not_run_have_none() -> None:
    for valid, expected in ((7.0, 4.0), (-1.0, 3.0), (0.5, 3.5)):
        assert adareasoner.turn_scores(acting(FULL), offered=TOOLS, valid=lambda c, o, v=valid: v) == [expected]  # type: ignore[misc]
    assert adareasoner.turn_scores(acting(FULL, seen=False), offered=TOOLS) == [3.0]
    (score,) = adareasoner.adareasoner_reward(TASK, [acting(FULL)], valid=lambda call, seen: 0.5)
    assert score.parts["tools"] == 3.5


def test_what_the_base_says_is_kept() -> None:
    def judged(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
        return [Score(0.0, parts={"judge": 0.3}, info={"a": 1}, group="g", drop=True) for _ in trajectories]

    (score,) = adareasoner.adareasoner_reward(TASK, [acting(FULL)], base=judged)
    assert (score.group, score.drop, score.parts["judge"], score.info) == ("g", True, 0.3, {"a": 1})


def test_the_gate_on_tags_fits_recorded_episodes() -> None:
    gate = adareasoner.written(adareasoner.gate_holds)
    call = Call("AStar", raw="<tool_call>{}</tool_call>")
    said = "<think>a</think><response>b</response>"
    assert not gate(acting(call, texts=[said]))
    assert gate(acting(texts=[said]))


def test_totals() -> None:
    assert adareasoner.combined(True, 1.0) == 8
    assert adareasoner.combined(False, adareasoner.reduced([4, 2, 0])) == 3
    assert adareasoner.combined(False, 0.0) == 0
    totals = {name: adareasoner.combined(False, 3.0, **row) for name, row in adareasoner.VARIANTS.items()}  # type: ignore[arg-type]
    assert totals == {"main": 3, "1:2": 0.75, "2:1": 1.5, "accuracy": 0}
    assert adareasoner.combined(True, 3.0, added=True) == 11


def test_gate_on_tags() -> None:
    think, call, say = "<think>a</think>", "<tool_call>{}</tool_call>", "<response>b</response>"
    assert adareasoner.gate_holds(think + call + think + say)
    assert not adareasoner.gate_holds(think + call + call + think + say)
    assert not adareasoner.gate_holds(think + say + "<think>")
    assert not adareasoner.gate_holds(say)
    assert not adareasoner.gate_holds(think)


def test_group_of_four() -> None:
    """Mean 4.75, unbiased spread 3.9476."""
    adv_NT = group_relative(
        np.asarray([8.0, 8, 3, 0]), np.zeros(4, dtype=int), np.zeros((4, 1), dtype=int), std="unbiased"
    )
    assert adv_NT[:, 0] == pytest.approx([0.8233, 0.8233, -0.4433, -1.2033], abs=1e-4)


def test_paths_on_a_grid() -> None:
    grid = ["S.H", ".#.", "..G"]
    assert adareasoner.reaches_goal(grid, ["down", "down", "right", "right", "up"])  # the goal keeps the walker
    assert adareasoner.reaches_goal(grid, ["left", "down", "right", "down", "right", "right"])  # walls cost nothing
    assert not adareasoner.reaches_goal(grid, ["right", "right", "down", "down"])  # into the hole
    assert not adareasoner.reaches_goal(grid, [])
    assert adareasoner.reaches_goal(grid, ["Down", "DOWN", " right", "right"])
    assert not adareasoner.reaches_goal(grid, ["down", "down", "right", "right", "jump"])
    with pytest.raises(ValueError, match="needs one"):
        adareasoner.reaches_goal(["G"], [])


# --------------------------------------------------------------------------------------------------------------- episodes


def episode(rounds: Sequence[tuple[Call, str]], answer: str | None = "no", *, final: bool = True) -> Trajectory:
    """One call a turn, then the answering turn."""
    turns = [
        Turn(k, None, (), (1,), (-0.1,), Message("assistant", calls=(call,)),
             observations=(Observation("r", status=status),))  # type: ignore[arg-type]
        for k, (call, status) in enumerate(rounds)
    ]  # fmt: skip
    if final:
        turns.append(Turn(len(turns), None, (), (1,), (-0.1,), Message("assistant", answer or "")))
    return Trajectory(TASK, tuple(turns), answer=answer)


GOOD, SLOPPY = (FULL, "ok"), (Call("Point", {"image": 1, "description": 2}), "error")
BROKEN = (Call("AStar", problem="no JSON"), "malformed")


def test_scores_of_turns() -> None:
    rounds = [GOOD, SLOPPY, (Call("AStar", {"start": 1}), "malformed"), (Call("No"), "unknown_tool"), BROKEN]
    assert adareasoner.turn_scores(episode(rounds), offered=TOOLS) == pytest.approx([4, 3, 7 / 3, 1, 0])
    assert adareasoner.turn_scores(episode(rounds)) == pytest.approx([4, 3, 2, 1, 0])
    assert adareasoner.turn_scores(episode([GOOD], None)) == [4, 0]  # a turn that neither calls nor answers


def test_rewards_of_episodes() -> None:
    group = [
        episode([SLOPPY], "yes"),
        episode([GOOD, (Call("AStar", {"start": 1}), "malformed")]),
        episode([]),
        episode([GOOD], None),
    ]
    scores = adareasoner.adareasoner_reward(TASK, group)
    assert [s.value for s in scores] == pytest.approx([8, 3, 0, 0])
    assert scores[1].parts == {"outcome": 0, "tools": 3, "format": 1}
    added = adareasoner.adareasoner_reward(TASK, group[:1], added=True)
    assert added[0].value == 11


def test_a_malformed_last_call_counts_unless_it_is_trimmed() -> None:
    """[4, 0] has the mean 2; the release trims the zero and sees 4."""
    group = [episode([GOOD, BROKEN])]
    assert adareasoner.adareasoner_reward(TASK, group)[0].value == 2
    assert adareasoner.adareasoner_reward(TASK, group, reference=True)[0].value == 4


def test_gate_on_episodes() -> None:
    two = Turn(
        0, None, (), (1,), (-0.1,), Message("assistant", calls=(FULL, FULL)), observations=(Observation(""),) * 2
    )
    answer = Turn(1, None, (), (1,), (-0.1,), Message("assistant", "yes"))
    assert not adareasoner.formed(Trajectory(TASK, (two, answer), "yes"))
    assert not adareasoner.formed(Trajectory(TASK, (answer, answer), "yes"))
    assert adareasoner.formed(episode([GOOD], "yes", final=False))
    assert adareasoner.adareasoner_reward(TASK, [Trajectory(TASK, (two, answer), "yes")])[0].value == 0


def test_pieces_keep_the_promises_of_their_kind() -> None:
    check_reward(adareasoner.adareasoner_reward)
    check_reward(partial(adareasoner.adareasoner_reward, offered=lambda task: TOOLS, reference=True))


# ----------------------------------------------------------------------------------------------------------------- names


def test_calls_are_scored_under_real_names() -> None:
    """The same call earns 4 through its alias; the real name is unknown to the session."""
    inner = Apis()
    task = inner.tasks("train", 1, seed=1, levels=(1,))[0]
    session = renamed(inner, share=1.0).start(task)
    (tools, *_) = session.tools
    values: Any = {"integer": 1, "string": "x"}
    given = {name: values[entry["type"]] for name, entry in tools.parameters["properties"].items()}
    call = Call(tools.name, given)
    turn = Turn(0, None, (), (1,), (-0.1,), Message("assistant", calls=(call,)), observations=(Observation("r"),))
    answer = Turn(1, 0, (), (1,), (-0.1,), Message("assistant", "?"))
    trajectory = Trajectory(task, (turn, answer), "?", final=session.final())
    recipe = adareasoner.recipe(grpo(), offered=lambda task: inner.start(task).tools)
    assert recipe.reward(task, [trajectory])[0].parts["tools"] == 4
    assert (
        adareasoner.adareasoner_reward(task, [trajectory], offered=lambda t: inner.start(t).tools)[0].parts["tools"]
        == 1
    )


def test_recipe_is_sound() -> None:
    changed = adareasoner.recipe(grpo(beta=0.1))
    assert check(changed, Settings(per_device_train_batch_size=8, gradient_accumulation_steps=1)) == 2
    assert [s.value for s in changed.reward(TASK, [episode([GOOD], "yes"), episode([GOOD])])] == [8, 4]


def test_paper_is_found() -> None:
    assert find("adareasoner") is adareasoner.PAPER
