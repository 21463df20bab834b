"""``--memory``: a library beside a model, in ``ferrule run`` and ``ferrule eval``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from ferrule.cli.model_options import load_policy
from ferrule.cli.options import Command

__all__ = [
    "check_memory", "kept_run", "memory_flag", "memory_flags", "memory_text", "opened_memory", "play_memory",
    "with_memory",
]  # fmt: skip


def memory_flag(command: Command) -> Command:
    """Add ``--memory``."""
    return click.option(
        "--memory", type=click.Path(path_type=Path, dir_okay=False), default=None,
        help="A library of what was learned (SQLite): recalled before each task, and written to. Made where missing.",
    )(command)  # fmt: skip


def memory_flags(command: Command) -> Command:
    """Add ``--memory`` and what an evaluation may do with it."""
    for option in (
        click.option(
            "--memory-writer", default=None, metavar="MODEL",
            help="With --memory: a model that writes lessons from the episodes of each task (else: calls that worked).",
        ),
        click.option(
            "--memory-by", default=None, metavar="PAPER",
            help="With --memory-writer: a paper that says what is learned and recalled: xskill.",
        ),
        click.option(
            "--memory-batch", default=8, show_default=True, type=click.IntRange(1),
            help="With --memory: tasks between two writings.",
        ),
        click.option(
            "--memory-control", default="on", show_default=True,
            help="With --memory: on, off (none), frozen (read only) or shuffled (recall for another task).",
        ),
    ):  # fmt: skip
        command = option(command)
    return memory_flag(command)


def check_memory(given: Mapping[str, Any]) -> None:
    """Refuse flags that would do nothing, or not what they say."""
    from click.core import ParameterSource

    context = click.get_current_context()
    if given["memory"] is None:
        for name in ("memory_control", "memory_batch", "memory_writer", "memory_by"):
            if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                raise click.UsageError(f"--{name.replace('_', '-')} would do nothing without --memory")
    elif given["paired"]:
        raise click.UsageError("give --paired or --memory, not both")
    elif given["memory_by"] and not given["memory_writer"]:
        raise click.UsageError("--memory-by needs a model that writes and adapts; give --memory-writer")
    elif given["memory_writer"] and given["memory_control"] in ("off", "frozen"):
        raise click.UsageError(f"nothing is written with --memory-control {given['memory_control']}")
    elif given["memory_writer"] and (given["record"] or given["replay"]):
        raise click.UsageError("cassettes do not keep what a writer says; leave out --memory-writer, or the cassette")


def play_memory(
    agent: Any, policy: Any, world: Any, tasks: Sequence[Any], given: Mapping[str, Any], *, loads: Mapping[str, Any],
    **settings: Any,
) -> tuple[dict[str, Any], Any]:  # fmt: skip
    """Return the measures of a stream of tasks with a memory as data, and its evaluation; ``loads`` load the writer."""
    from ferrule.evaluate.stream import controlled, stream
    from ferrule.memory.critique import learning
    from ferrule.memory.library import Library
    from ferrule.memory.recall import library_memory, nothing_more

    library, writer = Library(given["memory"]), given["memory_writer"]
    agent, graph = _by_graph(agent, library, given)
    memory = graph or (library_memory(library) if writer is None else library_memory(library, write=nothing_more))
    learn, policies, tidy = None, policy, None
    if writer is not None:
        other = policy if writer == given["model"] else load_policy(writer, **loads)
        policies, learn = {"solver": policy, "writer": other, "adapter": other}, learning(library)
    if given["memory_by"] is not None:
        memory, learn, tidy = _by_paper(given["memory_by"], library)
    memory = controlled(given["memory_control"], memory, tasks, seed=settings["seed"])
    streamed = stream(
        agent, policies, world, tasks, memory, batch=given["memory_batch"], learn=learn, **settings
    )  # fmt: skip
    data = streamed.as_dict()
    if tidy is not None:
        data["learning"] = _tidied(tidy(library), policies, streamed.spent, settings["seed"])
    data = {**data, "memory": {"path": str(given["memory"]), "entries": len(library)}}
    library.close()
    return data, streamed.evaluation


def _tidied(flow: Any, policies: Any, spent: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Go through a library once more in the end; return what that and all learning before it took."""
    from ferrule.rollout.settle import settle
    from ferrule.rollout.spent import added

    settled = settle([flow], policies, seed=seed)
    if settled.problems[0]:
        raise RuntimeError(f"the library was not tidied in the end: {settled.problems[0]}")
    took = added([spent, settled.spent])
    return {role: {"asks": each.asks, "tokens": each.tokens} for role, each in took.items()}


