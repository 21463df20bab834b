"""``ferrule eval --paired``: the same tasks with and without tools, and what a judge says of the solutions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from ferrule.cli.model_options import load_policy
from ferrule.cli.options import Command

__all__ = ["check_paired", "paired_flags", "paired_text", "play_paired"]


def paired_flags(command: Command) -> Command:
    """Add ``--paired`` and ``--judge``."""
    command = click.option(
        "--judge", default=None, metavar="MODEL",
        help="With --paired: a model that compares both solutions and judges their steps.",
    )(command)  # fmt: skip
    return click.option("--paired", is_flag=True, help="The same tasks with and without tools, side by side.")(command)


def check_paired(given: Mapping[str, Any]) -> None:
    """Refuse flags that would do nothing, or not what they say."""
    if given["judge"] is not None and not given["paired"]:
        raise click.UsageError("--judge compares solutions with and without tools; give --paired with it")
    if given["paired"] and given["no_tools"]:
        raise click.UsageError("give --paired or --no-tools, not both")
    if given["judge"] is not None and (given["record"] or given["replay"]):
        raise click.UsageError(
            "what a judge says is not kept in cassettes; leave out --judge, or --record and --replay"
        )


def play_paired(
    agent: Any, policy: Any, world: Any, tasks: Sequence[Any], *, judge: str | None, loads: Mapping[str, Any],
    **settings: Any,
) -> tuple[dict[str, Any], Mapping[str, Any]]:  # fmt: skip
    """Return what both conditions are like as data, and the evaluation of each by its name.

    ``judge`` is the name of a model, and ``loads`` are options of loading it; without one reference steps are looked up
    by their text.
    """
    from ferrule.evaluate.paired import Judges, by_role, paired
    from ferrule.rewards.derivation import stated

    judges = Judges(covers=stated) if judge is None else by_role()
    asked = None if judge is None else {"judge": load_policy(judge, **loads)}
    both = paired(agent, policy, world, tasks, judges=judges, judge=asked, **settings)
    return both.as_dict(), both.evaluations


def paired_text(data: Mapping[str, Any]) -> None:
    """Print what both conditions are like."""
    from ferrule.evaluate.metrics import shown

    click.echo(f"{data['suite']} with {data['model']}, the same tasks with and without tools")
    for name, side in data["sides"].items():
        more = [
            f"{side['words']:.0f} words",
            f"efficiency {side['efficiency']:.2f}",
            f"necessity {side['necessity']:.2f}",
        ]
        for key, title in (("missing", "missing reference steps"), ("right_steps", "right steps")):
            if side.get(key, {}).get("mean") is not None:
                more.append(f"{title} {side[key]['mean']:.1%}")
        click.echo(f"  {name}: {shown(side)}, {', '.join(more)}")
    change = data["difference"]
    click.echo(f"  difference: {shown(change, 'difference')} ({change['better']} better, {change['worse']} worse)")
    wins = data.get("wins")
    if wins and wins["count"]:
        shares = ", ".join(f"{wins[key]:.1%} {said}" for key, said in _WINS.items())
        at_equal = wins.get("gap_at_equal_length")
        click.echo(f"  reasoning: {shares}; gap {shown(wins, 'gap')}, {at_equal:.1%} at equal length")
    if wins and wins["unknown"]:
        click.echo(f"  comparisons without a result: {wins['unknown']}")
    _calls(data["by_calls"]["all"], click.echo)
    if data["problems"]:
        click.echo(f"  {data['problems']} solutions could not be judged", err=True)


_WINS = {"first": "better without tools", "second": "better with tools", "tie": "neither"}


def _calls(table: Mapping[str, Mapping[str, float | None]], say: Callable[[str], None]) -> None:
    """Print a line per number of calls that occurs."""
    for bucket, row in table.items():
        if row["count"]:
            values = ", ".join(
                f"{name} {value:.1%}" for name, value in row.items() if name != "count" and value is not None
            )
            say(f"  {bucket} calls ({row['count']:.0f}): {values}")
