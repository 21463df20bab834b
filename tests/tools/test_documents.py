"""Tool documents text by text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ferrule.core.records import Tool
from ferrule.tools.documents import (
    about,
    as_lines,
    at_version,
    changes,
    edited,
    lifted,
    read_documents,
    reworded,
    shown,
    texts_of,
    versions,
    word_count,
    write_documents,
)
from ferrule.tools.overlay import Overlay, apply, to_json


def described(name: str, **parameters: str) -> Tool:
    properties = {key: {"type": "string", "description": text} for key, text in parameters.items()}
    return Tool(name, f"{name} it", {"type": "object", "properties": properties}, run=dict)


BOOK = described("book", date="the day", seats="how many")
HOLD = described("hold", date="day")


def test_single_texts_are_edited_and_followed() -> None:
    first = edited(Overlay(), {("book", "description"): "Book a table."})
    second = edited(first, {("book", about("date")): "ISO date", ("hold", "description"): "Hold a table."})
    third = edited(second, {("book", "description"): "Book.", ("book", about("date")): None})
    book, hold = apply((BOOK, HOLD), third)
    assert (book.description, hold.description) == ("Book.", "Hold a table.")
    assert book.parameters["properties"]["date"]["description"] == "the day"
    said = [("Book a table.", first), ("Book.", third)]
    assert versions(third, ("book", "description")) == [(version.id, text) for text, version in said]
    assert versions(third, ("book", about("date"))) == [(second.id, "ISO date"), (third.id, None)]
    assert versions(third, ("book", about("seats"))) == []
    assert edited(third, {("hold", "description"): "Hold a table."}) is third


def test_edits_of_two_branches_are_joined() -> None:
    base = edited(Overlay(), {("book", "description"): "Book."})
    one = edited(base, {("book", about("date")): "ISO date"})
    other = edited(base, {("book", "description"): "Reserve."})
    both = edited(one, changes(base, other))
    assert texts_of([BOOK], both) == {
        ("book", "description"): "Reserve.", ("book", about("date")): "ISO date", ("book", about("seats")): "how many",
    }  # fmt: skip
    assert edited(other, changes(other, base)).texts == base.texts


def test_two_releases_become_two_versions() -> None:
    other = described("book", date="ISO date", seats="how many", more="new")
    overlay = reworded([BOOK, HOLD], [other, described("absent")])
    assert overlay.texts.keys() == {"book"}
    assert texts_of([BOOK], overlay)["book", about("date")] == "ISO date"
    assert list(changes(Overlay(), overlay)) == [("book", "parameters.date.description")]


def test_every_field_can_be_edited_and_no_other() -> None:
    schema = {"type": "object", "properties": {"id": {"type": "integer"}}}
    edits = {("book", "examples"): ["book()"], ("book", "name"): "reserve", ("book", "output"): schema}
    (tool,) = apply((BOOK,), edited(Overlay(), {**edits, ("book", "parameters.date.name"): "day"}))
    assert tool.name == "reserve"
    assert tool.description == "book it\nReturns:\n- result: dict\n\t- id: int\nExamples:\nbook()"
    assert list(tool.parameters["properties"]) == ["day", "seats"]
    assert tool.output == schema
    with pytest.raises(ValueError, match=r"unknown field .descripton. of .book.; .*description"):
        edited(Overlay(), {("book", "descripton"): "x"})


def test_files_keep_the_history(tmp_path: Path) -> None:
    schema = {"type": "array", "items": {"type": "string"}}
    overlay = edited(edited(Overlay(), {("book", "output"): schema}), {("book", about("date")): "ISO"})
    write_documents(tmp_path / "docs.json", overlay, {"R1": "ISO"})
    assert read_documents(tmp_path / "docs.json") == (overlay, {"R1": "ISO"})
    assert as_lines({"R1": "ISO", "R2": "EUR"}) == "R1: ISO\nR2: EUR"
    assert at_version(overlay, overlay.history[1].id[:6]) == overlay.history[1]
    with pytest.raises(ValueError, match="unknown version 'zz'"):
        at_version(overlay, "zz")
    (tmp_path / "no.json").write_text("{}")
    with pytest.raises(ValueError, match=r"no\.json: not an overlay"):
        read_documents(tmp_path / "no.json")
    (tmp_path / "no.json").write_text(json.dumps({"rules": ["x"], **json.loads(to_json(overlay))}))
    with pytest.raises(ValueError, match=r"no\.json: rules are texts by name"):
        read_documents(tmp_path / "no.json")


def test_a_difference_is_shown_by_key() -> None:
    before = edited(Overlay(), {("book", about("date")): "day"})
    after = edited(before, {("book", about("date")): "ISO\ndate", ("hold", "description"): "Hold."})
    lines = ["book parameters.date.description", "  - day", "  + ISO", "  + date"]
    assert shown(before, after, "book") == lines
    assert shown(before, after)[4:] == ["hold description", "  - (the tool's own words)", "  + Hold."]


def test_descriptions_that_tools_share_become_rules() -> None:
    """Worked example 5 of JTPRO."""
    tools = [described("t1", start="ISO-8601 date"), described("t2", end="iso-8601  DATE", n="page size")]
    overlay, rules = lifted(tools, Overlay())
    assert rules == {"R1": "iso-8601 date"}
    assert {key: text for key, text in texts_of(tools, overlay).items() if key[1] != "description"} == {
        ("t1", about("start")): "see R1", ("t2", about("end")): "see R1", ("t2", about("n")): "page size",
    }  # fmt: skip
    assert word_count(tools, overlay) == word_count(tools)  # "ISO-8601 date" and "see R1" are two words each
    assert lifted(tools, overlay, rules) == (overlay, rules)


def test_rules_are_numbered_by_how_many_tools_share_them() -> None:
    tools = [
        described("a", x="long", y="zed"), described("b", x="long", y="zed", z="zed"), described("c", x="long", w="one")
    ]  # fmt: skip
    assert lifted(tools, Overlay())[1] == {"R1": "long", "R2": "zed"}
    assert lifted(tools, Overlay(), least=3)[1] == {"R1": "long"}
    kept = {"R4": "Zed", "dates": "one"}
    overlay, rules = lifted(tools, Overlay(), kept)
    assert rules == {**kept, "R5": "long"}
    assert overlay.texts["c"].parameters["w"].description == "see dates"
    with pytest.raises(ValueError, match="least is 1"):
        lifted(tools, Overlay(), least=1)


def test_what_points_to_a_rule_is_not_lifted_and_no_number_is_given_twice() -> None:
    """Pointers are equal texts of two tools as well; a rule R1 of them would say ``see dates``."""
    tools = [described("a", start="ISO date"), described("b", end="iso date")]
    kept = {"dates": "ISO date"}
    overlay, rules = lifted(tools, Overlay(), kept)
    assert rules == kept
    assert lifted(tools, overlay, rules) == (overlay, rules)
    pointing = [described("a", x="see R1", y="long"), described("b", y="long")]
    assert lifted(pointing, Overlay())[1] == {"R2": "long"}


@pytest.mark.parametrize("output", [{"type": "object", "properties": 5}, {"anyOf": 5}])
def test_a_file_with_a_broken_schema_is_refused(tmp_path: Path, output: dict[str, object]) -> None:
    path = tmp_path / "new" / "docs.json"
    write_documents(path, edited(Overlay(), {("a", "output"): output}))
    with pytest.raises(ValueError, match=r"docs\.json: overlay of a: output cannot be"):
        read_documents(path)


def test_a_file_of_brackets_is_refused(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"deep\.json: not an overlay: brackets are nested too deep"):
        read_documents(tmp_path / "deep.json")
