"""ToolRL: the worked turns, the variants of the reward, its schedules, and episodes of several turns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from tests.contracts.checks import check_reward, example_trajectories

from ferrule.core.records import Call, Message, Observation, Task, Trajectory, Turn
from ferrule.papers import find, toolrl
from ferrule.train.grpo import grpo
from ferrule.train.loop import check
from ferrule.train.settings import Settings
from ferrule.worlds.apis import Apis
from ferrule.worlds.arithmetic import Arithmetic
from ferrule.worlds.experts import reference_calls


def text_of(*calls: Call, think: bool = True, response: str = "") -> str:
    """A turn's text in the format of the paper."""
    blocks = ["<think>hm</think>"] if think else []
    if calls:
        lines = "\n".join(json.dumps({"name": c.name, "parameters": dict(c.arguments)}) for c in calls)
        blocks.append(f"<tool_call>\n{lines}\n</tool_call>")
    if response:
        blocks.append(f"<response>{response}</response>")
    return "\n".join(blocks)


SEARCH = Call("search", {"q": "cats", "k": 5})
WRONG_Q, NO_K = Call("search", {"q": "dogs", "k": 5}), Call("search", {"q": "cats"})
A, B, C = Call("a", {"x": 1}), Call("b", {"y": 2, "z": 3}), Call("c")
BROKEN = '<think>hm</think>\n<tool_call>\n{"name": \n</tool_call>'


def scored(text: str, gold: str, step: int = 0, **settings: Any) -> tuple[float, float, float]:
    """Format, correctness and total of one turn."""
    task = Task("t", "?", answer=gold)
    (score,) = toolrl.turn_reward(task, [Trajectory(task, (), answer=text)], step, **settings)
    return score.parts["format"], score.parts["calls"], score.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (text_of(SEARCH), (1, 3, 4)),
        (text_of(WRONG_Q), (1, 1.5, 2.5)),  # S = 1 + 1 + 1 of 4
        (text_of(NO_K), (1, 0.75, 1.75)),  # S = 1 + 1/2 + 1 of 4
        (text_of(Call("find", {"q": "cats", "k": 5})), (1, -3, -2)),
        (text_of(response="cats"), (0, -3, -3)),
        (BROKEN, (1, -3, -2)),
        (text_of(SEARCH, think=False), (0, 3, 3)),
        ("", (0, -3, -3)),
    ],
)
def test_worked_turns(text: str, expected: tuple[float, float, float]) -> None:
    assert scored(text, text_of(SEARCH)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([A], (1, -0.5, 0.5)),  # S = 1/2 + 2 of 6
        ([B, A], (1, 3, 4)),
        ([A, B, C], (1, 2.666667, 3.666667)),  # S = 2/3 + 2 + 3 of 6
    ],
)
def test_turns_of_two_gold_calls(calls: list[Call], expected: tuple[float, float, float]) -> None:
    assert scored(text_of(*calls), text_of(A, B)) == pytest.approx(expected, abs=1e-6)


def test_a_gold_response_has_no_calls_to_score() -> None:
    gold = text_of(response="no tool is needed")
    assert scored(text_of(response="right form"), gold) == (1, 0, 1)
    assert scored(text_of(A), gold) == (0, 0, 0)


def test_gold_calls_without_parameters() -> None:
    """The key may be left out in a gold turn; what is no call there is an error in the data and not a turn to pay."""
    bare = '<think>hm</think>\n<tool_call>\n{"name": "now"}\n</tool_call>'
    assert scored(text_of(Call("now")), bare) == (1, 3, 4)
    assert scored(text_of(Call("other")), bare) == (1, -3, -2)
    with pytest.raises(ValueError, match="task 't': the calls of the gold turn cannot be read"):
        scored(text_of(Call("now")), BROKEN)


def test_thoughts_of_a_gold_turn_are_not_read() -> None:
    gold = "<think>no <tool_call> is needed</think>\n<response>cats</response>"
    assert scored(text_of(response="cats"), gold) == (1, 0, 1)


def test_texts_alone() -> None:
    score = toolrl.text_reward(text_of(WRONG_Q), text_of(SEARCH), 15, schedule=toolrl.two_stage)
    assert score.parts == pytest.approx({"format": 1, "calls": 0.5})


