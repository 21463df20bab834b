"""Contracts: the language, the state, gating and verifying, and contracts made from schemas."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferrule.core.records import Tool
from ferrule.tools.contracts import Contract, Fact, Rejected, State, coverage, from_schema, gate, verify
from ferrule.tools.contracts_text import read
from ferrule.tools.contracts_types import fits

STATE = State.of(
    {"city": "Oslo", "zero": 0, "empty": "", "nothing": Fact(None), "tags": ["a", "b"], "box": {"x": {"y": 3}}}
)


def holds(text: str, result: Any = None, args: Mapping[str, Any] | None = None) -> bool:
    scope = {"facts": STATE.values(), "old": STATE.values(), "result": result, "args": args or {}}
    return read(text).holds(scope)


@pytest.mark.parametrize(
    "text",
    [
        "exists(zero)", "exists(empty)", 'exists("city")', "not exists(nothing)", "not exists(nobody)", "exists(box.x.y)",
        "city != None", "nothing == None", "nothing == null", "nobody == None", "city is not None",
        "type(city) == string", "type(zero) == int", "type(zero) == float", "type(tags) == list", 'type(box) == "dict"',
        'city == "Oslo"', "zero < 1 <= box.x.y", "box.x.y == 3", 'tags[1] == "b"', '"a" in tags', '"z" not in tags',
        '"x" in box', '"sl" in city', "len(tags) == 2", "box.x.y * 2 - 1 == 5", "zero == 0.0", "zero != true", "tags == ['a', 'b']",
        "exists(nobody) or zero == 0", "not exists(nobody) and zero == 0", "not (zero == 1)", "old.zero == zero",
        "zero > -1",
    ],
)  # fmt: skip
def test_conditions_that_hold(text: str) -> None:
    assert holds(text)


@pytest.mark.parametrize(
    "text",
    [
        "exists(nothing)", "exists(nobody)", "exists(box.x.z)", "exists(tags[7])", "type(nothing) == string", "type(zero) == boolean",
        "type(zero) == string", "nothing != None", 'city == "Rome"', "zero == false", "zero == ''",
        # What is absent or cannot be compared does not hold, and its negation does not either.
        "nobody == 3", "not (nobody == 3)", "nobody != 3", "not (city < 3)", "city < 3", "len(zero) == 0", "city + 1 == 2", "3 in zero",
    ],
)  # fmt: skip
def test_conditions_that_do_not_hold(text: str) -> None:
    assert not holds(text)


def test_conditions_on_results_and_arguments() -> None:
    assert holds('has_field("id")', {"id": None})
    assert not holds('has_field("id")', {"name": "x"})
    assert not holds('has_field("id")', ["id"])
    assert holds("result.city == args.city", {"city": "Oslo"}, {"city": "Oslo"})
    assert not holds("result.city == args.city", {"city": "Rome"}, {"city": "Oslo"})
    assert not holds("result.city == args.city", {}, {})
    assert holds("type(result) == integer", 3)
    assert not holds("type(result) == integer", None)
    assert holds("result[0].a == 1", [{"a": 1}])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("the city is known", "not an expression"),
        ("", "not an expression"),
        ("city", "'city' is not a condition"),
        ("True", "'True' is not a condition"),
        ("sorted(city)", "sorted"),
        ("__import__('os').system('x')", "is not one of"),
        ("exists(city, zero)", "2 argument"),
        ("exists(1 + 1)", "not a path"),
        ("type(city) == strin", "did you mean 'string'"),
        ("type(city) != string", "type(f) == T"),
        ("city is 'Oslo'", "None alone"),
        ("city == (lambda: 1)", "neither a path nor a literal"),
        ("x == {1, 2}", "not a JSON value"),
        ("tags[1:2] == 3", "not a path"),
        ("has_field(3)", "one key"),
        ("(" * 500 + "x" + ")" * 500, "not an expression"),
    ],
)
def test_unknown_conditions_are_refused_when_the_contract_is_made(text: str, said: str) -> None:
    with pytest.raises(ValueError, match="cannot be read") as refusal:
        Contract(post=(text,))
    assert said in str(refusal.value)


@given(st.text(max_size=40))
def test_reading_never_breaks(text: str) -> None:
    """Any text is read or refused with a ValueError; a read one answers yes or no on any scope."""
    try:
        condition = read(text)
    except ValueError:
        return
    assert condition.holds({"facts": {}, "result": None, "args": {}, "old": {}, "new": {}}) in (True, False)


def test_preconditions_cannot_read_results() -> None:
    with pytest.raises(ValueError, match="not there before the call"):
        Contract(pre=("exists(result.id)",))
    with pytest.raises(ValueError, match="write a tuple"):
        Contract(pre="exists(x)")  # type: ignore[arg-type]


def test_a_state_is_never_changed_in_place() -> None:
    values = {"tags": ["a"]}
    state = State.of(values)
    after = state.updated({"tags": ["b"], "n": 1})
    values["tags"].append("x")
    after.values()["tags"].append("y")
    assert state.values() == {"tags": ["a"]}
    assert after.values() == {"tags": ["b"], "n": 1}
    with pytest.raises(TypeError):
        state.facts["z"] = Fact(1)  # type: ignore[index]
    assert copy.deepcopy(state) is state
    assert State.of({"a": 1}) == State.of({"a": 1}) != State.of({"a": 2})


def test_a_known_fact_keeps_its_type() -> None:
    state = State.of({"n": 1, "ratio": Fact(None, "float", optional=True)})
    assert state.updated({"ratio": 2}).facts["ratio"].type == "float"
    for values in ({"n": "two"}, {"n": True}, {"n": None}, {"n": 1.5}):
        with pytest.raises(Rejected, match="n should be of type integer") as refusal:
            state.updated(values)
        assert refusal.value.reason == "wrong_type"
    assert state.updated({"ratio": 1.5}).updated({"ratio": None}).values()["ratio"] is None
    with pytest.raises(Rejected):
        state.updated({"new": "text"}, types={"new": "integer"})


def test_domain_types_and_constraints_are_checked() -> None:
    domains = {"airport": lambda value: value.isupper() and len(value) == 3}
    state = State.of(
        {"to": Fact("OSL", "airport"), "left": Fact(5, "integer", constraints=("left >= 0",))}, domains=domains
    )
    assert state.updated({"to": "JFK"}).values()["to"] == "JFK"
    for wrong in ("Oslo", 7):  # 7.isupper raises, which is a no
        with pytest.raises(Rejected, match="type airport"):
            state.updated({"to": wrong})
    with pytest.raises(Rejected) as refusal:
        state.updated({"left": -1})
    assert refusal.value.reason == "constraint_failed"
    contract = Contract(post=("type(result) == airport",), domains=("airport",))
    assert verify(state, contract, "JFK").passed
    assert verify(state, contract, "x").reason == "wrong_type"
    with pytest.raises(ValueError, match="did you mean 'airport'"):
        State.of({"to": Fact("OSL", "airprt")}, domains=domains)
    with pytest.raises(ValueError, match="is a string, not the integer"):
        State.of({"n": Fact("x", "integer")})
    assert not fits("OSL", "airport", {})


def test_the_summary_cuts_values_and_leaves_nulls_out() -> None:
    """Fifty characters of the value, whatever its type; a line break in a value cannot start a fact of its own."""
    state = State.of({"a": "x" * 60, "b": Fact(None), "c": [1, 2], "d": "1\nevil(string): 2"})
    assert state.summary() == f"a(string): {'x' * 50}\nc(list): [1, 2]\nd(string): 1 evil(string): 2"


def test_reason_codes() -> None:
    contract = Contract(
        pre=("exists(city)", "args.n < 3"),
        post=('has_field("id")', "type(result.id) == integer", "result.city == args.city"),
        updates={"id": "result.id"},
    )
    given = {"n": 1, "city": "Oslo"}
    assert gate(STATE, contract, given).passed
    assert gate(State(), contract, given).reason == "precondition_failed"
    assert gate(STATE, contract, {**given, "n": 5}).text == "args.n < 3 does not hold"
    reasons = [
        verify(STATE, contract, result, given).reason
        for result in ({}, {"id": "x"}, {"id": None}, {"id": 1, "city": "Rome"}, {"id": 1, "city": "Oslo"})
    ]
    assert reasons == ["missing_field", "wrong_type", "wrong_type", "postcondition_failed", "ok"]
    verdict = verify(STATE, contract, {"id": 1, "city": "Oslo"}, given)
    assert verdict.updates == {"id": 1}
    assert verdict.state == STATE.updated({"id": 1})
    assert verify(STATE, contract, {}, given).state is STATE


def test_the_schema_level_skips_what_looks_at_values() -> None:
    contract = Contract(pre=("args.n < 3",), post=("result.city == args.city",), ensure=lambda result: False)
    assert gate(STATE, contract, {"n": 5}, level="schema").passed
    assert verify(STATE, contract, {"city": "Rome"}, {"city": "Oslo"}, level="schema").passed
    assert verify(STATE, contract, {"city": "Oslo"}, {"city": "Oslo"}).reason == "semantic_failed"


def test_custom_functions_get_what_they_name_and_exceptions_mean_no() -> None:
    seen: dict[str, Any] = {}

    def grows(old: Any, new: Any, result: Any) -> bool:
        seen.update(old=old, new=new, result=result)
        return bool(new["zero"] > old["zero"])

    contract = Contract(updates={"zero": "result.n"}, ensure=grows)
    assert verify(STATE, contract, {"n": 1}).passed
    assert (seen["old"]["zero"], seen["new"]["zero"], seen["result"]) == (0, 1, {"n": 1})
    assert verify(STATE, contract, {"n": -1}).reason == "semantic_failed"
    failing = verify(STATE, Contract(ensure=lambda old: old["nobody"]), {"n": 1})
    assert (failing.reason, failing.updates) == ("custom_raised", {})
    assert gate(STATE, Contract(require=lambda state: state["nobody"])).reason == "custom_raised"
    assert gate(STATE, Contract(require=lambda arguments: arguments["n"] > 1), {"n": 1}).reason == "precondition_failed"
    with pytest.raises(ValueError, match="asks for 'results'; did you mean 'result'"):
        Contract(ensure=lambda results: True)


def test_custom_functions_cannot_change_what_they_are_shown() -> None:
    def vandal(old: Any, new: Any, result: Any) -> bool:
        for part in (old, new, result):
            part.clear()
        return True

    result = {"n": 1}
    verdict = verify(STATE, Contract(updates={"n": "result.n"}, ensure=vandal), result)
    assert verdict.state.values()["n"] == 1
    assert result == {"n": 1}
    assert "city" in STATE.values()


def test_conditions_on_the_state_to_be() -> None:
    contract = Contract(post=("new.zero == old.zero + 1",), updates={"zero": "result"})
    assert verify(STATE, contract, 1).passed
    assert verify(STATE, contract, 2).reason == "postcondition_failed"


def test_update_rules() -> None:
    contract = Contract(updates={"t": "result.data.0.title", "all": "result", "asked": "args.q"})
    assert contract.changes({"data": [{"title": "A"}]}, {"q": 1}) == {
        "t": "A",
        "all": {"data": [{"title": "A"}]},
        "asked": 1,
    }
    assert contract.changes({"data": [{"title": None}]}) == {"all": {"data": [{"title": None}]}}
    assert contract.changes("text", {}) == {"all": "text"}
    with pytest.raises(ValueError, match=r"write result, result\.key\.0 or args\.key"):
        Contract(updates={"t": "reslt.data"})
    chosen = Contract(updates=lambda result, arguments: {f"id_of_{arguments['name']}": result})
    assert verify(STATE, chosen, 7, {"name": "Bo"}).updates == {"id_of_Bo": 7}
    assert verify(STATE, chosen, 7, {}).reason == "custom_raised"


OUTPUT = {"type": "object", "properties": {"u": {"type": "string"}, "v": {"type": "integer"}}, "required": ["u"]}
INPUT = {"type": "object", "properties": {"x": {}, "y": {}, "z": {}}, "required": ["x", "y"]}


def test_contracts_from_schemas_check_types_as_well() -> None:
    tool = Tool("f", "", INPUT, str, output=OUTPUT)
    contract = from_schema(tool)
    state = State.of({"x": 1, "y": 2})
    assert gate(state, contract).passed
    assert not gate(State.of({"x": 1}), contract).passed
    verdict = verify(state, contract, {"u": "a", "v": 3})
    assert verdict.updates == {"u": "a", "v": 3}
    assert verdict.state.facts["v"] == Fact(3, "integer")
    wrong = verify(state, contract, {"u": "a", "v": "a secret"})
    assert wrong.reason == "schema_failed"
    assert "key 'v' should be int" in wrong.detail
    assert "secret" not in wrong.text
    assert verify(state, from_schema(tool, reference=True), {"u": "a", "v": "three"}).passed


@pytest.mark.parametrize("text", ["exists(missing)", "missing != None", "type(missing) == str", "result.a == 3"])
def test_the_published_code_knows_one_form_of_a_result(text: str) -> None:
    """Of a result it reads ``has_field`` and takes any other form as satisfied; of a state it is the other way round."""
    state = State.of({"x": 1})
    assert verify(state, Contract(post=(text,), reference=True), {}).passed
    assert not verify(state, Contract(post=(text,)), {}).passed
    both = Contract(post=(text, "has_field('a')"), reference=True)
    assert verify(state, both, {"a": None}).passed
    assert verify(state, both, {"b": 1}).reason == "missing_field"
    assert gate(state, Contract(pre=("has_field('a')",), reference=True)).passed
    if "result" not in text:
        assert not gate(state, Contract(pre=(text,), reference=True)).passed


@pytest.mark.parametrize("name", ["first name", "größe in cm", "😀", 'a"b', "a\\b", "it's"])
@pytest.mark.parametrize("reference", [False, True])
def test_contracts_from_schemas_take_any_name(name: str, reference: bool) -> None:
    schema = {"type": "object", "properties": {name: {}}, "required": [name]}
    contract = from_schema(Tool("f", "", schema, str, output=schema), reference=reference)
    assert gate(State.of({name: 1}), contract).passed
    assert not gate(State(), contract).passed
    assert verify(State(), contract, {name: 1}).updates == {name: 1}
    assert not verify(State(), contract, {}).passed


def test_forms_of_the_published_code() -> None:
    """A name ends before ``!=``; types are not looked at; a function replaces the texts; rules read results alone."""

    def lets(*pre: str, **more: Any) -> bool:
        return gate(State.of({"x": 1, "b": 1}), Contract(pre=pre, reference=True, **more)).passed

    assert lets("x != None and b == 2")
    assert not lets("y != None and x == 1")
    assert lets("type( x ) == str")
    assert not lets("type(y) == str")
    assert lets("type(y) == str == str")
    assert lets("exists(y)", require=lambda state: True)
    assert not lets("exists(x)", require=lambda state: False)
    rules = {"a": "args.x", "b": "result.x"}
    assert verify(State(), Contract(updates=rules, reference=True), {"x": 2}, {"x": 1}).updates == {"b": 2}
    assert verify(State(), Contract(updates=rules), {"x": 2}, {"x": 1}).updates == {"a": 1, "b": 2}


def test_names_that_mean_something_else_are_quoted() -> None:
    names = ["user-id", "class", "result", "old", "null", "facts"]
    tool = Tool("f", "", {"type": "object", "properties": {}, "required": names}, str)
    contract = from_schema(tool)
    assert gate(State.of(dict.fromkeys(names, 1)), contract).passed
    assert gate(State.of(dict.fromkeys(names, 1)), from_schema(tool, reference=True)).passed
    for name in names:
        assert not gate(State.of({other: 1 for other in names if other != name}), contract).passed


def test_coverage_counts_contracts_that_always_hold() -> None:
    bare = {"type": "object", "properties": {}}
    tools = [
        Tool("f", "", INPUT, str),
        Tool("g", "", bare, str),
        Tool("h", "", bare, str),
        Tool("i", "", bare, str, output=OUTPUT),
    ]
    contracts = {tool.name: from_schema(tool) for tool in tools if tool.name != "h"} | {"typo": Contract()}
    found = coverage(contracts, tools)
    assert (found.covered, found.trivial, found.missing, found.unused) == (("f", "i"), ("g",), ("h",), ("typo",))
    assert found.share == 0.5
    assert coverage({}, []).share == 1.0
