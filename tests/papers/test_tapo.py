"""TAPO: scores by source, the gate, the length of own tokens, and which groups train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.contracts.checks import MIXED, check_credit, check_reward

from ferrule.core.arrays import apply
from ferrule.core.records import Call, Message, Observation, Score, Task, Trajectory, Turn
from ferrule.objectives.reduce import token_mean
from ferrule.papers import find, tapo
from ferrule.tools import tool
from ferrule.tools.effects import words_of
from ferrule.train.grpo import grpo
from ferrule.train.loop import Settings, check
from ferrule.worlds.session import Toolbox

FACT = Task("t", "?", answer="USA", meta={"source": "nq"})
PLAIN = Task("t", "?", answer="4", meta={"verifier": "numeric"})


def episode(
    calls: Sequence[tuple[str, Any]], answer: str | None = "USA", *, text: str = "", tokens: int = 10, task: Task = FACT
) -> Trajectory:
    """One turn of calls (tool and status), then the answer; ``tokens`` are written in all."""
    turns = []
    if calls:
        reply = Message("assistant", text, calls=tuple(Call(name, {"query": "q"}) for name, _ in calls))
        seen = tuple(Observation("some text", status=status) for _, status in calls)
        turns.append(Turn(0, None, (1, 2), (), (), reply, observations=seen))
    last = Message("assistant", answer or text)
    ids = tuple(range(tokens))
    turns.append(Turn(len(turns), len(turns) - 1 if turns else None, (3,), ids, (-0.1,) * tokens, last))
    return Trajectory(task, tuple(turns), answer)


def test_a_found_fact() -> None:
    (score,) = tapo.tapo_reward(FACT, [episode([("search", "ok")])])
    assert (score.value, score.parts["acc"]) == (1, 1)
    assert score.info["calls"] == {"search": 1}
    assert tapo.tapo_reward(FACT, [episode([("search", "ok")])], reference=True)[0].value == 1


def test_calls_are_counted_per_tool() -> None:
    (score,) = tapo.tapo_reward(FACT, [episode([("search", "ok"), ("code", "error"), ("search", "ok")])])
    assert score.info["calls"] == {"search": 2, "code": 1}


def test_an_answer_that_is_nearly_right_scores_and_does_not_count() -> None:
    near = replace(FACT, answer=["Washington", "DC"])
    (score,) = tapo.tapo_reward(near, [episode([], "Washingtan", task=near)])
    assert (score.value, score.parts["acc"]) == (0.9, 0)


def test_wrong_form_costs_one() -> None:
    """A result block of the model's own passes the published gate and not the record of calls."""
    broken = [episode([("search", "malformed")]), episode([], None), episode([], "USA<response>x</response>")]
    assert [s.value for s in tapo.tapo_reward(FACT, broken)] == [-1, -1, -1]
    assert [s.parts["acc"] for s in tapo.tapo_reward(FACT, broken)] == [0, 0, 0]
    invented = episode([("search", "ok")], text="<response>x</response>")
    assert tapo.tapo_reward(FACT, [invented])[0].value == -1
    assert tapo.tapo_reward(FACT, [invented], reference=True)[0].value == 1
    assert tapo.tapo_reward(FACT, [episode([], "")])[0].value == 0


@pytest.mark.parametrize(
    ("text", "own", "published"),
    [
        ("USA", 1, 1),
        ("<think>a</think>USA", 1, 1),
        ("<think>a</think><answer>USA</answer>", 1, 1),
        ("<Think>a</Think><Answer>USA</Answer>", 1, 1),
        ("<answer>USA</answer> indeed", -1, -1),
        ("<answer>USA</answer><think>b</think>", -1, -1),
        ("<foo>x</foo><answer>USA</answer>", -1, -1),
        ("<think>USA</think>", -1, -1),
        ("<answer></answer>", 0, 0),
    ],
)
def test_the_form_of_the_last_reply(text: str, own: float, published: float) -> None:
    """As the plain loop hands it on, tags and all."""
    assert tapo.tapo_reward(FACT, [episode([], text)])[0].value == own
    assert tapo.tapo_reward(FACT, [episode([], text)], reference=True)[0].value == published


