"""The arena's arithmetic: stacks, budgets, means over seeds, paired differences, the page."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from tests.toys import Bench

from ferrule.core.recipe import Recipe
from ferrule.evaluate.arena import Arena, run, tokens
from ferrule.evaluate.methods import entry
from ferrule.evaluate.recipes import recipes_of, stack
from ferrule.evaluate.standings import Cell, page, summarise
from ferrule.papers import discover
from ferrule.train.grpo import grpo


def cell(recipe: str, seed: int, success: float) -> Cell:
    return Cell(recipe, seed, success, (success,), 1.0, 20.0, 0.0, {"1": success, "2": 1.0}, steps=3, sampled=1000)


def test_recipes_are_found_by_what_they_take_and_return() -> None:
    known = recipes_of(discover())
    assert {"otc", "rloo", "grpo", "dapo", "retool"} <= set(known)
    assert "direct_score" not in known  # a piece, not a recipe
    assert {paper.slug for paper in discover() if "recipe" in paper.pieces} <= set(known)


def test_a_stack_is_applied_from_left_to_right_and_says_who_set_what() -> None:
    def cold(base: Recipe) -> Recipe:
        return replace(base, temperature=0.5, samples=4)

    def hot(base: Recipe) -> Recipe:
        return replace(base, temperature=2 * base.temperature)

    made, changes = stack(grpo(), "cold+hot", {"cold": cold, "hot": hot})
    assert (made.temperature, made.samples) == (1.0, 4)
    assert changes == {"temperature": ("cold", "hot"), "samples": ("cold",)}
    with pytest.raises(ValueError, match="did you mean 'cold'"):
        stack(grpo(), "colt", {"cold": cold, "hot": hot})


@pytest.mark.parametrize(("text", "count"), [("400k", 400_000), ("1.5M", 1_500_000), ("20000", 20_000)])
def test_budgets(text: str, count: int) -> None:
    assert tokens(text) == count


@pytest.mark.parametrize("text", ["", "k", "many", "0", "-5k"])
def test_budgets_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="tokens"):
        tokens(text)


def test_intervals_are_over_seeds_and_differences_paired_by_seed() -> None:
    """Differences .1, .2, .3: mean .2, sd .1, half width 4.303 * .1 / sqrt(3) = .2484."""
    cells = [cell("untrained", 0, 0.1)]
    cells += [cell("grpo", s, v) for s, v in enumerate((0.5, 0.4, 0.6))]
    cells += [cell("otc", s, v) for s, v in enumerate((0.6, 0.6, 0.9))]
    untrained, base, other = summarise(cells, against="grpo")
    assert untrained["success_interval"] is None
    assert untrained["difference"] is None  # one seed only
    assert base["difference"] is None
    assert base["success"] == pytest.approx(0.5)
    assert base["success_interval"] == pytest.approx([0.5 - 0.2484, 0.5 + 0.2484], abs=1e-3)
    assert other["difference"] == pytest.approx(0.2)
    assert other["difference_interval"] == pytest.approx([0.2 - 4.303 * 0.1 / math.sqrt(3), 0.4484], abs=1e-3)


def test_the_page_holds_every_row() -> None:
    rows = summarise([cell("grpo", 0, 0.5), cell("otc", 0, 0.625)], against="grpo")
    about = {
        "model": "pocket", "worlds": ["apis"], "levels": [1], "budget": 1000, "groups": 2, "seeds": [0],
        "learning_rate": 3e-4, "eval_tasks": 4, "num_generations_eval": 2, "against": "grpo", "command": "ferrule arena",
    }  # fmt: skip
    text = page({"about": about, "rows": rows, "versions": {"python": "3"}})
    assert "| `otc` | 62.5% | +12.5 | 1.00 | 20 | 0.0% | 62.5% | 100.0% | 3 | 1,000 | 0 |" in text


def test_methods_stand_in_the_arena_beside_recipes(tmp_path: Path) -> None:
    names = ("grpo", "dpo", "sft", "sft-then-rl")
    small = Arena(
        names, ("arithmetic",), budget=300, seeds=1, groups=4, num_generations=2, max_completion_length=16, levels=(1,),
        eval_tasks=2, num_generations_eval=1,
    )  # fmt: skip
    result = run(small, recipes_of(discover()), tmp_path)
    cells = {entry["recipe"]: entry for entry in result["cells"]}
    assert list(cells) == ["untrained", *names]
    for name in names:
        assert cells[name]["sampled"] >= 300, name
        assert cells[name]["steps"] >= 1, name
    rows = [json.loads(line) for line in (tmp_path / "dpo/seed-0/run/metrics.jsonl").read_text().splitlines()]
    assert sum(row["tokens/sampled"] for row in rows if row["phase"] == "data") == cells["dpo"]["sampled"]
    rows = [json.loads(line) for line in (tmp_path / "sft/seed-0/run/metrics.jsonl").read_text().splitlines()]
    assert sum(row["tokens/learned"] for row in rows if row["phase"] == "train") == cells["sft"]["sampled"]
    both = [json.loads(line) for line in (tmp_path / "sft-then-rl/seed-0/run/metrics.jsonl").read_text().splitlines()]
    assert {row["part"] for row in both if row["phase"] == "train"} == {0, 1}


def test_a_method_that_the_world_cannot_serve_is_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="'sft' cannot run in this arena: world 'bench' has no reference solutions"):
        entry("sft", grpo(), Bench(), {}, tasks=2, levels=(1,), seed=0, budget=100)
