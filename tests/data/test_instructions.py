"""Instructions for groups of APIs: what a group holds, and what is read of a reply."""

from __future__ import annotations

import json

import pytest

from ferrule.core.flows import Ask
from ferrule.core.records import Message, Reply, Tool, plain_text
from ferrule.data.instructions import Instruction, api_groups, instructed, read_instructions

APIS = [
    {"tool_name": tool, "api_name": f"{tool}{i}", "category_name": kind}
    for tool, kind in (("a", "x"), ("b", "x"), ("c", "x"), ("d", "y"))
    for i in range(4)
]


def test_a_group_of_one_tool_is_all_of_its_apis() -> None:
    groups = api_groups(APIS, 5, seed=1)
    assert groups == api_groups(APIS, 5, seed=1)
    assert all(len(group) == 4 and len({api["tool_name"] for api in group}) == 1 for group in groups)


def test_a_group_of_a_category_takes_some_apis_of_some_tools() -> None:
    """Only x has two tools or more: two or three of them, with three of their four APIs each."""
    groups = api_groups(APIS, 20, within=lambda api: str(api["category_name"]), seed=2)
    sizes = {len({api["tool_name"] for api in group}) for group in groups}
    assert sizes == {2, 3}
    assert {api["category_name"] for group in groups for api in group} == {"x"}
    assert all(len(group) == 3 * len({api["tool_name"] for api in group}) for group in groups)


def test_too_few_tools_are_refused() -> None:
    with pytest.raises(ValueError, match=r"tools=\(1, 9\)"):
        api_groups(APIS, 1, within=lambda api: str(api["tool_name"]), tools=(4, 9))
    with pytest.raises(ValueError, match="nothing to group"):
        api_groups([], 1)


@pytest.mark.parametrize(
    ("rows", "queries"),
    [
        ([{"query": "Where?", "relevant": ["f"]}], ["Where?"]),
        ([{"query": "Where?", "relevant": ["f"]}, {"query": "Where? ", "relevant": ["g"]}], ["Where?"]),
        ([{"query": "Where?", "relevant": ["h"]}], []),
        ([{"query": "Where?", "relevant": []}, {"query": " ", "relevant": ["f"]}, "f", {"relevant": ["f"]}], []),
        ([{"query": "Where?", "relevant": [["f"]]}], []),
    ],
)
def test_what_is_read_of_a_reply(rows: list[object], queries: list[str]) -> None:
    read = read_instructions(f"Here:\n```json\n{json.dumps(rows)}\n```", ["f", "g"])
    assert [instruction.query for instruction in read] == queries


@pytest.mark.parametrize("text", ["", "no list", "[{", "] [", '{"query": "Where?"}'])
def test_what_is_no_list_is_nothing(text: str) -> None:
    assert read_instructions(text, ["f"]) == []


def test_a_model_is_shown_the_tools() -> None:
    flow = instructed([Tool("f", "finds", {"type": "object"}, run=str)], count=2)
    request = next(flow)
    assert isinstance(request, Ask)
    assert request.role == "writer"
    assert "f: finds" in plain_text(request.messages[0])
    with pytest.raises(StopIteration) as stop:
        flow.send((Reply(Message("assistant", '[{"query": "Where?", "relevant": ["f"]}]')),))
    assert stop.value.value == [Instruction("Where?", ("f",))]
