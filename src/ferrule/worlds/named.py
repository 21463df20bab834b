"""Worlds by name: the generated ones, found by walking this package, benchmarks, and files of tasks.

A module that sets ``WORLD`` to its class is found by its own name, in sub-packages as well; there is no list to keep.
The class must be buildable without arguments; the fields of a data class can be set behind its name. Environments from
elsewhere go by ``openenv:URL``, ``verifiers:NAME`` and ``module:Class``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ferrule.core.arrays import nearest
from ferrule.core.flows import World
from ferrule.core.settings import field_types, settings_from_text
from ferrule.tools.sources import Tools
from ferrule.worlds.files import hub_name
from ferrule.worlds.mixed import Mixed
from ferrule.worlds.suites.names import suite_names, suite_world
from ferrule.worlds.user import from_file

__all__ = ["generated", "world", "world_names", "worlds"]


@cache
def generated() -> Mapping[str, type[Any]]:
    """Return the class of each generated world, by name."""
    package = importlib.import_module("ferrule.worlds")
    builders: dict[str, type[Any]] = {}
    for entry in pkgutil.walk_packages(package.__path__, "ferrule.worlds."):
        build = getattr(importlib.import_module(entry.name), "WORLD", None)
        if build is not None:
            builders[entry.name.rpartition(".")[2]] = build
    return dict(sorted(builders.items()))


def world_names() -> list[str]:
    """Return every name that ``world`` knows: generated worlds and benchmarks."""
    return [*generated(), *suite_names()]


def world(
    name: str | Path,
    *,
    data: str | Path | None = None,
    tools: Tools | None = None,
    verifier: str | None = None,
    prompt_field: str | None = None,
    answer_field: str | None = None,
) -> World:
    """Return a world by name, or that of the user's own tasks.

    ``name`` is a generated world (``arithmetic``, ``facts:top=5,calls=3`` with settings; one with a field ``data``
    plays that file instead), a benchmark
    (``gsm8k``, ``bfcl:simple_python``), whose rows or folder ``data`` names, what ``ferrule.worlds.user.from_file``
    reads (a file, a folder, or a name on the hub, ``owner/name``; ``prompt_field`` and ``answer_field`` name
    columns), a server (``openenv:URL``, see ``ferrule.worlds.openenv``), a taskset of ``verifiers``
    (``verifiers:NAME``, see ``ferrule.worlds.tasksets``), or an environment of any of these forms, TRL's or
    Gymnasium's by its import path (``module:Class``, see ``ferrule.worlds.objects``).
    ``tools`` (``ferrule.tools.sources.tool_source`` says what it may be) are those of a
    file, which has none of its own, and replace those of a benchmark of questions. ``verifier`` compares answers whose
    rows name no other way. Raises ``ValueError`` for an unknown name and for settings that would do nothing,
    ``ImportError`` for what has to be installed, and ``FileNotFoundError`` for missing files.
    """
    text = str(name)
    fields: dict[str, Any] = {"prompt_field": prompt_field, "answer_field": answer_field}
    given = {"data": data, "tools": tools, "verifier": verifier, **fields}
    first, _, written = text.partition(":")
    if first in generated():
        build = generated()[first]
        kept = settings_from_text(first, build, written)
        if data is not None and "data" in field_types(build):
            kept, given = {**kept, "data": str(data)}, {**given, "data": None}
        _refuse(given, f"{first!r} is a generated world with its own tools")
        built: World = build(**kept)
        return built
    if first in {known.partition(":")[0] for known in suite_names()}:
        return suite_world(text, **given)
    if "=" in written and not Path(name).exists():
        raise ValueError(f"no world {first!r} to set {written!r} of; {nearest(first, list(generated()))}")
    if not Path(name).exists() and ":" in text and not hub_name(name):
        _refuse(given, f"{text!r} brings its own tools and rewards")
        return _elsewhere(text)
    if Path(name).exists() or hub_name(name):
        _refuse({"data": data}, f"{text!r} is a path or name of its own")
        return from_file(name, tools=tools or (), verifier=verifier or "exact", **fields)
    raise ValueError(f"no world and no file {text!r}; {nearest(text, world_names())}")


def _refuse(given: Mapping[str, Any], why: str) -> None:
    """Refuse settings that a world has no use for."""
    idle = ["data (--dataset)" if key == "data" else key for key, value in given.items() if value is not None]
    if idle:
        raise ValueError(f"{', '.join(idle)} would do nothing: {why}")


def _elsewhere(name: str) -> World:
    """Return the world of an OpenEnv server, of an installed taskset, or of an object by its import path."""
    if name.startswith("openenv:"):
        from ferrule.worlds.openenv import OpenEnvWorld

        return OpenEnvWorld(name.removeprefix("openenv:"))
    if name.startswith("verifiers:"):
        from ferrule.worlds.tasksets import taskset_named

        return taskset_named(name.removeprefix("verifiers:"))
    from ferrule.worlds.objects import world_of

    return world_of(name)


def worlds(names: Sequence[str | Path], **options: Any) -> World:
    """Return the world of one name, or several worlds as one; ``options`` are those of ``world``."""
    parts = tuple(world(name, **options) for name in names)
    return parts[0] if len(parts) == 1 else Mixed(parts)
