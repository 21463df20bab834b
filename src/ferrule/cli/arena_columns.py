"""``ferrule arena --columns``: one training mixture, a column per world, every recipe at its best learning rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from ferrule.cli.options import interruptible

__all__ = ["OF_COLUMNS", "column_options", "columns_table", "play_columns", "refuse_given", "split"]

OF_COLUMNS = ("rates", "leading", "leading_seeds", "units")
"""Parameters that do nothing without ``--columns``."""
_TAKEN = ("recipes", "columns", "model", "rates", "leading", "leading_seeds")
_DEFAULTED = ("first_seed", "seeds", "eval_tasks", "num_generations_eval")
"""Options whose default is another one where nothing but success over all worlds is measured."""


def split(ctx: Any, param: Any, value: str) -> tuple[str, ...]:
    """Read a list with commas."""
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _given(name: str) -> bool:
    return click.get_current_context().get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def refuse_given(why: str, *names: str) -> None:
    """Refuse options that would do nothing."""
    for name in filter(_given, names):
        flag = {"worlds": "world"}.get(name, name).replace("_", "-")
        raise click.UsageError(f"--{flag} {why}")


def _rates(ctx: Any, param: Any, value: str) -> tuple[float, ...]:
    try:
        rates = tuple(float(part) for part in split(ctx, param, value))
    except ValueError:
        raise click.BadParameter(f"{value!r} are no learning rates; write 1e-4,3e-4,1e-3") from None
    if not rates or min(rates) <= 0:
        raise click.BadParameter("give at least one learning rate above 0, as in 1e-4,3e-4,1e-3")
    return rates


_OPTIONS = (
    click.option(
        "--columns", default="", callback=split,
        help="Train on one mixture of these and measure each: renamed,priced,chains,..., or WORLD@LEVELS (chains@23).",
    ),
    click.option(
        "--rates", default="1e-4,3e-4,1e-3", show_default=True, callback=_rates,
        help="With --columns: learning rates, of which each recipe gets its best at a quarter of the budget.",
    ),
    click.option(
        "--leading", default=0, show_default=True, type=click.IntRange(0),
        help="With --columns: so many of the best recipes get --leading-seeds seeds.",
    ),
    click.option("--leading-seeds", default=8, show_default=True, help="With --columns: their seeds in all."),
    click.option(
        "--units", default=None, type=click.Path(path_type=Path, dir_okay=False),
        help="With --columns: finished units are read from this file and appended to it [default: in the folder].",
    ),
)  # fmt: skip


def column_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what ``--columns`` goes with."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def play_columns(folder: Path, jobs: int, ray: str | None, overwrite: bool) -> dict[str, Any]:
    """Train every recipe of the command line on the mixture of its columns, and write the page and the picture."""
    from ferrule.evaluate.arena import tokens
    from ferrule.evaluate.columns import columns_of
    from ferrule.evaluate.profile import Profile, play_profile
    from ferrule.evaluate.profile_page import PICTURE, profile_page
    from ferrule.papers import known

    refuse_given("would do nothing: --columns say what is trained on, and --rates how", "worlds", "learning_rate")
    params = click.get_current_context().params
    settings = {name: params[name] for name in (*_TAKEN, *filter(_given, _DEFAULTED))}
    if params["budget"]:
        settings["budget"] = tokens(params["budget"])
    settings |= {"columns": columns_of(params["columns"]), "device": params["device"] or "auto"}
    with interruptible(folder):
        result = play_profile(
            Profile(**settings), known, folder, units=params["units"], overwrite=overwrite, workers=jobs, ray=ray,
            show=lambda text: click.echo(text, err=True),
        )  # fmt: skip
    (folder / "arena.md").write_text(profile_page(result), encoding="utf-8")
    try:
        from ferrule.view.profile import profile_figure

        profile_figure(result, folder / PICTURE)
    except ImportError as error:
        click.echo(f"no figure: {error}", err=True)
    return result


def columns_table(result: Mapping[str, Any]) -> None:
    """Print the ends of all columns."""
    from rich.console import Console
    from rich.table import Table

    from ferrule.evaluate.standings import as_points

    names = [column["name"] for column in result["about"]["columns"]]
    grid = Table(title="success on held-out tasks of each column in per cent; all: their mean, and against the first")
    for column in ("recipe", "rate", *names, "all", "against the first"):
        grid.add_column(column, justify="left" if column == "recipe" else "right")
    for row in result["rows"]:
        whole = row["columns"]["all"]
        apart = "" if whole["difference"] is None else as_points(whole["difference"], whole["difference_interval"])
        ends = [f"{100 * row['columns'][name]['success']:.1f}" for name in (*names, "all")]
        grid.add_row(row["recipe"], "" if row["rate"] is None else f"{row['rate']:g}", *ends, apart)
    Console(width=max(120, Console().width)).print(grid)
