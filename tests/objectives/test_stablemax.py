"""Stablemax by hand, and at logits where an exponential would overflow."""

from __future__ import annotations

import pytest
import torch

from ferrule.objectives.stablemax import log_stablemax


def test_stablemax() -> None:
    """s(2) = 3, s(-1) = 1/2, s(0) = 1, of 4.5: .6667, .1111, .2222."""
    shares = log_stablemax(torch.tensor([2.0, -1.0, 0.0])).exp()
    assert shares.tolist() == pytest.approx([0.6667, 0.1111, 0.2222], abs=1e-4)


def test_large_logits_stay_finite() -> None:
    """s(1e30) is 1e30 and s(-1e30) 1e-30: log-probs 0 and -138.155 (= -60 ln 10)."""
    logits = torch.tensor([1e30, -1e30], requires_grad=True)
    result = log_stablemax(logits)
    assert result.tolist() == pytest.approx([0.0, -138.155], abs=1e-3)
    result.sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
