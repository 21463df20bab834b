"""Rows and pairs of a stage, kept in the run folder as they were drawn, so that a resumed run learns from the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ferrule.core.arrays import IntArray
from ferrule.core.recipe import Drawn
from ferrule.data.formats import Pair, Row

__all__ = ["keep", "kept"]


def keep(path: Path, drawn: Drawn) -> None:
    """Write rows or pairs to a safetensors file in one step: a killed run leaves the whole file or none."""
    from safetensors.numpy import save_file

    paired = bool(drawn.items) and isinstance(drawn.items[0], Pair)
    flat: Sequence[Row] = [row for p in drawn.items for row in (p.chosen, p.rejected)] if paired else drawn.items
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    arrays: dict[str, IntArray] = {
        "ids": np.asarray([i for row in flat for i in row.ids], dtype=np.int64),
        "turn": np.asarray([k for row in flat for k in row.turn], dtype=np.int64),
        "length": np.asarray([len(row.ids) for row in flat], dtype=np.int64),
        "label": np.asarray([row.label for row in flat], dtype=np.int64),
    }
    save_file(arrays, part, metadata={"kind": "pairs" if paired else "rows", "sampled": str(drawn.sampled)})
    part.replace(path)


def kept(path: Path) -> Drawn:
    """Read what ``keep`` wrote."""
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        about = file.metadata()
        arrays = {name: file.get_tensor(name) for name in ("ids", "turn", "length", "label")}
    ends = np.cumsum(arrays["length"])
    flat = [
        Row(
            tuple(arrays["ids"][end - size : end].tolist()),
            tuple(arrays["turn"][end - size : end].tolist()),
            bool(label),
        )
        for end, size, label in zip(ends, arrays["length"], arrays["label"], strict=True)
    ]
    paired = about["kind"] == "pairs"
    items = [Pair(*both) for both in zip(flat[0::2], flat[1::2], strict=True)] if paired else flat
    return Drawn(items, int(about["sampled"]))
