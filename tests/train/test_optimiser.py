"""Weights in bf16: fp32 copies keep small steps and small gradients, and checkpoints hold these copies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.toys import tiny_policy

from ferrule.data.formats import Row
from ferrule.train import checkpoint
from ferrule.train.loop import train
from ferrule.train.memory import checkpointed
from ferrule.train.optimiser import MasterAdamW, optimiser_of
from ferrule.train.settings import Settings
from ferrule.train.stage import sft

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = Settings(learning_rate=1e-3, gradient_accumulation_steps=1, per_device_train_batch_size=2, save_steps=0)
ROWS = [Row(ids=(5, 6, 7, 8 + i), turn=(-1, 0, 0, 0)) for i in range(6)]


def half() -> Any:
    policy = tiny_policy()
    policy.model.to(torch.bfloat16)
    return policy


def test_small_steps_add_up() -> None:
    """Adam's steps are the rate for a constant gradient: 1 - 100 x 1e-4 = 0.99, of which bf16 knows 0.98828 and 0.99219.

    In bf16 alone nothing would move: half the distance from 1 to the next number below is 2e-3.
    """
    weight = torch.nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    optimiser = MasterAdamW([weight], lr=1e-4, weight_decay=0.0)
    for _ in range(100):
        weight.sum().backward()
        optimiser.step()
        optimiser.zero_grad()
    assert weight.dtype is torch.bfloat16
    assert torch.allclose(optimiser.masters[weight], torch.full((4,), 0.99), atol=1e-5)
    assert weight.tolist() == [0.98828125] * 4  # the nearer of the two


def test_gradients_add_up_in_fp32() -> None:
    """256 + 1 is 256 in bf16, whose numbers are 2 apart there."""
    weight = torch.nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    MasterAdamW([weight], lr=1e-4)
    for scale in (256.0, 1.0):
        (weight * scale).sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [257.0]


def test_full_precision_is_plain_adamw_and_frozen_policies_are_refused() -> None:
    policy = tiny_policy()
    assert type(optimiser_of(policy, SETTINGS)) is torch.optim.AdamW
    with pytest.raises(ValueError, match="these are in half precision; load them with bf16"):
        optimiser_of(half(), replace(SETTINGS, fsdp=True))
    policy.model.requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to train: all its weights are frozen; add adapters"):
        optimiser_of(policy, SETTINGS)


def test_a_run_in_bf16_learns_and_goes_on_to_the_same_numbers(tmp_path: Path) -> None:
    """Moments and copies come back in fp32: rounded ones would lead elsewhere."""
    stage, settings = sft(ROWS), replace(SETTINGS, max_steps=4, save_steps=2)
    whole = half()
    train(stage, None, whole, settings, tmp_path / "whole")
    rest = half()
    train(stage, None, rest, replace(settings, max_steps=2), tmp_path / "cut")
    rest = half()
    train(stage, None, rest, settings, tmp_path / "cut", resume=True)
    start = half().model.state_dict()
    for name, weight in whole.model.state_dict().items():
        assert weight.dtype is torch.bfloat16
        assert torch.equal(weight, rest.model.state_dict()[name])
    assert any(not torch.equal(weight, start[name]) for name, weight in whole.model.state_dict().items())
    kept = checkpoint.index_of(tmp_path / "cut" / "checkpoint-4")
    assert {entry.dtype for name, entry in kept.items() if name.startswith(("trained", "optimizer"))} == {"float32"}
    policy = tiny_policy()
    with pytest.raises(ValueError, match="was computed with dtype='bfloat16'"):
        checkpoint.read(tmp_path / "cut" / "checkpoint-4", policy, optimiser_of(policy, SETTINGS))


# ---------------------------------------------------------------------------------------------- gradient checkpointing


def counted(policy: Any) -> list[int]:
    """Return a list that grows by one whenever the first block normalises its input."""
    calls: list[int] = []
    policy.model.model.layers[0].input_layernorm.register_forward_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("adapter", [False, True])
def test_activations_computed_again_give_the_same_gradients(
    packed: bool, adapter: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not packed:
        monkeypatch.setattr("ferrule.policies.packing.packed.why_padded", lambda *args, **options: "asked for")
    results = []
    for wanted in (False, True):
        policy = tiny_policy()
        calls = counted(policy)
        if adapter:
            policy.add_adapter(lora_r=2, seed=1)
        policy.model.train()
        with checkpointed(policy, wanted):
            ids = torch.tensor([[5, 6, 7, 8], [5, 6, 9, 10]])
            policy.logps(ids, torch.tensor([[-1, -1, 0, 0]] * 2))["logp_NT"].sum().backward()
        results.append(([p.grad.clone() for p in policy.parameters() if p.grad is not None], len(calls)))
    (plain, once), (again, twice) = results
    assert twice == once + 1
    assert len(plain) == len(again) > 0
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(plain, again, strict=True))


def test_a_run_computes_again_when_its_settings_say_so(tmp_path: Path) -> None:
    """The layers are called twice as often, the weights come out the same, and afterwards all is as before."""
    finals: list[dict[str, torch.Tensor]] = []
    counts: list[int] = []
    for wanted in (False, True):
        policy = tiny_policy()
        calls = counted(policy)
        train(sft(ROWS), None, policy, replace(SETTINGS, max_steps=2, gradient_checkpointing=wanted), None)
        finals.append(policy.model.state_dict())
        counts.append(len(calls))
        assert not any(getattr(layer, "gradient_checkpointing", False) for layer in policy.model.modules())
    assert counts[1] == counts[0] + 2
    assert all(torch.allclose(weight, finals[1][name], atol=1e-5) for name, weight in finals[0].items())


def test_a_model_that_cannot_compute_again_is_refused() -> None:
    policy = tiny_policy()
    policy.model.supports_gradient_checkpointing = False
    with pytest.raises(ValueError, match="gradient_checkpointing: LlamaForCausalLM cannot compute its layers again"):
        train(sft(ROWS), None, policy, replace(SETTINGS, gradient_checkpointing=True), None)