def test_calls_that_end_the_episode_count_where_the_reference_has_them() -> None:
    def ended(name: str, task: Task) -> Trajectory:
        base = episode([[A], [B]], task=task)
        reply = Message("assistant", calls=(Call(name),))
        last = replace(base.turns[-1], reply=reply, observations=(Observation("yes", terminal=True),))
        return replace(base, turns=(*base.turns[:-1], last))

    assert toolrl.toolrl_reward(TASK, [ended("finish", TASK)])[0].value == 4
    listed = replace(TASK, meta={"calls": [*GOLDS["calls"], {"name": "finish", "arguments": {}}]})
    assert toolrl.toolrl_reward(listed, [ended("finish", listed)])[0].value == 4
    assert toolrl.toolrl_reward(listed, [episode([[A], [B]], task=listed)])[0].value < 4


@pytest.mark.parametrize("bad", [{"grain": "x"}, {"assignment": "zz"}, {"names": "one"}])
def test_rules_that_are_none_are_refused_at_once(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        toolrl.recipe(grpo(), **bad)


def test_variants() -> None:
    gold = text_of(SEARCH)
    assert scored(text_of(WRONG_Q), gold, grain="coarse")[1] == -3
    assert scored(text_of(WRONG_Q), gold, grain="intermediate")[1] == pytest.approx(0)  # S = 1 of 2
    assert scored(text_of(WRONG_Q), gold, schedule=toolrl.equal_max)[1] == pytest.approx(0.5)
    assert scored(text_of(NO_K), gold, names="exact")[1] == pytest.approx(0)  # S = 1 + 0 + 1 of 4
    with pytest.raises(ValueError, match="did you mean 'coarse'"):
        scored(gold, gold, grain="corse")
    with pytest.raises(ValueError, match="known: exact, jaccard"):
        scored(gold, gold, names="list")


def test_order_of_calls_matters_to_the_coarse_and_the_exact_variant_alone() -> None:
    swapped, gold = text_of(B, A), text_of(A, B)
    assert scored(swapped, gold, grain="coarse")[1] == -3
    assert scored(swapped, gold, grain="intermediate")[1] == 3
    assert scored(swapped, gold, names="exact")[1] == pytest.approx(2)  # S = 0 + 2 + 3 of 6


def test_smooth_schedule() -> None:
    """An exact call at steps 0, 75 and 150; the release pays negative rewards for a wrong form."""
    gold = text_of(SEARCH)
    rows = [scored(gold, gold, step, schedule=toolrl.smooth) for step in (0, 75, 150, 900)]
    assert [row[:2] for row in rows] == [(2, 2), (1.5, 2.5), (1, 3), (1, 3)]
    unformed = text_of(SEARCH, think=False)
    assert scored(unformed, gold, 0, schedule=toolrl.smooth)[0] == 0
    published = partial(toolrl.smooth, reference=True)
    assert [scored(unformed, gold, step, schedule=published)[0] for step in (0, 75, 150)] == [-2, -1, -1]
    with pytest.raises(ValueError, match="above 0"):
        toolrl.smooth(0, steps=0)


def test_two_stages() -> None:
    gold = text_of(SEARCH)
    assert scored(gold, gold, 10, schedule=toolrl.two_stage) == (1, 1, 2)
    assert scored(gold, gold, 30, schedule=toolrl.two_stage) == (0.5, 3, 3.5)


def test_length() -> None:
    """128 words: 128 / 512, and 128 / 640 once the target has grown."""
    text = f"<think>{'w ' * 128}</think>"
    assert toolrl.length_score(text) == 0.25
    assert toolrl.length_score(text, toolrl.dynamic_target(105)) == 0.2
    assert toolrl.length_score("no block") == 0
    assert toolrl.length_score(f"<think>{'w ' * 900}</think>") == 1
    task = Task("t", "?", answer=text_of(SEARCH))
    (score,) = toolrl.turn_reward(task, [Trajectory(task, (), answer=text)], 105, target=toolrl.dynamic_target)
    assert score.parts == {"format": 0, "calls": -3, "length": 0.2}
    assert score.value == pytest.approx(-2.8)


@pytest.mark.parametrize(
    "text",
    [
        "<think>a</think>\n\n<tool_call>\n{}\n</tool_call>",  # a blank line between
        "<think>a</think>\n<tool_call>{}</tool_call>",  # tags share the line of the call
        "x<think>a</think>\n<tool_call>\n{}\n</tool_call>",  # text around
        "<think>a</think>\n<tool_call>\n{}\n</tool_call>\n",
        "<think>a</think>\n<tool_call>\n{}\n</tool_call>\n<response>b</response>",  # a block too many
        "<think>a</think>\n<tool_call>\n{}\n</tool_call>\n<tool_call>\n{}\n</tool_call>",
    ],
)
def test_the_format_is_strict(text: str) -> None:
    assert not toolrl.format_holds(text, text_of(A))
    assert toolrl.format_holds("<think>a</think>\n<tool_call>\n{}\n</tool_call>", text_of(A))
    assert toolrl.format_holds("<think>a</think>", "<think>b</think>")
    both = text_of(A, response="b")
    assert toolrl.format_holds(both, both)


# --------------------------------------------------------------------------------------------------------------- episodes

GOLDS = {"calls": [{"name": "a", "arguments": {"x": 1}}, {"name": "b", "arguments": {"y": 2, "z": 3}}]}
TASK = Task("t", "?", answer="yes", meta=GOLDS)


def episode(rounds: Sequence[Sequence[Call]], answer: str | None = "yes", task: Task = TASK) -> Trajectory:
    turns = [
        Turn(k, k - 1 if k else None, (), (1,), (-0.1,), Message("assistant", calls=tuple(calls)),
             observations=tuple(Observation("r") for _ in calls))
        for k, calls in enumerate([*rounds, ()])
    ]  # fmt: skip
    return Trajectory(task, tuple(turns), answer=answer)


def test_calls_of_an_episode_are_pooled() -> None:
    """The same numbers as in one turn, whichever turn the calls were made in."""
    group = [episode([[A], [B]]), episode([[B, A]]), episode([[A]]), episode([[A], [B], [C]]), episode([])]
    scores = toolrl.toolrl_reward(TASK, group)
    assert [s.value for s in scores] == pytest.approx([4, 4, 0.5, 3.666667, -3], abs=1e-6)
    assert scores[2].parts == pytest.approx({"format": 1, "calls": -0.5})
    assert [s.value for s in toolrl.toolrl_reward(TASK, group[:1], 10, schedule=toolrl.two_stage)] == [2]


def test_form_of_an_episode() -> None:
    """No answer, or an unreadable call, costs the form; the unreadable call counts as a call of another tool."""
    broken = Call("a", problem="no JSON")
    unanswered, repaired = toolrl.toolrl_reward(TASK, [episode([[A], [B]], None), episode([[broken], [A], [B]])])
    assert unanswered.value == pytest.approx(3)
    assert repaired.parts == pytest.approx({"format": 0, "calls": 2.666667})
    free = Task("t", "?", answer="yes", meta={"calls": []})
    assert [s.value for s in toolrl.toolrl_reward(free, [episode([], task=free), episode([[A]], task=free)])] == [1, 0]
    listed = Call("a", ["x"])  # type: ignore[arg-type]
    assert toolrl.toolrl_reward(TASK, [episode([[listed]])])[0].value == -3


def test_an_expert_earns_everything_on_the_worlds() -> None:
    for world in (Arithmetic(), Apis()):
        for task in world.tasks("train", 5, seed=3):
            calls = reference_calls(task)
            whole, half = episode([[c] for c in calls], task=task), episode([calls[:-1]], task=task)
            best, less = toolrl.toolrl_reward(task, [whole, half])
            assert best.value == 4
            assert less.value < 4


def test_rewards_keep_the_promises_of_their_kind() -> None:
    for reward in (toolrl.toolrl_reward, toolrl.turn_reward):
        check_reward(reward)
        check_reward(partial(reward, grain="coarse", schedule=toolrl.smooth))
    task = Task("t", "?", meta={"calls": []})
    assert len(toolrl.turn_reward(task, example_trajectories(task))) == 4


def test_recipe_is_sound_and_takes_other_golds() -> None:
    changed = toolrl.recipe(grpo(beta=0.1), golds=lambda task: [A])
    assert check(changed, Settings(per_device_train_batch_size=8, gradient_accumulation_steps=1)) == 2
    assert (changed.num_generations, changed.reference) == (4, False)
    assert [s.value for s in changed.reward(TASK, [episode([[A]])])] == [4]


def test_paper_is_found() -> None:
    assert find("toolrl") is toolrl.PAPER
