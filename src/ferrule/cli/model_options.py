"""Flags that say which model, where and how it is computed, and how conversations are laid out; loading it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

__all__ = [
    "chat_flags",
    "chat_options",
    "computing_flags",
    "computing_options",
    "device_flag",
    "fitting",
    "hint_small",
    "load_policy",
]


def device_flag(function: Any) -> Any:
    """Add ``--device``."""
    note = "auto (a GPU where there is one, else MPS, else the processor), cpu, cuda, cuda:N or mps [default: auto]."
    return click.option("--device", default=None, help=note)(function)


def computing_flags(function: Any) -> Any:
    """Add what says where a model is computed and how it is held: device, number format, 4 bits."""
    held = "What weights are held in: float32, bfloat16, or auto: float32 with --bf16 where that is measured as faster"
    for option in (
        click.option("--load-in-4bit", is_flag=True, help="Hold matrices in 4 bits (CUDA and bitsandbytes)."),
        click.option("--bf16", is_flag=True, help="Compute products in bfloat16 from float32 weights."),
        click.option("--dtype", default=None, help=f"{held} [default: float32, or bfloat16 where only that fits]."),
        device_flag,
    ):
        function = option(function)
    return function


def computing_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``computing_flags`` say, as options of ``policies.named.load``."""
    return {name: given[name] for name in ("device", "dtype", "bf16", "load_in_4bit") if given.get(name)}


def chat_flags(function: Any) -> Any:
    """Add the flags on what comes with a model: how text is laid out and dated, and whether its code may run."""
    from ferrule.chat.fitted import RENDERERS, TOOL_ROLES

    code = "Run Python files that come with the model, with your rights; for models you trust as you trust a program."
    function = click.option("--trust-remote-code", is_flag=True, default=None, help=code)(function)
    day = "The day that prompts name where the chat template asks for it, YYYY-MM-DD [default: today]."
    function = click.option("--date", default=None, type=click.DateTime(["%Y-%m-%d"]), callback=_iso, help=day)(
        function
    )

    role = "Where results go: a tool turn (bare, behind calls, or wrapped by the codec) or a user turn [default: auto]."
    layout = "The model's chat template, or ChatML with the marks of its tokenizer [default: auto]."
    function = click.option("--renderer", default=None, type=click.Choice(RENDERERS), help=layout)(function)
    return click.option("--tool-role", default=None, type=click.Choice(TOOL_ROLES), help=role)(function)


def chat_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the flags on codec, layout and code say, as options of ``policies.named.load``."""
    names = ("codec", "tool_role", "renderer", "date", "trust_remote_code")
    return {name: given[name] for name in names if given.get(name) not in (None, "auto")}


def _iso(ctx: Any, param: Any, value: Any) -> str | None:
    return None if value is None else str(value.date().isoformat())


def load_policy(model: str, *, weights: bool = False, **options: Any) -> Any:
    """Return the policy that ``--model`` names; ``weights`` refuses servers, which keep theirs to themselves.

    One that only answers says how, unless it is laid out in Ferrule's own way; what trains says so when it is planned.
    """
    from ferrule.policies.models import resolve
    from ferrule.policies.named import answering, load

    source = resolve(model)
    if weights and source.kind == "endpoint":
        raise click.UsageError(f"--model {model} is a server; this needs weights (a name or a folder)")
    opened = load if weights else answering
    if not weights:
        options |= fitting(model, options, trains=False)
    policy = opened(model, progress=lambda line: click.echo(line, err=True), **options)
    layout = getattr(policy, "renderer", None)
    if "date" in options and not getattr(layout, "dated", False):
        raise click.UsageError(f"--date would do nothing: the prompts of {model} name no day")
    from ferrule.chat.template import Template

    if isinstance(layout, Template) and not weights:
        from ferrule.cli.plan_line import answering_line

        click.echo(answering_line(policy), err=True)
    return policy


def fitting(model: str, options: Mapping[str, Any], **how: Any) -> dict[str, str]:
    """Return the ``dtype`` of weights that memory asks for where float32 does not fit, as an option of ``load``.

    Nothing where a ``dtype`` or 4 bits are given, and for servers. ``how`` is that of ``speed.expected``.
    """
    from ferrule.policies.models import resolve

    source = resolve(model)
    if source.kind not in ("folder", "hub") or {"dtype", "load_in_4bit"} & set(options):
        return {}
    from ferrule.policies.devices import torch_device
    from ferrule.speed.expected import dtype_that_fits

    chosen = dtype_that_fits(source.where, torch_device(options.get("device", "auto")), **how)
    return {} if chosen == "float32" else {"dtype": chosen}


def hint_small(model: str, tools: Any, *stumbled: Any) -> None:
    """Say what helps where the pocket model was given a person's own tools and any of ``stumbled`` is true."""
    if model == "pocket" and tools and any(stumbled):
        click.echo(
            "the pocket model is small and reads unfamiliar tools with mistakes; train it on yours (ferrule train "
            "--tools ... --tasks ...) or take a larger one (--model smollm2-135m, a folder, a hub name or a URL)",
            err=True,
        )
