"""Flags made from dataclass fields, and what several commands share: worlds, runs, output."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import shlex
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import click

from ferrule.core.flows import World
from ferrule.core.records import Task

__all__ = [
    "Command",
    "emit",
    "flags",
    "guarded",
    "in_words",
    "interruptible",
    "make_world",
    "open_cassette",
    "own_tasks",
    "row_options",
    "run_folder",
    "runs",
    "say_note",
    "tool_docs_option",
    "tools_option",
    "workers",
]

Command = Callable[..., Any]


def _kind(annotation: Any) -> tuple[Any, bool]:
    """Return the click type of a field and whether the field holds several values."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union):
        return _kind(next(a for a in args if a is not type(None)))
    if origin is tuple:
        return args[0], True
    return annotation, False


def flags(
    kind: type,
    *,
    only: Sequence[str] | None = None,
    help: Mapping[str, str] | None = None,
    chosen: Mapping[str, str] | None = None,
) -> Callable[[Command], Command]:
    """Return a decorator that adds one flag per dataclass field: ``max_steps`` becomes ``--max-steps``.

    Flags that are not given stay out of the way (None), so that a settings file or a default can fill them. ``chosen``
    says in words what the command takes for a field in place of its default.
    """
    hints = typing.get_type_hints(kind)

    def decorate(command: Command) -> Command:
        for field in reversed(fields(kind)):
            if only is not None and field.name not in only:
                continue
            value_type, several = _kind(hints[field.name])
            default = field.default if field.default is not MISSING else None
            default = (chosen or {}).get(field.name, default)
            note = (help or {}).get(field.name, "")
            shown = f"{note} [default: {default}]" if default is not None else note
            if value_type is bool:
                name = f"--{field.name.replace('_', '-')}/--no-{field.name.replace('_', '-')}"
                command = click.option(name, field.name, default=None, help=shown)(command)
            elif several:
                command = click.option(
                    f"--{field.name.replace('_', '-')}",
                    field.name,
                    default=None,
                    help=f"{note} comma separated [default: {','.join(map(str, default or ()))}]".strip(),
                    callback=_several(value_type),
                )(command)
            else:
                command = click.option(
                    f"--{field.name.replace('_', '-')}", field.name, type=value_type, default=None, help=shown
                )(command)
        return command

    return decorate


def _several(value_type: Any) -> Callable[[Any, Any, str | None], tuple[Any, ...] | None]:
    def convert(ctx: Any, param: Any, value: str | None) -> tuple[Any, ...] | None:
        if value is None:
            return None
        try:
            return tuple(value_type(part.strip()) for part in value.split(",") if part.strip())
        except ValueError:
            raise click.BadParameter(f"{value!r} is not a comma-separated list of {value_type.__name__}") from None

    return convert


def workers(command: Command) -> Command:
    """Add ``--jobs`` (``jobs``) and ``--on`` (``ray``: an address, or None) to a command that works through a queue."""
    command = click.option(
        "--on", "ray", default=None, metavar="ray[:ADDRESS]", callback=_ray_address,
        help="Let the workers of a Ray cluster do the work.",
    )(command)  # fmt: skip
    return click.option(
        "--jobs", default=1, show_default=True, type=click.IntRange(1), help="Worker processes of one thread each."
    )(command)


def _ray_address(ctx: Any, param: Any, on: str | None) -> str | None:
    """Read ``ray`` (``RAY_ADDRESS``, else this machine) or ``ray:ADDRESS``."""
    if on is None:
        return None
    kind, _, address = on.partition(":")
    if kind != "ray":
        raise click.UsageError(f"--on is {on!r}; known: ray, ray:ADDRESS")
    return address or "local"


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def runs(default: str) -> Callable[[Command], Command]:
    """Return a decorator that adds ``--name``, a folder inside ``runs/``, and ``--output-dir``, any folder."""

    def decorate(command: Command) -> Command:
        command = click.option(
            "--output-dir", type=click.Path(path_type=Path, file_okay=False), help="Any other folder for the run."
        )(command)
        return click.option(
            "--name", default=None, callback=_run_name, help=f"The run lies in runs/NAME. [default: {default}]"
        )(command)

    return decorate


def _run_name(ctx: Any, param: Any, name: str | None) -> str | None:
    """Refuse a name that would not be one folder inside ``runs/``."""
    if name is None or _NAME.fullmatch(name):
        return name
    odd = sorted(set(re.sub(r"[A-Za-z0-9._-]", "", name)))
    why = f"has {' '.join(map(repr, odd))} in it" if odd else f"begins with {name[0]!r}" if name else "is empty"
    raise click.BadParameter(
        f"{name!r} {why}; a name is one folder inside runs/: letters, digits, '.', '_' and '-', the first a letter or "
        "digit. For any other place give --output-dir."
    )


