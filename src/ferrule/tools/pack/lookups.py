"""Tools of the pack that look something up in a file: words, weather, prices, roads, facts, articles and more."""

from __future__ import annotations

import atexit
import heapq
import json
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

from ferrule.core.arrays import nearest
from ferrule.core.records import Tool
from ferrule.tools.search import Document, search_tool
from ferrule.tools.sql import sql_tool
from ferrule.tools.tool import tool

__all__ = [
    "articles_tool", "database_tool", "knowledge_tool", "movies_tool", "recipes_tool", "route_tool", "shortest",
    "stocks_tool", "translate_tool", "weather_tool",
]  # fmt: skip


def _entry(name: str, entries: Mapping[str, Any], what: str) -> Any:
    """Return an entry by name, whatever its case; raises ``ValueError`` naming the nearest."""
    folded = {key.lower(): key for key in entries}
    if name.lower() not in folded:
        raise ValueError(f"no {what} {name!r}; {nearest(name, list(entries))}")
    return entries[folded[name.lower()]]


def translate_tool(words: Mapping[str, Mapping[str, str]]) -> Tool:
    """Return the tool ``translate`` over a table: by English word, its translation in each language."""

    @tool
    def translate(text: str, to: str) -> str:
        """Translate English words, one by one; a word that is not in the table stays in brackets.

        Args:
            text: English words
            to: the language, such as de, fr or es
        """
        languages = sorted({language for entry in words.values() for language in entry})
        if to.lower() not in languages:
            raise ValueError(f"no language {to!r}; {nearest(to, languages)}")
        parts = re.findall(r"[\w'-]+", text.lower())
        return " ".join(words.get(part, {}).get(to.lower(), f"[{part}]") for part in parts)

    return translate


