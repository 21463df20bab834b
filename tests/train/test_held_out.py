from __future__ import annotations

from typing import Any

import pytest
import torch

from ferrule.data.formats import Pair, Row
from ferrule.train.held_out import held_out
from ferrule.train.settings import Settings
from ferrule.train.stage import dpo, fit, sft, simpo


def row(*ids: int) -> Row:
    return Row((3, 4, *ids), (-1, -1, *[0] * len(ids)))


def logp(policy: Any, one: Row) -> float:
    with torch.no_grad():
        return float(policy.logps(torch.tensor([one.ids]), torch.tensor([one.turn]))["logp_NT"].sum())


ROWS = [row(40, 41, 42), row(50, 51), row(60)]
PAIRS = [Pair(ROWS[0], ROWS[1]), Pair(ROWS[2], ROWS[0])]


@pytest.mark.parametrize("size", [1, 8])
def test_the_loss_is_that_of_one_step_over_all_rows(tiny: Any, size: int) -> None:
    weights = [p.detach().clone() for p in tiny.parameters()]
    numbers = held_out(tiny, sft(ROWS), ROWS, size=size)
    assert numbers == {"loss": pytest.approx(-sum(logp(tiny, one) for one in ROWS) / 6, rel=1e-5)}
    assert all(torch.equal(p, before) for p, before in zip(tiny.parameters(), weights, strict=True))
    assert all(p.grad is None for p in tiny.parameters())


def test_pairs_are_told_apart_by_their_lead_on_the_reference(tiny: Any) -> None:
    """At the reference the loss is log 2 and nothing leads; afterwards the margin is that of log-probabilities."""
    stage = dpo(PAIRS, beta=0.1)
    assert held_out(tiny, stage, PAIRS) == {"loss": pytest.approx(0.693147, abs=1e-5), "accuracy": 0.0, "margin": 0.0}
    before = [logp(tiny, p.chosen) - logp(tiny, p.rejected) for p in PAIRS]
    fit(tiny, stage, Settings(max_steps=10, learning_rate=1e-2, per_device_train_batch_size=2))
    leads = [logp(tiny, p.chosen) - logp(tiny, p.rejected) - b for p, b in zip(PAIRS, before, strict=True)]
    numbers = held_out(tiny, stage, PAIRS, size=1)
    assert numbers["margin"] == pytest.approx(sum(leads) / 2, rel=1e-4)
    assert numbers["accuracy"] == sum(lead > 0 for lead in leads) / 2 == 1.0


def test_without_a_reference_the_mean_log_probabilities_decide(tiny: Any) -> None:
    def mean(one: Row) -> float:
        return logp(tiny, one) / (len(one.ids) - 2)

    leads = [mean(p.chosen) - mean(p.rejected) for p in PAIRS]
    numbers = held_out(tiny, simpo(PAIRS), PAIRS)
    assert numbers["margin"] == pytest.approx(sum(leads) / 2, rel=1e-4, abs=1e-5)
    assert numbers["accuracy"] == sum(lead > 0 for lead in leads) / 2
