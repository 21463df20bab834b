"""``ferrule plan``: what a training step takes on accelerators, before any is rented."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ferrule.cli.options import emit, flags, guarded
from ferrule.speed.plan import Fractions, Setup, Workload

__all__ = ["command"]

_LOAD = {
    "episodes": "Episodes of a step.",
    "num_generations": "Episodes of a task, which share its prompt.",
    "prompt": "Tokens of a prompt.",
    "new": "Tokens of a reply.",
    "observation": "Tokens of a tool's answer.",
    "turns": "Replies of an episode.",
    "tool_seconds": "Seconds of a tool call.",
}
_SETUP = {
    "per_node": "Devices with fast links between them.",
    "micro": "Tokens of a micro-batch on one device.",
    "lora_r": "Rank of adapters; 0 trains all weights.",
    "gradient_checkpointing": "Compute activations again in the backward pass.",
    "dtype": "What weights are held in: float32 or bfloat16.",
    "load_in_4bit": "Hold the frozen weights under adapters in 4 bits.",
}
_SHARES = {
    "train": "Share of the matrix rate that the update reaches.",
    "prefill": "Share of the matrix rate that prompts reach.",
    "decode": "Share of the roofline that decoding reaches.",
    "network": "Share of the links' rate.",
    "overhead": "Seconds per decode step for scheduling and sampling.",
}


@click.command("plan")
@click.option("--model", default="qwen3-8b", show_default=True, help="A known name, a config.json or its folder.")
@click.option("--device", default=None, help="A known accelerator [default: h100].")
@click.option("--gpus", default="8", show_default=True, help="Numbers of devices, comma separated.")
@click.option(
    "--rates",
    type=click.Path(path_type=Path),
    help="Measured rates and shares, a file of 'ferrule bench --json'; --device then gives memory and links only.",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@flags(Workload, help=_LOAD)
@flags(Setup, only=list(_SETUP), help=_SETUP)
@flags(Fractions, help=_SHARES)
@guarded
def command(model: str, device: str | None, gpus: str, rates: Path | None, as_json: bool, **given: Any) -> None:
    """Say what a training step takes: seconds, memory and network.

    \b
    ferrule plan --model qwen3-8b --device h100 --gpus 8,16,64
    ferrule plan --model models/mine/config.json --rates bench.json --gpus 1
    """
    from dataclasses import fields, replace

    from ferrule.speed.devices import device_of, measured
    from ferrule.speed.plan import plan
    from ferrule.speed.shapes import shape_of

    counts, hardware = _counts(gpus), device_of(device or "h100")
    shares: dict[str, float] = {}
    if rates is not None:
        host, shares = measured(rates)
        if device is None and max(counts) > 1:
            raise click.UsageError("--rates knows one device and no links; name the --device that has the links")
        if device is None:
            hardware = host
        else:  # which keeps its memory and links
            hardware = replace(hardware, flops=host.flops, bandwidth=host.bandwidth, width=host.width)
    known = {kind: {f.name for f in fields(kind)} for kind in (Workload, Setup, Fractions)}
    chosen = {
        kind: {name: value for name, value in given.items() if name in names and value is not None}
        for kind, names in known.items()
    }
    shape, load = shape_of(model), Workload(**chosen[Workload])
    fractions = Fractions(**{**shares, **chosen[Fractions]})
    plans = [plan(shape, hardware, load, Setup(gpus=count, fractions=fractions, **chosen[Setup])) for count in counts]
    emit(plans, as_json, lambda: show(plans))


def _counts(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        counts = []
    if not counts:
        raise click.UsageError(f"--gpus {text!r} is not a list of numbers; write for example 1,8,64")
    return counts


def show(plans: list[dict[str, Any]]) -> None:
    """Print plans side by side, then what does not fit."""
    from rich.console import Console
    from rich.table import Table

    console, first = Console(), plans[0]
    load = first["settings"]["workload"]
    console.print(
        f"{first['model']}, {first['parameters'] / 1e9:.2f} B parameters, on {first['device']}; a step of "
        f"{load['episodes']} episodes in groups of {load['num_generations']}, {load['turns']} turns",
        highlight=False,
        markup=False,
    )
    table = Table()
    table.add_column("devices")
    for plan in plans:
        table.add_column(str(plan["gpus"]), justify="right")
    cells = [_column(plan) for plan in plans]
    for name in max(cells, key=len):  # a plan that does not fit lacks some rows, and no other
        table.add_row(name, *(cell.get(name, "–") for cell in cells))
    console.print(table)
    for plan in plans:
        for line in plan["problems"]:
            console.print(f"{plan['gpus']} devices: {line}", highlight=False, markup=False)


def _column(plan: dict[str, Any]) -> dict[str, str]:
    """Return what the table says about one plan."""
    generated, work = plan["generation"], plan["update"]
    rows = {"fits": "yes" if plan["fits"] else "no"}
    if plan["fits"]:
        rows["step, s"] = f"{plan['step_seconds']:,.1f}"
        rows["episodes per hour"] = f"{plan['episodes_per_hour']:,.0f}"
    if generated["fits"]:
        rows["generation, s"] = f"{generated['seconds']:,.1f}"
        rows["  tokens/s written"] = f"{generated['tokens_per_second']:,.0f}"
        rows["  memory, GB"] = f"{generated['total'] / 1e9:,.1f}"
    rows["update, s"] = f"{work['seconds']:,.1f}"
    rows["  row tokens/s"] = f"{work['row_tokens_per_second']:,.0f}"
    rows["  memory, GB "] = f"{plan['training_memory']['total'] / 1e9:,.1f}"
    rows["network per device, GB"] = f"{plan['network']['total'] / 1e9:,.1f}"
    return rows
