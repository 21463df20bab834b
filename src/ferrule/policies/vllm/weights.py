"""Weights on their way to another process: when they changed, and writing them as plain safetensors."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ferrule.policies.vocab import new_rows

__all__ = ["fingerprint", "megabytes", "place", "write"]

_PROBES = 32  # values looked at per parameter, evenly spread


def _places(numel: int) -> slice:
    return slice(0, None, max(1, numel // _PROBES))


@torch.no_grad()
def fingerprint(model: Any) -> tuple[Any, ...]:
    """Return something that changes whenever the weights do.

    PyTorch counts in-place changes of a tensor; writes through ``.data`` escape that count, so where each parameter
    lies and a few of its values are looked at as well.
    """
    parameters = list(model.parameters())
    if not parameters:
        return ()
    probes = [p.detach().reshape(-1)[_places(p.numel())].float() for p in parameters]
    return (
        tuple(p._version for p in parameters),
        tuple(p.data_ptr() for p in parameters),
        tuple(torch.cat(probes).cpu().tolist()),
    )


def megabytes(model: Any) -> float:
    """Return the size of all parameters in MB, as they are held."""
    return float(sum(p.numel() * p.element_size() for p in model.parameters())) / 1e6


def place(need_mb: float) -> Path:
    """Make and return a temporary folder, in memory (/dev/shm) where ``need_mb`` fit there twice over."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 2e6 * need_mb
    return Path(tempfile.mkdtemp(prefix="ferrule-", dir=memory if roomy else None))


@torch.no_grad()
def write(model: Any, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write a causal model in the form its family is published in, with adapters added to the weights they adapt.

    Raises ``ValueError`` for weights that are spread over processes (each holds a part only) and for models with new
    tokens, which such an engine would leave out.
    """
    if new_rows(model):
        raise ValueError("the model has new tokens (Local.add_tokens), which only the local engine decodes")
    if any(hasattr(p, "full_tensor") for p in model.parameters()):
        raise ValueError("the weights are spread over processes (FSDP); an engine of its own needs them whole")
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    folder.mkdir(parents=True, exist_ok=True)
    base.save_pretrained(folder, state_dict=_merged(base, dtype), safe_serialization=True)


def _merged(base: Any, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the state without adapter layers; tensors that share memory still do, so that ties are recognised."""
    deltas: dict[str, Tensor] = {}
    for name, module in base.named_modules():
        if hasattr(module, "get_delta_weight") and hasattr(module, "base_layer"):
            active = [a for a in module.active_adapters if a in module.lora_A]
            deltas[f"{name}.weight"] = sum((module.get_delta_weight(a) for a in active), torch.zeros(()))
    state: dict[str, Tensor] = {}
    by_memory: dict[int, Tensor] = {}
    for name, tensor in base.state_dict().items():
        if ".lora_" in name or ".modules_to_save." in name:
            continue
        plain = name.replace(".base_layer.", ".")
        if plain in deltas:
            state[plain] = (tensor + deltas[plain].to(tensor)).to(dtype)
        else:
            key = tensor.data_ptr()
            by_memory.setdefault(key, tensor.to(dtype) if tensor.is_floating_point() else tensor)
            state[plain] = by_memory[key]
    return state
