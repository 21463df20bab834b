"""``ferrule bench``: tokens per second of a model on this host, beside what the host could do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ferrule.cli.model_options import computing_flags, computing_options, load_policy
from ferrule.cli.options import guarded

__all__ = ["command"]


@click.command("bench")
@click.option("--model", default="pocket", show_default=True, help="pocket, smollm2-135m, a folder, or a hub name.")
@click.option("--rows", default="1x8,2x8,8x8", show_default=True, help="Batches, each prompts x samples of a prompt.")
@click.option("--prompt", default=300, show_default=True, help="Tokens of a prompt.")
@click.option("--new", default=64, show_default=True, help="Tokens that every sample writes.")
@click.option("--repeats", default=5, show_default=True, help="Times that each batch is measured; the median counts.")
@click.option("--threads", default=0, help="Threads of torch [default: torch's own choice].")
@computing_flags
@click.option("--quick", is_flag=True, help="One repeat and small buffers: shows that it runs, measures little.")
@click.option("--json", "output", type=click.Path(path_type=Path), default=None, help="Write the result here (JSON).")
@guarded
def command(model: str, rows: str, output: Path | None, **given: Any) -> None:
    """Measure rollout and update of a model, and the share of the roofline that they reach.

    The roofline is measured too: memory bandwidth, and matrix products at the model's own sizes. The file of --json
    is what 'ferrule plan --rates' takes.
    """
    from rich.console import Console

    from ferrule.speed.measure import Bench, bench
    from ferrule.train.logs import write_json

    sizes = {name: given[name] for name in ("prompt", "new", "repeats", "threads", "quick")}
    settings = Bench(rows=_pairs(rows), **sizes)
    policy = load_policy(model, weights=True, **computing_options(given))
    with Console(stderr=True).status("measuring") as status:
        result = bench(policy, settings, name=model, progress=status.update)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_json(output, result)
    show(result)


def _pairs(text: str) -> tuple[tuple[int, int], ...]:
    try:
        pairs = [tuple(int(side) for side in part.lower().split("x")) for part in text.split(",") if part.strip()]
    except ValueError:
        pairs = []
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise click.UsageError(f"--rows {text!r} is not a list of prompts x samples; write for example 1x8,2x8")
    return tuple((first, second) for first, second in pairs)


def show(result: dict[str, Any]) -> None:
    """Print the result as tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    rates = result["roofline"]["rates"]
    console.print(
        f"{result['model']}, {result['parameters']['model'] / 1e6:.1f} M parameters, {result['dtype']}, "
        f"{result['device']}, {result['threads']} threads, {result['engine']}, "
        f"load {result['load']['before']} to {result['load']['after']}",
        highlight=False,
        markup=False,
    )
    console.print(
        f"measured: reads {rates['read'] / 1e9:.1f} GB/s, copies {rates['copy'] / 1e9:.1f} GB/s, "
        f"matrix products {rates['flops'] / 1e9:.0f} GFLOP/s",
        highlight=False,
    )
    size = result["settings"]
    table = Table(title=f"tokens/s, prompts of {size['prompt']}, {size['new']} new (update: tokens of all rows)")
    for name in ("", "rows", "measured", "roofline", "reached", "by its matrices", "bound by"):
        table.add_column(name, justify="left" if not name else "right")
    for row in result["rollout"]:
        rows = f"{row['prompts']} x {row['samples']}"
        table.add_row(
            "rollout", rows, f"{row['tokens_per_second']:,.0f}", f"{row['ideal_tokens_per_second']:,.0f}",
            f"{row['fraction']:.0%}", "", "",
        )  # fmt: skip
        table.add_row(
            "  decode", rows, f"{row['decode_tokens_per_second']:,.0f}",
            f"{row['decode_ideal_tokens_per_second']:,.0f}", f"{row['decode_fraction']:.0%}",
            f"{row['decode_linear_tokens_per_second']:,.0f}", row["decode_bound"],
        )  # fmt: skip
    row = result["update"]
    table.add_row(
        "update", f"{row['prompts']} x {row['samples']}", f"{row['row_tokens_per_second']:,.0f}",
        f"{row['ideal_row_tokens_per_second']:,.0f}", f"{row['fraction']:.0%}",
        f"{row['linear_row_tokens_per_second']:,.0f}", "",
    )  # fmt: skip
    console.print(table)
