"""Read the files of a run folder, with whatever is missing or damaged said out loud instead of guessed."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Run", "flatten", "number", "read_run"]

Row = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """What a run folder holds, as plain JSON data.

    ``settings`` and ``versions`` are nested dicts, ``metrics`` and ``warnings`` one dict per line of their files,
    ``evaluations`` maps ``before`` and ``after`` to measurements. ``episodes`` are those of the evaluations, or where
    there are none the first and last of training; ``recorded`` counts all lines of that file. A file that is not
    there is empty data; ``troubles`` names every file or line that could not be read.
    """

    folder: Path
    settings: Row
    versions: Row
    metrics: tuple[Row, ...]
    evaluations: Row
    episodes: tuple[Row, ...]
    warnings: tuple[Row, ...]
    troubles: tuple[str, ...] = ()
    recorded: int = 0

    @property
    def name(self) -> str:
        """Name of the run: the folder's."""
        return self.folder.resolve().name


def reader(folder: Path) -> Callable[[Sequence[int]], str] | None:
    """Return what turns token ids of a run back into the text that the model was fed, by the tokenizer of ``model/``.

    None where the run has saved none, or the package ``tokenizers`` is missing.
    """
    path = folder / "model" / "tokenizer.json"
    if not path.is_file():
        return None
    try:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(path))
    except Exception:  # the package raises plain Exceptions for files that it cannot read
        return None
    return lambda ids: str(tokenizer.decode(list(ids), skip_special_tokens=False))


def number(value: Any) -> float | None:
    """Return a finite number as float, None for anything else (text, booleans, nan, inf)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one mapping with keys joined by ``/``; lists stay values."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{name}/")
        else:
            flat[name] = value
    return flat


def _object(path: Path, troubles: list[str]) -> Row:
    """Return the JSON object of a file, empty without the file."""
    if not path.exists():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except (ValueError, RecursionError) as problem:
        troubles.append(f"{path.name} is not JSON: {problem}")
        return {}
    if not isinstance(data, dict):
        troubles.append(f"{path.name} holds a {type(data).__name__}, not an object")
        return {}
    return data


def _rows(path: Path, troubles: list[str]) -> Iterator[Row]:
    """Yield the JSON objects of a file with one per line; a line cut off by a killed run is left out and named."""
    if not path.exists():
        return
    with path.open("rb") as file:  # only line feeds end a line: a model's text may hold every other separator
        for count, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8", "replace"))
            except (ValueError, RecursionError):
                troubles.append(f"{path.name}, line {count}: not JSON, left out")
                continue
            if isinstance(row, dict):
                yield row
            else:
                troubles.append(f"{path.name}, line {count}: not an object, left out")


def _ends(path: Path, troubles: list[str], keep: int) -> tuple[tuple[Row, ...], int]:
    """Return the first and the last ``keep`` rows of a file of any length, and how many it has."""
    first: list[Row] = []
    last: deque[Row] = deque(maxlen=keep)
    count = 0
    for row in _rows(path, troubles):
        count += 1
        (first if len(first) < keep else last).append(row)
    return (*first, *last), count


def read_run(folder: str | Path) -> Run:
    """Read a run folder; raises ``FileNotFoundError`` when the folder does not exist."""
    path = Path(folder)
    if not path.is_dir():
        raise FileNotFoundError(f"no run folder at {path}; runs lie in runs/NAME")
    troubles: list[str] = []
    played = path / "evaluation.jsonl"
    episodes, recorded = _ends(played, troubles, 5000)
    if not recorded:
        episodes, recorded = _ends(path / "episodes.jsonl", troubles, 200)
    return Run(
        folder=path,
        settings=_object(path / "settings.json", troubles),
        versions=_object(path / "versions.json", troubles),
        metrics=tuple(_rows(path / "metrics.jsonl", troubles)),
        evaluations=_object(path / "evaluations.json", troubles),
        episodes=episodes,
        warnings=tuple(_rows(path / "warnings.jsonl", troubles)),
        troubles=tuple(troubles),
        recorded=recorded,
    )
