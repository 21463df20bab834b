"""The tiny recurrent model: what stands where, and that its numbers repeat."""

from __future__ import annotations

import pytest
import torch

from ferrule.objectives.reduce import token_mean, totals
from ferrule.objectives.supervised import nll
from ferrule.studies.recurrent import Recurrent, descend, one_thread, parameters

IDS = torch.tensor([[5, 1, 2, 0], [6, 0, -1, -1]])
TURN = torch.tensor([[-1, 0, 0, 0], [-1, 0, -1, -1]])


def test_log_probs_stand_at_their_tokens() -> None:
    """Each equals what the model says after the tokens before it; tokens of others, and the padding, have 0."""
    with one_thread(), torch.no_grad():
        torch.manual_seed(0)
        model = Recurrent(7, 3, 4)
        logp_NT = model.logps(IDS, TURN)
        after, _ = model(IDS[:1, :2])
    assert logp_NT[0, 2] == pytest.approx(after[0, -1].log_softmax(-1)[2].item(), abs=1e-6)
    assert logp_NT[TURN < 0].tolist() == [0.0] * 4
    assert (logp_NT[TURN >= 0] < 0).all()


def test_values_stand_before_the_tokens_they_have_not_read() -> None:
    with one_thread(), torch.no_grad():
        torch.manual_seed(0)
        judge = Recurrent(7, 1, 4)
        value_NT = judge.values(IDS)
        changed_NT = judge.values(IDS.index_fill(1, torch.tensor([3]), 4))
    assert value_NT.shape == IDS.shape
    assert value_NT[:, 0].tolist() == [0.0, 0.0]
    assert torch.equal(value_NT, changed_NT)


def test_the_number_of_weights() -> None:
    """Embeddings 7 * 16; a layer of 4 gated units 3 * 4 * (16 + 4 + 2); a head of 3 * (4 + 1)."""
    assert parameters(Recurrent(7, 3, 4)) == 112 + 264 + 15


def test_it_learns_and_repeats_and_leaves_the_random_state_alone() -> None:
    def trained() -> float:
        torch.manual_seed(1)
        model = Recurrent(7, 3, 4)
        optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
        losses = []
        for _ in range(20):
            loss = token_mean(nll(model.logps(IDS, TURN), TURN), TURN, totals(TURN))
            descend(optimiser, loss)
            losses.append(loss.item())
        assert losses[-1] < 0.7 * losses[0]
        return losses[-1]

    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
        first = trained()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    with one_thread():
        assert trained() == first
