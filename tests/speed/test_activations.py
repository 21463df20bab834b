"""What is expected to be kept for a backward pass, against what autograd does keep."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.policies.test_packed import small

from ferrule.policies.adapters import with_lora
from ferrule.policies.packing.packed import logps
from ferrule.speed.activations import activations, block_bytes
from ferrule.speed.shapes import Shape, from_config

TOKENS = 64
SIZES = {
    "hidden_size": 64, "intermediate_size": 160, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "sliding_window": None,
}  # fmt: skip


def kept(model: Any, autocast: bool) -> int:
    """Return the bytes of the tensors that autograd saves in a pass over one row, those of weights left out."""
    weights = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}
    saved: dict[int, torch.UntypedStorage] = {}

    def save(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage
        return tensor

    ids = torch.arange(TOKENS)[None] % 20
    turn = torch.full_like(ids, -1)
    turn[0, -1] = 0  # the output layer counts for nothing
    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        logps(model, ids, turn, autocast=autocast)["logp_NT"].sum().backward()
    return sum(storage.nbytes() for place, storage in saved.items() if place not in weights)


def matrices(model: Any) -> int:
    return sum(p.numel() for p in model.parameters() if p.ndim == 2)


def model_of(kind: str, layers: int, dtype: torch.dtype, lora_r: int) -> Any:
    """Return a model with random weights, and adapters where they have a rank."""
    heads = {"num_key_value_heads": 4} if kind == "gpt2" else {}
    model = small(kind, **{**SIZES, "num_hidden_layers": layers, **heads}).to(dtype)
    return with_lora(model, lora_r=lora_r) if lora_r else model


@pytest.mark.parametrize(
    ("kind", "dtype", "autocast", "lora_r"),
    [
        *((kind, torch.float32, False, 0) for kind in ("llama", "qwen3", "gemma", "gpt2")),
        *((kind, torch.float32, True, 0) for kind in ("llama", "qwen3")),
        *((kind, torch.bfloat16, False, 0) for kind in ("llama", "qwen3")),
        *((kind, torch.float32, False, 8) for kind in ("llama", "qwen3")),
        *((kind, torch.bfloat16, False, 8) for kind in ("llama", "qwen3")),
        ("llama", torch.float32, True, 8),
    ],
)  # fmt: skip
def test_a_block_keeps_what_is_expected(kind: str, dtype: torch.dtype, autocast: bool, lora_r: int) -> None:
    """The difference of four and two blocks, over two blocks and all tokens but the last, which is not read.

    The copies in bf16 of the matrices of fp32 count as gathered weights, not here.
    """
    models = [model_of(kind, layers, dtype, lora_r) for layers in (2, 4)]
    few, many = (kept(model, autocast) - 2 * autocast * matrices(model) for model in models)
    half = dtype == torch.bfloat16
    expected = block_bytes(
        from_config(models[0].config.to_dict()), 2 if half or autocast else 4, half=half, lora_r=lora_r
    )
    assert (many - few) / 2 / (TOKENS - 1) == pytest.approx(expected, rel=0.1)


def test_the_parts_of_a_micro_batch() -> None:
    """A block of 208 bytes, worked out in the test of the plan; again: one block and the three inputs in fp32."""
    shape = Shape("tiny", layers=3, hidden=4, intermediate=8, heads=2, kv_heads=1, head_dim=2, vocab=10, tied=False)
    assert block_bytes(shape, 2) == 208
    # The output layer: 16 x 4 for norm, input and gradient, the logits, and the gradient of its 40 weights. Gradients
    # passing are two wide vectors of 8 in bf16, 32.
    assert activations(shape, 2, micro=1, logits=7) == 3 * 208 + 64 + 7 + 160
    assert activations(shape, 2, micro=1, logits=7, again=True) == 48 + 208 + 32 + 160
    assert activations(shape, 2, micro=1, logits=900, again=True) == 48 + 64 + 900 + 160
    assert activations(shape, 2, micro=1, logits=0, half=True, lora_r=1) == 3 * block_bytes(
        shape, 2, half=True, lora_r=1
    ) + max(2 * 4 * 8, 14 * 4)
    # Norms of each head: queries of 4 and keys of 2, 8 bytes each.
    headed = Shape("tiny", 3, 4, 8, 2, 1, 2, 10, False, head_norms=True)
    assert block_bytes(headed, 2) == 208 + 6 * 8
    # Adapters: gains train not, 32 of the norms; each of seven matrices keeps one number of its adapter.
    assert block_bytes(shape, 2, lora_r=1) == 208 - 32 + 28
    # Weights in bf16 share what enters, 2 x (8 + 4 + 8) for 64, and scale in bf16, 16 less.
    assert block_bytes(shape, 2, half=True) == 208 - 24 - 16
    # Under them every adapter has its input in fp32.
    assert block_bytes(shape, 2, half=True, lora_r=1) == 208 - 32 + 28 + 64
