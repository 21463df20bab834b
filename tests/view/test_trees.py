"""The tree of a search on the page and in the terminal: every step, how it ended, and the way to the answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from tests.agents.test_depth_first import TWO, played
from tests.view.test_episodes import NESTED

from ferrule.agents.depth_first import DepthFirst
from ferrule.rollout.record import append, dump, save
from ferrule.view.episodes import sample, step_in_words
from ferrule.view.report import write_report
from ferrule.view.trees import Twig, count, lines, twigs


def searched() -> Any:
    episode, _ = played(DepthFirst(width=2, depth=2), TWO)
    return episode


def test_a_search_is_drawn() -> None:
    steps = twigs(json.loads(dump(searched())), step_in_words)
    assert lines(steps) == [
        '- write(line="a")',
        '  - write(line="a1")',
        '  - write(line="a2")',
        '* write(line="b")',
        '  - write(line="b1")',
        "  * found b2  [answer]",
    ]
    assert count(steps) == 6


def test_one_path_is_no_tree() -> None:
    episode, _ = played(DepthFirst(), {"a": "answer"})
    assert twigs(json.loads(dump(episode)), step_in_words) == ()


def test_values_and_failures_are_told() -> None:
    turns = [
        {"id": 0, "reply": {"content": "x" * 200}, "notes": {"state": "open", "value": 0.25, "visits": 3}},
        {"id": 1, "reply": {}, "observations": [{"status": "error"}], "notes": {"state": "gave up"}},
    ]
    steps = twigs({"paths": [{"turns": [0]}, {"turns": [1]}], "turns": turns}, step_in_words)
    assert steps == (
        Twig("x" * 90 + " …", "value 0.25, visits 3", True),
        Twig("(nothing)", "error, gave up", False),
    )


def test_the_page_shows_the_tree(tmp_path: Path) -> None:
    save(tmp_path / "episodes.jsonl", [searched()])
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "All 6 steps of the search" in page
    assert '<span class="way">found b2</span> <small>answer</small>' in page
    assert "&#34;a1&#34;" in page


def test_a_folder_of_episodes_alone_has_a_page_of_those(tmp_path: Path) -> None:
    """With their scores, and the tree of the first unfolded; nothing is said of the training that there was not."""
    scores = [{"scores": [{"value": value}]} for value in (1.0, 0.0, 0.5)]
    append(tmp_path / "episodes.jsonl", [searched()] * 3, scores)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "1 of 3 episodes solved." in page
    assert '<details class="search" open>' in page
    assert not any(said in page for said in ("recorded.", "Before and after", "Curves", "Health", "Settings"))
    (tmp_path / "settings.json").write_text('{"seed": 3}')
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert all(said in page for said in ("Success before and after was not recorded.", "Curves", "Health", "Settings"))


@settings(max_examples=100, deadline=None)
@given(NESTED, NESTED)
def test_damaged_records_never_raise(paths: Any, turns: Any) -> None:
    sample({"paths": paths, "turns": turns})
    twigs({"paths": paths, "turns": turns}, step_in_words)


def test_turns_that_follow_themselves_end() -> None:
    row = {"paths": [{"turns": [0, 1, 0, 1]}, {"turns": [1]}], "turns": [{"id": 0}, {"id": 1}]}
    assert count(twigs(row, step_in_words)) < 5


def test_a_reply_that_goes_on_from_another_says_so() -> None:
    turns = [
        {"id": 0, "reply": {"content": "a b"}, "notes": {"state": "answer", "entropy": 0.5}},
        {"id": 1, "reply": {"content": "a c"}, "notes": {"state": "answer", "begun": 1}},
    ]
    steps = twigs({"turns": turns, "paths": [{"turns": [0]}, {"turns": [1]}]}, lambda reply: str(reply["content"]))
    assert lines(steps) == ["* a b  [answer, entropy 0.5]", "- a c  [answer, goes on after tokens: 1]"]
