"""The batch form of raw model texts: what is read, what is run, how results are shown, and where they stand."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.serve.serving_kit import Kit

from ferrule.core.records import Call, Tool
from ferrule.serve.batch import BadBatch, observe, read_action, read_batch
from ferrule.serve.host import InProcess, Limits
from ferrule.serve.toolset import Toolset

PYTHON = Toolset(("python", "calculator"))
KIT = Kit().tools


def calls(text: str, tools: tuple[Tool, ...] = PYTHON.tools) -> list[tuple[str, Any]]:
    action = read_action(text, tools)
    return [] if action is None else [(call.name, dict(call.arguments)) for call in action.calls]


def posted(host: InProcess, *items: tuple[str, str], **lists: Any) -> dict[str, Any]:
    """Send one batch of (trajectory, action)."""
    body = {"trajectory_ids": [name for name, _ in items], "actions": [text for _, text in items], **lists}
    return asyncio.run(asyncio.wait_for(observe(host, read_batch(body)), 60))


def test_code_is_found_in_tags_and_fences() -> None:
    assert calls("think <python> a = 1 </python> and <python>b</python>") == [("python", {"code": "a = 1\nb"})]
    assert calls("```python\nx = 2\n```") == [("python", {"code": "x = 2"})]
    assert calls("```py\nx = 3\n```") == [("python", {"code": "x = 3"})]
    assert calls("no code here, <python> is never closed") == []


def test_every_tool_is_found_in_tags_of_its_name_and_in_tool_calls() -> None:
    assert calls("<calculator>1 + 1</calculator>") == [("calculator", {"expression": "1 + 1"})]
    text = '<tool_call>{"name": "calculator", "arguments": {"expression": "2*3"}}</tool_call>'
    assert calls(text) == [("calculator", {"expression": "2*3"})]
    assert calls('<tool_call>{"name": "nobody", "arguments": {}}</tool_call>') == []
    assert calls("<add><number>4</number></add>", KIT) == [("add", {"number": 4})]


def test_the_first_tool_in_order_wins() -> None:
    text = "<calculator>1</calculator> <python>2</python>"
    assert calls(text)[0][0] == "python"
    assert calls(text, PYTHON.tools[::-1])[0][0] == "calculator"


def test_sql_is_read_from_its_tags_and_a_solution_ends_the_trajectory() -> None:
    schema = {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}
    sql = (Tool("sql", "", schema, lambda query: query),)
    assert calls("<sql>SELECT 1</sql> <sql>SELECT 2</sql>", sql) == [("sql", {"query": "SELECT 2"})]

    class Sql:
        tools = sql

        async def act(self, episode: str, call: Call, seconds: float | None = None) -> Any:
            raise AssertionError("a solution runs nothing")

        async def end(self, episode: str) -> None:
            pass

    body = {"trajectory_ids": ["t"], "actions": ["<solution>SELECT 2</solution>"]}
    said = asyncio.run(observe(Sql(), read_batch(body)))
    assert (said["observations"], said["dones"], said["valids"]) == ([""], [True], [False])


def test_results_stand_where_their_actions_stood() -> None:
    host = InProcess(Kit().open)
    slow = "<late><number>1</number><seconds>0.1</seconds></late>"
    said = posted(
        host, ("a", slow), ("b", "nothing"), ("c", "<add>3</add>"), ("a", "<add>4</add>"), ("d", "<fail></fail>")
    )
    wrapped = [one if isinstance(one, str) else one["obs"] for one in said["observations"]]
    assert wrapped == [
        "\n<result>\na 1\n</result>\n",
        "",
        "\n<result>\nc 3\n</result>\n",
        "\n<result>\na 5\n</result>\n",
        "",
    ]
    assert said["dones"] == [False, False, False, False, True]
    assert said["valids"] == [True, False, True, True, False]
    assert said["observations"][4]["error"] == "RuntimeError: it broke"
    assert said["processing_time_ms"] >= said["queue_time_ms"] >= 0


def test_nobody_takes_the_action() -> None:
    host = InProcess(Kit().open)
    body = read_batch({"trajectory_ids": ["t"], "actions": ["just words"]})
    for done_if_invalid in (False, True):
        said = asyncio.run(observe(host, body, done_if_invalid=done_if_invalid))
        (seen,) = said["observations"]
        assert seen["obs"] == ""
        assert seen["invalid_reason"]
        assert "add: Add to the total" in seen["available_tools"]
        assert (said["dones"], said["valids"]) == ([done_if_invalid], [False])


def test_an_action_said_twice_is_run_twice() -> None:
    """Totals 2 and 4 within a batch, 6 in the next one: nothing is answered from memory."""
    host = InProcess(Kit().open)
    twice = posted(host, ("t", "<add>2</add>"), ("t", "<add>2</add>"))["observations"]
    assert twice == ["\n<result>\nt 2\n</result>\n", "\n<result>\nt 4\n</result>\n"]
    assert posted(host, ("t", "<add>2</add>"))["observations"] == ["\n<result>\nt 6\n</result>\n"]


def test_finish_frees_the_trajectory_and_terminal_tools_end_it() -> None:
    host = InProcess(Kit().open)
    posted(host, ("t", "<add>2</add>"), ("u", "<add>2</add>"))
    said = posted(host, ("t", "<add>9</add>"), ("u", "<add>1</add>"), finish=[True, False])
    assert (said["observations"], said["dones"], said["valids"]) == (
        ["", "\n<result>\nu 3\n</result>\n"],
        [True, False],
        [True, True],
    )
    assert posted(host, ("t", "<add>1</add>"))["observations"] == ["\n<result>\nt 1\n</result>\n"]
    ended = posted(host, ("u", "<stop></stop>"), ("t", ""), extra_fields=[{}, {"finish": True}])
    assert (ended["dones"], ended["valids"]) == ([True, True], [True, True])
    assert host.figures()["live"] == 1


def test_a_host_that_refuses_ends_the_trajectory() -> None:
    host = InProcess(Kit().open, limits=Limits(episodes=1))
    posted(host, ("t", "<add>2</add>"))
    said = posted(host, ("u", "<add>2</add>"))
    assert said["observations"][0]["reason"] == "too_many_episodes"
    assert said["observations"][0]["obs"] == ""
    assert (said["dones"], said["valids"]) == ([True], [False])


def test_malformed_arguments_are_told_and_not_valid() -> None:
    said = posted(InProcess(Kit().open), ("t", '<tool_call>{"name": "add", "arguments": {"numbr": 1}}</tool_call>'))
    assert "numbr" in said["observations"][0]
    assert said["observations"][0].startswith("\n<tool_response>\n")
    assert (said["dones"], said["valids"]) == ([False], [False])


def test_python_results_are_wrapped_as_the_action_asks() -> None:
    """Closed fence, open fence, tags: three wrappings; errors of the code are text, and valid."""
    host = InProcess(PYTHON.open, tools=PYTHON.tools)
    said = posted(
        host,
        ("a", "```python\nprint(1)\n```"),
        ("b", "```python\nprint(2)\n```\n```output"),
        ("c", "<python>print(3)</python><result>"),
        ("d", "<python>1/0</python>"),
        ("e", "<python>print(input() + input())</python>"),
        extra_fields=[{}, {}, {}, {}, {"stdin": "x\ny"}],
    )
    assert said["observations"][:3] == ["\n```result\n1\n```\n", "\n2\n```\n", "\n3\n</result>\n"]
    assert "ZeroDivisionError" in said["observations"][3]
    assert said["observations"][4] == "\n<result>\nxy\n</result>\n"
    assert said["valids"] == [True] * 5
    assert said["dones"] == [False] * 5
    asyncio.run(host.aclose())


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ([], "JSON object"),
        ({"actions": ["a"]}, "trajectory_ids"),
        ({"trajectory_ids": [], "actions": []}, "trajectory_ids"),
        ({"trajectory_ids": ["t"], "actions": "a"}, "actions"),
        ({"trajectory_ids": ["t"], "actions": ["a", "b"]}, "actions has 2 items and trajectory_ids 1"),
        ({"trajectory_ids": ["t"], "actions": ["a"], "finish": [1]}, "finish"),
        ({"trajectory_ids": ["t"], "actions": ["a"], "is_last_step": []}, "is_last_step has 0 items"),
        ({"trajectory_ids": ["t"], "actions": ["a"], "extra_fields": ["x"]}, "extra_fields"),
        ({"trajectory_ids": ["t" * 257], "actions": ["a"]}, "256"),
    ],
)
def test_bodies_of_another_form_are_refused(body: Any, said: str) -> None:
    with pytest.raises(BadBatch, match=said):
        read_batch(body)


def test_finish_and_last_step_are_copied_into_the_extra_fields() -> None:
    body = {"trajectory_ids": ["t", 5], "actions": ["a", "b"], "finish": [True, False], "is_last_step": [False, True]}
    batch = read_batch({**body, "extra_fields": [{"x": 1, "finish": False}, None]})
    assert batch.trajectories == ("t", "5")
    assert batch.extras == (
        {"x": 1, "finish": False, "is_last_step": False},
        {"finish": False, "is_last_step": True},
    )
