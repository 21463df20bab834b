"""Named suites: a world and the held-out tasks that an evaluation is run on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ferrule.core.arrays import nearest
from ferrule.core.records import Task, Tool, World

__all__ = ["suite", "suite_names"]


def _arithmetic() -> World:
    from ferrule.worlds.arithmetic import Arithmetic

    return Arithmetic()


def _apis() -> World:
    from ferrule.worlds.apis import Apis

    return Apis()


def _facts() -> World:
    from ferrule.worlds.facts import Facts

    return Facts()


_GENERATED: dict[str, Callable[[], World]] = {"arithmetic": _arithmetic, "apis": _apis, "facts": _facts}


def suite_names() -> list[str]:
    """Return the names that ``suite`` knows beside files: generated worlds and data sets of known shape."""
    from ferrule.worlds.user import SHAPES

    return [*_GENERATED, *SHAPES]


def suite(
    name: str | Path,
    *,
    split: str = "test",
    limit: int = 100,
    seed: int = 0,
    levels: Sequence[int] = (1, 2, 3, 4, 5),
    data: str | Path | None = None,
    tools: str | Path | Sequence[Tool] | None = None,
    verifier: str | None = None,
) -> tuple[World, list[Task]]:
    """Return the world of a suite and at most ``limit`` of its tasks, the same ones for the same seed.

    ``name`` is a generated world (``arithmetic``, ``apis``, ``facts``), a data set of known shape (``gsm8k``; ``data``
    or ``FERRULE_DATA`` names the folder that holds it), or the path of a JSONL file with ``prompt`` and ``answer``.
    ``tools`` (a Python file, or tools) replaces a data set's tools: the calculator for a known one, none for a file.
    ``verifier`` compares answers of a file whose rows name none. Raises ``ValueError`` for an unknown name and for
    settings that would do nothing, ``FileNotFoundError`` for missing files.
    """
    if limit < 1:
        raise ValueError(f"limit is {limit}; a suite needs at least one task")
    text = str(name)
    if text in _GENERATED:
        given = {"data": data, "tools": tools, "verifier": verifier}
        if idle := [key for key, value in given.items() if value is not None]:
            raise ValueError(f"{', '.join(idle)} would do nothing: {text!r} is a generated world with its own tools")
        world = _GENERATED[text]()
        return world, world.tasks(split, limit, seed=seed, levels=levels)
    return _from_rows(text, split, limit, seed, levels, data, tools, verifier)


def _from_rows(
    name: str,
    split: str,
    limit: int,
    seed: int,
    levels: Sequence[int],
    data: str | Path | None,
    tools: str | Path | Sequence[Tool] | None,
    verifier: str | None,
) -> tuple[World, list[Task]]:
    from ferrule.worlds import user

    if name in user.SHAPES:
        from ferrule.tools.calculator import calculator

        if verifier is not None:
            raise ValueError(f"verifier would do nothing: the answers of {name!r} are compared in one way only")
        world = user.known(name, data=data, tools=(calculator,) if tools is None else tools)
    elif Path(name).exists():
        if data is not None:
            raise ValueError(f"data would do nothing: {name!r} is a path of its own")
        world = user.load(name, tools=tools or (), verifier=verifier or "exact")
    else:
        raise ValueError(f"no suite and no file {name!r}; {nearest(name, suite_names())}")
    tasks = world.tasks(split, limit, seed=seed, levels=levels)
    # A world goes round again when its rows run out; an evaluation takes every task once.
    return world, list({task.id: task for task in tasks}.values())
