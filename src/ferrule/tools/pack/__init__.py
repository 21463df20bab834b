"""Eighteen example tools that run without a network, over small files that come along or files of one's own.

``pack()`` returns them all, ``pack(["units", "sql"])`` some; in the shell ``--tools pack``, ``pack:units,sql``.
The choice follows the tools that "Tool Learning with Foundation Models" (paper 03) evaluates.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from ferrule.core.arrays import nearest
from ferrule.core.records import Tool
from ferrule.tools.calculator import calculator
from ferrule.tools.pack import desk, lookups, reckoning

__all__ = ["PACK", "Reads", "pack"]

Reads: TypeAlias = Callable[[str], Any]
"""Reads one of the pack's files by name: its JSON."""

PACK: Mapping[str, Callable[[Reads], Tool]] = {
    "calculator": lambda read: calculator,
    "calendar": lambda read: reckoning.calendar,
    "units": lambda read: reckoning.units,
    "chemistry": lambda read: reckoning.chemistry_tool(read("elements")),
    "table": lambda read: reckoning.table,
    "chart": lambda read: desk.chart,
    "slides": lambda read: desk.slides,
    "files": lambda read: desk.files,
    "shop": lambda read: desk.shop_tool(read("products")),
    "translate": lambda read: lookups.translate_tool(read("words")),
    "weather": lambda read: lookups.weather_tool(read("weather")),
    "stocks": lambda read: lookups.stocks_tool(read("prices")),
    "route": lambda read: lookups.route_tool(read("roads")),
    "knowledge": lambda read: lookups.knowledge_tool(read("facts")),
    "search": lambda read: lookups.articles_tool(read("articles")),
    "sql": lambda read: lookups.database_tool(read("database")),
    "recipes": lambda read: lookups.recipes_tool(read("recipes")),
    "movies": lambda read: lookups.movies_tool(read("movies")),
}
"""What builds each tool of the pack from its file, by name."""
_FOLDER = Path(__file__).parent / "data"


def pack(names: Sequence[str] = (), *, data: str | Path | None = None) -> tuple[Tool, ...]:
    """Return the tools of these names, all of them where none is named.

    A file of ``data`` (``weather.json``) takes the place of the one that comes along; those in
    ``ferrule/tools/pack/data`` show the form. What an episode writes (files, slides, the cart of the shop) is its own.
    Raises ``ValueError`` for an unknown name and a file that is not JSON, ``FileNotFoundError`` for a missing folder.
    """
    for name in names:
        if name not in PACK:
            raise ValueError(f"the pack has no tool {name!r}; {nearest(name, list(PACK))}")
    folder = None if data is None else Path(data)
    if folder is not None and not folder.is_dir():
        raise FileNotFoundError(f"no folder {str(folder)!r} with files of the pack")

    def read(stem: str) -> Any:
        own = folder / f"{stem}.json" if folder is not None else _FOLDER
        path = own if own.is_file() else _FOLDER / f"{stem}.json"
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is not JSON: {error}") from None

    return tuple(PACK[name](read) for name in dict.fromkeys(names or PACK))
