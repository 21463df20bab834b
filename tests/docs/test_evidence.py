"""The page on evidence holds every study and says what the arenas say."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ferrule import papers
from ferrule.policies.named import weights_digest

ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("evidence", ROOT / "scripts" / "evidence.py")
assert SPEC
assert SPEC.loader
evidence = importlib.util.module_from_spec(SPEC)
sys.modules["evidence"] = evidence  # dataclasses look their module up
SPEC.loader.exec_module(evidence)


@pytest.fixture(scope="module")
def rows() -> list[Any]:
    return list(evidence.rows_of())


def recipes(**about: Any) -> dict[str, Any]:
    """Return the result of an arena: one recipe better than the first, one worse, one not told apart."""

    def row(name: str, low: float | None, high: float, tokens: float) -> dict[str, Any]:
        apart = {"difference": None, "difference_interval": None}
        if low is not None:
            apart = {"difference": (low + high) / 2, "difference_interval": [low, high]}  # type: ignore[dict-item]
        return {"recipe": name, "success": 0.5, "success_interval": [0.4, 0.6], "tokens": tokens, "calls": 1.0, **apart}

    return {
        "about": {
            "recipes": ["grpo", "up", "down", "same"], "worlds": ["apis"], "model": "pocket", "budget": 1000,
            "seeds": [0, 1, 2], "learning_rate": 0.001, "against": "grpo", "command": "ferrule arena", **about,
        },
        "rows": [row("grpo", None, 0, 50), row("up", 0.02, 0.04, 60), row("down", -0.04, -0.02, 20),
                 row("same", -0.01, 0.03, 50)],
    }  # fmt: skip


def test_columns_are_told_one_by_one() -> None:
    """Who is better and worse in which column, by the interval."""

    def row(name: str, low: float, high: float) -> dict[str, Any]:
        apart = {"difference": (low + high) / 2, "difference_interval": [low, high]} if name != "grpo" else {}
        found = {"success": 0.5, "interval": [0.4, 0.6], "difference": None, "difference_interval": None, **apart}
        return {"recipe": name, "seeds": [100, 101], "columns": {"chains": found, "all": found}}

    data = {
        "about": {"recipes": ["grpo", "up", "down"], "columns": [{"name": "chains"}], "model": "pocket", "rates": [1e-4],
                  "budget": 1000, "against": "grpo", "command": "ferrule arena", "weights": "x"},
        "rows": [row("grpo", 0, 0), row("up", 0.02, 0.04), row("down", -0.04, -0.02)], "pairs": [],
    }  # fmt: skip
    told = evidence.profile_part(data)
    assert (
        "- `chains`: `grpo` reaches 50.0% [40.0, 60.0]. Better by the interval: `up` +3.0 [+2.0, +4.0]; worse: " in told
    )
    assert "worse: `down` -3.0 [-4.0, -2.0]." in told
    assert "**No pair of recipes is told apart in at least 4 columns**" in told
    assert told in evidence.page([], recipes(), agents(), data)


def test_the_page_and_its_figures_are_up_to_date() -> None:
    assert evidence.main(["--check"]) == 0, "run: python scripts/evidence.py"


def test_what_is_not_up_to_date_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Another text, and pictures of other numbers."""
    for path in (evidence.PAGE, evidence.EFFECTS, evidence.ARENAS, evidence.TRAINING, evidence.AGENTS):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes((ROOT / path).read_bytes())
    measured = evidence.rows_of()
    monkeypatch.setattr(evidence, "ROOT", tmp_path)
    monkeypatch.setattr(evidence, "rows_of", lambda: measured)
    assert evidence.main(["--check"]) == 0
    changed = next(row for row in measured if row.claim)
    measured = [replace(row, claim={**row.claim, "effect": 123.0}) if row is changed else row for row in measured]
    assert evidence.main(["--check"]) == 1
    told = capsys.readouterr().err
    assert "docs/evidence.md is not up to date" in told
    assert "evidence-effects.png is not up to date" in told
    assert "evidence-arenas.png" not in told
    assert evidence.main([]) == 0
    assert evidence.main(["--check"]) == 0


