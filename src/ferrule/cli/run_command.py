"""``ferrule run``: answer one prompt with a model and tools, and show every step."""

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
from ferrule.cli.options import agent_options, emit, guarded, tool_docs_option, tools_option
from ferrule.cli.remembered import kept_run, memory_flag, opened_memory

__all__ = ["command"]


_CLOSING = "</tool_call>"
_SETTINGS = ("agent", "budget", "temperature", "max_completion_length", "max_tool_calling_iterations", "seed")
_ENDINGS = {
    "length": "the last reply was cut off; --max-completion-length is the longest reply in tokens",
    "turns": "the model used up its replies; --max-tool-calling-iterations says how many it has",
    "answer": "the model wrote nothing",
}


@click.command("run")
@click.argument("prompt")
@click.option(
    "--model", default="pocket", show_default=True, help="pocket, smollm2-135m, a folder, a hub name or a URL."
)
@tools_option("[default: calculator and python]")
@tool_docs_option
@agent_options
@click.option("--max-completion-length", default=256, show_default=True, help="Longest reply in tokens.")
@click.option("--max-tool-calling-iterations", default=6, show_default=True, help="Most replies on one path.")
@click.option("--seed", default=0, show_default=True, help="Sampling seed.")
@memory_flag
@click.option("--answer", default=None, help="With --memory: the right answer, by which the run is scored and kept.")
@computing_flags
@chat_flags
@click.option("--json", "as_json", is_flag=True, help="Print the episode as JSON.")
@guarded
def command(prompt: str, model: str, tools: Any, tool_docs: Path | None, as_json: bool, **given: Any) -> None:
    """Answer PROMPT and show calls and observations; without an answer, what the model wrote, and exit code 1."""
    import json

    from ferrule.core.records import plain_text
    from ferrule.core.tally import tally
    from ferrule.rollout.prompt import run
    from ferrule.rollout.record import dump
    from ferrule.tools.documents import as_lines, read_documents
    from ferrule.view.episodes import step_in_words
    from ferrule.view.trees import count, lines, twigs

    if given["answer"] is not None and given["memory"] is None:
        raise click.UsageError("--answer scores a run for --memory and would do nothing without it")
    policy = load_policy(model, **computing_options(given), **chat_options(given))
    library, memory = opened_memory(given["memory"])
    documents, rules = (None, {}) if tool_docs is None else read_documents(tool_docs)
    settings = {name: given[name] for name in _SETTINGS}
    episode = run(prompt, policy, tools=tools, documents=documents, rules=as_lines(rules), memory=memory, **settings)
    if library is not None:
        click.echo(kept_run(library, memory, episode, given["answer"]), err=True)
    path = episode.trajectories[0]

    def text() -> None:
        for turn in path.turns:
            if not path.answer and (written := plain_text(turn.reply).strip()):
                click.echo(written)
            for call, observation in zip(turn.reply.calls, turn.observations, strict=False):
                readable = f"{call.name} {json.dumps(dict(call.arguments), ensure_ascii=False)}"
                click.echo(f"  {call.raw.strip() if call.problem else readable}")
                click.echo(f"  -> [{observation.status}] {observation.text}")
        if steps := twigs(data, step_in_words):
            click.echo("\n".join(["", f"all {count(steps)} steps:", *lines(steps), ""]))
        if path.answer:
            click.echo(path.answer)

    data = json.loads(dump(episode))
    emit(data, as_json, text)
    counts = tally(observation for turn in path.turns for observation in turn.observations)
    half = _CLOSING in str(path.answer)  # the end of a call whose beginning is missing, so it reads as an answer
    wrong = counts.malformed or counts.unknown_tool or counts.attempts == counts.failed > 0
    hint_small(model, tools, wrong, half, not path.answer)
    if not path.answer:
        why = _ENDINGS.get(path.finish, path.finish)
        click.echo(f"no answer: {why}{f' ({path.problem})' if path.problem else ''}", err=True)
        click.get_current_context().exit(1)
