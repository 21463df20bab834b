"""Which device weights go to, what is there to choose from, and how much memory it has."""

from __future__ import annotations

import os

import torch

from ferrule.core.arrays import nearest

__all__ = ["available", "memory_of", "torch_device"]


def available() -> tuple[str, ...]:
    """Return the devices of this process, best first: ``cuda:0``, ``cuda:1``, ..., ``mps``, ``cpu``."""
    cuda = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return (*cuda, *mps, "cpu")


def torch_device(name: str = "auto") -> torch.device:
    """Return the device that a name stands for: ``auto`` (the best), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises ``ValueError`` for an unknown name, and for a device that is not there; the message says which are.
    """
    here = available()
    if name == "auto":
        return torch.device(here[0].partition(":")[0])
    kind, _, number = name.partition(":")
    known = ("auto", "cpu", "cuda", "mps")
    valid = not number or (number.isdigit() if kind == "cuda" else number == "0")  # of the others there is one
    if kind not in known[1:] or not valid or name.endswith(":"):
        raise ValueError(f"unknown device {name!r}; {nearest(kind, known)}; one of several GPUs is cuda:N")
    wanted = name if kind == "cuda" else kind
    if not any(wanted in (device, device.partition(":")[0]) for device in here):
        raise ValueError(f"device {name!r} is not available; this process has {', '.join(here)}")
    return torch.device(wanted)


def memory_of(device: torch.device) -> float:
    """Return the bytes of memory of a device, all of it: what other programs take counts as well."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
