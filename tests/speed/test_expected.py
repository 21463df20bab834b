"""The memory that a run is expected to take, counted by hand on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.toys import tiny_policy

from ferrule.speed import expected
from ferrule.speed.expected import dtype_that_fits, memory_expected
from ferrule.speed.plan import Setup, held

CPU = torch.device("cpu")


def test_weights_and_training_state() -> None:
    """16 bytes of a trained fp32 weight, 18 in bf16 (with its copy), 4, 2 and 0.52 of a frozen one."""
    assert held(10, 100) == 160 + 400
    assert held(10, 100, half=True) == 180 + 200
    assert held(0, 100, four_bits=True) == 52


def test_a_policy_is_counted_as_it_is_held() -> None:
    policy = tiny_policy()
    size = sum(p.numel() for p in policy.model.parameters())
    whole = memory_expected(policy, plays=False)
    assert whole["state"] == 16 * size
    # A token in a block: two norms of 32 with input and scaled, 512; what enters the matrices, 4 x (2 x 32 + 32 + 64) =
    # 640; attention 4 x 4 x 32 and 4 for each of two heads, 520; three wide vectors of 64, 768: 2,440. Two blocks
    # and the output layer, 16 x 32 = 512: 5,392. Once for all: three pieces of 4 MiB of logits, and the gradient of the
    # head.
    head = 3 * 2**22 + 4 * 32 * policy.model.config.vocab_size
    assert whole["activations"] == 1024 * 5392 + head
    assert whole["total"] == whole["state"] + whole["activations"]
    # A row is never split, however long it is.
    assert memory_expected(policy, plays=False, longest=1000) == whole
    assert memory_expected(policy, plays=False, longest=3000)["activations"] == 3000 * 5392 + head
    # Checkpointing keeps the input of each block, 2 x 4 x 32 = 256; the logits take more than one block in full.
    again = memory_expected(policy, plays=False, gradient_checkpointing=True)
    assert again["activations"] == 1024 * (256 + 512) + head
    assert memory_expected(policy, reference=True)["reference"] == 4 * size
    answering = memory_expected(policy, trains=False)
    assert (answering["state"], answering["cache"]) == (4 * size, 2**30)
    policy.autocast = True
    assert memory_expected(policy)["gathered"] == 2 * size
    policy.autocast = False
    policy.add_adapter(lora_r=2)
    trained = sum(p.numel() for p in policy.parameters())
    adapters = memory_expected(policy, reference=True)
    assert adapters["state"] == 16 * trained + 4 * size
    assert "reference" not in adapters
    policy.model.get_base_model().to(torch.bfloat16)
    assert memory_expected(policy)["state"] == pytest.approx(18 * trained + 2 * size)


def test_bf16_is_taken_where_only_that_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of 8.0 M parameters: 4 bytes each are 32 MB, and with adapters half a MB more; 90 % of memory counts."""
    sizes = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 4}
    config = {"model_type": "llama", "vocab_size": 9_000, **sizes, "num_key_value_heads": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(expected, "memory_of", lambda device: 40e6)
    assert dtype_that_fits(str(tmp_path), CPU, trains=False) == "float32"
    monkeypatch.setattr(expected, "memory_of", lambda device: 30e6)
    assert dtype_that_fits(str(tmp_path), CPU, trains=False) == "bfloat16"
    assert dtype_that_fits(str(tmp_path), CPU, lora_r=8) == "bfloat16"
    monkeypatch.setattr(expected, "memory_of", lambda device: 1e9)
    assert dtype_that_fits(str(tmp_path), CPU, lora_r=8) == "float32"
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    monkeypatch.setattr(expected, "memory_of", lambda device: 1e3)
    assert dtype_that_fits(str(tmp_path), CPU) == "float32"  # sizes that nobody knows are taken to fit


def test_setups_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown dtype 'fp16'"):
        Setup(dtype="fp16")
    with pytest.raises(ValueError, match="weights in 4 bits do not train; set lora_r"):
        Setup(load_in_4bit=True)
