"""Invariant 2: the model attends to everything; loss, entropy and denominators use its own tokens only."""

import numpy as np
import pytest
import torch
from tests.toys import WORLDS, Prober, layout, tiny_policy

from ferrule.chat.codec import codec_names
from ferrule.core.arrays import pack
from ferrule.core.records import Score
from ferrule.objectives.reduce import totals
from ferrule.objectives.surrogate import surrogate
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive


@pytest.mark.parametrize("codec_name", codec_names())
@pytest.mark.parametrize("world_name", sorted(WORLDS))
def test_exactly_the_sampled_tokens_carry_a_turn_index(world_name: str, codec_name: str) -> None:
    world = WORLDS[world_name]
    policy = Scripted(lambda ask, sample: "plain words", renderer=layout(codec_name))
    trajectories = [e.trajectories[0] for e in drive(Prober(), world.tasks("test", 2), world, policy)]
    signals = pack(trajectories, [Score(1.0)] * 2, [0, 0])
    assert (signals.turn_NT >= 0).sum() == sum(t.sampled_count for t in trajectories)
    for row, trajectory in enumerate(trajectories):
        own = signals.ids_NT[row][signals.turn_NT[row] >= 0]
        assert own.tolist() == [i for turn in trajectory.turns for i in turn.sampled]


def test_other_tokens_have_neither_loss_nor_gradient_nor_weight() -> None:
    policy = tiny_policy()
    ids = torch.tensor([[5, 6, 7, 8, 9, 10]])
    turn = torch.tensor([[-1, -1, 0, -1, 1, -1]])
    scores = policy.logps(ids, turn)
    assert torch.equal(scores["logp_NT"] != 0, turn >= 0)
    assert torch.equal(scores["entropy_NT"] != 0, turn >= 0)
    logp = torch.randn(1, 6, requires_grad=True)
    loss = surrogate(logp, logp.detach(), torch.full((1, 6), 2.0), turn)
    loss.sum().backward()
    assert torch.equal(logp.grad != 0, turn >= 0)
    assert totals(turn.numpy()).tokens == 2.0


def test_the_model_attends_to_tokens_that_carry_no_loss() -> None:
    policy = tiny_policy()
    turn = torch.tensor([[-1, -1, -1, 0]])
    first = policy.logps(torch.tensor([[5, 6, 7, 8]]), turn)["logp_NT"][0, 3]
    other = policy.logps(torch.tensor([[5, 60, 7, 8]]), turn)["logp_NT"][0, 3]
    assert not np.isclose(float(first.detach()), float(other.detach()))


def test_text_after_the_first_stop_string_is_cut() -> None:
    world = WORLDS["arithmetic"]
    text = '<tool_call>{"name": "calculator", "arguments": {"expression": "1 + 1"}}</tool_call> and then some <|end|>'
    policy = Scripted(lambda ask, sample: text, renderer=layout())
    turn = drive(Prober(turns=1, max_tokens=500), world.tasks("test", 1), world, policy)[0].trajectories[0].turns[0]
    assert bytes(turn.sampled).decode().endswith("</tool_call>")