def _by_paper(slug: str, library: Any) -> tuple[Any, Any, Any]:
    """Return the memory of a library as a paper has it, what learns it, and what tidies it in the end (or None)."""
    from ferrule.papers import discover, find

    try:
        pieces = find(slug).pieces
    except KeyError as error:
        raise click.UsageError(str(error.args[0])) from None
    if "memory" not in pieces or "learn" not in pieces:
        able = [paper.slug for paper in discover() if {"memory", "learn"} <= set(paper.pieces)]
        raise click.UsageError(f"the paper {slug!r} has no memory that learns; known: {', '.join(able)}")
    return pieces["memory"](library), pieces["learn"](library), pieces.get("tidy")


def _by_graph(agent: Any, library: Any, given: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return an agent that suggests by a graph of tools with the library it reads, and the memory that keeps its runs.

    Of any other agent that memory is None. Without a memory (``off``) it has an empty graph.
    """
    from dataclasses import replace

    from ferrule.agents.suggested import Suggested
    from ferrule.memory.graph import graph_memory

    if not isinstance(agent, Suggested):
        return agent, None
    if given["memory_control"] == "shuffled" or given["memory_writer"]:
        raise click.UsageError("runs are kept as they are: give --agent suggested neither shuffled nor a writer")
    path = "" if given["memory_control"] == "off" else agent.memory or str(given["memory"])
    return replace(agent, memory=path), graph_memory(library)


def with_memory(recipe: Any, path: Path | None) -> Any:
    """Return a recipe whose agent has the library of a path; without a path the recipe as it is."""
    from ferrule.agents.remembering import Remembering
    from ferrule.core.recipe import Recipe, vary

    _, memory = opened_memory(path)
    if memory is None:
        return recipe
    if not isinstance(recipe, Recipe):
        raise click.UsageError(
            "--memory is for a recipe, and this is a method of several parts; give its agent a memory"
        )
    return vary(recipe, agent=Remembering(recipe.agent, memory))


def opened_memory(path: Path | None) -> tuple[Any, Any]:
    """Return the library of a path and the memory of it, None and None without a path."""
    from ferrule.memory.library import Library
    from ferrule.memory.recall import library_memory

    if path is None:
        return None, None
    library = Library(path)
    return library, library_memory(library)


def kept_run(library: Any, memory: Any, episode: Any, answer: str | None) -> str:
    """Keep one run where its right answer is given, and say what was recalled and kept."""
    from dataclasses import replace

    from ferrule.memory.memory import shown_in
    from ferrule.rewards.outcome import outcome

    told, before = f"recalled: {', '.join(shown_in(episode.trajectories[0])) or 'nothing'}", len(library)
    if answer is None:
        return told
    task = replace(episode.task, answer=answer)
    (score,) = outcome(task, [episode.trajectories[0]])
    memory.keep(episode, [score])
    return f"{told}; scored {score.value:g}; entries: {before} before, {len(library)} now"


def memory_text(data: Mapping[str, Any]) -> None:
    """Print what the memory held in the end, and the learning curve."""
    click.echo(f"  memory: {data['memory']['entries']} entries in {data['memory']['path']}")
    for point in data["curve"]:
        click.echo(
            f"  after {point['tasks']} tasks: success {point['success']:.1%} in this batch, "
            f"recalled for {point['recalled']:.1%}"
        )
    for role, took in data["learning"].items():
        click.echo(f"  learning, {role}: {took['asks']} asks, {took['tokens']} tokens")
