"""Reward models as values: step scores made one number, read from replies, learned from pairs, and used to pick."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest
import torch
from tests.toys import Bench, tiny_policy

from ferrule.agents.best_of import BestOf
from ferrule.agents.frontier import Beam
from ferrule.agents.scored import AGGREGATES, read_scores, scored
from ferrule.agents.values import largest
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, plain_text
from ferrule.data.layout import laid_out
from ferrule.data.records import Preference
from ferrule.policies.heads import REWARD, head_values
from ferrule.policies.scorer import Scorer
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.train.settings import Settings
from ferrule.train.stage import fit, reward_model

ASKED = Message("user", "task 0")
STEPS = {"A": [0.9, 0.2, 0.9], "B": [0.6, 0.6, 0.6], "C": [0.99, 0.5]}


@pytest.mark.parametrize(("name", "pick"), [("min", "B"), ("max", "C"), ("mean", "C"), ("product", "C"), ("last", "A")])
def test_the_way_to_one_number_decides_the_pick(name: str, pick: str) -> None:
    """Means 0.667, 0.6, 0.745; products 0.162, 0.216, 0.495."""
    assert max(STEPS, key=lambda run: AGGREGATES[name](STEPS[run])) == pick


@pytest.mark.parametrize("text", ["", "0.5", "[]", '["1"]', "[true]", "[1, NaN]", "[0.1, 0.2", "Give it a 10!"])
def test_a_reply_without_scores_has_none(text: str) -> None:
    assert read_scores(text) == []
    assert read_scores("[1, 0.5]") == [1.0, 0.5]


def test_numbers_that_no_float_holds_are_no_scores() -> None:
    assert read_scores(f"[{'9' * 400}]") == read_scores("[1e999]") == read_scores("[" * 9999) == []


def solver(request: Ask, sample: int) -> str | Message:
    """Write a line named by the sample, and then answer with it."""
    calls = [call for message in request.messages for call in message.calls]
    return (
        str(calls[0].arguments["line"])
        if calls
        else Message("assistant", "", (Call("write", {"line": "ABC"[sample]}),))
    )


def judged(request: Ask, sample: int) -> str:
    """Score the runs A, B and C of the worked example, as far as they went; D is scored by nothing."""
    calls = [call for message in request.messages for call in message.calls]
    replies = sum(message.role == "assistant" for message in request.messages)
    return str(STEPS[str(calls[0].arguments["line"])][-replies:])


@pytest.mark.parametrize(("name", "answer"), [("min", "B"), ("last", "A")])
def test_best_of_n_picks_by_the_scores(name: str, answer: str) -> None:
    """Of two steps each: A .2 .9, B .6 .6, C .99 .5."""
    agent = BestOf(samples=3, pick=largest(scored(AGGREGATES[name])))
    world = Bench()
    (episode,) = drive(agent, world.tasks("train", 1), world, {"solver": Scripted(solver), "scorer": Scripted(judged)})
    assert episode.trajectories[0].answer == answer
    assert episode.spent["scorer"].asks == 3


def test_a_search_keeps_the_step_with_the_best_score_and_none_that_nobody_scored() -> None:
    agent = Beam(width=1, branch=3, value=scored())
    world = Bench()

    def some(request: Ask, sample: int) -> str:
        return "Take this one!" if '"C"' in str(request.messages).replace("'", '"') else judged(request, sample)

    (episode,) = drive(agent, world.tasks("train", 1), world, {"solver": Scripted(solver), "scorer": Scripted(some)})
    assert episode.trajectories[0].answer == "A"  # .9 of A before .6 of B, and C says nothing readable
    values = sorted(turn.notes["value"] for path in episode.trajectories for turn in path.turns if turn.reply.calls)
    assert values[0] == -math.inf


def said(*texts: str) -> tuple[Message, ...]:
    messages = [ASKED]
    for text in texts:
        messages += [Message("assistant", text), Message("user", "go on")]
    return tuple(messages)


def test_scores_of_a_conversation_are_those_of_its_beginnings(one_thread: None) -> None:
    """Each number is what the head says of the row that ends with that reply, as in training."""
    policy = tiny_policy()
    policy.add_head(REWARD)
    torch.nn.init.normal_(cast(Any, policy.heads["reward"]).weight, generator=torch.Generator().manual_seed(1))
    asks = [Ask(said("one", "two")[:-1]), Ask(said("three")[:-1])]
    scores = [read_scores(plain_text(replies[0].message)) for replies in Scorer(policy, rows=1).generate(asks)]
    together = [read_scores(plain_text(replies[0].message)) for replies in Scorer(policy).generate(asks)]
    for place, (before, answer) in enumerate([(said(), "one"), (said("one"), "two")]):
        pair: Any = laid_out(
            Preference(before, (Message("assistant", answer),), (Message("assistant", "x"),)),
            policy.renderer,
            policy.encode,
        )
        ids, turn = torch.tensor([pair.chosen.ids]), torch.tensor([pair.chosen.turn])
        expected = head_values(policy, "reward", ids, turn).sigmoid().item()
        assert scores[0][place] == pytest.approx(expected, abs=1e-5)
    assert [len(each) for each in scores] == [2, 1]
    assert plain_text(Scorer(policy).generate([Ask((ASKED,))])[0][0].message) == "[]"
    assert together[0] == pytest.approx(scores[0], abs=1e-5)


def test_a_reward_model_learns_steps_and_reranks(one_thread: None) -> None:
    """Trained on "yes" over "no" it picks "yes" of three attempts, whatever came first."""
    scorer = tiny_policy()
    better, worse = (Message("assistant", text) for text in ("yes", "no"))
    world = Bench()
    task = world.tasks("train", 1)[0]
    tools = world.start(task).tools
    pair = laid_out(Preference((ASKED,), (better,), (worse,), tools), scorer.renderer, scorer.encode)
    fit(scorer, reward_model([pair] * 4), Settings(max_steps=12, learning_rate=1e-2, per_device_train_batch_size=4))  # type: ignore[list-item]
    agent = BestOf(samples=3, pick=largest(scored(min)))
    policy = Scripted(lambda request, sample: ("no", "yes", "no")[sample])
    (episode,) = drive(agent, [task], world, {"solver": policy, "scorer": Scorer(scorer)})
    assert episode.trajectories[0].answer == "yes"
