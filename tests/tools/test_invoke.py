"""Checking, repairing, running and rendering one call."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.limits import LATE

from ferrule.core.records import Call, Observation, Tool
from ferrule.tools import tool
from ferrule.tools.invoke import invoke, render


@tool
def show(
    count: int,
    ratio: float = 0.5,
    kind: Literal["red", "blue"] = "red",
    tags: list[int] | None = None,
    options: dict[str, int] | None = None,
    flag: bool = False,
    day: dt.date = dt.date(2024, 1, 1),
    note: str = "",
) -> list[Any]:
    """Return what came in."""
    return [count, ratio, kind, tags, options, flag, str(day), note]


def call(**arguments: Any) -> Observation:
    return invoke(show, Call("show", arguments))


def test_good_arguments_need_no_repair() -> None:
    seen = call(count=1, ratio=2, kind="blue", tags=[1], options={"a": 1}, flag=True, day="2024-02-03", note="n")
    assert (seen.status, seen.repairs) == ("ok", ())
    assert seen.text == '[1,2.0,"blue",[1],{"a":1},true,"2024-02-03","n"]' or seen.data[1] == 2
    assert seen.data[6] == "2024-02-03"


@pytest.mark.parametrize(
    ("arguments", "at", "value", "repair"),
    [
        ({"count": "3"}, 0, 3, "number:count"),
        ({"count": 3.0}, 0, 3, "number:count"),
        ({"count": "3.0"}, 0, 3, "number:count"),
        ({"count": 1, "ratio": "0.25"}, 1, 0.25, "number:ratio"),
        ({"count": 1, "kind": "Blue"}, 2, "blue", "case:kind"),
        ({"count": 1, "tags": 7}, 3, [7], "list:tags"),
        ({"count": 1, "tags": ["1", 2]}, 3, [1, 2], "nested:tags"),
        ({"count": 1, "tags": "[1, 2]"}, 3, [1, 2], "json:tags"),
        ({"count": 1, "tags": "null"}, 3, None, "null:tags"),
        ({"count": 1, "options": '{"a": "2"}'}, 4, {"a": 2}, "json:options"),
        ({"count": 1, "flag": "true"}, 5, True, "boolean:flag"),
        ({"count": 1, "note": 12}, 7, "12", "text:note"),
    ],
)
def test_repairs_are_made_and_named(arguments: Mapping[str, Any], at: int, value: Any, repair: str) -> None:
    seen = invoke(show, Call("show", arguments, repairs=("quotes",)))
    assert seen.status == "ok"
    assert seen.data[at] == value
    assert seen.repairs == ("quotes", repair)


def test_what_does_not_fit_is_malformed_and_says_why() -> None:
    seen = call(count=1.5)
    assert seen.status == "malformed"
    assert "argument 'count' of show should be int" in seen.text
    assert "got 1.5" in seen.text
    assert call(count=1, kind="green").status == "malformed"
    missing = call(ratio=1.0)
    assert missing.status == "malformed"
    assert "show misses the argument 'count'; call it as show(count: int" in missing.text
    unknown = call(count=1, kin="red")
    assert "show has no argument 'kin'; did you mean 'kind'?" in unknown.text
    assert invoke(show, Call("show", [1])).status == "malformed"  # type: ignore[arg-type]
    broken = invoke(show, Call("show", problem="no closing brace", repairs=("trim",)))
    assert (broken.status, broken.text, broken.repairs) == ("malformed", "no closing brace", ("trim",))


SCHEMA = {
    "type": "object",
    "properties": {
        "n": {"type": "integer", "minimum": 1},
        "mode": {"enum": ["a", "b"]},
        "rows": {"type": "array", "items": {"$ref": "#/$defs/Row"}},
    },
    "required": ["n"],
    "$defs": {"Row": {"type": "object", "properties": {"k": {"type": "number"}}, "required": ["k"]}},
}
BARE = Tool("bare", "A tool with nothing but a schema.", SCHEMA, run=lambda **given: given)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ({"n": 2, "mode": "a", "rows": [{"k": 1.5}]}, "ok", '{"n":2,"mode":"a","rows":[{"k":1.5}]}'),
        ({"n": "2"}, "ok", '{"n":2}'),
        ({"n": 1, "rows": [{"k": "1.5"}]}, "ok", '{"n":1,"rows":[{"k":1.5}]}'),
        ({"n": 1, "rows": {"k": 1}}, "ok", '{"n":1,"rows":[{"k":1}]}'),
        ({"n": 0}, "malformed", "at least 1"),
        ({"n": True}, "malformed", "should be int"),
        ({"n": 1, "mode": "c"}, "malformed", 'one of "a", "b"'),
        ({"n": 1, "rows": [{}]}, "malformed", "item 0 misses 'k'"),
        ({"n": 1, "m": 2}, "malformed", "has no argument 'm'"),
        ({}, "malformed", "misses the argument 'n'"),
    ],
)
def test_tools_with_only_a_schema_are_checked_too(arguments: dict[str, Any], status: str, said: str) -> None:
    seen = invoke(BARE, Call("bare", arguments))
    assert seen.status == status
    assert said in seen.text


def test_endless_loop_in_a_thread_times_out_and_its_thread_ends() -> None:
    @tool(seconds=0.3)
    def spin() -> None:
        while True:
            pass

    start = time.monotonic()
    seen = invoke(spin, Call("spin"))
    assert (seen.status, seen.text) == ("timeout", "spin was stopped after 0.3 s")
    assert time.monotonic() - start < 0.3 + LATE
    end = time.monotonic() + LATE
    while any(thread.name == "tool spin" for thread in threading.enumerate()) and time.monotonic() < end:
        time.sleep(0.01)
    assert not any(thread.name == "tool spin" for thread in threading.enumerate())


def test_async_tools_run_are_cancelled_and_keep_their_own_timeouts() -> None:
    cancelled = []

    @tool
    async def work(wait: float, fail: bool = False) -> str:
        if fail:
            raise TimeoutError("server too slow")
        try:
            await asyncio.sleep(wait)
        except asyncio.CancelledError:
            cancelled.append(wait)
            raise
        return "done"

    assert invoke(work, Call("work", {"wait": 0})).text == "done"
    assert invoke(work, Call("work", {"wait": 30}), seconds=0.2).status == "timeout"
    assert cancelled == [30]
    own = invoke(work, Call("work", {"wait": 0, "fail": True}))
    assert (own.status, own.text) == ("error", "TimeoutError: server too slow")


def test_isolated_tools_die_at_the_limit_and_return_through_json() -> None:
    @tool(seconds=0.5, isolated=True)
    def work(kind: str) -> Any:
        if kind == "loop":
            while True:
                pass
        if kind == "crash":
            os.kill(os.getpid(), 9)
        if kind == "exit":
            os._exit(3)
        if kind == "raise":
            raise SystemExit("bye")
        return {"pid": os.getpid() != parent, "set": {1}}

    parent = os.getpid()
    good = invoke(work, Call("work", {"kind": "good"}), seconds=10)
    assert (good.status, good.data) == ("ok", {"pid": True, "set": [1]})
    start = time.monotonic()
    assert invoke(work, Call("work", {"kind": "loop"})).status == "timeout"
    assert time.monotonic() - start < 0.5 + LATE
    assert "signal SIGKILL" in invoke(work, Call("work", {"kind": "crash"}), seconds=10).text
    assert "exit code 3" in invoke(work, Call("work", {"kind": "exit"}), seconds=10).text
    left = invoke(work, Call("work", {"kind": "raise"}), seconds=10)
    assert (left.status, left.text) == ("error", "SystemExit: bye")


class Nasty(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("problem", [ValueError("v"), SystemExit(2), KeyboardInterrupt(), GeneratorExit(), Nasty()])
def test_whatever_a_tool_raises_becomes_an_error(problem: BaseException) -> None:
    def fail() -> None:
        raise problem

    seen = invoke(tool(fail), Call("fail"))
    assert seen.status == "error"
    assert type(problem).__name__ in seen.text


class Loop:
    def __repr__(self) -> str:
        raise ValueError("no")


def test_rendering() -> None:
    assert render("as it is").text == "as it is"
    assert render({"a": [1, None, True], "b": "é"}).text == '{"a":[1,null,true],"b":"é"}'
    assert render(np.float64(1.5)).data == 1.5
    assert render({"m": np.arange(3)}).data == {"m": [0, 1, 2]}
    assert render(Observation("o", "refused")).status == "refused"
    assert render(object()).text.startswith(('"<object', "<object"))
    assert "cannot be shown" in render(Loop()).text
    ring: list[Any] = []
    ring.append(ring)
    assert render(ring).text == "[[...]]"
    assert render(10**5000).status == "ok"
    assert render("\ud800").text == "\ud800"
    bad = tool(lambda: "a\ud800b", name="bad")
    assert invoke(bad, Call("bad")).text == "a\ufffdb"


def test_limit_and_terminal() -> None:
    @tool(terminal=True)
    def say(fail: bool = False) -> str:
        if fail:
            raise ValueError("x")
        return "0123456789"

    seen = invoke(say, Call("say"), limit=4)
    assert seen.text == "01\n[... 6 characters left out ...]\n89"
    assert seen.terminal
    assert invoke(say, Call("say"), limit=4, keep="tail").text == "[... 6 characters left out ...]\n6789"
    assert not invoke(say, Call("say", {"fail": True})).terminal


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
STATUSES = ("ok", "malformed", "error")
NAMES = st.sampled_from([*show.parameters["properties"], "n", "rows", "mode", "zzz"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(arguments=st.dictionaries(NAMES, JSON, max_size=4) | JSON)
def test_no_arguments_ever_raise(arguments: Any) -> None:
    for target in (show, BARE):
        seen = invoke(target, Call(target.name, arguments))
        assert seen.status in STATUSES
        seen.text.encode("utf-8")


@settings(max_examples=100, deadline=None)
@given(schema=JSON, value=JSON)
def test_no_schema_ever_raises(schema: Any, value: Any) -> None:
    odd = Tool("odd", "", {"type": "object", "properties": {"a": schema}}, run=lambda a=None: "ran")
    assert invoke(odd, Call("odd", {"a": value})).status in STATUSES


@tool
def count(to: int) -> Iterator[int]:
    """Count, for ever with 0."""
    number = 0
    while number < to or not to:
        number += 1
        yield number


@tool
async def count_later(to: int) -> AsyncIterator[int]:
    """Count, for ever with 0."""
    number = 0
    while number < to or not to:
        number += 1
        yield number


@pytest.mark.parametrize(
    "tool_that_yields", [count, count_later, replace(count, run=replace(count.run, isolated=True))]
)
def test_what_a_generator_yields_is_a_list(tool_that_yields: Tool) -> None:
    seen = invoke(tool_that_yields, Call("count", {"to": 3}))
    assert (seen.status, seen.text, seen.data) == ("ok", "[1,2,3]", [1, 2, 3])
    endless = invoke(tool_that_yields, Call("count", {"to": 0}))
    assert (endless.status, endless.text) == ("error", "ValueError: the tool yields more than 10000 values")
