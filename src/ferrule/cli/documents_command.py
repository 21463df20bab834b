"""``ferrule documents``: write documents of tools from trials, and show what changed in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ferrule.cli.model_options import (
    chat_flags,
    chat_options,
    computing_flags,
    computing_options,
    hint_small,
    load_policy,
)
from ferrule.cli.options import emit, guarded, say_note, tools_option

__all__ = ["command"]


@click.group("documents")
def command() -> None:
    """Write documents of tools from trials of them, and show what changed; --tool-docs of run and eval uses them."""


_output = click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), default=Path("tool-docs.json"), show_default=True,
    help="The file.",
)  # fmt: skip


@command.command("write")
@tools_option()
@click.option("--world", "suite", default=None, help="Document the tools of this world, by name, in place of --tools.")
@click.option("--model", default="pocket", show_default=True, help="Tries the tools and writes: a model or a URL.")
@click.option("--only", multiple=True, help="A tool by name; may repeat [default: all].")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1), help="Most trials of a tool.")
@click.option("--similar", default=0.9, show_default=True, help="From here on two requests are too much alike.")
@click.option("--settled", default=0.75, show_default=True, help="Above this a description has settled.")
@click.option("--returns", is_flag=True, help="Document what comes back as well, as the schema of all results.")
@click.option("--temperature", default=0.2, show_default=True, type=float, help="Sampling temperature.")
@click.option("--max-completion-length", default=512, show_default=True, help="Longest reply in tokens.")
@click.option("--seed", default=0, show_default=True, help="Sampling seed.")
@_output
@computing_flags
@chat_flags
@click.option("--json", "as_json", is_flag=True, help="Print what was tried as JSON.")
@guarded
def write(tools: Any, suite: str | None, model: str, as_json: bool, **given: Any) -> None:
    """Let a model try each of --tools and write its document anew from what came back (DRAFT, paper 37).

    Of a --world whose tasks bring tools of their own, those of one task are documented.
    """
    from ferrule.core.exact import write as plain
    from ferrule.evaluate.probed import tools_world
    from ferrule.evaluate.suites import suite as suite_of
    from ferrule.papers.draft import mastered
    from ferrule.tools.documents import write_documents

    if (tools is None) == (suite is None):
        raise click.UsageError("give --tools or --world: documents are written of their tools")
    world, tasks = (tools_world(tools), []) if suite is None else suite_of(suite, split="train", count=1)
    say_note(world)
    policy = load_policy(model, **computing_options(given), **chat_options(given))
    names = ("only", "rounds", "similar", "settled", "returns", "temperature", "seed")
    documented = mastered(
        world,
        policy,
        task=next(iter(tasks), None),
        max_tokens=given["max_completion_length"],
        **{name: given[name] for name in names},
    )
    write_documents(given["output"], documented.overlay)

    def text() -> None:
        for one in documented.probed:
            ran = sum(observation.status == "ok" for trial in one.trials for _, observation in trial.calls)
            click.echo(f"{one.tool}: {len(one.trials)} trials, {ran} ran, ended: {one.ended}")
            if problem := next((trial.problem for trial in one.trials if trial.problem), ""):
                click.echo(f"{one.tool}: nothing was tried: {problem} A larger --model may do better.", err=True)
        click.echo(f"documents: {given['output']} (version {documented.overlay.id})")

    emit({"file": str(given["output"]), "probed": [plain(one) for one in documented.probed]}, as_json, text)


@command.command("improve")
@tools_option()
@click.option(
    "--dataset", "calls", type=click.Path(path_type=Path),
    help="Requests with their calls: rows with a query and a call (name, arguments).",
)  # fmt: skip
@click.option("--world", "suite", default=None, help="Tasks of this world and the first calls of their solutions.")
@click.option("--train-tasks", default=64, show_default=True, type=click.IntRange(2), help="Tasks of the world.")
@click.option("--model", default="pocket", show_default=True, help="Makes the calls: a model or a URL.")
@click.option("--reflector", default=None, help="Reads what was wrong and edits [default: the model].")
@click.option("--rounds", default=8, show_default=True, type=click.IntRange(1), help="Reflections.")
@click.option("--size", default=16, show_default=True, type=click.IntRange(1), help="Most calls that one is about.")
@click.option("--seed", default=0, show_default=True, help="Seed of the search.")
@_output
@computing_flags
@chat_flags
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@guarded
def improve(model: str, reflector: str | None, as_json: bool, **given: Any) -> None:
    """Search for rules and documents under which a model makes the right calls (JTPRO, paper 56).

    Calls are those of --dataset for --tools, or of a --world with reference solutions.
    """
    from ferrule.papers.jtpro import optimised
    from ferrule.tools.documents import write_documents

    tools, examples = _labelled(given)
    options = {**computing_options(given), **chat_options(given)}
    solver = load_policy(model, **options)
    same = reflector is None or reflector == model
    policy = {"solver": solver, "reflector": solver if same else load_policy(str(reflector), **options)}
    most = {"size": min(given["size"], max(1, len(examples) // 2))}
    result = optimised(tools, examples, policy, rounds=given["rounds"], seed=given["seed"], **most)
    write_documents(given["output"], result.context.overlay, result.context.rules)
    first, best = (one.checked.score for one in (result.refined.candidates[0], result.refined.best))
    data = {"file": str(given["output"]), "first": first, "best": best, "calls": result.runs}
    data["rules"] = dict(result.context.rules)
    told = f"right calls on held-out requests: {first:.1%} at first, {best:.1%} at best; calls made: {result.runs}"
    emit(data, as_json, lambda: click.echo(f"{told}\ndocuments: {given['output']}"))
    hint_small(model, given["tools"], best < 0.5)


def _labelled(given: dict[str, Any]) -> tuple[Any, Any]:
    """Return tools, and requests with their calls."""
    from ferrule.data.labelled_calls import demonstrated_calls, read_calls
    from ferrule.evaluate.probed import tools_world
    from ferrule.evaluate.suites import suite as suite_of

    tools, calls, suite = given["tools"], given["calls"], given["suite"]
    if suite is not None and tools is None and calls is None:
        world, tasks = suite_of(suite, split="train", count=given["train_tasks"], seed=given["seed"])
        return demonstrated_calls(world, tasks)
    if suite is not None or tools is None or calls is None:
        raise click.UsageError("give --tools with --dataset, or --world")
    own = tools_world(tools)
    return own.tools, read_calls(calls, own.tools)


@command.command("show")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--tool", default="", help="Show one tool alone.")
@click.option(
    "--since",
    default="",
    help="The version to compare with, or the beginning of its id [default: the tools' own words].",
)
@click.option("--to", "last", default="", help="The version that is compared [default: the last one].")
@click.option("--json", "as_json", is_flag=True, help="Print versions and changes as JSON.")
@guarded
def show(file: Path, tool: str, since: str, last: str, as_json: bool) -> None:
    """List the versions in FILE and show what changed, text by text."""
    from ferrule.core.arrays import nearest
    from ferrule.tools.documents import as_lines, at_version, read_documents, shown
    from ferrule.tools.overlay import Overlay, diff

    overlay, rules = read_documents(file)
    before = at_version(overlay, since) if since else Overlay()
    after = at_version(overlay, last) if last else overlay
    known = list({**before.texts, **after.texts})
    if tool and tool not in known:
        raise click.UsageError(f"{file} has no texts of {tool!r}; {nearest(tool, known)}")
    history = overlay.history
    pairs = zip((Overlay(), *history), history, strict=False)
    versions = [{"id": version.id, "changed": len(diff(earlier, version))} for earlier, version in pairs]
    rows = [
        {"tool": name, "field": key, "before": old, "after": new}
        for (name, key), (old, new) in diff(before, after).items()
        if tool in ("", name)
    ]

    def text() -> None:
        for version in versions:
            click.echo(f"{version['id']}: {version['changed']} texts changed")
        if rules:
            click.echo(f"\nrules for all tools:\n{as_lines(rules)}")
        click.echo("\n".join(["", *shown(before, after, tool)]) if rows else "no text differs")

    emit({"versions": versions, "rules": rules, "changes": rows}, as_json, text)
