"""The recursive network: its sizes, what a step computes, and what passes a gradient."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ferrule.policies.recursive import SEVEN_MILLION, Recursive, Shape, answers_of

pytestmark = pytest.mark.usefixtures("one_thread")


def weights(model: torch.nn.Module) -> int:
    return sum(part.numel() for part in model.parameters())


def small(seed: int = 0, **shape: int) -> Recursive:
    torch.manual_seed(seed)
    return Recursive(replace(Shape(cells=4, ids=3, width=16, heads=2, cycles=2, inner=2), **shape))


def test_sizes() -> None:
    """Width 64: gated layers of 192, so 2 (4 64^2 + 3 64 192) + 2 (12) 64 + 64 + 65 = 106,496 + 1,536 + 64 + 65."""
    assert weights(Recursive(Shape())) == 108_161
    assert (SEVEN_MILLION.between, Shape().between) == (1536, 192)
    with pytest.raises(ValueError, match="a width of 10 does not divide into 4 heads"):
        Shape(width=10)


def test_a_step_is_its_cycles() -> None:
    """One step of two cycles is two steps of one."""
    model, other = small(), small(cycles=1)
    symbols, ids = torch.tensor([[2, 3, 4, 1]]), torch.tensor([1])
    state, logits, halt = model(model.begin(1), symbols, ids)
    again, *_ = other(other.begin(1), symbols, ids)
    again, same, _ = other(again, symbols, ids)
    assert torch.allclose(logits, same, atol=1e-5)
    assert torch.allclose(state[1], again[1], atol=1e-5)
    assert halt.tolist() == [-5.0]
    assert logits.shape == (1, 4, 12)


def test_tokens_of_a_task_begin_at_nothing_and_learn() -> None:
    model = small()
    symbols, ids = torch.tensor([[2, 3, 4, 1]] * 2), torch.tensor([0, 2])
    _, logits, _ = model(model.begin(2), symbols, ids)
    assert torch.equal(logits[0], logits[1])
    logits[1].sum().backward()  # type: ignore[no-untyped-call]
    grad = model.tasks.weight.grad
    assert grad is not None
    assert grad.to_dense().abs().sum(1).gt(0).tolist() == [False, False, True]
    with torch.no_grad():
        model.tasks.weight[2] += 1.0
    _, logits, _ = model(model.begin(2), symbols, ids)
    assert not torch.allclose(logits[0], logits[1], atol=1e-3)


def test_cells_know_their_place() -> None:
    """Two inputs with the same symbols in another order get other answers."""
    model = small()
    ids = torch.tensor([0, 0])
    _, logits, _ = model(model.begin(2), torch.tensor([[2, 3, 4, 5], [3, 2, 4, 5]]), ids)
    assert not torch.allclose(logits[0, 2], logits[1, 2], atol=1e-4)


def test_answers_do_not_depend_on_the_batch() -> None:
    model = small()
    inputs, ids = np.random.default_rng(0).integers(0, 12, (5, 4)), np.zeros(5, dtype=np.int64)
    symbols, chances = answers_of(model, inputs, ids, steps=3)
    parts, halves = answers_of(model, inputs, ids, steps=3, batch=2)
    assert (symbols == parts).all()
    assert chances == pytest.approx(halves)
    assert chances == pytest.approx(1 / (1 + np.exp(5)), abs=1e-6)


def test_the_published_size_takes_a_step() -> None:
    """2 (4 512^2 + 3 512 1536) = 6.82 million in the layers, and 16 tokens of 512 for one task."""
    model = Recursive(SEVEN_MILLION)
    assert weights(model) == 6_815_744 + 2 * 12 * 512 + 513 + 16 * 512
    quick = Recursive(replace(SEVEN_MILLION, cells=36, cycles=1, inner=1))
    quick.load_state_dict(model.state_dict())
    _, logits, halt = quick(quick.begin(1), torch.zeros(1, 36, dtype=torch.long), torch.zeros(1, dtype=torch.long))
    (logits.mean() + halt.mean()).backward()  # type: ignore[no-untyped-call]
    assert logits.shape == (1, 36, 12)
