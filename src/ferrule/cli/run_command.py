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
@click.option("--max-turns", default=6, show_default=True, help="Most replies.")
@click.option("--seed", default=0, show_default=True, help="Sampling seed.")
@click.option("--json", "as_json", is_flag=True, help="Print the episode as JSON.")
@guarded
def command(
    prompt: str, model: str, tools: Path | None, temperature: float, max_turns: int, seed: int, as_json: bool
) -> None:
    """Answer PROMPT and show calls and observations."""
    import json

    from ferrule.agents.react import ToolLoop
    from ferrule.core.records import Task
    from ferrule.rollout.drive import drive
    from ferrule.rollout.record import dump

    world = _world(tools)
    task = Task("prompt", prompt, world=world.name)
    policy = load_policy(model)
    (episode,) = drive(ToolLoop(turns=max_turns), [task], world, policy, seed=seed, temperature=temperature)

    def text() -> None:
        for turn in episode.trajectories[0].turns:
            for call, observation in zip(turn.reply.calls, turn.observations, strict=False):
                click.echo(f"  {call.name or '?'} {json.dumps(dict(call.arguments), ensure_ascii=False)}")
                click.echo(f"  -> [{observation.status}] {observation.text}")
        first = episode.trajectories[0]
        click.echo(first.answer if first.answer is not None else f"no answer ({first.finish}) {first.problem}")

    emit(json.loads(dump(episode)), as_json, text)


def _world(tools: Path | None) -> Any:
    if tools is None:
        from ferrule.worlds.arithmetic import Arithmetic

        return Arithmetic()
    from ferrule.tools.tool import load_tools
    from ferrule.worlds.session import Toolbox

    return Toolbox(load_tools(tools))