def tools_option(note: str = "") -> Callable[[Command], Command]:
    """Return a decorator that adds ``--tools`` (``tools``: a name, several, or None); ``note`` ends its help."""
    text = (
        "Your own tools: a Python file with @tool functions, module:function, mcp:COMMAND, mcp:URL, openapi:DOCUMENT, "
        "or the example tools, pack or pack:NAME,NAME; may repeat."
    )
    return click.option("--tools", multiple=True, callback=_tools, help=f"{text} {note}".strip())


def tool_docs_option(command: Command) -> Command:
    """Add ``--tool-docs`` (``tool_docs``): a file of documents in whose words tools are shown."""
    return click.option(
        "--tool-docs", type=click.Path(path_type=Path),
        help="Show tools in the words of this file (ferrule documents) [default: their own].",
    )(command)  # fmt: skip


def in_words(world: World, tasks: Sequence[Task], path: Path | None) -> tuple[World, list[Task]]:
    """Return a world whose tools are shown in the words of a file, and its tasks with the rules that the file has.

    A file that has words for none of the tools is refused.
    """
    if path is None:
        return world, list(tasks)
    from ferrule.agents.remembering import in_system
    from ferrule.tools.documents import as_lines, read_documents
    from ferrule.worlds.aliased import documented

    overlay, rules = read_documents(path)
    with contextlib.closing(world.start(tasks[0])) as session:
        names = [tool.name for tool in session.tools]
    if not rules and not set(names) & set(overlay.texts):
        told = (
            f"its tools are {', '.join(names) or 'none'}; the file has words for {', '.join(overlay.texts) or 'none'}"
        )
        raise click.UsageError(f"--tool-docs {path} would do nothing in {world.name}: {told}")
    told = as_lines(rules)
    return documented(world, overlay), [in_system(task, told) if told else task for task in tasks]


def _tools(ctx: Any, param: Any, names: tuple[str, ...]) -> str | tuple[str, ...] | None:
    return names[0] if len(names) == 1 else names or None


def agent_options(command: Command) -> Command:
    """Add ``--agent``, ``--budget`` and the temperature that suits the agent when none is given."""
    from ferrule.agents.named import agent_names

    for option in (
        click.option(
            "--temperature",
            default=None,
            type=float,
            help="Sampling temperature; 0 takes the likeliest token [default: 0; 1 for agents that search].",
        ),
        click.option("--budget", default=None, type=int, help="Most tokens that a search writes per task."),
        click.option(
            "--agent",
            default="loop",
            show_default=True,
            help=f"How a task is played: {', '.join(agent_names())}; NAME:field=value,... sets more.",
        ),
    ):
        command = option(command)
    return command


def run_folder(name: str | None, output_dir: Path | None, default: str) -> Path:
    """Return the folder of a run: ``runs/NAME``, or the one that ``--output-dir`` gives."""
    if name is not None and output_dir is not None:
        raise click.UsageError("give --name or --output-dir, not both")
    return output_dir if output_dir is not None else Path("runs") / (name or default)


