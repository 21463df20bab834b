"""An append-only file of JSON lines: what cassettes are written on."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ferrule.core.exact import line_of

__all__ = ["Tape", "rows"]


class Tape:
    """Appends rows to a file, each in one write of its own: a run that is killed loses none it has written.

    A last line that an earlier run did not finish is cut off first. Safe in several threads.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        os.ftruncate(self._file, _whole(path))

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one row of JSON data; raises ``ValueError`` after ``close``."""
        line = line_of(row) + b"\n"
        with self._lock:
            if self._file < 0:
                raise ValueError(f"the cassette {self.path} is closed")
            while line:
                line = line[os.write(self._file, line) :]

    def close(self) -> None:
        """Close the file; may be called twice."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1


def _whole(path: Path) -> int:
    """Length in bytes of the finished lines of a file."""
    with path.open("rb") as file:
        return sum(len(line) for line in file if line.endswith(b"\n"))


def rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield ``(line number, row)`` of a tape; a cut-off last line is left out, a broken one raises ``ValueError``."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: not a line of a cassette: {error}") from None
            if not isinstance(row, dict):
                raise ValueError(f"{path}, line {number}: not a line of a cassette")
            yield number, row