def weather_tool(weather: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Tool:
    """Return the tool ``weather`` over a file: by city and date, what the weather is."""

    @tool(name="weather")
    def weather_at(city: str, day: str = "") -> dict[str, Any]:
        """Tell the weather of a city on a day, or on all days that are known.

        Args:
            city: name of the city
            day: a date such as 2026-05-01
        """
        days = _entry(city, weather, "city")
        return dict(_entry(day, days, "day")) if day else dict(days)

    return weather_at


def stocks_tool(prices: Mapping[str, Mapping[str, float]]) -> Tool:
    """Return the tool ``stocks`` over a file: by symbol and date, the closing price."""

    @tool
    def stocks(symbol: str, day: str = "") -> dict[str, Any]:
        """Tell the closing price of a share on a day, or on all days that are known.

        Args:
            symbol: symbol of the share
            day: a date such as 2026-05-01
        """
        days = _entry(symbol, prices, "symbol")
        return {day: _entry(day, days, "day")} if day else dict(days)

    return stocks


def shortest(roads: Sequence[Sequence[Any]], start: str, end: str) -> tuple[float, list[str]] | None:
    """Return length and places of the shortest way over ``[place, place, length]``, None where there is no way."""
    beside: dict[str, list[tuple[str, float]]] = {}
    for one, other, length in roads:
        beside.setdefault(one, []).append((other, length))
        beside.setdefault(other, []).append((one, length))
    waiting: list[tuple[float, list[str]]] = [(0.0, [start])]
    reached: set[str] = set()
    while waiting:
        length, way = heapq.heappop(waiting)
        if way[-1] == end:
            return length, way
        if way[-1] in reached:
            continue
        reached.add(way[-1])
        for place, further in beside.get(way[-1], ()):
            if place not in reached:
                heapq.heappush(waiting, (length + further, [*way, place]))
    return None


def route_tool(roads: Sequence[Sequence[Any]]) -> Tool:
    """Return the tool ``route`` over a list of roads ``[place, place, kilometres]``."""
    places = {str(place): str(place) for road in roads for place in road[:2]}

    @tool
    def route(start: str, end: str) -> dict[str, Any]:
        """Find the shortest way between two places.

        Args:
            start: where to start
            end: where to go
        """
        found = shortest(roads, _entry(start, places, "place"), _entry(end, places, "place"))
        if found is None:
            raise ValueError(f"no way leads from {start} to {end}")
        return {"kilometres": found[0], "places": found[1]}

    return route


def knowledge_tool(facts: Sequence[Sequence[str]]) -> Tool:
    """Return the tool ``knowledge`` over facts ``[subject, relation, object]``."""
    names = {name: name for fact in facts for name in (fact[0], fact[2])}

    @tool
    def knowledge(entity: str, relation: str = "") -> list[str]:
        """List the facts of a knowledge graph about an entity, as subject, relation, object.

        Args:
            entity: what the facts are about
            relation: only facts of this relation
        """
        name = _entry(entity, names, "entity")
        about = [fact for fact in facts if name in (fact[0], fact[2])]
        relations = sorted({fact[1] for fact in about})
        if relation and relation not in relations:
            raise ValueError(f"{name} has no relation {relation!r}; {nearest(relation, relations)}")
        return [" | ".join(fact) for fact in about if not relation or fact[1] == relation]

    return knowledge


def articles_tool(articles: Sequence[Mapping[str, str]]) -> Tool:
    """Return the tool ``search`` over articles with ``title`` and ``text``."""
    return search_tool([Document(str(i), a["title"], a["text"]) for i, a in enumerate(articles)])


def database_tool(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> Tool:
    """Return the tool ``sql`` over tables, each a list of rows with the same columns.

    Raises ``ValueError`` for a table without rows, rows that differ in their columns, and lists or objects as values.
    """
    for name, rows in tables.items():
        if not rows or any(list(row) != list(rows[0]) for row in rows):
            raise ValueError(f"table {name!r} needs rows, all with the same columns in the same order")
        if any(isinstance(value, list | Mapping) for row in rows for value in row.values()):
            raise ValueError(f"table {name!r} holds lists or objects; a value is a text, a number or null")
    return sql_tool(_database(json.dumps(tables)))


@cache
def _database(tables: str) -> Path:
    """Write tables into an SQLite file that is deleted when this process ends."""
    folder = tempfile.mkdtemp(prefix="ferrule-pack-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder) / "pack.db"
    with closing(sqlite3.connect(path)) as connection:
        for name, rows in json.loads(tables).items():
            columns = ", ".join(map(_quoted, rows[0]))
            connection.execute(f"CREATE TABLE {_quoted(name)} ({columns})")
            marks = ", ".join("?" for _ in rows[0])
            connection.executemany(
                f"INSERT INTO {_quoted(name)} VALUES ({marks})", [tuple(row.values()) for row in rows]
            )
        connection.commit()
    return path


def _quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def recipes_tool(recipes: Mapping[str, Mapping[str, Any]]) -> Tool:
    """Return the tool ``recipes`` over dishes with ``ingredients``, ``minutes`` and ``steps``."""

    @tool(name="recipes")
    def recipes_for(ingredients: list[str], most_missing: int = 0) -> dict[str, Any]:
        """Find dishes that can be cooked from what is there.

        Args:
            ingredients: what is there
            most_missing: how many ingredients of a dish may be missing
        """
        there = {name.strip().lower() for name in ingredients}
        offered: dict[str, Any] = {}
        for dish, entry in recipes.items():
            missing = [name for name in entry["ingredients"] if name.lower() not in there]
            if len(missing) <= most_missing:
                offered[dish] = {**entry, "missing": missing}
        return offered

    return recipes_for


def movies_tool(movies: Sequence[Mapping[str, Any]]) -> Tool:
    """Return the tool ``movies`` over films with ``title``, ``year``, ``director`` and ``genre``."""

    @tool(name="movies")
    def find(title: str = "", director: str = "", genre: str = "", since: int = 0) -> list[dict[str, Any]]:
        """Find films by any of these.

        Args:
            title: words of the title
            director: name of the director
            genre: such as drama or comedy
            since: the earliest year
        """
        wanted = {"title": title, "director": director, "genre": genre}
        return [
            dict(film)
            for film in movies
            if film["year"] >= since and all(value.lower() in film[key].lower() for key, value in wanted.items())
        ]

    return find
