"""Recursion: gradient through the last times alone, the carry, halting, and the loss of the halting logit."""

from __future__ import annotations

import math

import pytest
import torch

from ferrule.policies.recursion import State, carried, detached, halt_head, halt_loss, halts, recur


def test_the_gradient_is_that_of_the_traced_times() -> None:
    """x -> 3 x, four times, is 81 x; with two of them traced the gradient is 9, with none there is none."""
    factor = torch.tensor(3.0, requires_grad=True)

    def advance(state: State) -> State:
        return (factor * state[0],)

    (value,) = recur(advance, (torch.tensor(1.0),), 4, traced=2)
    assert value.item() == 81.0
    value.backward()  # type: ignore[no-untyped-call]
    assert factor.grad is not None
    assert factor.grad.item() == 54.0  # x = 9 f f with x = 9 before: 9 * 2 f
    assert not recur(advance, (torch.tensor(1.0),), 4, traced=0)[0].requires_grad
    with pytest.raises(ValueError, match="traced is 3; of 2 times 0 to 2 can be"):
        recur(advance, (torch.tensor(1.0),), 2, traced=3)


def test_halted_rows_begin_anew() -> None:
    old, new = torch.ones(3, 2, 2, requires_grad=True), torch.zeros(3, 2, 2)
    (state,) = carried(detached((old,)), (new,), torch.tensor([True, False, True]))
    assert state.sum((1, 2)).tolist() == [0.0, 4.0, 0.0]
    assert not state.requires_grad


def test_halting() -> None:
    logits, steps = torch.tensor([1.0, 1.0, -1.0, -1.0]), torch.tensor([2, 2, 2, 16])
    assert halts(logits, steps, most=16).tolist() == [True, True, False, True]
    assert halts(logits, steps, most=16, least_N=torch.tensor([1, 3, 1, 20])).tolist() == [True, False, False, True]
    assert not halts(torch.tensor([0.0]), torch.tensor([1]), most=2).item()  # above 0, not at it


def test_a_head_begins_by_not_halting() -> None:
    head = halt_head(8)
    assert head(torch.randn(3, 8)).flatten().tolist() == [-5.0, -5.0, -5.0]


def test_the_loss_of_halting() -> None:
    """-log sigmoid(0) = ln 2; logit 1 with target .3: log(1 + e) - .3 = 1.013262."""
    loss = halt_loss(torch.tensor([0.0, 1.0]), torch.tensor([True, False]))
    assert loss.tolist() == pytest.approx([math.log(2), math.log(1 + math.e)])
    assert halt_loss(torch.tensor([1.0]), torch.tensor([0.3])).item() == pytest.approx(1.013262, abs=1e-6)
