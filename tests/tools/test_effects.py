"""Effects put to use: safe retries, the cache of reads, and branches that cannot do the irreversible twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from ferrule.core.records import Call, Observation, Task, Tool
from ferrule.tools import tool
from ferrule.tools.budget import Budget
from ferrule.tools.effects import (
    Cache,
    Cached,
    Hit,
    Retrying,
    branch,
    numbers_of,
    repeatable,
    result_of,
    version_of,
    words_of,
)  # fmt: skip
from ferrule.worlds.session import ToolSession

NONE = {"type": "object", "properties": {}}
KEY = {"type": "object", "properties": {"key": {"type": "string"}}, "required": ["key"]}


def failing(times: int, **more: Any) -> Tool:
    """A tool that fails so many times and then says how often it was called."""
    calls = 0

    def run() -> str:
        nonlocal calls
        calls += 1
        if calls <= times:
            raise ConnectionError("down")
        return f"call {calls}"

    return Tool("f", "", NONE, run, **more)


def retrying(one: Tool, *, total: float = 99, **more: Any) -> tuple[Retrying, list[float]]:
    slept: list[float] = []
    session = ToolSession(Task("t", "p"), lambda state: (one,), budget=Budget(total=total))
    settings = {"sleep": slept.append, "clock": lambda: sum(slept), **more}
    return Retrying(session, **settings), slept


def test_a_read_is_tried_again_after_growing_pauses() -> None:
    """Pauses of .1, .2 and .4 s before the second, third and fourth call."""
    session, slept = retrying(failing(3), attempts=4)
    assert session.act(Call("f")).text == "call 4"
    assert slept == pytest.approx([0.1, 0.2, 0.4])
    assert session.repeated == 3


@pytest.mark.parametrize(
    ("more", "calls"),
    [
        ({"effects": "read"}, 3),
        ({"effects": "write", "idempotent": True}, 3),
        ({"effects": "irreversible", "idempotent": True}, 3),
        ({"effects": "write"}, 1),
        ({"effects": "irreversible"}, 1),
        ({"effects": "read", "terminal": True}, 1),
    ],
)
def test_only_what_may_be_repeated_is(more: dict[str, Any], calls: int) -> None:
    one = failing(99, **more)
    session, _ = retrying(one)
    seen = session.act(Call("f"))
    assert session.repeated == calls - 1
    assert repeatable(one) == (calls > 1)
    assert seen.text == "ConnectionError: down" + ("\n(tried 3 times)" if calls > 1 else "")


def test_an_attempt_begins_only_when_its_own_limit_still_fits() -> None:
    """A limit of 10 s per call: after 3 pauses of 5, 10 and 20 s the clock is at 35, and 35 + 40 + 10 > 60."""
    session, slept = retrying(failing(99, seconds=10), attempts=50, pause=5, seconds=60)
    session.act(Call("f"))
    assert slept == [5, 10, 20]
    session, slept = retrying(failing(99, seconds=10), seconds=10, pause=0.1)
    session.act(Call("f"))
    assert slept == []


def test_attempts_are_charged_and_a_spent_budget_does_not_hide_the_failure() -> None:
    session, _ = retrying(failing(99), total=2, attempts=5)
    seen = session.act(Call("f"))
    assert (seen.status, seen.text) == ("error", "ConnectionError: down\n(tried 2 times)")
    assert session.act(Call("f")).status == "refused"


def test_refusals_and_unreadable_calls_are_not_repeated() -> None:
    session, slept = retrying(failing(0))
    for call in (Call("g"), Call("f", {"x": 1}), Call("f", problem="?")):
        assert session.act(call).status in ("unknown_tool", "malformed")
    assert slept == []
    with pytest.raises(ValueError, match="attempts is 0"):
        retrying(failing(0), attempts=0)


@dataclass
class Shelf:
    """A store that counts how often it was really asked."""

    kept: dict[str, int] = field(default_factory=dict)
    asked: int = 0

    def get(self, key: str) -> Any:
        self.asked += 1
        return self.kept[key]

    def put(self, key: str) -> str:
        self.kept[key] = self.kept.get(key, 0) + 1
        return "kept"


def shelf_tools(shelf: Shelf) -> tuple[Tool, ...]:
    return (Tool("get", "", KEY, shelf.get), Tool("put", "", KEY, shelf.put, effects="write"))


def shelf(total: float = 99, **more: Any) -> tuple[Cached, Shelf]:
    state = Shelf({"a": 1})
    return Cached(ToolSession(Task("t", "p"), shelf_tools, state, budget=Budget(total=total)), **more), state


A, B = Call("get", {"key": "a"}), Call("put", {"key": "b"})


def test_a_repeated_read_runs_no_tool_and_charges_nothing() -> None:
    session, state = shelf(total=1)
    first = session.act(A)
    for _ in range(3):
        again = session.act(A)
        assert (again.text, again.status, again.data) == ("1", "ok", {"cached": True, "result": 1})
        assert isinstance(again.data, Hit)
    assert (first.data, state.asked) == (1, 1)
    assert session.act(Call("get", {"key": "c"})).status == "refused"


def test_any_write_ends_what_the_cache_knew() -> None:
    session, state = shelf()
    session.act(A)
    session.act(Call("put", {"key": "a"}))
    assert session.act(A).text == "2"
    assert state.asked == 2
    session.act(Call("put", {"wrong": "b"}))  # it never ran
    assert session.act(A).text == "2"
    assert state.asked == 2


def test_failures_are_not_kept() -> None:
    session, state = shelf()
    for _ in range(2):
        assert session.act(Call("get", {"key": "z"})).status == "error"
    assert state.asked == 2


def test_branches_share_the_past_and_nothing_after() -> None:
    session, state = shelf()
    session.act(A)
    twin = session.fork()
    assert isinstance(twin.act(A).data, Hit)
    twin.act(Call("put", {"key": "a"}))
    assert twin.act(A).text == "2"
    assert session.act(A).text == "1"
    assert isinstance(session.act(A).data, Hit)
    assert state.asked == 1


def test_sessions_that_share_a_cache_share_stable_tools_only() -> None:
    cache = Cache()
    for stable, asked in (((), 1), (("get",), 0)):
        shelf(cache=cache, stable=stable)[0].act(A)
        session, state = shelf(cache=cache, stable=stable)
        session.act(A)
        assert state.asked == asked


def test_the_key_is_tool_version_and_canonical_arguments() -> None:
    two = {"type": "object", "properties": {"a": {}, "b": {}}}
    count = [0]

    def look(a: Any = None, b: Any = None) -> int:
        count[0] += 1
        return count[0]

    session = Cached(ToolSession(Task("t", "p"), lambda s: (Tool("look", "", two, look),)))
    texts = [
        session.act(Call("look", arguments)).text
        for arguments in ({"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1.0, "b": 2}, {"a": True, "b": 2}, {"a": 1})
    ]
    assert texts == ["1", "1", "2", "3", "4"]
    described = Tool("look", "another", two, look)
    assert version_of(described) != version_of(Tool("look", "", two, look)) == version_of(Tool("look", "", two, str))
    odd = session.act(Call("look", {"a": object()}))
    assert odd.status == "ok"  # what has no JSON form is passed through and never kept


ASK = {"type": "object", "properties": {"query": {"type": "string"}, "k": {"type": "integer"}}, "required": ["query"]}


@pytest.mark.parametrize(
    ("first", "second", "ran"),
    [
        ({"query": "Capital of France?"}, {"query": "capital  of france"}, 1),
        ({"query": "capital of France"}, {"query": "capitol of France"}, 1),  # 16 of 17 letters: 32 / 34 = .94
        ({"query": "capital of France"}, {"query": "capital of Greece"}, 2),  # 14 of 17: .82
        ({"query": "population of Rome in 1990"}, {"query": "population of Rome in 1991"}, 2),  # .96, another number
        ({"query": "temperature 5 below"}, {"query": "temperature -5 below"}, 2),
        ({"query": "capital of France", "k": 1}, {"query": "capitol of France", "k": 2}, 2),
        ({"query": "???"}, {"query": "!!!"}, 2),
        ({"query": ""}, {}, 2),
    ],
)
def test_similar_questions_share_a_result(first: dict[str, Any], second: dict[str, Any], ran: int) -> None:
    """The ratio is twice the equal letters over the letters of both texts in normal form; the least is .9."""
    asked: list[str] = []

    def search(query: str = "none", k: int = 3) -> str:
        asked.append(query)
        return query

    one = Tool("search", "", ASK | {"required": []}, search)
    session = Cached(ToolSession(Task("t", "p"), lambda s: (one,)), alike={"search": "query"})
    session.act(Call("search", first))
    again = session.act(Call("search", second))
    assert len(asked) == ran
    assert isinstance(again.data, Hit) is (ran == 1)
    exact = Cached(ToolSession(Task("t", "p"), lambda s: (one,)))
    exact.act(Call("search", first))
    assert not isinstance(exact.act(Call("search", second)).data, Hit)


@pytest.mark.parametrize(
    ("second", "by_numbers", "by_words"),
    [
        ("largest city by population in South Korea", True, False),  # 39 of 41 letters: 78 / 82 = .95
        ("population by city in North Korea: largest?", False, True),  # the same words
        ("largest city by population in the North, Korea", True, False),  # 41 letters of 41 and 45: 82 / 86 = .95
    ],
)
def test_words_in_common_are_stricter_than_letters(second: str, by_numbers: bool, by_words: bool) -> None:
    first = {"query": "largest city by population in North Korea"}
    tools = (Tool("search", "", ASK, lambda query, k=3: query),)
    for strict, expected in (({"shared": numbers_of}, by_numbers), ({"shared": words_of, "least": 0.3}, by_words)):
        session = Cached(ToolSession(Task("t", "p"), lambda s: tools), alike={"search": "query"}, **strict)
        session.act(Call("search", first))
        again = session.fork().act(Call("search", {"query": second}))  # a branch compares as its trunk does
        assert isinstance(again.data, Hit) is expected


def test_a_similar_result_says_what_was_asked_and_ends_with_the_state() -> None:
    """Writes end what is known of similar questions as well; branches know what their trunk knew."""

    def store(kept: dict[str, str]) -> tuple[Tool, ...]:
        def note(query: str) -> None:
            kept["last"] = query

        return (Tool("search", "", ASK, lambda query, k=3: query), Tool("note", "", ASK, note, effects="write"))

    session = Cached(ToolSession(Task("t", "p"), store, {}), alike={"search": "query"})
    session.act(Call("search", {"query": "Capital of France"}))
    again = session.fork().act(Call("search", {"query": "capitol of France"}))
    assert (again.text, again.data) == (
        "Capital of France", {"cached": True, "result": None, "asked": "capital of france"}
    )  # fmt: skip
    assert (session.cache.hits, session.cache.misses) == (1, 1)
    session.act(Call("note", {"query": "x"}))
    assert session.act(Call("search", {"query": "capitol of France"})).text == "capitol of France"


def test_a_call_without_the_text_is_similar_to_none() -> None:
    cache = Cache()
    cache.put(("search", None), Observation("nothing asked"))
    assert cache.alike(("search", "none"), 0.5) is None


def test_what_counts_as_similar_is_checked() -> None:
    tools = (Tool("search", "", ASK, str),)
    with pytest.raises(ValueError, match="did you mean 'query'"):
        Cached(ToolSession(Task("t", "p"), lambda s: tools), alike={"search": "quary"})
    with pytest.raises(ValueError, match="least is 0"):
        Cached(ToolSession(Task("t", "p"), lambda s: tools), least=0.0)


def test_the_cache_is_bounded_and_drops_what_was_not_used_longest() -> None:
    cache = Cache(2)
    for name in "ab":
        cache.put((name,), Observation(name))
    cache.get(("a",))
    cache.put(("c",), Observation("c"))
    assert (len(cache), cache.get(("b",)), cache.get(("a",))) == (2, None, Observation("a"))
    assert (cache.hits, cache.misses) == (2, 1)
    with pytest.raises(ValueError, match="least is 1"):
        Cache(0)


def test_results_of_hits_and_texts() -> None:
    assert result_of(Observation("x", data=Hit(cached=True, result=[1]))) == [1]
    assert result_of(Observation("[1", data=None)) == "[1"
    assert result_of(Observation("null"), {"type": "null"}) is None
    assert result_of(Observation("x", data={"cached": True, "result": 1})) == {"cached": True, "result": 1}


def mail() -> tuple[ToolSession, list[str]]:
    sent: list[str] = []

    def send(key: str) -> str:
        sent.append(key)
        return "sent"

    tools = (Tool("send", "", KEY, send, effects="irreversible"), Tool("look", "", NONE, lambda: "ok"))
    return ToolSession(Task("t", "p"), lambda state: tools), sent


@pytest.mark.parametrize("wrap", [lambda s: s, Retrying, Cached, lambda s: Cached(Retrying(s))])
def test_an_irreversible_tool_is_refused_in_branches(wrap: Callable[[Any], Any]) -> None:
    """One episode of three branches sends one message, unless a branch was given leave; its own branches have none."""
    inner, sent = mail()
    session = wrap(inner)
    twin = session.fork()
    seen = twin.act(Call("send", {"key": "b"}))
    assert (seen.status, seen.data) == ("refused", {"reason": "irreversible_in_branch"})
    assert twin.act(Call("look")).status == "ok"
    assert session.act(Call("send", {"key": "a"})).text == "sent"
    allowed = branch(session, irreversible=True)
    assert allowed.act(Call("send", {"key": "c"})).text == "sent"
    assert allowed.fork().act(Call("send", {"key": "d"})).status == "refused"
    assert sent == ["a", "c"]


def test_the_decorator_declares_effects_and_output() -> None:
    @tool(effects="write", idempotent=True)
    def keep(name: str) -> dict[str, int]:
        """Keep."""
        return {name: 1}

    @tool
    def shown(name: str) -> Observation:
        """Show."""
        return Observation(name)

    @tool
    def bare(name: str):  # type: ignore[no-untyped-def]
        """Say nothing of the result."""

    assert keep.idempotent
    assert keep.output == {"type": "object", "additionalProperties": {"type": "integer"}}
    assert (shown.output, bare.output, bare.idempotent) == (None, None, False)
