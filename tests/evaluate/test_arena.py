"""The arena's arithmetic: stacks, budgets, means over seeds, paired differences, the page."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.evaluate.arena_cells import SMALL, cells, play
from tests.toys import Bench

from ferrule.core.recipe import Recipe, Roles, Stage
from ferrule.data.formats import Row
from ferrule.evaluate.arena import tokens
from ferrule.evaluate.methods import METHODS, Known, entry, known_of
from ferrule.evaluate.queue import Job, results
from ferrule.evaluate.recipes import recipes_of, stack
from ferrule.evaluate.standings import Cell, page, summarise
from ferrule.papers import discover
from ferrule.policies.named import load
from ferrule.train.check import parts_of
from ferrule.train.grpo import grpo
from ferrule.worlds.chains import Chains

pytestmark = pytest.mark.usefixtures("undrawn", "worked_here")


def cell(recipe: str, seed: int, success: float) -> Cell:
    return Cell(recipe, seed, success, (success,), 1.0, 20.0, 0.0, {"1": success, "2": 1.0}, steps=3, sampled=1000)


def test_recipes_are_found_by_what_they_take_and_return() -> None:
    known = recipes_of(discover())
    assert {"otc", "rloo", "grpo", "dapo", "retool"} <= set(known)
    assert "direct_score" not in known  # a piece, not a recipe
    assert {paper.slug for paper in discover() if "recipe" in paper.pieces} <= set(known)


def test_a_stack_is_applied_from_left_to_right_and_says_who_set_what() -> None:
    def cold(base: Recipe) -> Recipe:
        return replace(base, temperature=0.5, num_generations=4)

    def hot(base: Recipe) -> Recipe:
        return replace(base, temperature=2 * base.temperature)

    made, changes = stack(grpo(), "cold+hot", {"cold": cold, "hot": hot})
    assert (made.temperature, made.num_generations) == (1.0, 4)
    assert changes == {"temperature": ("cold", "hot"), "num_generations": ("cold",)}
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


ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Two recipes of the small arena, played by one worker from beginning to end: its folder and its result."""
    folder = tmp_path_factory.mktemp("arena")
    return folder, play(folder, recipes=("grpo", "sft"))


