"""Invariant 2: the model attends to everything; loss, KL, entropy and denominators use its own tokens only.

Text after the first stop string is cut, and tokens that the framework inserted are never trained on.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from tests.invariants.jobs import REDUCTIONS
from tests.toys import WORLDS, Bench, Prober, layout, tiny_policy
from tests.train.pieces import LETTERS, Speller, draw, recipe

from ferrule.chat.codec import codec, codec_names
from ferrule.core.flows import Ask
from ferrule.core.records import Message, Reply
from ferrule.data.formats import trajectory_row
from ferrule.objectives.penalty import with_entropy, with_kl
from ferrule.objectives.supervised import nll
from ferrule.objectives.surrogate import reinforce, surrogate
from ferrule.policies.scripted import END_ID, Scripted, decode, encode
from ferrule.rollout.drive import drive
from ferrule.train.sample import sample
from ferrule.train.update import Sequences, sequences, update

pytestmark = pytest.mark.usefixtures("one_thread")

OBJECTIVES: dict[str, Any] = {
    "surrogate": surrogate,
    "reinforce": reinforce,
    "nll": nll,
    "kl": with_kl(surrogate, 0.5),
    "entropy": with_entropy(reinforce, 0.1),
}


def rows() -> Sequences:
    return sequences(sample(recipe(agent=Speller(turns=3, tokens=4)), draw, 2, LETTERS, tiny_policy()))


def stepped(seqs: Sequences, objective: Any, reduce: Any) -> tuple[torch.Tensor, dict[str, float]]:
    policy = tiny_policy()
    policy.keep_reference()
    with torch.no_grad():
        policy.model.lm_head.weight.mul_(1.05)
    found = update(
        policy, seqs, objective, reduce, torch.optim.SGD(policy.parameters(), lr=1.0), rows=3, reference=True
    )
    return torch.cat([p.detach().flatten() for p in policy.model.parameters()]), found


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_invariant_02_what_stands_beside_other_tokens_has_no_influence(objective: str) -> None:
    """Advantages and old log-probs off the model's tokens become huge, infinite and NaN: the step stays bit for bit."""
    seqs = rows()

    def spoilt(name: str, value: float) -> Sequences:
        arrays = [np.where(t >= 0, a, value) for a, t in zip(seqs.beside[name], seqs.turn, strict=True)]
        return replace(seqs, beside={**seqs.beside, name: arrays})

    before = stepped(seqs, OBJECTIVES[objective], REDUCTIONS["token_mean"])
    for name in ("adv", "old_NT"):
        for value in (1e30, float("inf"), float("nan")):
            after = stepped(spoilt(name, value), OBJECTIVES[objective], REDUCTIONS["token_mean"])
            assert torch.equal(before[0], after[0])
            assert before[1] == after[1]


def test_invariant_02_the_model_attends_to_tokens_it_is_not_trained_on(tiny: Any) -> None:
    """Another observation id changes the log-probs of what was written after it, and of nothing before it."""
    seqs = rows()
    ids, turn = (torch.from_numpy(a[0])[None] for a in (seqs.ids, seqs.turn))
    second = int((turn[0] == 1).nonzero()[0])
    place = second - 2
    assert int(turn[0, place]) == -1
    other = ids.clone()
    other[0, place] = (int(ids[0, place]) + 7) % 250
    with torch.no_grad():
        before, after = tiny.logps(ids, turn)["logp_NT"][0], tiny.logps(other, turn)["logp_NT"][0]
    first = turn[0] == 0
    assert torch.allclose(before[first], after[first], atol=1e-5)
    assert not torch.allclose(before[turn[0] == 1], after[turn[0] == 1], atol=1e-3)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_invariant_02_denominators_count_the_models_tokens_only(name: str) -> None:
    """The same loss per token in rows with 0 or 50 further given tokens: the same scalar."""
    from ferrule.objectives.reduce import totals

    turn = torch.tensor([[-1, 0, 0, -1, 1], [-1, -1, 0, -1, -1]])
    loss = torch.tensor([[9.0, 1.0, 2.0, 9.0, 3.0], [9.0, 9.0, 4.0, 9.0, 9.0]])
    wide_turn = torch.nn.functional.pad(turn, (25, 25), value=-1)
    wide_loss = torch.nn.functional.pad(loss, (25, 25), value=float("nan"))
    reduce = REDUCTIONS[name]
    assert reduce(loss, turn, totals(turn)) == reduce(wide_loss, wide_turn, totals(wide_turn))
    # token mean 10 / 4; row means (2 + 4) / 2; row sums (6 + 4) / 2; constant 10 / (2 * 16)
    expected = {"token_mean": 2.5, "sequence_mean": 3.0, "sequence_sum": 5.0, "constant": 0.3125}
    assert float(reduce(loss, turn, totals(turn))) == expected[name]


