"""Invariant 8 on a disk that is full or fails: the run stops, says how it goes on, and goes on to the same numbers."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from tests.invariants.test_invariant_08_killed_runs_resume import Killed, at, run, same

from ferrule.train import checkpoint, on_policy, tensors
from ferrule.train.folder import to_resume
from ferrule.train.run import NotWritten

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor]]:
    """The run that nothing disturbs."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(folder)


def full(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """The disk is full at the third checkpoint; the library has a kind of error of its own for that."""
    real, count = tensors.save_file, [0]

    def save(named: Any, path: Path) -> None:
        count[0] += 1
        if count[0] == 3:
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        real(named, path)

    monkeypatch.setattr(tensors, "save_file", save)


def failing(name: str, step: int) -> Callable[[pytest.MonkeyPatch, Path], None]:
    """Writing a log to the disk fails once it holds ``step`` steps."""

    def prepare(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        real = os.fsync

        def fsync(descriptor: int) -> None:
            path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
            if path == folder / name and json.loads(path.read_text().splitlines()[-1]).get("step", step) == step:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)

    return prepare


def crowded(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """The disk is full from the first step on: episodes go to a device that is."""
    (folder / "episodes.jsonl").symlink_to("/dev/full")


FAULTS: dict[str, tuple[Any, str, str, str]] = {
    "checkpoint, full": (full, "the checkpoint of step 6", "No space left on device", "after step 4"),
    "metrics, failing": (failing("metrics.jsonl", 5), "the metrics of step 5", "Input/output error", "after step 4"),
    "episodes, full": (crowded, "the episodes of step 1", "No space left on device", "after the start"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_invariant_08_a_disk_that_fails_stops_the_run_which_then_goes_on(
    fault: str, whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, what, why, start = FAULTS[fault]
    prepare(monkeypatch, tmp_path)
    with pytest.raises(NotWritten) as stopped:
        run(tmp_path)
    for part in (what, why, start, "--resume"):
        assert part in str(stopped.value)
    monkeypatch.undo()
    if (tmp_path / "episodes.jsonl").is_symlink():
        (tmp_path / "episodes.jsonl").unlink()
    torch.manual_seed(99)
    same(whole[0], tmp_path, whole[1], run(tmp_path, resume=True))


def test_invariant_08_a_run_killed_before_its_first_checkpoint_begins_from_the_start(
    whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step is logged when it dies in the second; checkpoints come after every second step."""
    shown: list[Any] = []
    monkeypatch.setattr(on_policy, "sample", at(2, on_policy.sample, False))
    with pytest.raises(Killed):
        run(tmp_path)
    monkeypatch.undo()
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 1
    assert to_resume(tmp_path) is None
    same(whole[0], tmp_path, whole[1], run(tmp_path, resume=True, show=shown.append))
    assert shown[0]["text"] == f"{tmp_path} was ended before its first checkpoint: the run begins from the start."


def test_invariant_08_nothing_to_go_on_with_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no run; begin one without --resume"):
        to_resume(tmp_path)
    (tmp_path / "settings.json").write_text('{"save_steps": 0}')
    with pytest.raises(FileNotFoundError, match=r"has no checkpoint .* --overwrite"):
        to_resume(tmp_path)
    (tmp_path / "settings.json").write_text('{"save_steps": 20}')
    assert to_resume(tmp_path) is None
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="has no checkpoint"):
        to_resume(tmp_path)


@pytest.mark.parametrize("name", ["../mine.txt", "/etc/hostname", "metrics.jsonl"])
def test_invariant_08_a_checkpoint_of_somebody_else_cuts_no_other_file(name: str, tmp_path: Path) -> None:
    mine, folder = tmp_path / "mine.txt", tmp_path / "run"
    mine.write_text("mine")
    folder.mkdir()
    (folder / "metrics.jsonl").symlink_to(mine)
    with pytest.raises(ValueError, match="no file of its own"):
        checkpoint.restore_files(folder, {"lengths": {name: 0}})
    assert mine.read_text() == "mine"
