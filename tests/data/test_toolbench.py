"""ToolBench: names and documents of APIs, and trees whose steps are up to three nodes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ferrule.core.records import plain_text
from ferrule.data.toolbench import api_name, api_tool, read_tree, relevant_of, tree_from
from ferrule.data.trees import Branch, path_preferences, solutions, step_preferences

TREES = Path(__file__).parents[3] / "shared" / "data" / "toolbench" / "example_trees"


def node(kind: str, text: str, *children: Mapping[str, Any], asked: int = 0, **more: Any) -> dict[str, Any]:
    return {"node_type": kind, "description": text, "children": list(children), "expand_num": asked, **more}


def call(
    number: int, name: str, code: int, shown: str, *children: Mapping[str, Any], **arguments: str
) -> dict[str, Any]:
    text = json.dumps(arguments)
    given = node("Action Input", text, *children, asked=number, observation=shown, observation_code=code)
    return node("Action", name, given)


def finish(number: int, kind: str, code: int, answer: str = "") -> dict[str, Any]:
    return call(number, "Finish", code, '{"response": "ok"}', return_type=kind, final_answer=answer)


def answer(*steps: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "tree": {"tree": node("Action Input", "", *steps)},
        "answer_generation": {"query": " Where? ", "function": []},
    }


TREE = answer(
    call(1, "find_for_map", 11, '{"error": "Message error...", "response": ""}', finish(2, "give_up_and_restart", 4)),
    node(
        "Thought",
        "Look it up.",
        call(
            3,
            "get_for_map",
            0,
            '{"error": "", "response": "Oslo"}',
            node("Thought", "So", finish(4, "give_answer", 3, "Oslo")),
        ),
    ),
)
"""Two first steps: one without a thought whose call fails, one with a thought that leads to an answer."""


def test_nodes_are_merged_into_steps() -> None:
    first, second = tree_from(TREE).branches
    assert [c.name for c in first.reply.calls] == ["find_for_map"]
    assert (first.failed, second.failed) == (True, False)
    assert plain_text(second.reply) == "Look it up."
    assert plain_text(second.results[0]) == '{"error": "", "response": "Oslo"}'
    (last,) = second.children
    assert (last.solved, last.notes["answer"], plain_text(last.reply)) == (True, "Oslo", "So")
    assert first.children[0].notes == {"code": 4, "state": "gave up", "pruned": False}


def test_a_thought_that_was_asked_for_alone_is_a_step() -> None:
    tree = tree_from(answer(node("Thought", "Hm.", call(2, "f_for_t", 0, "{}"), asked=1)))
    (thought,) = tree.branches
    assert (plain_text(thought.reply), thought.reply.calls, thought.results) == ("Hm.", (), ())
    assert [c.name for c in thought.children[0].reply.calls] == ["f_for_t"]


def test_the_pairs_of_a_tree() -> None:
    tree = tree_from(TREE, file="x.json")
    (pair,) = step_preferences(tree)
    assert [m.calls[0].name for m in (*pair.chosen, *pair.rejected) if not isinstance(m, str)] == [
        "get_for_map",
        "find_for_map",
    ]
    assert pair.origin == {"file": "x.json", "step": 0}
    (way,) = solutions(tree)
    assert [m.role for m in way.messages] == ["user", "assistant", "tool", "assistant"]
    assert plain_text(way.messages[0]) == "Where?"


def test_arguments_that_are_no_object_are_a_problem() -> None:
    broken = node("Action", "f_for_t", node("Action Input", "{", asked=1, observation="?", observation_code=2))
    (step,) = tree_from(answer(broken)).branches
    assert "not JSON" in step.reply.calls[0].problem
    assert step.failed


def test_names_of_apis() -> None:
    assert api_name("Products", "SEO API") == "products_for_seo_api"
    assert api_name("2FA / check!", "Pack & Send") == "get_2fa_check_for_pack_send"
    assert api_name("x" * 80, "t") == ("x" * 80 + "_for_t")[-64:]
    assert relevant_of({"relevant APIs": [["SEO API", "Products"]]}) == ["products_for_seo_api"]


def test_documents_of_apis_are_tools() -> None:
    document = {
        "tool_name": "T", "api_name": "Get", "api_description": "d" * 300,
        "required_parameters": [{"name": "q", "type": "STRING", "description": " what "}],
        "optional_parameters": [{"name": "n", "type": "NUMBER"}],
    }  # fmt: skip
    tool = api_tool(document)
    assert (tool.name, len(tool.description)) == ("get_for_t", 256)
    assert tool.parameters["required"] == ["q"]
    assert {name: entry["type"] for name, entry in tool.parameters["properties"].items()} == {
        "q": "string",
        "n": "number",
    }
    with pytest.raises(ValueError, match="lacks tool_name"):
        api_tool({"api_name": "Get"})


def test_a_file_without_a_tree_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ValueError, match=r"x\.json holds no tree"):
        read_tree(tmp_path / "x.json")


def count(branch: Branch) -> int:
    return 1 + sum(map(count, branch.children))


def test_published_trees_have_a_step_per_query() -> None:
    """Where the release's trees are at hand: as many steps as queries were counted, and the pairs of those that succeed.

    Nine of fifteen have a way to success. Four of these went back, and give 1 + 1 + 2 + 2 pairs of steps.
    """
    files = sorted(TREES.glob("*.json"))
    trees = {file.stem: read_tree(file) for file in files}
    for file in files:
        about = json.loads(file.read_text(encoding="utf-8"))["answer_generation"]
        assert sum(map(count, trees[file.stem].branches)) == about["query_count"]
    pairs = {name: len(step_preferences(tree)) for name, tree in trees.items() if solutions(tree)}
    if files:
        assert len(pairs) == 9
        assert {name: number for name, number in pairs.items() if number} == {
            "G1_57": 1,
            "G2_52": 1,
            "G3_15": 2,
            "G3_3": 2,
        }
        assert len(path_preferences(trees["G2_52"])) == 14
