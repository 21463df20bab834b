"""Weights, gradients and optimiser state cut over processes (FSDP2), and whole weights for as long as they are needed.

``fully_shard`` gathers a block's weights while the block computes. That suits an update, where all processes run the
same passes, and not sampling, where each decodes its own episodes: there every process holds plain whole weights
for the length of the phase and frees them afterwards.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ferrule.policies.packing.packed import why_padded
from ferrule.train.policy import Trains

__all__ = ["Shards", "is_sharded", "passes_missing", "whole_norm"]

_PARTS = ("model", "_reference", "heads")


class Shards:
    """Cuts the modules of a policy over the processes of ``pool`` (an ``accelerate.Accelerator``), in place.

    Gradients are added up, not averaged: every process divides by the denominators of the whole batch. The optimiser
    must be made afterwards, from ``policy.parameters()``, which then are DTensors.
    """

    def __init__(self, policy: Trains, pool: Any) -> None:
        from torch.distributed.device_mesh import init_device_mesh

        self.policy = policy
        self._plain: dict[str, nn.Module] = {}
        mesh = init_device_mesh(pool.device.type, (pool.num_processes,))
        for name in _PARTS:
            module = getattr(policy, name, None)
            if module is None or not any(True for _ in module.parameters()):
                continue
            if name != "heads":
                why_padded(module, autocast=getattr(policy, "autocast", False))  # tried while it costs no communication
            self._plain[name] = _hollow(module)
            _shard(module, mesh)

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """Give the policy plain modules with whole weights; all processes enter together."""
        cut = {name: getattr(self.policy, name) for name in self._plain}
        self.restore()
        try:
            yield
        finally:
            for name, module in cut.items():
                setattr(self.policy, name, module)

    @torch.no_grad()
    def restore(self) -> None:
        """Give the policy plain modules with whole weights for good; all processes call it."""
        for name, hollow in self._plain.items():
            cut: Any = getattr(self.policy, name)
            plain = copy.deepcopy(hollow)  # a new object each time: nobody can mistake it for the weights of before
            plain.train(cut.training)
            for (_, empty), (_, shard) in zip(plain.named_parameters(), cut.named_parameters(), strict=True):
                empty.data = shard.full_tensor()
            setattr(self.policy, name, plain)


def _hollow(module: nn.Module) -> nn.Module:
    """Copy a module with empty parameters; parameters that are shared stay shared."""
    memo = {
        id(p): nn.Parameter(torch.empty(0, dtype=p.dtype, device=p.device), requires_grad=p.requires_grad)
        for p in module.parameters()
    }
    return copy.deepcopy(module, memo)


def _shard(module: Any, mesh: Any) -> None:
    """Shard every block of its own, and what is left with the root; gradients are summed."""
    from torch.distributed.fsdp import FSDPModule, fully_shard

    if isinstance(module, nn.ModuleDict):  # heads: each is called on its own, and gathered by its own call
        for head in module.values():
            _shard(head, mesh)
        return
    inner = module.get_base_model() if hasattr(module, "get_base_model") else module  # inside the adapters
    kinds = set(getattr(inner, "_no_split_modules", None) or ())
    for block in [child for child in module.modules() if type(child).__name__ in kinds]:
        fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)
    for child in module.modules():
        if isinstance(child, FSDPModule):
            child.set_gradient_divide_factor(1.0)
            child.set_force_sum_reduction_for_comms(True)  # gloo knows no other reduction


def is_sharded(policy: Trains) -> bool:
    """Tell whether the weights of a policy are cut over processes."""
    return any(isinstance(p, DTensor) for p in policy.model.parameters())


def passes_missing(policy: Trains, passes: int, pool: Any) -> int:
    """Return how many more passes another process makes; sharded processes must all make as many."""
    if pool is None or not is_sharded(policy):
        return 0
    most = torch.tensor([passes], device=pool.device)
    torch.distributed.all_reduce(most, op=torch.distributed.ReduceOp.MAX)
    return int(most) - passes


def whole_norm(norm: Tensor) -> float:
    """Return a norm that may be spread over processes as a number."""
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
