"""Annotations as people write them: ``None`` defaults, ``typing.TypedDict``, and types that cannot be read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, NotRequired, Optional, Required, TypedDict, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field
from typing_extensions import Doc

from ferrule.core.records import Call, Tool
from ferrule.tools import tool
from ferrule.tools.invoke import invoke

_WRITTEN: dict[Any, Any] = {str: "a", int: 3, float: 0.5, bool: True, list[int]: [1], dict[str, int]: {"a": 1}}


@pytest.mark.parametrize("kind", _WRITTEN, ids=str)
def test_a_none_default_may_be_said_and_left_out(kind: Any) -> None:
    def find(text: str, where: Any = None) -> str:
        """Find text."""
        return repr(where)

    find.__annotations__["where"] = kind
    made = tool(find)
    assert {"type": "null"} in made.parameters["properties"]["where"]["anyOf"]
    for given_, said in (({"where": None}, "None"), ({}, "None"), ({"where": _WRITTEN[kind]}, repr(_WRITTEN[kind]))):
        observation = invoke(made, Call("find", {"text": "a", **given_}))
        assert (observation.status, observation.text, observation.repairs) == ("ok", said, ())
    # Only a default of None means that None is taken.
    assert invoke(made, Call("find", {"text": None})).status == "malformed"


def test_notes_and_bounds_of_a_none_default_stay() -> None:
    def find(size: Annotated[int, Field(ge=1, description="how many")] = None) -> str:  # noqa: RUF013
        """Find."""
        return repr(size)

    made = tool(find)
    assert made.parameters["properties"]["size"]["description"] == "how many"
    assert invoke(made, Call("find", {"size": None})).text == "None"
    assert invoke(made, Call("find", {"size": 0})).status == "malformed"


@given(st.sampled_from(["string", "integer", "array", "object"]), st.booleans())
def test_null_is_the_default_of_a_tool_that_is_known_by_its_schema(kind: str, required: bool) -> None:
    # As servers describe a parameter whose default is None: the type alone, which does not list null.
    entry = {"type": kind, "default": None}
    shape = {"type": "object", "properties": {"where": entry}, "required": ["where"] if required else []}
    find = Tool("find", "", shape, lambda where="left out": repr(where))
    observation = invoke(find, Call("find", {"where": None}))
    assert observation.status == ("malformed" if required else "ok")
    assert required or observation.text == "'left out'"


class Place(TypedDict):
    """A place on earth."""

    city: str
    country: NotRequired[str]


class Loose(TypedDict, total=False):
    name: Required[str]
    place: Place


_TAKEN: list[Any] = [
    Place,
    Annotated[Place, Field(description="where")],
    Optional[Place],  # noqa: UP045
    Union[int, Place],  # noqa: UP007
    Place | None,
]


@pytest.mark.parametrize("kind", _TAKEN, ids=str)
def test_typed_dicts_are_checked_wherever_they_stand(kind: Any) -> None:
    def weather(places: Any) -> str:
        """Tell the weather."""
        return repr(places)

    cases: list[tuple[Any, Callable[[Any], Any]]] = [
        (kind, lambda one: one),
        (list[kind], lambda one: [one, one]),
        (dict[str, tuple[kind, ...]], lambda one: {"a": [one]}),
    ]
    for annotation, around in cases:
        weather.__annotations__["places"] = annotation
        made = tool(weather)
        assert made.parameters["$defs"]["Place"]["required"] == ["city"]
        assert made.parameters["$defs"]["Place"]["description"] == "A place on earth."
        assert invoke(made, Call("weather", {"places": around({"city": "Oslo"})})).status == "ok"
        assert invoke(made, Call("weather", {"places": around({"country": "Norway"})})).status == "malformed"


def test_typed_dicts_within_typed_dicts_keep_what_is_required() -> None:
    def visit(who: Loose) -> str:
        """Visit."""
        return who["name"]

    made = tool(visit)
    assert made.parameters["$defs"]["Loose"]["required"] == ["name"]
    assert made.parameters["$defs"]["Loose"]["properties"]["place"] == {"$ref": "#/$defs/Place"}
    assert invoke(made, Call("visit", {"who": {"name": "Ada", "place": {"city": "Oslo"}}})).text == "Ada"
    assert invoke(made, Call("visit", {"who": {"name": "Ada", "place": {}}})).status == "malformed"


@pytest.mark.parametrize(("kind", "said"), [(threading.Lock, "unusable"), (Callable[[int], int], "JSON schema")])
def test_a_type_that_cannot_be_read_is_named_with_its_parameter(kind: Any, said: str) -> None:
    def run(good: int, bad: Any) -> str:
        """Run."""
        return ""

    run.__annotations__["bad"] = kind
    with pytest.raises(TypeError, match=rf"tool 'run': parameter 'bad' has .*{said}"):
        tool(run)


@dataclass
class Stop:
    """A place to stop at."""

    name: str
    minutes: int = 5


@dataclass
class Route:
    """Stops on the way."""

    stops: list[Stop]
    names: dict[str, Stop] = field(default_factory=dict)


@tool
def plan(route: Route, spare: Stop | None = None, hours: Annotated[int, "how long it may take"] = 1) -> int:
    """Plan a tour."""
    return sum(stop.minutes for stop in route.stops) + hours


def test_a_text_beside_a_type_describes_the_parameter() -> None:
    assert plan.parameters["properties"]["hours"] == {
        "type": "integer",
        "default": 1,
        "description": "how long it may take",
    }

    @tool
    def wait(minutes: Annotated[int, Doc("how long"), Field(ge=0)], why: Annotated[str, "the reason"]) -> int:
        """Wait.

        Args:
            why: The docstring counts first.
        """
        return minutes

    about = {name: entry["description"] for name, entry in wait.parameters["properties"].items()}
    assert about == {"minutes": "how long", "why": "The docstring counts first."}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"route": {"stops": [{"name": "a", "minute": 1}]}}, "it has no key 'minute'; did you mean 'minutes'?"),
        ({"route": {"stops": [], "names": {"x": {"name": "a", "hours": 1}}}}, "it has no key 'hours'"),
        ({"route": {"stops": []}, "spare": {"name": "a", "min": 1}}, "it has no key 'min'"),
        ({"route": '{"stops": [{"name": "a", "minute": "1"}]}'}, "should be"),
    ],
)
def test_a_misspelt_key_inside_an_argument_is_not_taken_for_its_default(arguments: dict[str, Any], said: str) -> None:
    seen = invoke(plan, Call("plan", arguments))
    assert seen.status == "malformed"
    assert said in seen.text


def test_objects_inside_arguments_are_read() -> None:
    route = {"stops": [{"name": "a", "minutes": "7"}], "names": {"anything": {"name": "b"}}}
    assert invoke(plan, Call("plan", {"route": route, "spare": {"name": "c"}})).text == "8"
