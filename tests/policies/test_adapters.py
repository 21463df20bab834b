"""Adapters: what they adapt, going on with saved ones, the model they are compared with, and merging."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.toys import tiny_policy

from ferrule.policies.loaded import four_bits
from ferrule.policies.local import Local, load

pytestmark = pytest.mark.usefixtures("one_thread")

IDS, TURN = torch.tensor([[5, 6, 7, 8, 9, 10]]), torch.tensor([[-1, -1, 0, 0, 0, 0]])


def logp(policy: Any) -> torch.Tensor:
    policy.model.eval()
    with torch.no_grad():
        scored: torch.Tensor = policy.logps(IDS, TURN)["logp_NT"]
    return scored


def moved(policy: Any) -> Any:
    """Take a step on the adapters of a policy."""
    optimiser = torch.optim.SGD(policy.parameters(), lr=1.0)
    for _ in range(2):  # the first moves B alone, which is zero at the start
        policy.logps(IDS, TURN)["logp_NT"].sum().backward()
        optimiser.step()
        optimiser.zero_grad()
    return policy


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder of adapters that have learned, beside the one of their model."""
    tiny_policy().save(tmp_path / "base")
    policy = load(tmp_path / "base")
    policy.add_adapter(lora_r=2, seed=3)
    moved(policy).save(tmp_path / "adapters")
    return tmp_path / "adapters"


def test_rank_targets_and_scale_are_those_that_were_asked_for() -> None:
    """Rank 3 on two of 32 x 32 matrices in two blocks: 2 x 2 x 3 x (32 + 32) = 768 parameters."""
    policy = tiny_policy()
    policy.add_adapter(lora_r=3, lora_alpha=6, lora_dropout=0.25, target_modules=["q_proj", "v_proj"])
    assert sum(p.numel() for p in policy.parameters()) == 768
    config = policy.model.active_peft_config
    assert (config.r, config.lora_alpha, config.lora_dropout) == (3, 6, 0.25)
    assert config.target_modules == {"q_proj", "v_proj"}


def test_alpha_scales_what_adapters_add() -> None:
    """The sum is W + alpha / r B A: four times alpha is four times the difference of the matrices."""
    deltas = []
    for alpha in (2, 8):
        policy = tiny_policy()
        policy.add_adapter(lora_r=2, lora_alpha=alpha, seed=1)
        layer = policy.model.get_base_model().model.layers[0].self_attn.q_proj
        with torch.no_grad():
            layer.lora_B["default"].weight.fill_(0.5)
        deltas.append(layer.get_delta_weight("default"))
    assert torch.allclose(deltas[1], 4 * deltas[0])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"target_modules": ["q_prj"]}, "no linear layer of this model is called 'q_prj'; did you mean 'q_proj'"),
        ({"lora_r": 0}, "lora_r is 0"),
        ({"lora_dropout": 1.0}, "a share below 1"),
    ],
)
def test_what_fits_no_layer_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        tiny_policy().add_adapter(**options)


def test_saved_adapters_go_on_training(saved: Path) -> None:
    policy = load(saved)
    assert policy.has_adapter
    assert {p.numel() for p in policy.parameters()} == {64, 128}  # rank 2 beside 32 and 64
    before = logp(policy)
    assert not torch.allclose(before, logp(load(saved.parent / "base")))
    moved(policy).save(saved.parent / "further")
    assert not torch.allclose(logp(policy), before)
    assert torch.allclose(logp(load(saved.parent / "further")), logp(policy), atol=1e-6)
    with pytest.raises(ValueError, match="the model has adapters, which go on training"):
        policy.add_adapter()


def test_the_reference_is_the_policy_as_it_was_loaded_and_shares_what_is_frozen(saved: Path) -> None:
    policy = load(saved)
    before = logp(policy)
    policy.keep_reference()
    moved(policy)
    assert torch.allclose(policy.reference_logps(IDS, TURN), before, atol=1e-6)
    assert not torch.allclose(logp(policy), before)
    mine, its = (dict(model.named_parameters()) for model in (policy.model, policy._reference))
    shared = {name for name in mine if mine[name] is its[name]}
    assert shared == {name for name, p in mine.items() if not p.requires_grad}


def test_the_reference_of_fresh_adapters_is_the_model_without_them_and_takes_no_memory() -> None:
    policy = tiny_policy()
    before = logp(policy)
    policy.add_adapter(lora_r=2)
    policy.keep_reference()
    assert policy._reference is None
    assert torch.allclose(moved(policy).reference_logps(IDS, TURN), before, atol=1e-6)


def test_merging_leaves_a_whole_model_that_says_the_same(saved: Path) -> None:
    policy = load(saved)
    expected = logp(policy)
    policy.merge_adapter()
    assert not policy.has_adapter
    policy.save(saved.parent / "merged")
    assert not (saved.parent / "merged" / "adapter_config.json").exists()
    assert torch.allclose(logp(load(saved.parent / "merged")), expected, atol=1e-5)
    with pytest.raises(ValueError, match="no adapters to merge"):
        policy.merge_adapter()


def test_adapters_on_a_folder_are_loaded_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder was given relative to where the run began."""
    tiny_policy().save(tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    policy = load("base")
    policy.add_adapter(lora_r=2)
    policy.save(tmp_path / "adapters")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert load("../adapters").has_adapter


def test_adapters_of_a_packaged_model_name_it_and_not_a_path(tmp_path: Path) -> None:
    from ferrule.policies.named import load as named

    policy = named("pocket", device="cpu")
    policy.add_adapter(lora_r=2, target_modules=["q_proj"])
    policy.save(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == "pocket"
    again = named(tmp_path, device="cpu")
    assert torch.allclose(logp(again), logp(policy), atol=1e-6)


@pytest.mark.parametrize("base", ["/nowhere/model", None])
def test_adapters_whose_model_is_not_here_are_refused_by_name(saved: Path, base: str | None) -> None:
    config = json.loads((saved / "adapter_config.json").read_text())
    (saved / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": base}))
    with pytest.raises(ValueError, match="which is not here; load them with their model"):
        load(saved)
    assert isinstance(load(saved.parent / "base", adapter=saved), Local)


def test_four_bits_are_refused_where_they_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r'load_in_4bit needs bitsandbytes: pip install "ferrule\[qlora\]"'):
        four_bits(torch.device("cuda"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with pytest.raises(ValueError, match=r"load_in_4bit needs a CUDA device, not cpu; this process has .*cpu"):
        four_bits(torch.device("cpu"))
