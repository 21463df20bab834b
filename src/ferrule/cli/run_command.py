"""``ferrule run``: answer one prompt with a model and tools, and show every step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ferrule.cli.options import emit, guarded, load_policy

__all__ = ["command"]


@click.command("run")
@click.argument("prompt")
@click.option(
    "--model", default="pocket", show_default=True, help="pocket, smollm2-135m, a folder, a hub name or a URL."
)
@click.option(
    "--tools",
    type=click.Path(path_type=Path),
    help="Python file with @tool functions [default: calculator and python].",
)
@click.option(
    "--temperature", default=0.0, show_default=True, help="Sampling temperature; 0 takes the likeliest token."
)
@click.option("--max-completion-length", default=256, show_default=True, help="Longest reply in tokens.")
@click.option("--max-tool-calling-iterations", default=6, show_default=True, help="Most replies.")
@click.option("--seed", default=0, show_default=True, help="Sampling seed.")
@click.option("--json", "as_json", is_flag=True, help="Print the episode as JSON.")
@guarded
def command(prompt: str, model: str, tools: Path | None, as_json: bool, **settings: Any) -> None:
    """Answer PROMPT and show calls and observations."""
    import json

    from ferrule.rollout.prompt import run
    from ferrule.rollout.record import dump

    episode = run(prompt, load_policy(model), tools=tools, **settings)

    def text() -> None:
        for turn in episode.trajectories[0].turns:
            for call, observation in zip(turn.reply.calls, turn.observations, strict=False):
                click.echo(f"  {call.name or '?'} {json.dumps(dict(call.arguments), ensure_ascii=False)}")
                click.echo(f"  -> [{observation.status}] {observation.text}")
        first = episode.trajectories[0]
        click.echo(first.answer if first.answer is not None else f"no answer ({first.finish}) {first.problem}")

    emit(json.loads(dump(episode)), as_json, text)
