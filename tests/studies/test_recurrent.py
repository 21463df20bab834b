"""The tiny recurrent model: what stands where, and that its numbers repeat."""

from __future__ import annotations

import pytest
import torch

from ferrule.core.records import Message, Score, Task, Trajectory, Turn
from ferrule.data.formats import Row
from ferrule.objectives.reduce import token_mean, totals
from ferrule.objectives.supervised import nll
from ferrule.studies.recurrent import Recurrent, descend, fit_rows, one_thread, parameters, step_on_groups
from ferrule.studies.table import plain
from ferrule.train.sample import Group

TASK = Task("t", "?", "1")
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


def test_rows_are_learned_until_the_tokens_are_spent() -> None:
    """64 rows of 2 own tokens are 128 tokens a step: 300 tokens take 3 steps, and 7,680 teach the one thing shown."""
    rows = [Row((5, 1, 2), (-1, 0, 0))]
    with one_thread():
        torch.manual_seed(0)
        model, losses = Recurrent(7, 3, 4), []
        fit_rows(model, rows, tokens=300, learning_rate=1e-2, seed=0, watch=losses.append)
        assert len(losses) == 3
        fit_rows(model, rows, tokens=60 * 128, learning_rate=3e-2, seed=0, watch=losses.append)
    assert losses[-1] < 0.2 < losses[0]


def test_a_step_on_groups_favours_what_was_paid() -> None:
    with one_thread():
        torch.manual_seed(0)
        model = Recurrent(7, 3, 4)
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
        recipe = plain(reward=lambda task, episodes: [Score(float(e.answer == "1")) for e in episodes])
        ids, turn = torch.tensor([[5, 1]]), torch.tensor([[-1, 0]])
        before = model.logps(ids, turn)[0, 1].item()
        step_on_groups(model, recipe, [], optimiser)
        assert model.logps(ids, turn)[0, 1].item() == before
        episodes = tuple(
            Trajectory(TASK, (Turn(0, None, (5,), (i,), (before,), Message("assistant", str(i))),), str(i), "answer")
            for i in (1, 2)
        )
        group = Group(TASK, (), episodes, tuple(recipe.reward(TASK, episodes)), (0, 1))
        step_on_groups(model, recipe, [group], optimiser)
        assert model.logps(ids, turn)[0, 1].item() > before
