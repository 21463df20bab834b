from __future__ import annotations

import json
import math
import struct
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferrule.train.logs import Logs, write_json


def events(folder: Path) -> dict[str, dict[int, float]]:
    """Read a TensorBoard folder: scalars by tag and step, off the event files' own framing."""
    from tensorboardX.proto import event_pb2

    out: dict[str, dict[int, float]] = {}
    for path in sorted(folder.iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (size,) = struct.unpack("<Q", data[at : at + 8])
            event = event_pb2.Event.FromString(data[at + 12 : at + 12 + size])
            at += 12 + size + 4
            for value in event.summary.value:
                out.setdefault(value.tag, {})[event.step] = value.simple_value
    return out


def test_rows_are_lines_and_numbers_are_curves(tmp_path: Path) -> None:
    logs = Logs(tmp_path / "run", {})
    logs.write({"step": 1, "phase": "train", "loss": 0.5, "note": "x"})
    logs.write({"step": 2, "phase": "train", "loss": 0.25, "nan": math.nan})
    logs.write({"step": 2, "phase": "eval", "success": 0.75})
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert "NaN" not in text, "JSON knows no such number"
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 2]
    assert lines[1]["nan"] is None
    assert lines[0]["note"] == "x"
    logs.close()
    found = events(tmp_path / "run" / "tensorboard")
    assert found["train/loss"] == {1: 0.5, 2: 0.25}
    assert found["eval/success"] == {2: 0.75}
    assert "train/note" not in found
    assert "train/step" not in found


def test_a_line_is_on_disk_when_write_returns(tmp_path: Path) -> None:
    logs = Logs(tmp_path, {})
    logs.write({"step": 1, "phase": "train"})
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "phase": "train"}\n'
    logs.close()


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    """An evaluation may well return them."""
    logs = Logs(tmp_path, {})
    logs.write({"step": 1, "phase": "eval", "a": np.float32(0.5), "b": np.int64(3), "c": np.bool_(True)})
    logs.close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {
        "step": 1,
        "phase": "eval",
        "a": 0.5,
        "b": 3,
        "c": True,
    }
    assert events(tmp_path / "tensorboard")["eval/b"] == {1: 3.0}


def test_an_unknown_tracker_is_refused_with_the_known(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"report_to names 'wandbb'; did you mean 'wandb'\?"):
        Logs(tmp_path / "run", {}, ["wandbb"])
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_is_not_installed_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(ImportError, match="pip install trackio"):
        Logs(tmp_path, {}, ["trackio"])


def test_a_tracker_gets_the_numbers_with_their_phase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    fake = types.ModuleType("wandb")
    fake.init = lambda **more: seen.append(more)  # type: ignore[attr-defined]
    fake.log = seen.append  # type: ignore[attr-defined]
    fake.finish = lambda: seen.append("done")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", fake)
    logs = Logs(tmp_path / "mine", {"lr": 1}, ["wandb"])
    logs.write({"step": 3, "phase": "train", "loss": 0.5})
    logs.close()
    assert seen == [{"project": "ferrule", "name": "mine", "config": {"lr": 1}}, {"train/loss": 0.5, "step": 3}, "done"]


def test_json_files_are_written_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.json"
    write_json(path, {"a": Path("b")})
    assert json.loads(path.read_text()) == {"a": "b"}

    class Broken:
        def __str__(self) -> str:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_json(path, {"a": Broken()})
    assert json.loads(path.read_text()) == {"a": "b"}
