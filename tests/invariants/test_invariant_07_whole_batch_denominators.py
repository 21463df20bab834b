"""Invariant 7: how a batch is cut into micro-batches or over processes changes nothing but rounding."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.invariants import jobs

pytestmark = pytest.mark.usefixtures("one_thread")

METRICS = ("loss", "entropy", "kl", "grad_norm")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float = 1e-5) -> None:
    assert one.keys() == other.keys()
    for name in one:
        scale = float(other[name].abs().max())
        assert float((one[name] - other[name]).abs().max()) <= tolerance * max(scale, 1.0), name


@pytest.mark.parametrize("reduce", jobs.REDUCTIONS)
def test_invariant_07_micro_batches_of_any_size_equal_one_batch(reduce: str) -> None:
    """20 rows of unequal length in one forward pass, or in passes of 1, 3 and 7 rows."""
    whole, metrics = jobs.updated(reduce, 99)
    untouched = jobs.tiny_policy().model.state_dict()
    assert any(not torch.equal(whole[name], untouched[name]) for name in whole)
    for rows in (1, 3, 7):
        weights, found = jobs.updated(reduce, rows)
        same(weights, whole)
        assert [found[m] for m in METRICS] == pytest.approx([metrics[m] for m in METRICS], rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("reduce", jobs.REDUCTIONS)
def test_invariant_07_two_processes_equal_one(reduce: str, two_processes: Path) -> None:
    whole, metrics = jobs.updated(reduce, 99)
    for rank in range(2):
        weights, found = torch.load(two_processes / f"rank{rank}.pt", weights_only=False)[f"updated {reduce}"]
        same(weights, whole)
        assert [found[m] for m in METRICS] == pytest.approx([metrics[m] for m in METRICS], rel=1e-3, abs=1e-6)


def test_invariant_07_a_whole_run_of_two_processes_equals_one(two_processes: Path, tmp_path: Path) -> None:
    """Three steps with two epochs of two minibatches; Adam divides by small numbers, so rounding grows a little."""
    whole, summary = jobs.trained(tmp_path / "run")
    runs = [torch.load(two_processes / f"rank{rank}.pt", weights_only=False)["trained"] for rank in range(2)]
    for weights, found in runs:
        same(weights, whole, 1e-3)
        assert (found["steps"], found["stopped_by"]) == (summary["steps"], summary["stopped_by"]) == (3, "max_steps")
    for name in runs[0][0]:
        assert torch.equal(runs[0][0][name], runs[1][0][name]), name
    rows = [
        [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
        for folder in (two_processes, tmp_path)
    ]
    assert len(rows[0]) == len(rows[1]) == 3
    for together, alone in zip(*rows, strict=True):
        assert together.keys() == alone.keys()
        for key in ("reward/mean", "tokens", "groups", "loss", "kl", "entropy"):
            assert together[key] == pytest.approx(alone[key], rel=0.05, abs=1e-3), key
    assert (two_processes / "run" / "checkpoint-2").is_dir()


def test_invariant_07_different_denominators_do_differ() -> None:
    """The reductions are different functions; if they all agreed, the tests above could not tell them apart."""
    found = {name: jobs.updated(name, 99)[1]["loss"] for name in jobs.REDUCTIONS}
    assert len({round(value, 7) for value in found.values()}) == len(found)
