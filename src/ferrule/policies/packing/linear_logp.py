"""Log-probs and entropies straight from hidden states: the logits of all tokens never exist at once."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["linear_logp", "piece_bytes"]

_BYTES = {"cpu": 1 << 22}  # a block that stays in the cache is twice as fast as one that goes through memory
_BYTES_ELSEWHERE = 1 << 28
_FORBIDDEN, _LOWEST = -1e30, -1e20  # the logit of a forbidden token, and one that is above it and below all others


def piece_bytes(kind: str) -> int:
    """Return how many bytes of logits are computed at once on a kind of device; three such pieces stand together."""
    return _BYTES.get(kind, _BYTES_ELSEWHERE)


def linear_logp(
    hidden_MD: Tensor, weight_VD: Tensor, target_M: Tensor, *, bias_V: Tensor | None = None, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Return ``log softmax((h W^T + b) / temperature)[target]`` and the entropy in nats, both (M,) with gradients.

    The vocabulary is walked in blocks of a few megabytes with a running maximum and sum; the backward pass computes
    the blocks again. Sums are fp32 (fp64 for such weights), products run in the type of the weights, or in autocast's
    where it is on.
    """
    kind = hidden_MD.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight_VD.dtype
    size = piece_bytes(kind) // (4 * max(len(hidden_MD), 1))
    columns = min(max(size // 64 * 64, 256), len(weight_VD))
    result = _LinearLogp.apply(hidden_MD, weight_VD, bias_V, target_M, float(temperature), dtype, columns)  # type: ignore[no-untyped-call]
    return cast(tuple[Tensor, Tensor], result)


def _wide(dtype: torch.dtype) -> torch.dtype:
    """Return the type to add up in: fp32, or the type itself where it is wider."""
    return torch.promote_types(dtype, torch.float32)


def _block(hidden: Tensor, weight: Tensor, bias: Tensor | None, start: int, stop: int, temperature: float) -> Tensor:
    """Return the logits, in fp32 at least, of the tokens ``start`` to ``stop`` of the vocabulary."""
    z = hidden @ weight[start:stop].to(hidden.dtype).T
    z = z.to(_wide(z.dtype))
    if bias is not None:  # a forbidden token has minus infinity here, which no product with zero survives
        z = (z + bias[start:stop]).clamp_(min=_FORBIDDEN)
    return z if temperature == 1.0 else z.div_(temperature)


class _LinearLogp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, temperature: float,
                dtype: torch.dtype, columns: int) -> tuple[Tensor, Tensor]:  # fmt: skip
        ctx.set_materialize_grads(False)
        with torch.autocast(hidden.device.type, enabled=False):
            hidden_MD = hidden.to(dtype)
            top = torch.full((len(hidden), 1), _LOWEST, dtype=_wide(dtype), device=hidden.device)
            total, weighted, chosen = torch.zeros_like(top), torch.zeros_like(top), torch.zeros_like(top)
            for start in range(0, len(weight), columns):
                z = _block(hidden_MD, weight, bias, start, start + columns, temperature)
                inside, at = _inside(target, start, z.shape[1])
                chosen = torch.where(inside, z.gather(1, at), chosen)
                new = torch.maximum(top, z.amax(1, keepdim=True))
                shrink = torch.exp(top - new)
                p = torch.exp(z.sub_(new))  # sums of what lies below the maximum: large logits cost no digits
                weighted = shrink * (weighted + total * (top - new)) + (z * p).sum(1, keepdim=True)
                total = shrink * total + p.sum(1, keepdim=True)
                top = new
            spread = torch.log(total)
            entropy = spread - weighted / total
        ctx.save_for_backward(hidden, weight, bias, target, top, spread, entropy)
        ctx.settings = (temperature, dtype, columns)
        return (chosen - top - spread).squeeze(1), entropy.squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, on_logp: Tensor | None, on_entropy: Tensor | None) -> tuple[Tensor | None, ...]:
        """With ``p = softmax(z)``: ``d logp / dz = onehot - p`` and ``d H / dz = -p (log p + H)``."""
        hidden, weight, bias, target, top, spread, entropy = ctx.saved_tensors
        temperature, dtype, columns = ctx.settings
        wants = ctx.needs_input_grad
        on_hidden = torch.zeros_like(hidden, dtype=_wide(dtype)) if wants[0] else None
        on_weight = torch.empty_like(weight) if wants[1] else None
        on_bias = torch.empty_like(bias) if bias is not None and wants[2] else None
        g = torch.zeros_like(top) if on_logp is None else on_logp[:, None]
        e = None if on_entropy is None else on_entropy[:, None]
        hidden_MD = hidden.to(dtype)
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(weight), columns):
                z = _block(hidden_MD, weight, bias, start, start + columns, temperature).sub_(top).sub_(spread)
                push = -g if e is None else torch.addcmul(-g - e * entropy, z, e, value=-1)
                z.exp_().mul_(push)
                inside, at = _inside(target, start, z.shape[1])
                z.scatter_add_(1, at, torch.where(inside, g, torch.zeros_like(g)))
                if temperature != 1.0:
                    z.div_(temperature)
                if on_bias is not None:
                    on_bias[start : start + columns] = z.sum(0)
                z = z.to(dtype)
                if on_hidden is not None:
                    on_hidden += z @ weight[start : start + columns].to(dtype)
                if on_weight is not None:
                    on_weight[start : start + columns] = z.T @ hidden_MD
        return None if on_hidden is None else on_hidden.to(hidden.dtype), on_weight, on_bias, None, None, None, None


def _inside(target: Tensor, start: int, width: int) -> tuple[Tensor, Tensor]:
    """Return which targets lie in a block, and where in it (0 for the others), both (M, 1)."""
    at = target[:, None] - start
    inside = (at >= 0) & (at < width)
    return inside, torch.where(inside, at, torch.zeros_like(at))
