"""Which device a name stands for, here and where there are GPUs."""

from __future__ import annotations

import pytest
import torch

from ferrule.policies.devices import available, memory_of, torch_device
from ferrule.policies.local import load
from ferrule.policies.named import answering
from ferrule.policies.pocket import WEIGHTS


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch, no_gpu: None) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_auto_is_the_processor() -> None:
    assert available() == ("cpu",)
    assert torch_device() == torch_device("cpu") == torch.device("cpu")
    assert torch_device("cpu:0").type == "cpu"  # as accelerate calls the device of a process
    assert memory_of(torch_device()) > 1e8


@pytest.mark.usefixtures("two_gpus")
def test_with_gpus_auto_takes_them_and_one_can_be_named() -> None:
    assert available() == ("cuda:0", "cuda:1", "cpu")
    assert torch_device("auto") == torch.device("cuda")
    assert torch_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(ValueError, match="'cuda:2' is not available; this process has cuda:0, cuda:1, cpu"):
        torch_device("cuda:2")


def test_mps_comes_before_the_processor(monkeypatch: pytest.MonkeyPatch, no_gpu: None) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert torch_device("auto") == torch_device("mps") == torch.device("mps")


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cpu:1", "mps:1", ""])
def test_unknown_devices_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"unknown device .* one of several GPUs is cuda:N"):
        torch_device(name)


@pytest.mark.usefixtures("no_gpu")
def test_a_model_goes_to_the_device_and_one_that_is_not_there_is_refused_by_name() -> None:
    assert load(WEIGHTS).device == torch.device("cpu")
    with pytest.raises(ValueError, match="device 'cuda' is not available; this process has cpu"):
        load(WEIGHTS, device="cuda")


@pytest.mark.usefixtures("no_gpu")
def test_a_device_alone_leaves_the_quick_way_of_answering() -> None:
    assert type(answering("pocket", device="cpu").model).__name__ == "Quick"
    with pytest.raises(ValueError, match="unknown device 'cup'; did you mean 'cpu'"):
        answering("pocket", device="cup")
