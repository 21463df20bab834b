from __future__ import annotations

from typing import Any

import pytest

from ferrule.core.described import without_nulls
from ferrule.core.records import Tool

OBJECT = {"type": "object", "properties": {"x": {"type": "integer", "description": "n"}}, "required": ["x"]}
FORMS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "f", "description": "d", "parameters": OBJECT, "strict": None}},
    {"name": "f", "description": "d", "parameters": OBJECT, "function": None},
    {"name": "f", "description": "d", "inputSchema": OBJECT},
    {"name": "f", "description": "d", "input_schema": OBJECT},
    {"name": " f ", "description": "d", "parameters": {"x": {"type": "int", "description": "n"}}},
    {"name": "f", "description": "d", "parameters": {**OBJECT, "type": "dict", "additionalProperties": None}},
    {"name": "f", "description": "d", "parameters": {**OBJECT, "properties": {**OBJECT["properties"], "y": None}}},
]


@pytest.mark.parametrize("form", FORMS)
def test_schemas_in_the_forms_of_many_projects_describe_one_tool(form: dict[str, Any]) -> None:
    tool = Tool.from_schema(form)
    assert (tool.name, tool.description, dict(tool.parameters)) == ("f", "d", OBJECT)
    refused = tool.run(x=1)
    assert (refused.status, refused.executed) == ("refused", False)
    assert Tool.from_schema(form, run=lambda x: x + 1).run(x=1) == 2


def test_types_in_the_words_of_python_become_those_of_json_schema() -> None:
    kinds = {"str": "string", "float": "number", "List[int]": "array", "dict": "object", "bool, optional": "boolean"}
    tool = Tool.from_schema({"name": "f", "parameters": {name: {"type": name} for name in (*kinds, "Date")}})
    assert {name: entry.get("type") for name, entry in tool.parameters["properties"].items()} == {**kinds, "Date": None}
    assert tool.parameters["required"] == ["str", "float", "List[int]", "dict", "Date"]
    nested = {"type": "dict", "properties": {"a": {"type": "array", "items": {"type": ["float", "None"]}}}}
    inner = Tool.from_schema({"name": "f", "parameters": nested}).parameters["properties"]["a"]
    assert inner == {"type": "array", "items": {"type": ["number", "null"]}}


def test_a_tool_without_parameters_takes_none() -> None:
    for parameters in ({}, None):
        assert Tool.from_schema({"name": "f", "parameters": parameters}).parameters == {
            "type": "object",
            "properties": {},
        }


@pytest.mark.parametrize("wrong", [{}, {"name": ""}, {"function": {"description": "d"}}, {"name": 3}])
def test_what_names_no_tool_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a tool's schema is an object with a name"):
        Tool.from_schema(wrong)
    with pytest.raises(ValueError, match="the parameters of the tool 'f' are a list, not an object"):
        Tool.from_schema({"name": "f", "parameters": ["x"]})


def test_nulls_go_from_objects_and_stay_in_lists() -> None:
    assert without_nulls({"a": None, "b": {"c": None, "d": [None, {"e": None}]}}) == {"b": {"d": [None, {}]}}
