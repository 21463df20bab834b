"""Models, adapters and tokenizers from folders and hub names: JSON and safetensors, and code only when it is allowed.

A folder of somebody else is data. Weights in pickles (``pytorch_model.bin``) are not read, and Python files beside a
model run only with ``trust_remote_code``.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

__all__ = ["adapted", "model_of", "tokenizer_of"]

_ADAPTER = "adapter_model.safetensors"


def tokenizer_of(source: str | Path, *, trust_remote_code: bool = False) -> Any:
    """Return the tokenizer of a folder or hub name; ``trust_remote_code`` runs Python files that come with it."""
    from transformers import AutoTokenizer

    if trust_remote_code:
        warnings.warn(
            f"trust_remote_code: Python files of {source} run with your rights, outside of every sandbox", stacklevel=3
        )
    return AutoTokenizer.from_pretrained(str(source), trust_remote_code=trust_remote_code)


def model_of(source: str | Path, *, trust_remote_code: bool = False) -> Any:
    """Return the model of a folder or hub name in fp32, from safetensors only."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        str(source), dtype=torch.float32, use_safetensors=True, trust_remote_code=trust_remote_code
    )


def adapted(model: Any, adapter: str | Path) -> Any:
    """Return a model with the adapter of a folder or hub name; raises ``FileNotFoundError`` without safetensors."""
    from peft import PeftModel

    if not Path(adapter).is_dir():
        from huggingface_hub import snapshot_download

        adapter = snapshot_download(str(adapter), allow_patterns=["adapter_config.json", _ADAPTER])
    if not (Path(adapter) / _ADAPTER).is_file():
        raise FileNotFoundError(f"{adapter} has no {_ADAPTER}; weights are read from safetensors only")
    return PeftModel.from_pretrained(model, str(adapter), is_trainable=True)
