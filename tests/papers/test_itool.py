"""iTool: selection, rewards and pairs by hand, SimPO on them, and a round of search and learning on a tiny model."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from tests.toys import tiny_policy

from ferrule.agents.search import Node
from ferrule.core.recipe import Drawn
from ferrule.core.records import Call, Message, Reply, Task, Tool
from ferrule.data.formats import Pair
from ferrule.data.fragments import shared_tokens
from ferrule.data.records import Completion
from ferrule.evaluate.methods import known_of
from ferrule.objectives.preference import simpo
from ferrule.papers import find, itool
from ferrule.papers.claims import itool as claim
from ferrule.rollout.drive import drive
from ferrule.studies.standins.forms import agrees, arguments_of, exact, requests
from ferrule.train.grpo import grpo
from ferrule.train.settings import Settings
from ferrule.train.stage import fit
from ferrule.worlds.apis import Apis

pytestmark = pytest.mark.usefixtures("one_thread")
GOLD = "[f(x=1)]"


def test_fragments_as_published_join_pieces_with_a_space() -> None:
    text = '[get_weather(city="Oslo", days=3)]'
    assert itool.fragments(text, reference=True) == ["[get_weather( city=", '"Oslo",  days=', "3)]"]
    assert "".join(itool.fragments(text)) == text


@pytest.mark.parametrize(
    ("text", "gold", "words", "beginning"),
    [
        (GOLD, GOLD, 0.6, 0.6),  # 0.1 + 1 - 0.5
        ("[f(x=", GOLD, -0.6, 0.4),  # -0.1 + 0 - 0.5; all of it begins the reference: -0.1 + 1 - 0.5
        ("I can not help", GOLD, -0.6, -0.6),
        ("g(", "", -0.1, -0.1),
        ("g()", "", 0.1, 0.1),
        ("  ", GOLD, 0.0, 0.0),
    ],
)
def test_fast_reward(text: str, gold: str, words: float, beginning: float) -> None:
    assert itool.fast_reward(text, gold, overlap=shared_tokens) == pytest.approx(words)
    assert itool.fast_reward(text, gold) == pytest.approx(beginning)


def test_what_is_compared_is_all_that_was_written() -> None:
    """The published search compares the fragment alone: "x=1)]" shares no word with the reference."""
    task = Task("t", "?", meta={"gold": GOLD})
    world = itool.Replies(samples())
    session = world.start(world.task(0))
    first = Node((), session, begun=(1,), piece="[f(")
    last = Node((), session, parent=first, piece="x=1)]")
    assert itool.written_so_far(task, last) == pytest.approx(0.6)
    assert itool.written_so_far(task, last, reference=True) == pytest.approx(0.1 + 0 - 0.5)


def test_self_evaluation_weighs_its_options() -> None:
    """(.8 + .1 (.1) - .05 - 2 (.05)) / 4 = .165."""
    masses = dict(zip("ABCD", (0.8, 0.1, 0.05, 0.05), strict=True))
    assert sum(itool.WEIGHTS[option] * mass for option, mass in masses.items()) == pytest.approx(0.165)


def test_the_hardest_of_every_kind() -> None:
    """floor(.3 * 4) = 1 call, the one of 3.0; floor(.3 * 3) = 0 texts."""
    assert itool.hardest([1.1, 3.0, 2.0, 1.5, 9.0, 8.0, 7.0], ["call"] * 4 + ["text"] * 3) == [1]
    assert itool.hardest([1.0, 2.0] * 5, ["call"] * 10) == [1, 3, 5]  # .3 * 10 is 3 despite rounding


def test_simpo_on_means() -> None:
    """-6 / 3 + 12 / 4 = 1, so 2.5 (1) - .5 = 2.0 and -log sigmoid 2 = .126928; equal means: -log sigmoid -.5."""
    a, b = torch.tensor([-6.0]), torch.tensor([-12.0])
    three, four, six = torch.tensor([3.0]), torch.tensor([4.0]), torch.tensor([6.0])
    assert float(simpo(a, b, three, four, beta=2.5, gamma=0.5)) == pytest.approx(0.126928, abs=1e-6)
    assert float(simpo(a, b, three, six, beta=2.5, gamma=0.5)) == pytest.approx(0.974077, abs=1e-6)


def test_the_search_is_that_of_the_paper() -> None:
    agent = itool.searcher()
    assert (agent.iterations, agent.branch, agent.least, agent.parts, agent.ahead) == (5, 3, 4, 3, 2)
    assert (agent.max_tokens, agent.weight, agent.depth) == (50, 1.0, 1)


def samples() -> list[Completion]:
    tool = Tool.from_schema({"name": "f", "description": "f", "parameters": {"type": "object", "properties": {}}})
    return [
        Completion((Message("user", f"call f with {i}"),), (Message("assistant", "", (Call("f", {"x": i}),)),), (tool,))
        for i in range(4)
    ]


def test_perplexity_is_that_of_the_reference() -> None:
    """Of a row of n tokens: the n-th root of one over its probability."""
    policy = tiny_policy()
    first, *_ = itool.perplexities(policy, samples())
    from ferrule.data.layout import laid_out

    row = laid_out(samples()[0], policy.renderer, policy.encode)
    ids = torch.tensor([row.ids])  # type: ignore[union-attr]
    with torch.no_grad():
        logp = policy.model(input_ids=ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    own = torch.tensor([turn >= 0 for turn in row.turn[1:]])  # type: ignore[union-attr]
    assert first == pytest.approx(float((-logp[own].mean()).exp()), rel=1e-4)


def test_a_round_of_search_and_learning() -> None:
    """Pairs begin with the same ids and differ after them, and a step of SimPO on them moves the weights."""
    policy = tiny_policy(max_tokens=24)
    agent = itool.searcher(value=partial(itool.written_so_far, closing=")"), iterations=2, max_tokens=24)
    data = itool.hard_fragments(samples(), agent=agent, ratio=0.5, choose=lambda parts: (0, 1) if parts[1:] else None)
    drawn = data(policy, 0)
    assert isinstance(drawn, Drawn)
    assert drawn.sampled > 0
    assert drawn.items
    for pair in drawn.items:
        assert isinstance(pair, Pair)
        before = pair.chosen.turn.index(0)
        assert before == pair.rejected.turn.index(0)
        assert pair.chosen.ids[:before] == pair.rejected.ids[:before]
    first, second, third = itool.iterated(samples(), rounds=2, agent=agent, ratio=0.5, stages=1).stages
    assert (first.reference, second.reference) == (False, False)
    assert second.settings == third.settings == {"learning_rate": 1e-6, "lr_scheduler_type": "cosine"}
    weights = policy.model.lm_head.weight.detach().clone()
    fit(
        policy, replace(second, data=lambda policy, lap: drawn, settings={"learning_rate": 1e-2}), Settings(max_steps=1)
    )
    assert not torch.equal(weights, policy.model.lm_head.weight)


def test_what_goes_on_from_a_fragment_is_as_likely_as_the_model_says() -> None:
    """Replies begin with the ids of earlier ones, and their log-probs are those of a forward pass over all ids."""
    policy, world = tiny_policy(max_tokens=24), itool.Replies(samples())
    value = partial(itool.written_so_far, closing=")")
    agent = itool.searcher(value=value, split=partial(itool.fragments, step_limit=1), iterations=3, max_tokens=24)
    (episode,) = drive(agent, [world.task(0, "f(x=0)")], world, policy, temperature=1.0)
    turns = {turn.id: turn for path in episode.trajectories for turn in path.turns}.values()
    replies = {turn.id: (*turn.given[len(turn.given) - turn.notes.get("begun", 0) :], *turn.sampled) for turn in turns}
    later = [turn for turn in turns if turn.notes.get("begun")]
    assert later
    for turn in later:
        begun = turn.given[-turn.notes["begun"] :]
        assert any(replies[other.id][: len(begun)] == begun for other in turns if other.id < turn.id)
        ids = np.asarray([[*turn.given, *turn.sampled]])
        turn_NT = np.asarray([[-1] * len(turn.given) + [0] * len(turn.sampled)])
        logps = policy.scores(ids, turn_NT)[0, len(turn.given) :]
        assert logps == pytest.approx(np.asarray(turn.logps), abs=1e-4)


def test_a_world_with_solutions_gives_samples() -> None:
    method = itool.method(grpo(), Apis(), tasks=2, rounds=2)
    assert len(method.stages) == 2
    with pytest.raises(ValueError, match="has no reference solutions"):
        itool.method(grpo(), itool.Replies(samples()))


def test_samples_of_a_conversation_and_their_order() -> None:
    user, reply, result = Message("user", "?"), Message("assistant", "", (Call("f", {"x": 1}),)), Message("tool", "1")
    first, last = itool.replies_of((user, reply, result, Message("assistant", "1")))
    assert (first.prompt, last.prompt) == ((user,), (user, reply, result))
    assert (itool.effort(first), itool.effort(last)) == (2, 0)
    assert len(itool.warm_up([first, last], stages=2)) == 2


def test_requests_of_the_claim() -> None:
    train, test = requests(30, seed=1), requests(30, seed=1, split="test")
    names = [{tool.name for sample in part for tool in sample.tools} for part in (train, test)]
    assert not names[0] & names[1]
    assert {len(sample.completion[0].calls) for sample in train} == {1, 2, 3}  # type: ignore[union-attr]
    assert min(map(arguments_of, train)) == 1
    assert max(map(arguments_of, train)) > 4

    class Perfect:
        def generate(self, asks):  # type: ignore[no-untyped-def]
            return [[Reply(sample.completion[0])] for sample in test]

    assert all(exact(Perfect(), test))


def test_a_right_reply_in_another_order_is_no_wrong_one() -> None:
    """The control pairs the reference with wrong replies: one that names its arguments in another order is right."""
    policy = tiny_policy(max_tokens=8)
    sample = next(one for one in requests(30, seed=1) if arguments_of(one) > 1)
    (gold,) = sample.completion
    assert isinstance(gold, Message)
    turned = tuple(replace(call, arguments=dict(reversed(list(call.arguments.items())))) for call in gold.calls)
    right, wrong = replace(gold, calls=turned), Message("assistant", "no")
    assert agrees(right, sample)
    assert not agrees(wrong, sample)

    class Fixed:
        renderer, encode, scores = policy.renderer, policy.encode, policy.scores

        def generate(self, asks):  # type: ignore[no-untyped-def]
            return [[Reply(said, given=(1,), sampled=(2,), logps=(0.0,)) for said in (right, wrong)] for _ in asks]

    stage = claim.STUDY.arms[claim.WHOLE].keywords["learn"]([sample] * 4, 0)  # type: ignore[attr-defined]
    assert len(stage.data(Fixed(), 0).items) == 1


def test_paper_is_found() -> None:
    assert find("itool") is itool.PAPER
    assert "itool-method" in known_of([itool.PAPER]).methods