def test_invariant_02_entropy_and_divergence_are_means_over_the_models_tokens() -> None:
    """Doubling the share of given tokens (a longer prompt) must not halve them: a uniform model has log 270 nats."""
    policy = tiny_policy()
    with torch.no_grad():
        policy.model.lm_head.weight.zero_()
    seqs = rows()
    found = update(policy, seqs, reinforce, REDUCTIONS["token_mean"], torch.optim.SGD(policy.parameters(), lr=0.0))
    assert found["entropy"] == pytest.approx(np.log(270), rel=1e-4)
    old = np.concatenate([a[t >= 0] for a, t in zip(seqs.beside["old_NT"], seqs.turn, strict=True)])
    assert found["kl"] == pytest.approx(old.mean() + np.log(270), rel=1e-3)


# ------------------------------------------------------------------------------------------------- what is trained on


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", codec_names())
def test_invariant_02_only_ids_that_were_sampled_are_trained_on(name: str, world: str) -> None:
    """Everything the policy sampled, and nothing else, has a turn index; on every codec and world."""
    sampled: list[tuple[int, ...]] = []

    class Watching(Scripted):
        def generate(self, asks: Any) -> list[list[Reply]]:
            replies = super().generate(asks)
            sampled.extend(r.sampled for rs in replies for r in rs)
            return replies

    policy = Watching(lambda ask, s: f"turn {len(ask.messages)}", renderer=layout(name))
    tasks = WORLDS[world].tasks("train", 1)
    (episode,) = drive(Prober(turns=3, max_tokens=50), tasks, WORLDS[world], policy)
    row = trajectory_row(episode.trajectories[0])
    mine = [[i for i, k in zip(row.ids, row.turn, strict=True) if k == turn] for turn in range(3)]
    assert mine == [list(ids) for ids in sampled]
    assert sum(k >= 0 for k in row.turn) == sum(map(len, sampled))


@pytest.mark.parametrize("name", [n for n in codec_names() if codec(n).stop])
def test_invariant_02_text_after_the_first_stop_string_is_cut(name: str) -> None:
    renderer = layout(name)
    stop = renderer.codec.stop[0]
    world = Bench()
    (task,) = world.tasks("train", 1)
    policy = Scripted(lambda ask, s: f"some {stop} and {stop} never said", renderer=renderer)
    (episode,) = drive(Prober(turns=2, max_tokens=500), [task], world, policy)
    for turn in episode.trajectories[0].turns:
        assert decode(turn.sampled, renderer.end) == f"some {stop}"
        assert "never said" not in decode(turn.given, renderer.end)
        assert "never said" not in str(turn.reply)


def test_invariant_02_tokens_of_the_framework_are_given_and_never_trained_on() -> None:
    """The end of a turn that a stop string left open, and the text a reply was made to begin with."""
    renderer = layout()
    call = '<tool_call>{"name":"write","arguments":{"line":"x"}}</tool_call>'

    def agent(task: Any, session: Any) -> Any:
        user = Message("user", "x")
        (first,) = yield Ask((user,))
        (second,) = yield Ask((user, first.message, Message("tool", "1")), prefill="So the answer")
        return second.message.content

    policy = Scripted(lambda ask, s: call if len(ask.messages) == 1 else " is 1", renderer=renderer)
    world = Bench()
    (episode,) = drive(agent, world.tasks("train", 1), world, policy)
    first, second = episode.trajectories[0].turns
    assert first.sampled == encode(call)  # no end token: the model did not write one
    assert second.given[0] == END_ID
    assert decode(second.given, renderer.end).endswith("<|assistant|>So the answer")
    assert second.sampled == (*encode(" is 1"), END_ID)
    assert episode.trajectories[0].answer == "So the answer is 1"
    row = trajectory_row(episode.trajectories[0])
    at = len(first.given) + len(first.sampled)
    assert set(row.turn[at : at + len(second.given)]) == {-1}


def test_invariant_02_a_row_without_own_tokens_weighs_nothing() -> None:
    """An episode that failed before its first turn, beside one that did not: the loss is that of the latter alone."""
    seqs = rows()
    empty = Sequences(
        [*seqs.ids, np.array([5, 6, 7])],
        [*seqs.turn, np.array([-1, -1, -1])],
        {name: [*arrays, np.full(3, np.nan)] for name, arrays in seqs.beside.items()},
    )
    for reduce in (*REDUCTIONS.values(), partial(REDUCTIONS["constant"], denominator=7.0)):
        one, other = stepped(seqs, reinforce, reduce), stepped(empty, reinforce, reduce)
        assert torch.allclose(one[0], other[0], atol=1e-6)
        assert one[1]["loss"] == pytest.approx(other[1]["loss"], rel=1e-5)
