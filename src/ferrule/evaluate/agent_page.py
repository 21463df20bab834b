"""The comparison of agents as a Markdown page: the table, who wrote what, learning curves, and what did not help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from ferrule.evaluate.standings import as_points, as_share

__all__ = ["agents_page", "taught_part"]

Row = Mapping[str, Any]


def _more(rows: Sequence[Row], about: Row) -> list[str]:
    """Return what each role wrote, where there are several, and the learning curves, where something was learned."""
    lines = []
    if any(len(row["by_role"]) > 1 for row in rows):
        lines.append("\nTokens per task by role:\n\n| world | agent | role | tokens |\n| --- | --- | --- | ---: |\n")
        for row in rows:
            lines += [
                f"| {row['world']} | `{row['agent']}` | {role} | {n:.0f} |\n" for role, n in row["by_role"].items()
            ]
    curves = [row for row in rows if row["curve"]]
    if curves:
        lines.append(
            f"\nEach agent learned from {about['learn_tasks']} training tasks before; success in each batch "
            "of them, mean over seeds:\n\n| world | agent | learning curve |\n| --- | --- | --- |\n"
        )
        for row in curves:
            curve = ", ".join(f"{value:.1%}" for value in row["curve"])
            lines.append(f"| {row['world']} | `{row['agent']}` | {curve} |\n")
    return lines


def _entries(data: Row, row: Row) -> list[int]:
    """Return how many entries or documents an agent learned, by seed; empty where it learned none by its nature."""
    cells = (cell for cell in data.get("cells", ()) if (cell["world"], cell["agent"]) == (row["world"], row["agent"]))
    return [cell["entries"] for cell in cells if "entries" in cell]


def _apart(data: Row, row: Row) -> str:
    """Return the difference of a row, and in how many seeds there was nothing to be told from the first agent by."""
    entries = _entries(data, row)
    empty = sum(count == 0 for count in entries)
    told = f" (nothing was learned in {empty} of {len(entries)} seeds)" if empty else ""
    return f"`{row['agent']}` {as_points(row['difference'], row['difference_interval'])}{told}"


def _kinds(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Return the rows of agents that were taught, and those of other agents but the first."""
    taught = [row for row in rows if row["learning"]]
    return taught, [row for row in rows[1:] if not row["learning"]]


def _one_world(data: Row, place: str) -> str:
    """Say of one world what helped, what did not, and what as many tokens are worth without learning."""
    rows = [row for row in data["rows"] if row["world"] == place]
    first, (taught, plain) = rows[0], _kinds(rows)
    real = [row for row in taught if not row["agent"].endswith("shuffled")]
    better = [row for row in real if row["difference_interval"] and row["difference_interval"][0] > 0]
    worse = [row for row in real if row["difference_interval"] and row["difference_interval"][1] < 0]
    rest = [row for row in real if row not in better and row not in worse]
    share = as_share(first["success"], first["success_interval"])
    lines = [f"On `{place}`, where `{first['agent']}` solves {share}:\n\n"]
    written = [f"`{row['agent']}` {row['success']:.1%} with {row['in_all']:.0f}" for row in (first, *plain)]
    lines.append(f"- Without learning, and tokens per task: {', '.join(written)}.\n")
    for told, group in (("Helped, by the interval", better), ("Did harm", worse), ("Did not help", rest)):
        lines.append(f"- {told}: {', '.join(_apart(data, row) for row in group) or 'none'}.\n")
    for row in better:
        named = row["agent"].rpartition(", ")[0]
        wrong = [other for other in taught if other["agent"] == f"{named}, shuffled"]
        if wrong and wrong[0]["success"] >= row["success"]:
            lines.append(f"- `{row['agent']}` owes nothing to what it learned: shuffled, it does as well.\n")
    for row in better:
        equal = [other for other in plain if other["in_all"] >= row["in_all"]]
        rival = min(equal, key=lambda other: float(other["in_all"]), default=None)
        if rival is None:
            lines.append(f"- No agent without learning wrote as much as `{row['agent']}` did.\n")
            continue
        told = "more than" if rival["success"] >= row["success"] else "less than"
        told = "as much as" if rival["success"] == row["success"] else told
        lines.append(
            f"- With {rival['in_all']:.0f} tokens per task in all, `{rival['agent']}` solves {told} `{row['agent']}` "
            f"with {row['in_all']:.0f}: {rival['success']:.1%} against {row['success']:.1%}.\n"
        )
    return "".join(lines)


def taught_part(data: Row) -> str:
    """Return what the comparison says of agents that were taught, from its numbers alone; empty where none was."""
    if not any(row.get("learning") for row in data["rows"]):
        return ""
    parts = ["\n## What did not help\n"]
    for place in data["about"]["worlds"]:
        parts.append("\n" + _one_world(data, place))
    return "".join(parts)


def _introduction(about: Row) -> str:
    which = "fresh training" if about.get("split") == "train" else "held-out"
    text = (
        f"Model `{about['model']}`, at most {about['budget']:,} written tokens per task where an agent searches, "
        f"{about['eval_tasks']} {which} tasks per world and seed, seeds {about['seeds']}. The plain loop is greedy; "
        "agents that draw several steps sample at temperature 1. Success is the mean over seeds with 95% Student "
        f"intervals, differences are points against `{about['against']}`, paired by seed. Tokens, calls and seconds "
        "are per task.\n\n"
    )
    if any("+" in name for name in about["agents"]):
        who = {"": "the model itself", "script": "a script, which copies (`ferrule.evaluate.scribe`)"}
        writer = who.get(about.get("writer", ""), f"`{about.get('writer')}`")
        text += (
            f"`AGENT+WAY` has learned from {about['learn_tasks']} training tasks as WAY says. The model plays and "
            f"tries tools; who explores, writes, criticises and retrieves is {writer}. `frozen` learns nothing more, "
            "`on` goes on with the measured tasks, `shuffled` is shown what was learned for another task, or of "
            "another tool. `entries` is how many pieces it learned, mean over seeds. What learning took is counted in "
            "tokens (of a script in words); `in all` shares it out among the measured tasks.\n\n"
        )
    return text


def agents_page(data: Row) -> str:
    """Return the result of ``ferrule.evaluate.agent_arena.play_agents`` as a Markdown page."""
    about = data["about"]
    lines = ["# Agents at equal budgets\n\n", _introduction(about)]
    learned = any(row.get("learning") for row in data["rows"])
    lines.append(
        f"| world | agent | success | difference | tokens |{' entries | learning | in all |' if learned else ''}"
    )
    lines.append(" calls | malformed | seconds |\n")
    lines.append(
        f"| --- | --- | ---: | ---: | ---: |{' ---: | ---: | ---: |' if learned else ''} ---: | ---: | ---: |\n"
    )
    for row in data["rows"]:
        success = as_share(row["success"], row["success_interval"])
        apart = "" if row["difference"] is None else as_points(row["difference"], row["difference_interval"])
        entries = _entries(data, row)
        size = f"{fmean(entries):.1f}" if entries else ""
        more = f" {size} | {row['learning']:,.0f} | {row['in_all']:.0f} |" if learned else ""
        lines.append(
            f"| {row['world']} | `{row['agent']}` | {success} | {apart} | {row['tokens']:.0f} |{more} "
            f"{row['calls']:.2f} | {row['malformed']:.1%} | {row['seconds']:.2f} |\n"
        )
    lines += [taught_part(data), *_more(data["rows"], about)]
    names = ", ".join(f"{name} {value}" for name, value in data["versions"].items())
    return "".join([*lines, f"\nMeasured on: {names}. Play it again: `{about['command']}`.\n"])
