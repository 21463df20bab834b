"""Measured rates feed the planner's formulas; the bounds follow from them, whatever the machine."""

from __future__ import annotations

import pytest
import torch

from ferrule.speed.devices import Device
from ferrule.speed.plan import decode_seconds
from ferrule.speed.roofline import device_of, emulated, linear_seconds, rates, rollout_seconds, seconds
from ferrule.speed.shapes import Shape

TINY = Shape("tiny", layers=3, hidden=16, intermediate=32, heads=2, kv_heads=1, head_dim=8, vocab=40, tied=True)
SLOW = Device("slow", 1000.0, 100.0, 1e6, 1.0, 1.0, width=4)


def test_seconds_counts_every_call() -> None:
    calls: list[int] = []
    assert seconds(lambda: calls.append(1), repeats=3, least=0.0) >= 0
    assert len(calls) == 2 + 3  # one to warm up, one to learn how long it takes, three that count


def test_rates_of_this_machine() -> None:
    found = rates(TINY, dtype=torch.float32, quick=True)
    assert set(found) == {"read", "copy", "flops"}
    assert all(value > 0 for value in found.values())
    device = device_of(found, "here", 1e9, torch.float32)
    assert (device.flops, device.bandwidth, device.width) == (found["flops"], found["read"], 4)
    assert device_of(found, "here", 1e9, torch.bfloat16).width == 2


def test_a_format_that_is_as_fast_as_fp32_is_not_emulated() -> None:
    assert not emulated(torch.float32)


@pytest.mark.parametrize("backward", [False, True])
def test_every_matrix_of_the_model_is_timed(backward: bool) -> None:
    found = linear_seconds(TINY, 4, dtype=torch.float32, backward=backward, repeats=1)
    assert set(found) == {"q", "k", "v", "o", "gate", "up", "down", "head"}
    assert all(value > 0 for value in found.values())


def test_least_seconds_of_a_rollout() -> None:
    """The prompt is computed once for its rows, the first token comes with it, the others are decode steps.

    A block: q 16x16, k and v 16x8 each, o 16x16, three of 16x32: 256 + 128 + 128 + 256 + 1536 = 2304; head 640.
    Prefill of one prompt of 10: 10 x 3 x (4608 + 4 x 16 x 5) + 1280 operations at 1000 a second; reading 4 x 7552 bytes
    at 100 a second takes 302.08 s, which is more than 149.12 s.
    """
    found = rollout_seconds(TINY, SLOW, prompts=1, rows=2, prompt=10, new=3)
    assert TINY.block_flops(10, 5) + TINY.head_flops(1) == 149_120
    assert found["prefill"] == pytest.approx(302.08)
    steps = [decode_seconds(TINY, SLOW, 2, 10 + i, 10 + 2 * i) for i in (1, 2)]
    assert found["decode"] == pytest.approx(sum(steps))
    assert found["bound"] == "memory"
    # Each of 12 cached tokens has 2 x 3 x 1 x 8 x 4 = 192 bytes.
    assert steps[0] == pytest.approx((4 * 7552 + 12 * 192) / 100)
    fast = Device("fast memory", 1000.0, 1e9, 1e6, 1.0, 1.0, width=4)
    assert rollout_seconds(TINY, fast, prompts=1, rows=2, prompt=10, new=3)["bound"] == "compute"
    assert rollout_seconds(TINY, fast, prompts=1, rows=2, prompt=10, new=3)["prefill"] == pytest.approx(149.12)
    shared = rollout_seconds(TINY, SLOW, prompts=1, rows=8, prompt=100, new=3)["decode"]
    apart = rollout_seconds(TINY, SLOW, prompts=8, rows=1, prompt=100, new=3)["decode"]
    assert shared < apart
