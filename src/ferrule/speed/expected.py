"""The memory that a run on one device is expected to take, and the type of weights that fits it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ferrule.policies.adapters import base_of
from ferrule.policies.devices import memory_of
from ferrule.policies.packing.linear_logp import piece_bytes
from ferrule.policies.packing.packed import token_budget, why_padded
from ferrule.speed.activations import activations
from ferrule.speed.devices import Device
from ferrule.speed.plan import Setup, held, training
from ferrule.speed.shapes import Shape, from_config

__all__ = ["dtype_that_fits", "memory_expected"]

_USABLE = 0.9
_SMALL = 2**28
_PIECES = 3  # of the logits, there at once
_CACHE = 1024.0 * 2**20
"""Bytes that the cache of the local engine takes at most where nothing else is asked for."""


def memory_expected(
    policy: Any,
    *,
    trains: bool = True,
    plays: bool = True,
    reference: bool = False,
    gradient_checkpointing: bool = False,
    longest: int = 0,
) -> dict[str, float]:
    """Return the bytes that a policy is expected to take on its device, by part, their ``total``, and its ``memory``.

    ``state``: weights, and of those that train gradients and moments. ``gathered``: a copy in bf16 where products are
    computed in it from fp32 weights. ``activations``: those of a micro-batch (``speed.activations``), left out for
    models whose config does not say their sizes; ``longest`` is the longest row in tokens, if known: no row is split.
    ``reference``: a second copy of what trains. ``cache``: keys and values of the engine, at most. Without ``trains``
    it is weights and cache.
    """
    weights = list(policy.model.parameters())
    total = sum(p.numel() * p.element_size() for p in weights)
    learned = [p for p in weights if p.requires_grad] if trains else []
    half = sum(p.numel() for p in learned if p.element_size() == 2)
    full = sum(p.numel() for p in learned) - half
    parts = {"state": float(total - sum(p.numel() * p.element_size() for p in learned))}
    parts["state"] += held(full, 0) + held(half, 0, half=True)
    width = policy.products.itemsize
    if width < policy.dtype.itemsize:
        parts["gathered"] = float(width * sum(p.numel() for p in weights))
    shape = _shape(policy.model.config.to_dict())
    if trains and shape is not None:
        micro = max(token_budget(policy.device), longest)
        parts["activations"] = activations(
            shape, width, micro=micro, logits=_logits(policy, micro, shape.vocab), again=gradient_checkpointing,
            half=policy.dtype == torch.bfloat16, lora_r=_rank(policy),
        )  # fmt: skip
    if reference and any(".lora_" not in name for name, p in policy.model.named_parameters() if p.requires_grad):
        parts["reference"] = float(sum(p.numel() * p.element_size() for p in learned))
    if plays:
        parts["cache"] = _CACHE
    return {**parts, "total": sum(parts.values()), "memory": memory_of(policy.device)}


def dtype_that_fits(
    model: str, device: torch.device, *, trains: bool = True, lora_r: int = 0, gradient_checkpointing: bool = False
) -> str:
    """Return ``float32`` where that is expected to fit the device, else ``bfloat16``, for a folder or hub name.

    A model whose config does not say its sizes is taken to fit, and small files are not looked into.
    """
    folder = Path(model)
    if not (folder / "adapter_config.json").is_file() and 0 < _bytes(folder) < _SMALL:
        return "float32"
    from transformers import PretrainedConfig

    shape = _shape(PretrainedConfig.get_config_dict(base_of(model) or model)[0])
    if shape is None:
        return "float32"
    needed = held(0, shape.parameters)
    if trains:
        setup = Setup(gpus=1, micro=token_budget(device), lora_r=lora_r, gradient_checkpointing=gradient_checkpointing)
        needed = training(shape, _device(device, 4), setup, logits=_PIECES * piece_bytes(device.type))["total"]
    return "float32" if needed <= _USABLE * memory_of(device) else "bfloat16"


def _logits(policy: Any, micro: int, vocab: int) -> float:
    """Return what the output layer takes: some pieces, or where rows are padded five arrays of all logits in fp32."""
    if why_padded(policy.model, autocast=policy.autocast):
        return 5.0 * 4 * micro * vocab
    return float(_PIECES * piece_bytes(policy.device.type))


def _rank(policy: Any) -> int:
    """Return the rank of the adapters that train, 0 without any."""
    return int(policy.model.active_peft_config.r) if policy.has_adapter else 0


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def _shape(config: dict[str, Any]) -> Shape | None:
    try:
        return from_config(config)
    except ValueError:
        return None


def _device(device: torch.device, width: int) -> Device:
    """Return a device of which only memory and the width of numbers count."""
    return Device(str(device), 1.0, 1.0, memory_of(device), 1.0, 1.0, width)
