"""Record what the tools and models of a run answered, and replay it without them.

One ``Cassette`` serves a whole run: ``ferrule.worlds.recorded`` puts it around a world, and
``ferrule.policies.recorded`` around a policy. An episode is found by its task and seed, a call in it by the branch of
the episode, its place (asks so far, and number among the calls since) and what was called with which arguments.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from ferrule.core.arrays import nearest
from ferrule.core.exact import text_of
from ferrule.worlds.tape import Tape, rows

__all__ = ["Branch", "Cassette", "Mode", "Rows", "called"]

Mode = Literal["live", "record", "replay", "dummy", "refuse"]
Branch = tuple[int, ...]

_VERSION = 1


@dataclass
class Rows:
    """What one branch of an episode did: the tools it began with, and its rows by place."""

    tools: Any = ()
    placed: dict[tuple[int, int], dict[str, Any]] = field(default_factory=dict)
    loose: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    finals: list[Any] = field(default_factory=list)


@dataclass
class _Kept:
    """All entries of one key: those of the latest recording that has any."""

    recording: int
    entries: list[Any] = field(default_factory=list)


class Cassette:
    """A recording of tool results and model replies, and the mode it is used in.

    ``live`` passes everything through. ``record`` runs everything and appends it to the file, line by line.
    ``replay`` answers from the file alone and opens nothing. ``dummy`` runs no tool: every call is answered by
    ``dummy`` (by a value that fits ``Tool.output`` where it is None, ``"ok"`` without that). ``refuse`` refuses every
    call. ``path`` is needed to record and to replay and not touched otherwise.

    An episode that a recording holds several times (an evaluation repeated under one seed) is played back in the order
    it was recorded in, the last one for all that follow; of several recordings in one file the latest that has an
    episode counts. ``misses`` lists what a replay was asked for and did not contain. Raises ``ValueError`` for an
    unknown mode or a file that is not a cassette, and ``FileNotFoundError`` when there is nothing to replay.
    """

    def __init__(self, path: str | Path | None = None, mode: Mode = "live", *, dummy: str | None = None) -> None:
        if mode not in get_args(Mode):
            raise ValueError(f"cassette mode is {mode!r}; {nearest(str(mode), get_args(Mode))}")
        if path is None and mode in ("record", "replay"):
            raise ValueError(f"cassette mode {mode!r} needs a path")
        if dummy is not None and mode != "dummy":
            raise ValueError(f"Cassette.dummy would do nothing in the mode {mode!r}")
        self.path, self.mode, self.dummy = Path(path or ""), mode, dummy
        self.misses: list[str] = []
        self._lock = threading.Lock()
        self._served: Counter[Any] = Counter()
        self._kept: dict[Any, _Kept] = {}
        self._tape: Tape | None = None
        if mode == "record":
            self._tape = Tape(self.path)
            self._tape.write({"kind": "cassette", "version": _VERSION})
        elif mode == "replay":
            self._load()

    def __enter__(self) -> Cassette:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file of a recording; may be called twice."""
        if self._tape is not None:
            self._tape.close()

    # The next four serve both faces, worlds and policies.

    def turn(self, key: tuple[Any, ...]) -> int:
        """Count how often a key was opened before now, from 0."""
        with self._lock:
            self._served[key] += 1
            return self._served[key] - 1

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row to the recording."""
        assert self._tape is not None
        self._tape.write(row)

    def entry(self, key: tuple[Any, ...]) -> Any:
        """Return the recorded entry of a key whose turn it is, or None when the key was not recorded."""
        kept, number = self._kept.get(key), self.turn(key)
        return kept.entries[min(number, len(kept.entries) - 1)] if kept is not None else None

    def keys(self, kind: str) -> list[tuple[Any, ...]]:
        """Return the recorded keys of a kind (``episode`` or ``reply``)."""
        return [key for key in self._kept if key[0] == kind]

    def missed(self, wanted: str) -> str:
        """Note a miss and return its text."""
        text = f"not in the cassette {self.path}: {wanted}"
        with self._lock:
            self.misses.append(text)
        return text

    def _load(self) -> None:
        if not self.path.is_file():
            raise FileNotFoundError(f"no cassette {str(self.path)!r}; record one first (mode 'record')")
        recording = 0
        for number, row in rows(self.path):
            if row.get("kind") == "cassette":
                recording += 1
                if row.get("version") != _VERSION:
                    raise ValueError(f"{self.path} is a cassette of version {row.get('version')}, not {_VERSION}")
            elif not recording:
                raise ValueError(f"{self.path} is not a cassette: its first line does not say so")
            else:
                try:
                    self._take({**row, "line": number}, recording)
                except (KeyError, IndexError, TypeError) as error:
                    raise ValueError(f"{self.path}, line {number}: not a line of a cassette: {error!r}") from None

    def _take(self, row: dict[str, Any], recording: int) -> None:
        """Sort one row in."""
        if row["kind"] == "reply":
            self._newest(("reply", *row["key"]), recording).append(row)
            return
        episodes = self._newest(("episode", *row["episode"]), recording)
        name: Branch = tuple(row["branch"])
        while len(episodes) <= row["take"]:
            episodes.append({})
        branch: Rows = episodes[row["take"]].setdefault(name, Rows())
        if "tools" in row and row["kind"] != "call":
            branch.tools = row["tools"]
        if row["kind"] == "final":
            branch.finals.append(row)
        elif row["kind"] == "call" and row["place"] is not None:
            branch.placed[tuple(row["place"])] = row
        elif row["kind"] == "call":
            branch.loose.setdefault(called(row["call"]), []).append(row)

    def _newest(self, key: tuple[Any, ...], recording: int) -> list[Any]:
        kept = self._kept.get(key)
        if kept is None or kept.recording != recording:
            kept = self._kept[key] = _Kept(recording)
        return kept.entries


def called(call: Mapping[str, Any]) -> str:
    """Canonical text of an encoded call: its name, its arguments, and why it could not be read, if so."""
    return text_of([call["name"], call["arguments"], call.get("problem", "")])
