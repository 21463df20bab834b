"""``ferrule charts``: what is worth seeing in a table, as a page of charts and hints."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from ferrule.cli.options import emit, guarded

__all__ = ["command"]

_ROWS = 5_000
"""The most rows that charts are rated by; the page draws all."""


@click.command("charts")
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--pick", "picks", multiple=True, help="Choose a slot, as slot=value; several times for several slots.")
@click.option("--top", default=6, show_default=True, type=click.IntRange(1), help="Charts that are shown.")
@click.option("--hints", default=9, show_default=True, type=click.IntRange(0), help="Hints that are shown at most.")
@click.option("--simulations", default=400, show_default=True, type=click.IntRange(1), help="Simulations of a round.")
@click.option("--ranker", default=1.0, show_default=True, help="Weight of the learned ranking.")
@click.option("--rules", default=1.0, show_default=True, help="Weight of rules of thumb.")
@click.option("--ask", is_flag=True, help="Ask which hint to follow, search on under it, and so on.")
@click.option("--seed", default=15, show_default=True, help="Seed of the search.")
@click.option("--output", type=click.Path(path_type=Path), help="The page [default: TABLE's name with -charts.html].")
@click.option("--json", "as_json", is_flag=True, help="Print charts and hints as JSON.")
@guarded
def command(**given: Any) -> None:
    """Look for charts of TABLE (CSV, parquet, JSON or JSONL) that tell something, and write them to a page.

    Slots are mark, x, transform, aggregate, y, group and bin.
    """
    from ferrule.agents.charts import Hinting, Recommender, Rounds, rating
    from ferrule.worlds.charts.columns import read_plotted
    from ferrule.worlds.charts.grammar import check_picks, read_slot

    table = read_plotted(given["table"])
    picks = dict(map(read_slot, given["picks"]))
    check_picks(table, picks)
    recommender = Recommender(
        table.thinned(_ROWS),
        rating(given["ranker"], given["rules"]),
        rounds=Rounds(simulations=given["simulations"], seed=given["seed"]),
        hinting=Hinting(most=given["hints"]),
    )
    recommender.picks = picks
    path = given["output"] or Path(f"{table.name}-charts.html")
    recommender.search()
    _write(table, recommender, path, given)
    while given["ask"] and (choice := _asked(recommender, given["top"])) is not None:
        recommender.pick(choice)
        recommender.search()
        _write(table, recommender, path, given)
    data = _data(recommender, path, given["top"])
    emit(data, given["as_json"], lambda: click.echo(_summary(data, bool(table.named("numerical")))))


def _write(table: Any, recommender: Any, path: Path, given: dict[str, Any]) -> None:
    from ferrule.view.charts import write_charts

    so_far = [f"--pick {shlex.quote(pick)}" for pick in _said(recommender.picks.items())]
    again = " ".join(["ferrule charts", shlex.quote(str(given["table"])), *so_far])
    write_charts(
        table, recommender.ranked[: given["top"]], recommender.hints(), path,
        picks=recommender.picks, command=again,
    )  # fmt: skip


def _said(choices: Any) -> list[str]:
    from ferrule.worlds.charts.grammar import value_text

    return [f"{slot}={value_text(value)}" for slot, value in choices]


def _data(recommender: Any, path: Path, top: int) -> dict[str, Any]:
    from ferrule.worlds.charts.grammar import chart_text, choices_of

    charts = [
        {"chart": chart_text(chart), "score": round(score, 4), **dict(choices_of(chart))}
        for chart, score in recommender.ranked[:top]
    ]
    hints, picks = _said(recommender.hints()), _said(recommender.picks.items())
    return {"page": str(path), "picks": picks, "charts": charts, "hints": hints}


def _summary(data: dict[str, Any], numbers: bool) -> str:
    lines = [f"{place}. {row['chart']} (score {row['score']:.2f})" for place, row in enumerate(data["charts"], 1)]
    lines += [f"hints: {', '.join(data['hints'])}"] if data["hints"] else []
    alone = ": it has no column of numbers, and none of 2 to 40 different values that could be counted"
    why = " with these picks" if data["picks"] else "" if numbers else alone
    return "\n".join([*(lines or [f"no chart of this table can be read{why}"]), f"page: {data['page']}"])


def _asked(recommender: Any, top: int) -> Any:
    """Show charts and hints, and return the hint that is picked; None where none is."""
    from ferrule.worlds.charts.people import picked

    hints = recommender.hints()
    if not hints:
        return None
    lines = [f"{place}. {row['chart']}" for place, row in enumerate(_data(recommender, Path(), top)["charts"], 1)]
    lines += [f"hint {place}: {said}" for place, said in enumerate(_said(hints), 1)]
    click.echo("\n".join(lines), err=True)
    reply = click.prompt("Which hint? (a number; empty: done)", default="", show_default=False, err=True)
    place = picked(str(reply), hints)
    return None if place is None else hints[place]
