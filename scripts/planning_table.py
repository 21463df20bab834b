"""Write the tables of ``docs/guide/planning.md`` from the calculator.

``python scripts/planning_table.py`` writes them, ``--check`` only tells whether they are up to date.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ferrule.speed.devices import DEVICES
from ferrule.speed.plan import Setup, Workload, plan
from ferrule.speed.shapes import MODELS

__all__ = ["filled", "main", "tables"]

ROOT = Path(__file__).resolve().parent.parent
PAGE = Path("docs/guide/planning.md")
BEGIN = "<!-- Written by scripts/planning_table.py. Do not edit. -->\n"
END = "<!-- End of what the script writes. -->\n"
COUNTS = (1, 2, 4, 8, 16, 32, 64)
SIZES = ("qwen3-0.6b", "qwen3-1.7b", "qwen3-4b", "qwen3-8b", "qwen3-14b", "qwen3-32b")
DEVICE = "h100"


def _row(name: str, cells: list[str]) -> str:
    return f"| {name} | " + " | ".join(cells) + " |\n"


def _table(title: str, plans: Mapping[tuple[str, int], Any], cell: Callable[[Any], str]) -> str:
    """Return one table, models down and devices across."""
    head = _row(title, [str(count) for count in COUNTS]) + _row("---", ["---:"] * len(COUNTS))
    return head + "".join(_row(name, [cell(plans[name, count]) for count in COUNTS]) for name in SIZES) + "\n"


def _rates() -> str:
    """Return the table of the accelerators."""
    head = "| name | bf16, TFLOP/s | memory, GB/s | memory, GB | links, GB/s | network, GB/s |\n"
    lines = [head, "| --- | ---: | ---: | ---: | ---: | ---: |\n"]
    for device in DEVICES.values():
        cells = (device.flops / 1e12, device.bandwidth / 1e9, device.memory / 1e9, device.link / 1e9)
        numbers = [f"{value:,.0f}" for value in cells] + [f"{device.network / 1e9:g}"]
        lines.append(_row(f"[{device.name}]({device.source})", numbers))
    return "".join(lines) + "\n"


def tables() -> str:
    """Return the generated part of the page."""
    plans = {
        (name, count): plan(MODELS[name], DEVICES[DEVICE], Workload(), Setup(gpus=count))
        for name in SIZES
        for count in COUNTS
    }

    def fitting(cell: Callable[[Any], str]) -> Callable[[Any], str]:
        return lambda row: cell(row) if row["fits"] else "–"

    def memory(row: Any) -> str:
        rollout = f"{row['generation']['total'] / 1e9:,.0f}" if row["generation"]["fits"] else "no room"
        return f"{row['training_memory']['total'] / 1e9:,.0f}, {rollout}"

    parts = [
        "Seconds of a step, generation, update and weights together (–: does not fit):\n\n",
        _table("model", plans, fitting(lambda row: f"{row['step_seconds']:,.0f}")),
        "Tokens per second that the model writes while it generates, tools included:\n\n",
        _table("model", plans, fitting(lambda row: f"{row['generation']['tokens_per_second']:,.0f}")),
        "Row tokens per second of the update:\n\n",
        _table("model", plans, fitting(lambda row: f"{row['update']['row_tokens_per_second']:,.0f}")),
        "Memory per device in GB, update and generation (72 GB are usable):\n\n",
        _table("model", plans, memory),
        "Network: GB that each device receives in a step:\n\n",
        _table("model", plans, fitting(lambda row: f"{row['network']['total'] / 1e9:,.0f}")),
        "Rates of the known accelerators, per device, links and network in one direction:\n\n",
        _rates(),
    ]
    return "".join(parts)


def filled(page: str) -> str:
    """Return the page with its generated part written again; ``ValueError`` when the page has no place for it."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE} lacks the line {BEGIN.strip()!r} or {END.strip()!r}")
    return f"{before}{BEGIN}\n{tables()}{END}{after}"


def main(arguments: list[str] | None = None) -> int:
    """Write or check the page; return 1 when ``--check`` finds it stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only tell whether the page is up to date")
    check = parser.parse_args(arguments).check
    path = ROOT / PAGE
    page = path.read_text(encoding="utf-8")
    wanted = filled(page)
    if not check:
        path.write_text(wanted, encoding="utf-8")
    elif wanted != page:
        print(f"{PAGE} is not up to date; run: python scripts/planning_table.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
