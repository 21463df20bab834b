"""Worlds by name: the generated ones, found by walking this package, data sets of known shape, and files of tasks.

A module that sets ``WORLD`` to its class is found by its own name, in sub-packages as well; there is no list to keep.
The class must be buildable without arguments. Environments from elsewhere go by ``openenv:URL`` and ``module:Class``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

from ferrule.core.arrays import nearest
from ferrule.core.flows import World
from ferrule.tools.sources import Tools
from ferrule.worlds import user
from ferrule.worlds.mixed import Mixed

__all__ = ["generated", "world", "world_names", "worlds"]


@cache
def generated() -> Mapping[str, Callable[[], World]]:
    """Return what builds each generated world, by name."""
    package = importlib.import_module("ferrule.worlds")
    builders: dict[str, Callable[[], World]] = {}
    for entry in pkgutil.walk_packages(package.__path__, "ferrule.worlds."):
        build = getattr(importlib.import_module(entry.name), "WORLD", None)
        if build is not None:
            builders[entry.name.rpartition(".")[2]] = build
    return dict(sorted(builders.items()))


def world_names() -> list[str]:
    """Return every name that ``world`` knows: generated worlds, then data sets of known shape."""
    return [*generated(), *user.SHAPES]


def world(
    name: str | Path, *, data: str | Path | None = None, tools: Tools | None = None, verifier: str | None = None
) -> World:
    """Return a world by name, or that of the user's own tasks.

    ``name`` is a generated world (``arithmetic``), a data set of known shape (``gsm8k``; ``data`` or ``FERRULE_DATA``
    names the folder that holds it), the path of a JSONL file with ``prompt`` and ``answer`` on every line, a server
    (``openenv:URL``, see ``ferrule.worlds.openenv``), or an environment in TRL's or Gymnasium's form
    (``module:Class``, see ``ferrule.worlds.objects``). ``tools`` (``ferrule.tools.sources.tool_source`` says what it
    may be) replaces the tools of a data set: the calculator for a known one, none for a file. ``verifier`` compares
    answers of a file whose rows name none. Raises ``ValueError`` for an unknown name and for settings that would do
    nothing, ``FileNotFoundError`` for missing files.
    """
    text = str(name)
    if text in generated():
        given = {"data": data, "tools": tools, "verifier": verifier}
        if idle := [key for key, value in given.items() if value is not None]:
            raise ValueError(f"{', '.join(idle)} would do nothing: {text!r} is a generated world with its own tools")
        return generated()[text]()
    if not Path(name).exists() and ":" in text:
        if tools is not None or data is not None or verifier is not None:
            raise ValueError(f"data, tools and verifier would do nothing: {text!r} brings its own tools and rewards")
        return _elsewhere(text)
    if text in user.SHAPES:
        from ferrule.tools.calculator import calculator

        if verifier is not None:
            raise ValueError(f"verifier would do nothing: the answers of {text!r} are compared in one way only")
        return user.known(text, data=data, tools=(calculator,) if tools is None else tools)
    if Path(name).exists():
        if data is not None:
            raise ValueError(f"data would do nothing: {text!r} is a path of its own")
        return user.from_file(name, tools=tools or (), verifier=verifier or "exact")
    raise ValueError(f"no world and no file {text!r}; {nearest(text, world_names())}")


def _elsewhere(name: str) -> World:
    """Return the world of an OpenEnv server, or of a class by its import path."""
    if name.startswith("openenv:"):
        from ferrule.worlds.openenv import OpenEnvWorld

        return OpenEnvWorld(name.removeprefix("openenv:"))
    from ferrule.worlds.objects import world_of

    return world_of(name)


def worlds(names: Sequence[str | Path], *, tools: Tools | None = None) -> World:
    """Return the world of one name, or several worlds as one; ``tools`` as for ``world``."""
    parts = tuple(world(name, tools=tools) for name in names)
    return parts[0] if len(parts) == 1 else Mixed(parts)