@contextlib.contextmanager
def interruptible(folder: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Tell how to go on with the run of ``folder`` when Ctrl-C ends it, and exit with 130.

    What is yielded does the same for the summary of a run that ended in good order after Ctrl-C.
    """

    def told(summary: Mapping[str, Any]) -> None:
        if summary.get("stopped_by") == "interrupted":
            raise KeyboardInterrupt

    try:
        yield told
    except KeyboardInterrupt:
        click.echo(_to_go_on(folder), err=True)
        click.get_current_context().exit(130)


def _to_go_on(folder: Path) -> str:
    """Return the command that goes on with an interrupted run, or starts it again where it has no checkpoint."""
    from ferrule.train.checkpoint import latest

    context = click.get_current_context()
    flags = {flag for parameter in context.command.params for flag in parameter.opts}
    given = context.find_root().meta["ferrule.cli.arguments"]
    command = shlex.join(["ferrule", *(argument for argument in given if argument not in ("--resume", "--overwrite"))])
    if "--resume" not in flags:
        return f"interrupted; go on with: {command}"
    if latest(folder) is not None:
        return f"interrupted; go on with: {command} --resume"
    again = " --overwrite" if "--overwrite" in flags and (folder / "metrics.jsonl").exists() else ""
    return f"interrupted before the first checkpoint; start again with: {command}{again}"


_FIELDS = ("prompt_field", "answer_field", "verifier")


def own_tasks(command: Command) -> Command:
    """Add ``--dataset`` (also ``--tasks``, ``--data``) and what says how its rows are read."""
    for name, note in (
        ("--verifier", "How answers are compared where a row names nothing [default: exact, or the benchmark's]."),
        ("--answer-field", "Column of the answers [default: answer, solution, ... by name]."),
        ("--prompt-field", "Column of the prompts [default: prompt, question, ... by name]."),
    ):
        command = click.option(name, default=None, help=note)(command)
    return click.option(
        "--dataset",
        "--tasks",
        "--data",
        "tasks",
        type=click.Path(path_type=Path),
        help="Your own tasks, with a prompt and an answer each, or the rows of a benchmark by name: a JSONL, JSON, CSV "
        "or parquet file (also .gz), a folder, or a data set of the hub (owner/name, owner/name:config) [default for a "
        "benchmark: what $FERRULE_DATA holds or ferrule data has fetched].",
    )(command)


def row_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the flags say of how rows are read."""
    return {name: given[name] for name in _FIELDS if given.get(name) is not None}


def make_world(
    names: Sequence[str], tasks: Path | None = None, tools: str | Sequence[str] | None = None, **rows: Any
) -> World:
    """Return the world that the flags ask for: by name, or the user's own tasks (``rows``: how they are read).

    With names ``tasks`` is where these benchmarks find their rows.
    """
    from ferrule.worlds.named import worlds

    if names:
        rows = {**rows, "data": tasks}
    elif tasks is not None:
        names = [str(tasks)]
    world = worlds(names, tools=tools, **rows)
    say_note(world)
    return world


def say_note(world: Any) -> None:
    """Say what a person should know of a world: how its tools are shared, and which columns are not used."""
    if note := getattr(getattr(world, "source", None), "note", ""):
        click.echo(f"tools: {note}", err=True)
    for note in getattr(world, "notes", ()):
        click.echo(f"{world.name}: {note}", err=True)


def open_cassette(record: Path | None, replay: Path | None) -> Any:
    """Return the cassette that ``--record`` or ``--replay`` asks for; one that passes everything through without."""
    from ferrule.worlds.cassette import Cassette

    if record is not None and replay is not None:
        raise click.UsageError("give --record or --replay, not both")
    if replay is not None:
        return Cassette(replay, "replay")
    return Cassette() if record is None else Cassette(record, "record")


_EXTRAS = {
    **dict.fromkeys(
        ("torch", "transformers", "accelerate", "peft", "safetensors", "tokenizers", "tensorboardX"), "train"
    ),
    **dict.fromkeys(("datasets", "math_verify", "pyarrow"), "data"),
    **dict.fromkeys(("matplotlib", "jinja2"), "view"),
    **dict.fromkeys(("numba", "llvmlite"), "fast"),
    **dict.fromkeys(("altair", "vl_convert", "lightgbm"), "charts"),
    "ray": "ray",
    "bitsandbytes": "qlora",
    **dict.fromkeys(("starlette", "uvicorn", "websockets", "prometheus_client"), "serve"),
}


def guarded(command: Command) -> Command:
    """Show refused settings and missing extras as usage errors; everything else is a bug and keeps its traceback."""

    from ferrule.policies.endpoint.http import PolicyError

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except ModuleNotFoundError as error:
            name = (error.name or "").split(".")[0]
            if name not in _EXTRAS:
                raise
            raise click.UsageError(f'this needs {name}: pip install "ferrule[{_EXTRAS[name]}]"') from error
        except (ValueError, OSError, ImportError, PolicyError) as error:
            raise click.UsageError(str(error)) from error

    return run


def emit(data: Any, as_json: bool, text: Callable[[], None]) -> None:
    """Print JSON when asked for, else the human form."""
    if as_json:
        click.echo(_json(data))
    else:
        text()


def _json(value: Any, margin: str = "\n") -> str:
    """Write JSON with one line per entry; a list of plain values stays on one line."""
    inner = margin + " "
    if isinstance(value, Mapping) and value:
        pairs = (f"{json.dumps(str(key))}: {_json(part, inner)}" for key, part in value.items())
        return "{" + inner + f",{inner}".join(pairs) + margin + "}"
    if isinstance(value, list | tuple) and any(isinstance(part, Mapping | list | tuple) for part in value):
        return "[" + inner + f",{inner}".join(_json(part, inner) for part in value) + margin + "]"
    return json.dumps(value, default=str)
