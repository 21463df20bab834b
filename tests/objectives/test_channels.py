"""Losses over several reward channels."""

from __future__ import annotations

import pytest
import torch

from ferrule.objectives.channels import over_channels
from ferrule.objectives.penalty import with_kl
from ferrule.objectives.surrogate import surrogate

NAMED = {
    "logp_NT": torch.tensor([[-1.0, -2.0]], dtype=torch.float64),
    "old_NT": torch.tensor([[-1.2, -1.5]], dtype=torch.float64),
    "ref_NT": torch.tensor([[-0.5, -2.5]], dtype=torch.float64),
    "turn_NT": torch.zeros((1, 2), dtype=torch.int64),
}


def test_a_penalty_counts_once_however_many_channels_there_are() -> None:
    """Advantages that add up to one channel's make the same loss, where nothing is clipped."""
    whole = torch.tensor([[[0.5, -1.0]]], dtype=torch.float64)
    cut = torch.cat([whole * share for share in (0.2, 0.5, 0.3)])
    objective = with_kl(lambda logp_NT, adv_NT: -adv_NT * logp_NT, 0.3)
    assert torch.allclose(over_channels(objective, cut, NAMED), over_channels(objective, whole, NAMED))
    plain = with_kl(lambda logp_NT, adv_NT: -adv_NT * logp_NT, 0.0)
    assert not torch.allclose(over_channels(plain, cut, NAMED), over_channels(objective, cut, NAMED))


def test_channels_without_a_penalty_are_summed() -> None:
    adv_CNT = torch.tensor([[[0.5, -1.0]], [[2.0, 1.0]]], dtype=torch.float64)
    each = [over_channels(surrogate, adv_CNT[c : c + 1], NAMED) for c in range(2)]
    assert torch.equal(over_channels(surrogate, adv_CNT, NAMED), each[0] + each[1])
    assert over_channels(surrogate, adv_CNT[:1], NAMED)[0, 0].item() == pytest.approx(-0.5 * 1.2)
