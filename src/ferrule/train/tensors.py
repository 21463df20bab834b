"""Named tensors in a folder: safetensors files with a JSON index, whole or cut over processes; nothing is unpickled.

``index.json`` names for every tensor its shape, its type and the parts it lies in: a file and the first row of the part
along the tensor's first axis. Parts of any number of processes are read back by any other number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

__all__ = ["INDEX", "Entry", "index_of", "read_tensors", "write_tensors"]

INDEX = "index.json"


@dataclass(frozen=True)
class Entry:
    """A tensor of an index: ``parts`` are pairs of a file's name and the part's first row."""

    shape: tuple[int, ...]
    dtype: str
    parts: tuple[tuple[str, int], ...]


def _file(rank: int) -> str:
    return f"weights-{rank}.safetensors"


def _rank() -> int:
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def _rows(tensor: Tensor, rank: int | None = None) -> tuple[int, int]:
    """The first and the last row (excluded) that a process holds of a tensor which is cut along its first axis."""
    if not isinstance(tensor, DTensor):
        return 0, tensor.shape[0] if tensor.dim() else 1
    if any(not placement.is_shard(0) for placement in tensor.placements) or tensor.device_mesh.ndim != 1:
        raise ValueError(f"a tensor is laid out as {tensor.placements}; only cuts along the first axis can be stored")
    size = -(-tensor.shape[0] // tensor.device_mesh.size())  # as torch.chunk cuts
    here = tensor.device_mesh.get_local_rank() if rank is None else rank
    return min(here * size, tensor.shape[0]), min((here + 1) * size, tensor.shape[0])


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _entry(tensor: Tensor) -> Entry:
    parts: tuple[tuple[str, int], ...] = ((_file(0), 0),)
    if isinstance(tensor, DTensor):
        cuts = [(rank, *_rows(tensor, rank)) for rank in range(tensor.device_mesh.size())]
        parts = tuple((_file(rank), first) for rank, first, last in cuts if first < last)
    return Entry(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), parts)


def write_tensors(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write what this process holds of the tensors; the first process writes whole tensors and the index as well.

    The folder must exist. Of tensors that are cut (``DTensor``) all processes call this with the same names.
    """
    rank = _rank()
    parts = {
        name: _local(tensor).detach().cpu().contiguous()
        for name, tensor in tensors.items()
        if isinstance(tensor, DTensor) or rank == 0
    }
    save_file({name: part for name, part in parts.items() if part.dim() == 0 or len(part)}, folder / _file(rank))
    if rank == 0:
        listed = {name: vars(_entry(tensor)) for name, tensor in tensors.items()}
        (folder / INDEX).write_text(json.dumps(listed), encoding="utf-8")


def index_of(folder: Path) -> dict[str, Entry]:
    """Return the index of a folder; raises ``ValueError`` where it has none that can be read."""
    try:
        listed: dict[str, Any] = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        return {
            name: Entry(tuple(e["shape"]), e["dtype"], tuple((str(file), int(first)) for file, first in e["parts"]))
            for name, e in listed.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder} holds no tensors with an {INDEX} that can be read: {error}") from error


@torch.no_grad()
def read_tensors(folder: Path, into: Mapping[str, Tensor]) -> None:
    """Fill tensors, whole or cut, with those of the same name; shapes must fit (``ValueError``)."""
    index = index_of(folder)
    for name, tensor in into.items():
        entry = index.get(name)
        if entry is None or entry.shape != tuple(tensor.shape):
            kept = "none" if entry is None else f"one of shape {entry.shape}"
            raise ValueError(f"{folder} has {kept} for {name!r}, which has the shape {tuple(tensor.shape)} here")
        _fill(folder, name, entry, tensor)


def _fill(folder: Path, name: str, entry: Entry, tensor: Tensor) -> None:
    local, (low, high) = _local(tensor), _rows(tensor)
    ends = [*(first for _, first in entry.parts[1:]), entry.shape[0] if entry.shape else 1]
    for (file, first), last in zip(entry.parts, ends, strict=True):
        start, stop = max(first, low), min(last, high)
        if start >= stop:
            continue
        if Path(file).name != file:
            raise ValueError(f"the {INDEX} of {folder} names the file {file!r}, which lies outside the folder")
        with safe_open(folder / file, framework="pt") as stored:
            if entry.shape:
                local[start - low : stop - low] = stored.get_slice(name)[start - first : stop - first]
            else:
                local.copy_(stored.get_tensor(name))
