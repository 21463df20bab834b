"""Log-probs and entropies from hidden states, block by block, against the plain form."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ferrule.policies.packing import linear_logp as module
from ferrule.policies.packing.linear_logp import linear_logp

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 256 tokens, the least there is."""
    monkeypatch.setattr(module, "_BYTES", {"cpu": 1})


def plain(hidden: Any, weight: Any, target: Any, bias: Any, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    logp = torch.log_softmax(torch.nn.functional.linear(hidden, weight, bias) / temperature, -1)
    return logp.gather(1, target[:, None])[:, 0], -(logp.exp() * logp.clamp(min=-1e4)).sum(-1)


def inputs(bias: bool, size: int = 1000, dtype: torch.dtype = torch.float64) -> list[Any]:
    torch.manual_seed(0)
    hidden, weight = torch.randn(9, 12, dtype=dtype), torch.randn(size, 12, dtype=dtype)
    return [x.requires_grad_() for x in (hidden, weight, *([torch.randn(size, dtype=dtype)] if bias else []))]


def test_a_worked_number() -> None:
    """Logits 0 and ln 3: probabilities 1/4 and 3/4; the entropy is ln 4 - 3/4 ln 3; d logp_0 / dz is (3/4, -3/4)."""
    hidden = torch.tensor([[1.0]])
    weight = torch.tensor([[0.0], [math.log(3)]], requires_grad=True)
    logp, entropy = linear_logp(hidden, weight, torch.tensor([0]))
    assert logp.tolist() == pytest.approx([math.log(1 / 4)])
    assert entropy.tolist() == pytest.approx([math.log(4) - 0.75 * math.log(3)])
    torch.autograd.backward(logp.sum())
    assert weight.grad is not None
    assert weight.grad[:, 0].tolist() == pytest.approx([0.75, -0.75])


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("uses", ["logp", "entropy", "both"])
def test_values_and_gradients_are_the_plain_ones(small_blocks: None, bias: bool, temperature: float, uses: str) -> None:
    """Over four blocks, the last one short; targets at both ends of blocks."""
    target = torch.tensor([0, 255, 256, 511, 512, 767, 768, 999, 3])
    weigh = torch.randn(2, 9, generator=torch.Generator().manual_seed(1))
    found = []
    for how in (linear_logp, plain):
        mine = inputs(bias, dtype=torch.float32)
        third = mine[2] if bias else None
        if how is linear_logp:
            out = linear_logp(mine[0], mine[1], target, bias_V=third, temperature=temperature)
        else:
            out = plain(mine[0], mine[1], target, third, temperature)
        terms = [weigh[i] * out[i] for i in range(2) if uses in (("logp", "entropy")[i], "both")]
        torch.autograd.backward(torch.stack(terms).sum())
        found.append([*out, *(x.grad for x in mine)])
    for one, other in zip(*found, strict=True):
        assert float((one - other).detach().norm() / other.detach().norm()) < 1e-5


def test_weights_that_do_not_train_get_no_gradient(small_blocks: None) -> None:
    hidden, weight = inputs(False)
    weight.requires_grad_(False)
    torch.autograd.backward(linear_logp(hidden, weight, torch.arange(9))[0].sum())
    assert hidden.grad is not None
    assert weight.grad is None
    hidden, weight = inputs(False)
    torch.autograd.backward(linear_logp(hidden.detach(), weight, torch.arange(9))[0].sum())
    assert weight.grad is not None


def test_forbidden_tokens_are_out_of_everything(small_blocks: None) -> None:
    """A bias of minus infinity on all but two tokens of one block leaves those two."""
    hidden, weight = (x.detach().float().requires_grad_() for x in inputs(False))
    bias = torch.full((1000,), -torch.inf)
    bias[[300, 700]] = 0.0
    logp, entropy = linear_logp(hidden, weight, torch.full((9,), 300), bias_V=bias)
    two = torch.log_softmax(hidden @ weight[[300, 700]].T, -1)
    assert torch.allclose(logp, two[:, 0], atol=1e-5)
    assert torch.allclose(entropy, -(two.exp() * two).sum(-1), atol=1e-5)
    torch.autograd.backward((logp + entropy).sum())
    assert torch.isfinite(hidden.grad).all()  # type: ignore[arg-type]


def test_half_precision_products_keep_fp32_sums() -> None:
    hidden, weight = (x.detach().float().requires_grad_() for x in inputs(False))
    target = torch.arange(9)
    exact = linear_logp(hidden, weight, target)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = linear_logp(hidden, weight, target)[0]
    assert rough.dtype is torch.float32
    assert 0 < float((rough - exact).detach().abs().max()) < 0.2
    torch.autograd.backward(rough.sum())
    assert weight.grad is not None
    assert weight.grad.dtype is torch.float32


def test_the_logits_never_exist_at_once(small_blocks: None) -> None:
    """64 tokens and 4096 words would be 262,144 logits; the largest thing that comes into being is the weights' gradient."""
    largest = []

    class Watching(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                largest.append(out.numel())
            return out

    hidden, weight = torch.randn(64, 8, requires_grad=True), torch.randn(4096, 8, requires_grad=True)
    with Watching():
        torch.autograd.backward(linear_logp(hidden, weight, torch.arange(64))[0].sum())
    assert max(largest) == 4096 * 8