def rows_of(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name / "seed-0/metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]], str]:
    """An arena of one recipe that was killed after the checkpoint of step 20: its folder, steps and record."""
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-m", "tests.evaluate.arena_cells", str(folder), "grpo"]
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    while not (folder / "grpo/seed-0/checkpoint-20").is_dir():
        assert process.poll() is None, "ended before its first checkpoint"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return folder, rows_of(folder, "grpo")[:20], (folder / "units.jsonl").read_text()


@pytest.fixture(scope="module")
def resumed(killed: tuple[Path, list[dict[str, Any]], str]) -> tuple[dict[str, Any], list[str]]:
    """The killed arena after it went on with two workers and all methods: its result and what was shown."""
    shown: list[str] = []
    return play(killed[0], workers=2, show=shown.append), shown


@pytest.mark.slow
def test_killed_in_a_cell_it_goes_on_with_two_workers_to_equal_records(
    undisturbed: tuple[Path, dict[str, Any]],
    killed: tuple[Path, list[dict[str, Any]], str],
    resumed: tuple[dict[str, Any], list[str]],
) -> None:
    folder, steps, units = killed
    assert [json.loads(line)["recipe"] for line in units.splitlines()] == ["untrained"]
    plain, again = cells(undisturbed[1]), cells(resumed[0])
    assert {place: again[place] for place in plain} == plain
    for curve in ("grpo/0", "sft/0"):
        assert resumed[0]["curves"][curve] == undisturbed[1]["curves"][curve]
    # The steps up to the checkpoint were not taken again: even their seconds are those of the killed run.
    assert rows_of(folder, "grpo")[:20] == steps
    after = (folder / "units.jsonl").read_text()
    assert after.startswith(units)
    assert len(after.splitlines()) == 1 + len(SMALL.recipes)


@pytest.mark.slow
def test_methods_stand_in_the_arena_beside_recipes(
    killed: tuple[Path, list[dict[str, Any]], str], resumed: tuple[dict[str, Any], list[str]]
) -> None:
    folder, result = killed[0], resumed[0]
    measured = {name: cell for (name, _), cell in cells(result).items()}
    assert list(measured) == ["untrained", *SMALL.recipes]
    for name in SMALL.recipes:
        assert measured[name]["sampled"] >= SMALL.budget, name
        assert any(line.startswith(f"{name}, seed 0: success ") for line in resumed[1]), name
    assert resumed[1][-1].startswith("5 done, 0 left")
    rows = rows_of(folder, "dpo")
    assert sum(row["tokens/sampled"] for row in rows if row["phase"] == "data") == measured["dpo"]["sampled"]
    rows = rows_of(folder, "sft")
    assert sum(row["tokens/learned"] for row in rows if row["phase"] == "train") == measured["sft"]["sampled"]
    rows = [row for row in rows_of(folder, "sft+otc") if row["phase"] == "train"]
    learned = [row["tokens/learned"] for row in rows if row["part"] == 0]
    assert sum(learned) >= SMALL.budget / 4 > sum(learned[:-1])
    assert {row["part"] for row in rows} == {0, 1}
    assert measured["sft+otc"]["changes"]["reward"] == ["otc"]
    assert result["curves"]["grpo/0"][-1][0] == measured["grpo"]["sampled"]


@pytest.mark.parametrize(("name", "paid"), [("sft", 2000), ("sft+grpo", 500)])
def test_solutions_are_as_many_as_the_budget_pays_for_and_none_comes_twice(name: str, paid: int) -> None:
    found, _ = entry(
        name,
        grpo(),
        Chains(),
        Known({"grpo": lambda base: base}, METHODS),
        tasks=2,
        levels=(1, 2, 3),
        seed=0,
        budget=2000,
    )
    stage = parts_of(found)[0]
    assert isinstance(stage, Stage)
    rows = stage.data(load("pocket", device="cpu"), 0)
    assert isinstance(rows, list)
    learned = [sum(turn >= 0 for turn in row.turn) for row in rows]
    assert sum(learned) >= paid > sum(learned[:-30])
    assert len({tuple(row.ids) for row in rows}) == len(rows)


def test_a_world_that_runs_out_of_solutions_is_asked_for_them_once_more_and_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def few(policy: Any, part: int) -> list[Row]:
        asked.append(part)
        return [Row((1, 2, part), (-1, 0, 0))] if part < 2 else []

    monkeypatch.setattr("ferrule.evaluate.methods.demonstrations", lambda world, **given: few)
    offered = Known({"grpo": lambda base: base}, METHODS)
    found, _ = entry("sft", grpo(), Chains(), offered, tasks=2, levels=(1,), seed=0, budget=2000)
    stage = parts_of(found)[0]
    assert isinstance(stage, Stage)
    rows = stage.data(None, 0)
    assert isinstance(rows, list)
    assert [row.ids for row in rows] == [(1, 2, 0), (1, 2, 1)]
    assert asked == [0, 1, 2]


def test_an_arena_that_grows_measures_only_what_is_missing(
    undisturbed: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, first = undisturbed
    before = (folder / "units.jsonl").read_text()
    fewer = play(folder, recipes=("sft",))
    assert cells(fewer) == {place: cell for place, cell in cells(first).items() if place[0] != "grpo"}
    assert (folder / "units.jsonl").read_text() == before
    missing: list[tuple[str, int]] = []

    class Seen(Exception):
        """Raised in place of the work."""

    def look(jobs: list[Job], *_: Any, **__: Any) -> None:
        missing.extend((job.about["recipe"], job.about["seed"]) for job in jobs if job.address not in results(jobs))
        raise Seen

    monkeypatch.setattr("ferrule.evaluate.arena.work", look)
    with pytest.raises(Seen):
        play(folder, recipes=("sft", "otc", "grpo"), seeds=2)
    assert missing == [("otc", 0), ("sft", 1), ("otc", 1), ("grpo", 1)]


def test_other_settings_or_weights_are_refused_where_an_arena_lies(
    undisturbed: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = undisturbed
    with pytest.raises(FileExistsError, match="--overwrite"):
        play(folder, recipes=("grpo",), budget=SMALL.budget + 1)
    monkeypatch.setattr("ferrule.evaluate.arena.weights_digest", lambda name: "other weights")
    with pytest.raises(FileExistsError, match="another model"):
        play(folder, recipes=("grpo",))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"recipes": ("grpo", "dop")}, "did you mean 'dpo'"),
        ({"recipes": ("otc+dpo",)}, "'otc\\+dpo' .* 'dpo' cannot be stacked"),
        ({"recipes": ("sft+dpo",)}, "'sft\\+dpo' .* 'dpo' cannot be stacked"),
        ({"recipes": ("otc+sft",)}, "'otc\\+sft' .* 'sft' must stand first"),
        ({"recipes": ("grpo",), "model": "http://127.0.0.1:9/v1"}, "'grpo' cannot run .* a policy that can train"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_played(
    changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=reason):
        play(tmp_path / "arena", **changes)
    assert not (tmp_path / "arena").exists()


def test_methods_of_papers_are_known_by_their_piece() -> None:
    methods = known_of(discover()).methods
    assert {"thor-method", "rlad-method", "rlad-alternating", "tir-recipe-pipeline", *METHODS} <= set(methods)
    slugs = {paper.slug for paper in discover()}
    assert all(name.startswith(tuple(f"{slug}-" for slug in slugs)) for name in set(methods) - set(METHODS))
    settings: dict[str, Any] = {"tasks": 2, "levels": (1,), "seed": 0, "budget": 100}
    roles = methods["thor-method"](grpo(num_generations=3), Bench(), **settings)
    assert isinstance(roles, Roles)
    assert set(roles.recipes) == {"episode", "step"}
    with pytest.raises(ValueError, match="world 'bench' has no reference solutions"):
        methods["tir-recipe-pipeline"](grpo(), Bench(), **settings)


def test_a_method_that_the_world_cannot_serve_is_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="'sft' cannot run in this arena: world 'bench' has no reference solutions"):
        entry("sft", grpo(), Bench(), known_of([]), tasks=2, levels=(1,), seed=0, budget=100)
