"""Schemas from annotations and docstrings, text forms, and files of tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from ferrule.core.records import Call, Tool
from ferrule.tools import tool
from ferrule.tools.files import load_tools
from ferrule.tools.invoke import invoke
from ferrule.tools.schema import as_openai, heading, signature


class Point(BaseModel):
    x: int
    title: str = "p"


def book(
    city: str,
    nights: Annotated[int, Field(ge=1)] = 2,
    view: Literal["sea", "yard"] = "sea",
    guests: list[str] | None = None,
    extras: dict[str, float] | None = None,
    at: Point | None = None,
) -> str:
    """Book a room.

    The room is held for a day.

    Args:
        city: where to stay
        nights: how long
    """
    return f"{city} {nights} {view} {guests} {extras} {at}"


def test_schema_has_types_texts_defaults_enums_and_required() -> None:
    made = tool(book)
    assert made.name == "book"
    assert made.description == "Book a room.\n\nThe room is held for a day."
    assert made.parameters["required"] == ["city"]
    entries = made.parameters["properties"]
    assert entries["city"] == {"type": "string", "description": "where to stay"}
    assert entries["nights"] == {"type": "integer", "minimum": 1, "description": "how long", "default": 2}
    assert entries["view"] == {"type": "string", "enum": ["sea", "yard"], "default": "sea"}
    assert entries["guests"]["anyOf"] == [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]
    assert entries["extras"]["anyOf"][0] == {"type": "object", "additionalProperties": {"type": "number"}}
    assert entries["at"]["anyOf"][0] == {"$ref": "#/$defs/Point"}
    # A property that happens to be called title stays; the titles pydantic adds go.
    assert made.parameters["$defs"]["Point"]["properties"]["title"] == {"type": "string", "default": "p"}
    assert "title" not in made.parameters["$defs"]["Point"]


def test_text_forms() -> None:
    made = tool(book)
    assert signature(made) == (
        'book(city: str, nights: int = 2, view: "sea" | "yard" = "sea", guests: list[str] | None = None, '
        "extras: dict[str, float] | None = None, at: {x: int, title: str} | None = None): Book a room."
    )
    assert (
        heading(Tool("go", "", {"type": "object", "properties": {"a": {"type": "integer"}}}, run=print))
        == "go(a: int = ...)"
    )
    assert as_openai(made) == {
        "type": "function",
        "function": {"name": "book", "description": made.description, "parameters": made.parameters},
    }


def test_nested_models_arrive_as_models() -> None:
    seen = invoke(tool(book), Call("book", {"city": "Rome", "at": {"x": 3}}))
    assert seen.text == "Rome 2 sea None None x=3 title='p'"


def test_options_are_carried_and_checked() -> None:
    made = tool(book, name="hold", description="d", terminal=True, cost=0.5, effects="write", seconds=3)
    assert (made.name, made.description, made.terminal, made.cost, made.effects, made.seconds) == (
        "hold",
        "d",
        True,
        0.5,
        "write",
        3,
    )
    with pytest.raises(ValueError, match="effects is 'wirte'; did you mean 'write'"):
        tool(book, effects="wirte")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="cost is -1"):
        tool(book, cost=-1)
    with pytest.raises(ValueError, match="seconds is 0"):
        tool(book, seconds=0)
    with pytest.raises(ValueError, match="tool name 'a b'"):
        tool(book, name="a b")


def test_parameters_that_cannot_work_are_refused() -> None:
    def bare(a):  # type: ignore[no-untyped-def]
        return a

    def many(*rest: int) -> None: ...

    def odd(a: Thread) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    class Opaque: ...

    def strange(a: Opaque) -> None: ...

    strange.__annotations__["a"] = Opaque
    with pytest.raises(TypeError, match="parameter 'a' has no annotation; write a: str"):
        tool(bare)
    with pytest.raises(TypeError, match=r"\*rest: .*cannot be passed by name"):
        tool(many)
    with pytest.raises(TypeError, match="annotation cannot be resolved"):
        tool(odd)
    with pytest.raises(TypeError, match="parameter 'a' has an unusable type"):
        tool(strange)


def test_load_tools_finds_all_in_order(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from ferrule.tools import tool\n"
        "@dataclass\nclass Box:\n    size: int\n"
        "@tool\ndef second(a: int) -> int:\n    return a\n"
        "@tool\ndef first(box: Box) -> int:\n    return box.size\n"
        "again = first\n",
        encoding="utf-8",
    )
    tools = load_tools(file)
    assert [made.name for made in tools] == ["second", "first"]
    assert invoke(tools[1], Call("first", {"box": {"size": 4}})).text == "4"


def test_a_relative_path_names_the_line_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.py").write_text("x = 1\ny = x / 0\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImportError, match=r"^broken\.py, line 2: ZeroDivisionError"):
        load_tools("broken.py")


def test_load_tools_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no tool file"):
        load_tools(tmp_path / "missing.py")
    empty = tmp_path / "empty.py"
    empty.write_text("x = 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="defines no tools"):
        load_tools(empty)
    broken = tmp_path / "broken.py"
    broken.write_text("x = 1\ny = x / 0\n", encoding="utf-8")
    with pytest.raises(ImportError, match="line 2: ZeroDivisionError"):
        load_tools(broken)
    typo = tmp_path / "typo.py"
    typo.write_text("x = 1\n\nif True\n", encoding="utf-8")
    with pytest.raises(ImportError, match="line 3: SyntaxError"):
        load_tools(typo)
    twice = tmp_path / "twice.py"
    body = "@tool\ndef a(x: int) -> int:\n    return x\n"
    twice.write_text(f"from ferrule.tools import tool\n{body}b = a\n{body}", encoding="utf-8")
    with pytest.raises(ValueError, match="two tools named 'a'"):
        load_tools(twice)
