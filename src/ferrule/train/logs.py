"""Where a run writes: JSON lines and TensorBoard always, Weights & Biases and Trackio when asked for."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ferrule.core.arrays import nearest
from ferrule.core.exact import plain

__all__ = ["TRACKERS", "Logs", "write_json"]

TRACKERS = ("wandb", "trackio")


def write_json(path: Path, data: Any) -> None:
    """Write a JSON file in one step: a killed run leaves the old file or the new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(data, indent=1, default=str) + "\n", encoding="utf-8")
    part.replace(path)


def _tracker(name: str, folder: Path, settings: Mapping[str, Any]) -> Any:
    if name not in TRACKERS:
        raise ValueError(f"report_to names {name!r}; {nearest(name, TRACKERS)}")
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"report_to={name!r} needs the package {name}: pip install {name}") from error
    module.init(project="ferrule", name=folder.name, config=dict(settings))
    return module


class Logs:
    """The open logs of one run folder; every line is on disk before ``write`` returns."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], report_to: Sequence[str] = ()) -> None:
        from tensorboardX import SummaryWriter

        self._trackers = [_tracker(name, folder, settings) for name in report_to]
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "metrics.jsonl"
        self._board = SummaryWriter(str(folder / "tensorboard"))

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one row; it must hold ``step`` and ``phase``, numbers are plotted as ``phase/name``.

        A number that is none of JSON's (NaN, an infinity) is null in the file.
        """
        row = {name: value.item() if hasattr(value, "item") else value for name, value in row.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(plain(row), allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        numbers = {
            f"{row['phase']}/{name}": value
            for name, value in row.items()
            if isinstance(value, (int, float)) and name != "step"
        }
        for name, value in numbers.items():
            self._board.add_scalar(name, value, row["step"])
        for tracker in self._trackers:
            tracker.log({**numbers, "step": row["step"]})

    def close(self) -> None:
        """Flush and close all writers."""
        self._board.close()
        for tracker in self._trackers:
            tracker.finish()
