"""Rates of accelerators from their makers' data sheets, and of a host as ``ferrule bench`` measured it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ferrule.core.arrays import nearest

__all__ = ["DEVICES", "Device", "device_of", "measured"]


@dataclass(frozen=True)
class Device:
    """One accelerator: dense operations per second, bytes per second and bytes, all in base units (1 GB is 1e9 bytes).

    ``flops`` in the number format of ``width`` bytes; ``link`` to the others of a node and ``network`` to other nodes,
    per device and direction.
    """

    name: str
    flops: float
    bandwidth: float
    memory: float
    link: float
    network: float
    width: int = 2
    source: str = ""


# bf16 with dense matrices: data sheets that quote sparse ones (H100, H200) give twice this. Links are quoted as the sum
# of both directions, so one direction is half. Nodes have one network card of 400 Gbit/s (A100: 200) per accelerator,
# as the makers' own systems do; cards for workstations, which have no such system, one of 100 Gbit/s for four.
_ALL = (
    Device("a100", 312e12, 2039e9, 80e9, 300e9, 25e9,
           source="https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/a100/pdf/nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf"),
    Device("h100", 989.5e12, 3350e9, 80e9, 450e9, 50e9,
           source="https://www.nvidia.com/en-us/data-center/h100/"),
    Device("h200", 989.5e12, 4800e9, 141e9, 450e9, 50e9,
           source="https://www.nvidia.com/en-us/data-center/h200/"),
    Device("l40s", 362.05e12, 864e9, 48e9, 32e9, 3.125e9,
           source="https://www.nvidia.com/en-us/data-center/l40s/"),
    Device("rtx-4090", 165.2e12, 1008e9, 24e9, 32e9, 3.125e9,
           source="https://images.nvidia.com/aem-dam/Solutions/geforce/ada/nvidia-ada-gpu-architecture.pdf"),
    Device("mi300x", 1307.4e12, 5300e9, 192e9, 448e9, 50e9,
           source="https://www.amd.com/content/dam/amd/en/documents/instinct-tech-docs/data-sheets/amd-instinct-mi300x-data-sheet.pdf"),
)  # fmt: skip
DEVICES: dict[str, Device] = {device.name: device for device in _ALL}
"""Accelerators by name."""


def device_of(name: str) -> Device:
    """Return an accelerator by name; ``ValueError`` names the nearest."""
    if name.lower() not in DEVICES:
        raise ValueError(f"unknown device {name!r}; {nearest(name.lower(), list(DEVICES))}")
    return DEVICES[name.lower()]


def measured(path: Path) -> tuple[Device, dict[str, float]]:
    """Return the device of a file that ``ferrule bench --json`` wrote, and the fractions of its roofline it reached.

    The fractions are ``decode`` and ``prefill`` (rollout), ``train`` (of the matrix rate) and ``overhead`` (0 seconds:
    the fractions hold it); more than all of a roofline is noise and counts as 1. The links are those of one device,
    infinite.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        rates, reached = data["roofline"]["rates"], data["reached"]
        width = {"float32": 4, "bfloat16": 2}[data["dtype"]]
        device = Device(
            str(data["device"]), rates["flops"], rates["read"], float(data["memory"]), float("inf"), float("inf"),
            width, str(path),
        )  # fmt: skip
        shares = {key: min(float(reached[key]), 1.0) for key in ("decode", "prefill", "train")}
        return device, {**shares, "overhead": 0.0}
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a result of 'ferrule bench --json': {error!r}") from None
