"""Overlays: other words for the same callable."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from ferrule.core.records import Call, Tool
from ferrule.tools import tool
from ferrule.tools.invoke import invoke
from ferrule.tools.overlay import Overlay, ParameterText, ToolText, apply, diff, from_json, names, revise, to_json
from ferrule.tools.schema import heading


@tool(effects="write", cost=2.0)
def add(left: int, right: int = 1) -> int:
    """Add two numbers.

    Args:
        left: the first
        right: the second
    """
    return left + 10 * right


OTHER = Tool("other", "says its word", {"type": "object", "properties": {"word": {}}}, lambda word="": word)
WORDS = ToolText(
    name="plus",
    description="Sum.",
    parameters={"left": ParameterText("right"), "right": ParameterText("left", "what is added")},
    examples=("plus(right=1)",),
)


def test_texts_change_and_the_callable_does_not() -> None:
    """left and right trade names: plus(right=2, left=3) is add(left=2, right=3) = 32."""
    plus, other = apply((add, OTHER), Overlay({"add": WORDS}))
    assert other is OTHER
    assert heading(plus) == "plus(right: int, left: int = 1)"
    assert plus.description == "Sum.\nExamples:\nplus(right=1)"
    assert plus.parameters["properties"]["left"] == {"type": "integer", "description": "what is added", "default": 1}
    assert plus.parameters["properties"]["right"]["description"] == "the first"
    assert (plus.effects, plus.cost, plus.output) == (add.effects, add.cost, add.output)
    assert invoke(plus, Call("plus", {"right": 2, "left": 3})).text == "32"
    seen = invoke(plus, Call("plus", {"right": "2"}))
    assert (seen.text, seen.repairs) == ("12", ("number:right",))
    assert (
        invoke(plus, Call("plus", {"left": 2})).text
        == "plus misses the argument 'right'; call it as plus(right: int, left: int = 1)"
    )
    assert heading(add) == "add(left: int, right: int = 1)"
    assert invoke(add, Call("add", {"left": 2, "right": 3})).text == "32"


def test_names_that_tools_bring_stay_as_they_are() -> None:
    """Tools of published documents may have names that Ferrule would not give."""
    odd = Tool("3d", "draws", {"type": "object", "properties": {"a b": {}}}, dict)
    (worded,) = apply((odd,), Overlay({"3d": ToolText(description="Draws.")}))
    assert (worded.name, worded.description) == ("3d", "Draws.")
    with pytest.raises(ValueError, match="'4d', which is not a valid name"):
        apply((odd,), Overlay({"3d": ToolText(name="4d")}))


def test_words_alone_keep_the_very_same_callable() -> None:
    (worded,) = apply((add,), Overlay({"add": ToolText(description="Other words.")}))
    assert worded.run is add.run


@pytest.mark.parametrize("isolated", [False, True])
def test_renamed_tools_still_run_async_and_isolated(isolated: bool) -> None:
    @tool(isolated=isolated, seconds=5)
    async def slow(text: str) -> str:
        """Wait."""
        await asyncio.sleep(0)
        return text * 2

    (worded,) = apply((slow,), Overlay({"slow": ToolText("s", parameters={"text": ParameterText("t")})}))
    assert invoke(worded, Call("s", {"t": "ab"})).text == "abab"
    (plain,) = apply((OTHER,), Overlay({"other": ToolText(parameters={"word": ParameterText("w")})}))
    assert invoke(plain, Call("other", {"w": "x"})).text == "x"


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ({"ad": ToolText("x")}, "an unknown tool 'ad'; did you mean 'add'"),
        (
            {"add": ToolText(parameters={"lft": ParameterText("x")})},
            "an unknown parameter 'lft' of 'add'; did you mean 'left'",
        ),
        ({"add": ToolText("other")}, "two tools the name 'other'"),
        ({"add": ToolText(parameters={"left": ParameterText("right")})}, "two parameters of 'add' the name 'right'"),
        ({"add": ToolText("two words")}, "not a valid name"),
    ],
)
def test_what_does_not_fit_is_refused(texts: dict[str, ToolText], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        apply((add, OTHER), Overlay(texts))


def test_versions_are_named_by_content_and_linked() -> None:
    first = Overlay({"add": WORDS})
    second = revise(first, {"other": ToolText("said")})
    assert first.id == Overlay({"add": WORDS}).id
    assert len({first.id, second.id, Overlay(second.texts).id, Overlay().id}) == 4
    assert second.history == (first, second)
    assert set(second.texts) == {"add", "other"}
    assert names(second) == {
        "add": {"name": "plus", "parameters": {"left": "right", "right": "left"}},
        "other": {"name": "said", "parameters": {}},
    }


def test_differences_are_listed_by_field() -> None:
    first = Overlay({"add": WORDS})
    changed = ToolText("sum", "Sum.", {"left": ParameterText("right")})
    assert diff(first, revise(first, {"add": changed, "other": ToolText(description="x")})) == {
        ("add", "name"): ("plus", "sum"),
        ("add", "examples"): (["plus(right=1)"], None),
        ("add", "parameters.right.name"): ("left", None),
        ("add", "parameters.right.description"): ("what is added", None),
        ("other", "description"): (None, "x"),
    }
    assert diff(first, first) == {}


def test_json_round_trip_with_history() -> None:
    made = revise(Overlay({"add": WORDS}), {"other": ToolText(description="ü")})
    again = from_json(to_json(made))
    assert again == made
    assert again.parent == made.parent
    assert again.id == made.id


def tampered(change: Any) -> str:
    data = json.loads(to_json(Overlay({"add": WORDS})))
    change(data["versions"][0])
    return json.dumps(data)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "not an overlay"),
        ('{"versions": []}', "no versions"),
        ('{"versions": [{"id": "x"}]}', "not an overlay: KeyError"),
        (tampered(lambda v: v["texts"]["add"].update(name="minus")), "it was changed"),
        (tampered(lambda v: v["texts"]["add"].update(run="os.system")), "unknown key 'run'"),
        (tampered(lambda v: v["texts"]["add"]["parameters"]["left"].update(type="string")), "unknown key 'type'"),
        (tampered(lambda v: v["texts"]["add"].update(name=3)), "name cannot be 3"),
        (tampered(lambda v: v["texts"]["add"].update(examples=[3])), "examples cannot be"),
        (tampered(lambda v: v["texts"].update(add=3)), "an object was expected"),
    ],
)
def test_other_json_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        from_json(text)
