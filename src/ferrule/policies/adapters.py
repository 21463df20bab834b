"""LoRA adapters on a causal model: which model saved ones belong to, fresh ones, their reference, and merging."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ferrule.core.arrays import nearest
from ferrule.policies.loaded import quiet
from ferrule.policies.models import folder_of

__all__ = ["ALL_LINEAR", "base_of", "frozen_copy", "merged", "silent", "targets_of", "with_lora"]

ALL_LINEAR = "all-linear"
"""All linear layers inside the blocks, the output layer left out."""
_CONFIG = "adapter_config.json"


def base_of(source: str | Path) -> str:
    """Return what a loader takes for the model that the adapters of a folder or hub name belong to; "" for a whole one.

    Raises ``ValueError`` where adapters do not say which model that is, and where it is not here.
    """
    path = Path(source).expanduser() / _CONFIG
    if not path.parent.is_dir():
        from transformers.utils import find_adapter_config_file

        path = Path(find_adapter_config_file(str(source)) or path)
    if not path.is_file():
        return ""
    base = json.loads(path.read_text(encoding="utf-8")).get("base_model_name_or_path")
    try:
        return folder_of(str(base))
    except ValueError as error:
        raise ValueError(
            f"{source} holds adapters of {base!r}, which is not here; load them with their model: "
            f"ferrule.policies.local.load(MODEL, adapter={str(source)!r})"
        ) from error


def with_lora(
    model: Any,
    *,
    lora_r: int = 16,
    lora_alpha: float | None = None,
    lora_dropout: float = 0.0,
    target_modules: str | Sequence[str] = ALL_LINEAR,
    seed: int = 0,
) -> Any:
    """Freeze a model and return it with fresh LoRA adapters, in fp32 whatever the model is held in.

    ``lora_alpha`` is twice the rank where it is None; the names are those of ``peft.LoraConfig``. Source: "LoRA:
    Low-Rank Adaptation of Large Language Models", arXiv 2106.09685.
    """
    from peft import LoraConfig, get_peft_model

    if hasattr(model, "peft_config"):
        raise ValueError("the model has adapters, which go on training; to begin others, merge these first")
    if lora_r < 1 or not 0 <= lora_dropout < 1:
        raise ValueError(f"lora_r is {lora_r} and lora_dropout {lora_dropout}; a rank is 1 at least, a share below 1")
    torch.manual_seed(seed)
    config = LoraConfig(
        r=lora_r,
        lora_alpha=2 * lora_r if lora_alpha is None else lora_alpha,
        lora_dropout=lora_dropout,
        target_modules=targets_of(model, target_modules),
        task_type="CAUSAL_LM",
    )
    with quiet():
        return get_peft_model(model, config)


def targets_of(model: Any, names: str | Sequence[str]) -> str | list[str]:
    """Return what peft takes as target modules; raises ``ValueError`` for a name that no linear layer ends in."""
    names = [names] if isinstance(names, str) else list(names)
    if names == [ALL_LINEAR]:
        return ALL_LINEAR
    kinds = (torch.nn.Linear, *_convolutions())
    layers = [name for name, module in model.named_modules() if isinstance(module, kinds)]
    for name in names:
        if not any(layer == name or layer.endswith(f".{name}") for layer in layers):
            ends = sorted({layer.rpartition(".")[2] for layer in layers})
            raise ValueError(f"target_modules: no linear layer of this model is called {name!r}; {nearest(name, ends)}")
    return names


def _convolutions() -> tuple[type, ...]:
    from transformers.pytorch_utils import Conv1D  # the linear layer of GPT-2

    return (Conv1D,)


def silent(model: Any) -> bool:
    """Tell whether a model has LoRA adapters that change nothing yet, so that without them it is the same."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if not hasattr(model, "disable_adapter") or not all(".lora_" in name for name, _ in trained):
        return False
    return not any(bool(p.any()) for name, p in trained if ".lora_B" in name or ".lora_embedding_B" in name)


def frozen_copy(model: Any) -> Any:
    """Return a model whose trained weights are copies, and whose frozen ones are those of ``model`` itself."""
    shared = {id(p): p for p in model.parameters() if not p.requires_grad}
    return copy.deepcopy(model, shared).requires_grad_(False)


def merged(model: Any) -> Any:
    """Return the model with its adapters added to the weights they adapt.

    Raises ``ValueError`` for a model without adapters, and for one that is held in 4 bits: the sum would be rounded.
    """
    if not hasattr(model, "merge_and_unload"):
        raise ValueError("the model has no adapters to merge")
    if getattr(model.get_base_model(), "is_loaded_in_4bit", False):
        raise ValueError("adapters are not merged into weights of 4 bits, which would round them; load without 4 bits")
    return model.merge_and_unload()
