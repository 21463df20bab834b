"""Models, adapters and tokenizers from folders and hub names: JSON and safetensors, and code only when it is allowed.

A folder of somebody else is data. Weights in pickles (``pytorch_model.bin``) are not read, and Python files beside a
model run only with ``trust_remote_code``.
"""

from __future__ import annotations

import contextlib
import importlib.util
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ferrule.policies.devices import available

__all__ = ["DTYPES", "adapted", "four_bits", "model_of", "quiet", "tokenizer_of"]

DTYPES = ("float32", "bfloat16", "auto")
"""What ``dtype`` and ``--dtype`` take."""
_ADAPTER = "adapter_model.safetensors"


def tokenizer_of(source: str | Path, *, trust_remote_code: bool = False) -> Any:
    """Return the tokenizer of a folder or hub name; ``trust_remote_code`` runs Python files that come with it."""
    from transformers import AutoTokenizer

    if trust_remote_code:
        warnings.warn(
            f"trust_remote_code: Python files of {source} run with your rights, outside of every sandbox", stacklevel=3
        )
    return AutoTokenizer.from_pretrained(str(source), trust_remote_code=trust_remote_code)


def model_of(
    source: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
    load_in_4bit: bool = False,
    trust_remote_code: bool = False,
) -> Any:
    """Return the causal model of a folder or hub name on a device (None: the processor), from safetensors only.

    With ``load_in_4bit`` the matrices of its blocks are held in 4 bits (``four_bits``), else all weights in ``dtype``.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # bars of a library would break the run's own live line
    place = device or torch.device("cpu")
    options = four_bits(place) if load_in_4bit else {"dtype": dtype}
    model = AutoModelForCausalLM.from_pretrained(
        str(source), use_safetensors=True, trust_remote_code=trust_remote_code, **options
    )
    return model if load_in_4bit else model.to(place)


def four_bits(device: torch.device) -> dict[str, Any]:
    """Return the options of ``from_pretrained`` for weights in 4-bit NormalFloat, computed with in bf16.

    Source: "QLoRA: Efficient Finetuning of Quantized LLMs", arXiv 2305.14314. Raises ``ValueError`` where there is no
    CUDA device to hold them, ``ModuleNotFoundError`` without bitsandbytes.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModuleNotFoundError('load_in_4bit needs bitsandbytes: pip install "ferrule[qlora]"', name="bitsandbytes")
    if device.type != "cuda":
        raise ValueError(f"load_in_4bit needs a CUDA device, not {device}; this process has {', '.join(available())}")
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": config, "dtype": torch.bfloat16, "device_map": {"": device}}


def adapted(model: Any, adapter: str | Path) -> Any:
    """Return a model with the adapters of a folder or hub name, which go on training.

    Raises ``FileNotFoundError`` without safetensors.
    """
    from peft import PeftModel

    if not Path(adapter).is_dir():
        from huggingface_hub import snapshot_download

        adapter = snapshot_download(str(adapter), allow_patterns=["adapter_config.json", _ADAPTER])
    if not (Path(adapter) / _ADAPTER).is_file():
        raise FileNotFoundError(f"{adapter} has no {_ADAPTER}; weights are read from safetensors only")
    with quiet():
        return PeftModel.from_pretrained(model, str(adapter), is_trainable=True)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Leave out what peft and transformers have to tell each other about names that they change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield
