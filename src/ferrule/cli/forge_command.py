"""``ferrule forge``: let a model make tools for your tasks, examine them, and write them as a plain Python file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ferrule.cli.model_options import chat_flags, chat_options, computing_flags, computing_options, load_policy
from ferrule.cli.options import emit, guarded, own_tasks, row_options

__all__ = ["command"]

_PLAYER = (
    "pocket, smollm2-135m, a folder, a hub name, a URL, or script:MODULE:FUNCTION, a function (ask, sample) -> text"
)


@click.command("forge")
@own_tasks
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Write the tools here (.py)."
)
@click.option("--maker", default="pocket", show_default=True, help=f"Who writes the tools: {_PLAYER}.")
@click.option(
    "--critic", default=None, help="Who must agree to each: as --maker, or person (you) [default: the maker]."
)
@click.option("--label", default="category", show_default=True, help="Column that says which tasks want one tool.")
@click.option("--shown", default=3, show_default=True, type=click.IntRange(1), help="Tasks shown for the function.")
@click.option("--held", default=3, show_default=True, type=click.IntRange(0), help="Further tasks shown for the tests.")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1), help="Most proposals per tool.")
@click.option("--max-completion-length", default=2048, show_default=True, help="Longest reply in tokens.")
@click.option("--temperature", default=0.3, show_default=True, help="Sampling temperature of the maker.")
@click.option("--seed", default=0, show_default=True, help="Sampling seed.")
@click.option(
    "--shelf", type=click.Path(path_type=Path, dir_okay=False), help="Keep versions and statistics here (JSON)."
)
@click.option("--overwrite", is_flag=True, help="Replace the file that --out names.")
@computing_flags
@chat_flags
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@guarded
def command(**given: Any) -> None:
    """Make one tool per class of tasks, examine it in the sandbox, and write what is promoted with its tests.

    A tool is promoted when its tests pass, assert something and notice changes of it, when it has no effects but those
    it declares, when it is right on the rows that have arguments, and when the critic agrees. Exit code 1 where a
    class has no tool.
    """
    from ferrule.evaluate.forged import by_class, forge_tools, shelf_file
    from ferrule.tools.forge_shelf import Shelf, from_json, to_json

    tasks, path, out = _tasks(given), given["shelf"], given["out"]
    for option, file in (("--out", out), ("--shelf", path)):
        if file is not None and not file.parent.is_dir():  # said before anything is made
            raise click.UsageError(f"{option} {file}: there is no folder {str(file.parent)!r}")
    if out.exists() and not given["overwrite"]:
        raise click.UsageError(f"--out {out}: the file is there already; give --overwrite to replace it")
    shelf = from_json(path.read_text(encoding="utf-8")) if path is not None and path.exists() else Shelf()
    names = ("shown", "held", "rounds", "seed", "temperature")
    run = forge_tools(
        by_class(tasks, given["label"]), _players(given), shelf=shelf, max_tokens=given["max_completion_length"],
        **{name: given[name] for name in names},
        done=lambda row: click.echo(_line(row), err=given["as_json"]),
    )  # fmt: skip
    if path is not None:
        path.write_text(to_json(run.shelf), encoding="utf-8")
    if run.shelf.offered:
        out.write_text(shelf_file(run.shelf, out.name), encoding="utf-8")
    rows = [
        {"category": r.category, "tool": r.tool, "attempts": list(r.attempts), "problem": r.problem} for r in run.rows
    ]
    spent = {role: {"asks": took.asks, "tokens": took.tokens} for role, took in run.spent.items()}
    data = {"tools": [entry.name for entry in run.shelf.offered], "rows": rows, "spent": spent, "out": str(out)}
    emit(data, given["as_json"], lambda: click.echo(_summary(data)))
    if any(not row.tool for row in run.rows):
        click.get_current_context().exit(1)


def _tasks(given: dict[str, Any]) -> list[Any]:
    from ferrule.evaluate.forged import tasks_in_order

    if given["tasks"] is None:
        raise click.UsageError("--tasks names the tasks that tools are made for: rows with a prompt and an answer")
    return tasks_in_order(given["tasks"], **row_options(given))


def _players(given: dict[str, Any]) -> dict[str, Any]:
    maker = _player(given["maker"], given)
    critic = given["critic"]
    return {"maker": maker, "critic": maker if critic in (None, given["maker"]) else _player(critic, given)}


def _player(name: str, given: dict[str, Any]) -> Any:
    from ferrule.core.paths import by_path
    from ferrule.policies.scripted import Scripted

    if name == "person":
        return Scripted(_person)
    if name.startswith("script:"):
        return Scripted(_script(by_path(name.removeprefix("script:")), name))
    return load_policy(name, **computing_options(given), **chat_options(given))


def _script(function: Any, name: str) -> Any:
    """Return a function that a script is; refuses what cannot be called with an ask and the number of a sample."""
    import inspect

    try:
        inspect.signature(function).bind(None, 0)
    except (TypeError, ValueError) as error:
        raise click.UsageError(f"{name} cannot be called as (ask, sample) -> text: {error}") from None
    return function


def _person(ask: Any, sample: int) -> str:
    """Show a proposal that passed and ask whether it becomes a tool."""
    from ferrule.core.records import plain_text

    click.echo(f"\n{plain_text(ask.messages[-1])}\n", err=True)
    why = click.prompt("Reject it? Say why (empty: agree)", default="", show_default=False, err=True)
    return f"REJECT: {why}" if why.strip() else "AGREE"


def _line(row: Any) -> str:
    if row.tool:
        return f"{row.category}: {row.tool}, proposals: {len(row.attempts)}"
    wrong = row.problem or (row.attempts[-1] if row.attempts else "nothing was proposed")
    return f"{row.category}: no tool; {wrong}"


def _summary(data: dict[str, Any]) -> str:
    spent = ", ".join(f"{role}: {took['asks']} asks" for role, took in data["spent"].items())
    where = f" in {data['out']}" if data["tools"] else "; nothing was written"
    return f"tools: {', '.join(data['tools']) or 'none'}{where} ({spent})"
