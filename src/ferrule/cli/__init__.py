"""The command line; every command lives in a module of its own that is imported when it is called."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from ferrule import __version__

__all__ = ["main"]

_COMMANDS = {
    "demo": "Train the pocket model with tools and show what it learned.",
    "train": "Train a model on a world, or on your own tools and tasks.",
    "sft": "Fine-tune a model on conversations, completions or texts.",
    "prefer": "Train a model to prefer chosen answers to rejected ones.",
    "eval": "Measure a model on a suite or on your own tasks.",
    "run": "Answer one prompt with a model and tools.",
    "forge": "Let a model make tools for your tasks, and keep those that stand every test.",
    "refine": "Propose, check and propose again: slow functions made faster, and other tasks with a check.",
    "memory": "Look at a library of what was learned, add to it, export and prune it.",
    "documents": "Write documents of tools from trials of them, and show what changed.",
    "charts": "Look for charts of a table that tell something, and write a page of them with hints.",
    "arena": "Compare training recipes at the same number of generated tokens.",
    "papers": "List published methods, explain one, or measure its claim.",
    "models": "List, fetch, build, merge and measure models.",
    "data": "List worlds and benchmarks, say where their data comes from, and fetch it.",
    "serve": "Serve tools over HTTP and MCP, or a world over OpenEnv.",
    "bench": "Measure rollout and update of a model on this machine, beside the roofline.",
    "plan": "Say what a training step takes on accelerators: seconds, memory, network.",
    "doctor": "Say what this machine offers: isolation, number formats, extras.",
    "report": "Write the HTML report of a run again.",
}


class _Lazy(click.Group):
    """A group that knows its commands by name and imports one only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = importlib.import_module(f"ferrule.cli.{cmd_name}_command").command
        return command if isinstance(command, click.Command) else None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        ctx.meta["ferrule.cli.arguments"] = list(args)  # what the user wrote, for telling how to go on
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            from ferrule.core.arrays import nearest

            raise click.UsageError(f"No such command {args[0]!r}; {nearest(args[0], list(_COMMANDS))}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


def _hyphens(name: str) -> str:
    """Read a flag written with underscores, as other trainers write theirs."""
    return name.replace("_", "-")


_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110, "token_normalize_func": _hyphens}


@click.group(cls=_Lazy, context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="ferrule")
def main() -> None:
    """Ferrule binds language models to tools: define, roll out, train, evaluate and run."""
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # modules of one's own by import path; last, so that they hide nothing
