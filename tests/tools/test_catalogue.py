"""A search over documented tools that brings what it finds."""

from __future__ import annotations

import json

import pytest

from ferrule.core.records import Call, Tool
from ferrule.tools.catalogue import Arrived, document_of, finder, schema_line
from ferrule.tools.invoke import invoke
from ferrule.tools.search import Document

NOTHING = {"type": "object", "properties": {}}
CITY = {"type": "object", "properties": {"city": {"type": "string", "description": "name of the town"}}}
WEATHER = Tool("getWeather2", "Tomorrow's sky.", CITY, run=str)
ROUTE = Tool("find_route", "The way from here to there.", NOTHING, run=str)


def test_names_are_read_as_words_and_parameters_count() -> None:
    document = document_of(WEATHER)
    assert (document.id, document.title) == ("getWeather2", "getWeather2 get Weather 2")
    assert document.text == "Tomorrow's sky. city name of the town"


def test_what_is_found_arrives_with_its_schema() -> None:
    seen = invoke(finder((WEATHER, ROUTE), k=1), Call("tool_search", {"query": "weather of a town"}))
    assert isinstance(seen.data, Arrived)
    assert seen.data.tools == (WEATHER,)
    assert json.loads(seen.text)["parameters"] == CITY
    assert list(seen.data.known["scores"]) == ["getWeather2"]
    assert invoke(finder((WEATHER,)), Call("tool_search", {"query": "zzz"})).text == "no tool fits this query"


def test_another_retrieval_and_another_line() -> None:
    def last(query: str, k: int) -> list[tuple[Document, float]]:
        return [(document_of(ROUTE), 1.0)]

    seen = invoke(finder((WEATHER, ROUTE), retrieve=last, show=lambda t: t.name), Call("tool_search", {"query": "x"}))
    assert seen.text == "find_route"
    assert schema_line(ROUTE) != "find_route"


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="k is 0"):
        finder((WEATHER,), k=0)
    with pytest.raises(ValueError, match="twice: find_route"):
        finder((ROUTE, ROUTE))
    with pytest.raises(ValueError, match="needs tools"):
        finder(())