def test_calls_that_end_the_episode_are_not_counted() -> None:
    ended = Observation("USA", terminal=True)
    reply = Message("assistant", "<think>a</think>", calls=(Call("finish"),))
    (score,) = tapo.tapo_reward(
        FACT, [Trajectory(FACT, (Turn(0, None, (1,), (2,), (-0.1,), reply, (), (ended,)),), "USA")]
    )
    assert (score.value, score.info["calls"]) == (1, {})


def test_length_of_own_tokens_has_no_floor() -> None:
    group = [episode([], tokens=n) for n in (500, 1024, 1536, 2048, 3000)]
    values = [score.parts["overlong"] for score in tapo.tapo_reward(FACT, group)]
    assert values == pytest.approx([0, 0, -0.5, -1, -1.9296875])
    assert [s.value for s in tapo.tapo_reward(FACT, group)] == pytest.approx([1 + v for v in values])


def test_a_task_without_a_source_is_judged_by_the_base() -> None:
    (score,) = tapo.tapo_reward(PLAIN, [episode([], "it is 4.0", task=PLAIN)])
    assert (score.value, score.parts["acc"]) == (1, 1)


@pytest.mark.parametrize(
    ("accs", "kept"), [([1, 1, 1, 1], False), ([0, 1, 0, 0], True), ([0, 0, 0, 0], False), ([1], True)]
)
def test_filter(accs: Sequence[int], kept: bool) -> None:
    """Rewards may differ by length where accuracies do not: such a group is dropped."""
    keep = tapo.recipe(grpo()).keep
    assert keep is not None
    scores = [Score(a - 0.1 * i, parts={"acc": float(a)}) for i, a in enumerate(accs)]
    assert keep([], scores) is kept


def test_episodes_share_the_results_of_similar_searches() -> None:
    """Four queries, two of them new: the second differs from the first by case, the last by one letter of 17."""
    asked: list[str] = []

    def search(query: str) -> str:
        asked.append(query)
        return f"about {query}"

    world = tapo.cached_searches(Toolbox((tool(search),)))
    texts = []
    for query in ("capital of France", "Capital of France?", "capital of Greece", "capitol of France"):
        texts.append(world.start(PLAIN).act(Call("search", {"query": query})).text)
    assert asked == ["capital of France", "capital of Greece"]
    assert texts == [f"about capital of {land}" for land in ("France", "France", "Greece", "France")]
    strict = tapo.cached_searches(Toolbox((tool(search),)), shared=words_of, least=0.3)
    for query in ("capital of France", "France: capital of", "capitol of France"):
        strict.start(PLAIN).act(Call("search", {"query": query}))
    assert asked[2:] == ["capital of France", "capitol of France"]


def test_pieces_keep_the_promises_of_their_kinds() -> None:
    check_reward(tapo.tapo_reward)
    check_credit(tapo.recipe(grpo()).credit)


def test_recipe_is_sound() -> None:
    changed = tapo.recipe(grpo())
    assert changed.num_mini_batches == 4
    assert check(changed, Settings(per_device_train_batch_size=8, gradient_accumulation_steps=1)) == 2
    assert changed.objective.keywords == {"lo": 0.2, "hi": 0.28, "dual": 10.0}
    assert (changed.reduce, changed.refill, changed.num_generations) == (token_mean, 9, 4)
    published = tapo.recipe(grpo(), reference=True)
    seen = replace(MIXED, size_N=np.full(len(MIXED.size_N), MIXED.turn_NT.shape[1]))
    plain, thin = apply(changed.credit, seen), apply(published.credit, seen)
    assert np.abs(thin).sum() < np.abs(plain).sum()


def test_paper_is_found() -> None:
    assert find("tapo") is tapo.PAPER