def test_every_study_has_a_line_a_section_and_its_command(rows: list[Any]) -> None:
    page = (ROOT / evidence.PAGE).read_text(encoding="utf-8")
    assert sorted(row.slug for row in rows) == sorted(papers.studies())
    for row in rows:
        heading = f"{row.paper.number:02d} {row.slug}"
        assert f"\n### {heading}\n" in page
        assert f"[{row.slug}](#{heading.replace(' ', '-')})" in page
        assert re.search(rf"`ferrule papers claim {row.slug} --size \w+`", page)


def test_what_is_not_measured_is_listed_as_such(rows: list[Any]) -> None:
    first = next(row for row in rows if row.claim)
    waiting = replace(first, claim=None, why=(), cost="")
    page = evidence.page([waiting], recipes(), agents())
    assert f"Not measured yet: `{first.slug}` ({first.study.grade})." in page
    assert "- Result: Not measured yet (" in page
    assert f"| {first.study.grade} | not measured |" in page
    assert "Not measured yet: none." in evidence.page([first], recipes(), agents())


def test_a_claim_is_shown_with_what_it_took_and_what_the_paper_reports(rows: list[Any]) -> None:
    first = next(row for row in rows if row.claim)
    claim = {
        **first.claim, "effect": 0.5, "interval": [0.25, 0.75], "threshold": 0.4, "verdict": "not held",
        "grade": "B", "measured": "gain | loss", "statement": "It helps.", "trained": "a table",
    }  # fmt: skip
    paper = replace(first.paper, reported="7 points (abstract).")
    row = replace(first, claim=claim, paper=paper, cost="3 s of one core in 2 units", why=("Seeds.",))
    page = evidence.page([row], recipes(), agents())
    for line in (
        "- Statement: It helps.", "- Trained: A table.", "- Cost: 3 s of one core in 2 units.", "- Stale: Seeds.",
        "- The paper at its scale: 7 points (abstract).", "| B | not held, stale | 0.5 [0.25, 0.75]; threshold 0.4 |",
        "not held, stale: It helps. Gain \\| loss: 0.5 [0.25, 0.75]; threshold 0.4.",
    ):  # fmt: skip
        assert line in page
    assert "| B: learning on a stand-in for a model or a world | 0 | 0 | 1 | 1 | 0 |" in page


def agents() -> dict[str, Any]:
    data: dict[str, Any] = json.loads((ROOT / evidence.AGENTS).read_text(encoding="utf-8"))
    return data


def test_recipes_are_told_apart_by_their_intervals_alone() -> None:
    part = evidence.training_part(recipes())
    assert "- Better than `grpo` by the interval: `up` +3.0 [+2.0, +4.0].\n" in part
    assert "- Worse: `down` -3.0 [-4.0, -2.0].\n" in part
    assert "- Not told apart: `same` +1.0 [-1.0, +3.0].\n" in part
    assert "per task): `down` 20 tokens and 1.00 calls per task.\n" in part


def test_the_weights_of_an_arena_are_named() -> None:
    today = weights_digest("pocket")
    assert f"with the weights of `pocket` that the package ships (`{today}`)" in evidence.training_part(
        recipes(weights=today)
    )
    earlier = evidence.training_part(recipes(weights="0123"))
    assert f"**It was played with earlier weights of `pocket`** (`0123`; the package ships `{today}` now)" in earlier
    assert "does not say which weights" in evidence.training_part(recipes())


def test_agents_are_compared_world_by_world() -> None:
    part = evidence.agents_part(agents())
    lines = [line for line in part.splitlines() if line.startswith("- On ")]
    assert [line.split("`")[1] for line in lines] == agents()["about"]["worlds"]
    (row,) = [row for row in agents()["rows"] if (row["world"], row["agent"]) == ("apis", "mcts")]
    assert row["difference_interval"][0] > 0
    assert "`mcts` +5.0 [+1.9, +8.1]" in lines[1].split("worse:")[0]


def test_what_papers_report_comes_with_its_source() -> None:
    """In brackets, or with the word that there is nothing."""
    reported = {paper.slug: paper.reported for paper in papers.discover() if paper.reported}
    assert [slug for slug, text in reported.items() if not text.endswith((").", "own.", "confirmed."))] == []
