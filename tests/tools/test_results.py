"""Schemas that are read off results."""

from __future__ import annotations

import pytest

from ferrule.tools.results import induced, outline, typed
from ferrule.tools.schema import problem

RESULT = {"a": 1, "b": [{"c": "x", "d": [1.5, 2]}, {"e": 1}], "f": [], "g": None, "h": True}


def test_the_first_element_stands_for_a_list_as_published() -> None:
    """The second element of ``b`` is not looked at."""
    form = {"a": "int", "b": [{"c": "str", "d": ["float"]}], "f": [], "g": "NoneType", "h": "bool"}
    assert typed(induced(RESULT, first=True)) == form


def test_all_elements_count_and_what_some_lack_is_not_required() -> None:
    """``d`` holds a float and an integer; no element has both ``c`` and ``e``."""
    schema = induced(RESULT)
    assert typed(schema)["b"] == [{"c": "str", "d": ["float | int"], "e": "int"}]
    assert schema["properties"]["b"]["items"]["required"] == []
    assert schema["required"] == ["a", "b", "f", "g", "h"]
    assert problem(RESULT, schema, schema) == ""
    first = induced(RESULT, first=True)
    assert problem(RESULT, first, first)  # the ablation: the schema of first elements refuses its own result


def test_several_results_are_joined() -> None:
    schema = induced({"a": 1}, {"a": None, "b": "x"})
    assert typed(schema) == {"a": "int | NoneType", "b": "str"}
    assert schema["required"] == ["a"]
    assert typed(induced([1], "x")) == 'str | ["int"]'


def test_an_outline_has_a_line_per_part() -> None:
    lines = [
        "- execution result: dict",
        "\t- a: int",
        "\t- b: list",
        "\t\t- b[0]: dict",
        "\t\t\t- c: str",
        "\t- f: list",
    ]
    assert outline(induced({"a": 1, "b": [{"c": "x"}], "f": []}), "execution result").splitlines() == lines


def test_what_has_no_schema_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one result"):
        induced()
    with pytest.raises(TypeError, match="holds a set"):
        induced({"a": {1}})
