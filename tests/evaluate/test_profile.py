"""The arena with a profile: rates, units from elsewhere, the random control, and a whole small one."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.evaluate.profile_cells import SMALL, play

from ferrule.core.records import Message, Task, Trajectory, Turn
from ferrule.evaluate.arena import EVAL_SEED
from ferrule.evaluate.columns import columns_of
from ferrule.evaluate.controls import coin
from ferrule.evaluate.methods import known_of
from ferrule.evaluate.profile import TRIAL_SEED, Profile, best_rate, command_of, held_out
from ferrule.evaluate.profile_page import profile_page
from ferrule.evaluate.profile_standings import area, leading_of, pairs_of, profile_result, tokens_to
from ferrule.evaluate.recipes import stack
from ferrule.papers import discover
from ferrule.train.grpo import grpo
from ferrule.view.profile import profile_figure


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The small arena, played from beginning to end."""
    folder = tmp_path_factory.mktemp("profile")
    return folder, play(folder)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_small_arena_plays_from_rates_to_the_page(whole: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, result = whole
    units = lines(folder / "units.jsonl")
    trials = [unit for unit in units if "rate_seed" in unit]
    assert {(unit["recipe"], unit["rate"]) for unit in trials} == {
        (name, rate) for name in SMALL.recipes for rate in SMALL.rates
    }
    assert {unit["rate_seed"] for unit in trials} == {0}
    runs = [unit for unit in units if "seed" in unit]
    assert {(unit["recipe"], unit["seed"]) for unit in runs} == {(n, s) for n in SMALL.recipes for s in (100,)}
    assert all(unit["result"]["machine"]["device"] == "cpu" for unit in units)
    assert [row["recipe"] for row in result["rows"]] == ["untrained", *SMALL.recipes]
    for unit in runs:
        tokens = [point[0] for point in unit["result"]["curve"]]
        assert len(tokens) == 4
        assert tokens == sorted(tokens)
        assert unit["result"]["sampled"] == tokens[-1] >= SMALL.budget
        assert set(unit["result"]["columns"]) == {"unneeded@1", "chains@1"}
    for row in result["rows"][1:]:
        best = max(row["tried"].values())
        assert row["tried"][f"{row['rate']:g}"] == best
    assert not list(folder.glob("*/seed-*"))  # what a finished run left is gone
    text = profile_page(result)
    assert "| `sft` |" in text
    assert "## Told apart" in text
    assert result["about"]["command"] in text
    assert profile_figure(result, tmp_path / "figure.png").stat().st_size > 5_000


def test_units_of_another_machine_count_as_finished(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    units = tmp_path / "stored" / "units.jsonl"
    units.parent.mkdir()
    found = lines(whole[0] / "units.jsonl")
    for unit in found:
        unit["result"]["machine"] = {"machine": "arm64", "processor": "elsewhere", "device": "cuda:0"}
    units.write_text("".join(json.dumps(unit) + "\n" for unit in found), encoding="utf-8")

    def never(*_: Any) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr("ferrule.evaluate.queue.append", never)
    again = play(tmp_path / "fresh", units=units)
    assert again["rows"] == whole[1]["rows"]
    assert again["machines"] == [{"machine": "arm64", "processor": "elsewhere", "device": "cuda:0"}]
    with pytest.raises(AssertionError, match="measured again"):
        play(tmp_path / "other", units=units, budget=52)


def killed_call(monkeypatch: pytest.MonkeyPatch, name: str, at: int) -> None:
    """End the process, as it were, when a function of the profile is called for the ``at``-th time."""
    import ferrule.evaluate.profile as module

    before, calls = getattr(module, name), [0]

    def counted(*given: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == at:
            raise KeyboardInterrupt
        return before(*given, **named)

    monkeypatch.setattr(module, name, counted)


def test_a_run_that_was_killed_in_its_third_quarter_comes_to_the_same_numbers(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    row = next(row for row in whole[1]["rows"] if row["recipe"] == "grpo")
    alone: dict[str, Any] = {"recipes": ("grpo",), "rates": (row["rate"],)}
    with pytest.MonkeyPatch.context() as patch:
        killed_call(patch, "_measured", 4)  # the untrained model comes first
        with pytest.raises(KeyboardInterrupt):
            play(tmp_path, **alone)
    assert list(tmp_path.glob("grpo/seed-100-*/checkpoint-*"))
    assert play(tmp_path, **alone)["runs"] == [run for run in whole[1]["runs"] if run["recipe"] != "sft"]


def test_a_folder_that_is_half_removed_is_not_gone_on_from(whole: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """Without its curve a finished run would be taken for one whose quarters all ended with the last weights."""
    row = next(row for row in whole[1]["rows"] if row["recipe"] == "grpo")
    alone: dict[str, Any] = {"recipes": ("grpo",), "rates": (row["rate"],)}

    whole_removed = shutil.rmtree

    def half(folder: Path, **how: Any) -> None:
        if not (folder / "curve.json").is_file():
            return whole_removed(folder, **how)
        (folder / "curve.json").unlink()
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ferrule.evaluate.profile.shutil.rmtree", half)
        with pytest.raises(KeyboardInterrupt):
            play(tmp_path, **alone)
    assert play(tmp_path, **alone)["runs"] == [run for run in whole[1]["runs"] if run["recipe"] != "sft"]


def test_a_run_does_not_go_on_from_a_checkpoint_of_other_settings(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    row = next(row for row in whole[1]["rows"] if row["recipe"] == "grpo")
    with pytest.MonkeyPatch.context() as patch:
        killed_call(patch, "_measured", 4)
        with pytest.raises(KeyboardInterrupt):
            play(tmp_path, recipes=("grpo",), rates=(1e-2,))
    changed = play(tmp_path, recipes=("grpo",), rates=(row["rate"],))
    assert changed["runs"] == [run for run in whole[1]["runs"] if run["recipe"] != "sft"]


def test_rates_are_chosen_by_tasks_that_are_not_measured() -> None:
    """Sums of one digit are so few that other seeds give many of them again."""
    profile = replace(SMALL, eval_tasks=30)
    column = profile.columns[0]
    measured = {task.prompt for task in held_out(profile, column, EVAL_SEED, 30)}
    trial = {task.prompt for task in held_out(profile, column, TRIAL_SEED, 30)}
    assert len(measured) == len(trial) == 30
    assert not measured & trial
    with pytest.raises(ValueError, match="no test tasks beside the"):
        held_out(replace(SMALL, eval_tasks=200), column, TRIAL_SEED, 30)


def test_the_rate_that_did_best_is_taken_and_of_equals_the_first() -> None:
    assert best_rate((1e-4, 3e-4, 1e-3), {1e-4: 0.2, 3e-4: 0.5, 1e-3: 0.4}) == 3e-4
    assert best_rate((1e-3, 1e-4), {1e-4: 0.5, 1e-3: 0.5}) == 1e-3


def episode(task: Task, text: str, answer: str) -> Trajectory:
    return Trajectory(task, (Turn(0, None, (), (), (), Message("assistant", text)),), answer, "answer")


def test_the_random_reward_knows_nothing_of_right() -> None:
    """Of 2000 coins a mean outside 0.45 to 0.55 has a chance below 1e-5; right and wrong answers get as much."""
    found: dict[bool, list[float]] = {True: [], False: []}
    for number in range(250):
        task = Task(f"t/{number}", "p", "7")
        group = [episode(task, f"said {place}", "7" if place % 2 else "8") for place in range(8)]
        scores = coin(task, group)
        assert scores == coin(task, group)
        for place, score in enumerate(scores):
            assert set(score.parts) == set()
            found[bool(place % 2)].append(score.value)
    assert set(found[True]) == {0.0, 1.0}
    means = {right: sum(values) / len(values) for right, values in found.items()}
    assert abs(means[True] - 0.5) < 0.07
    assert abs(means[False] - 0.5) < 0.07
    assert abs(means[True] - means[False]) < 0.1


def test_the_random_control_changes_the_reward_of_a_stack_and_nothing_else() -> None:
    known = known_of(discover()).recipes
    _, changes = stack(grpo(), "grpo+random", known)
    assert changes["reward"][-1] == "random"
    assert {field for field, by in changes.items() if "random" in by} == {"reward"}


def test_the_area_is_cut_at_the_budget_and_goes_on_level() -> None:
    """Up from 0 to 1 over 100: half. Cut at 50: a mean of 0.25. Level from 100 to 200: (50 + 100) / 200."""
    way = [(0.0, 0.0), (100.0, 1.0)]
    assert area(way, 100) == pytest.approx(0.5)
    assert area(way, 50) == pytest.approx(0.25)
    assert area(way, 200) == pytest.approx(0.75)


def test_tokens_to_a_level_lie_between_points() -> None:
    way = [(0.0, 0.2), (100.0, 0.4), (200.0, 0.3), (300.0, 0.8)]
    assert tokens_to(way, 0.1) == 0.0
    assert tokens_to(way, 0.3) == pytest.approx(50.0)
    assert tokens_to(way, 0.55) == pytest.approx(250.0)
    assert tokens_to(way, 0.9) is None


def run(recipe: str, seed: int | None, *ends: float) -> dict[str, Any]:
    columns = {f"c{i}": {"success": end} for i, end in enumerate(ends)}
    curve = [[100, {name: row["success"] for name, row in columns.items()}]]
    if seed is None:
        curve[0][0] = 0
    row = {"recipe": recipe, "columns": columns, "curve": curve, "sampled": 100, "steps": 1, "changes": {},
           "machine": {"device": "cpu"}}  # fmt: skip
    return row if seed is None else {**row, "seed": seed}


def rows_of() -> list[dict[str, Any]]:
    """Three recipes in two columns: "up" gains .1, .2, .3 on "grpo" in the first and nothing sure in the second."""
    rows = [run("untrained", None, 0.0, 0.2)]
    rows += [run("grpo", s, a, b) for s, a, b in ((100, 0.4, 0.4), (101, 0.5, 0.5), (102, 0.6, 0.6))]
    rows += [run("up", s, a, b) for s, a, b in ((100, 0.55, 0.5), (101, 0.70, 0.4), (102, 0.85, 0.6))]
    rows += [run("down", s, a, b) for s, a, b in ((100, 0.1, 0.1), (101, 0.2, 0.2), (102, 0.3, 0.3))]
    return rows


def test_pairs_are_told_apart_by_intervals_paired_by_seed() -> None:
    """Differences .15, .2, .25: mean .2, half width 4.303 * .05 / sqrt(3) = .124."""
    pairs = {(pair["first"], pair["second"]): pair for pair in pairs_of(rows_of(), ["c0", "c1"])}
    assert pairs["grpo", "up"]["worse"] == ["c0"]
    assert pairs["grpo", "up"]["better"] == []
    assert pairs["grpo", "down"]["better"] == ["c0", "c1"]
    assert all("untrained" not in names for names in pairs)


def about(**changes: Any) -> dict[str, Any]:
    columns = [{"name": f"c{i}", "world": "chains", "levels": [1]} for i in range(2)]
    return {
        "recipes": ["grpo", "up", "down"], "columns": columns, "against": "grpo", "budget": 100, "model": "pocket",
        "rates": [1e-4], "rate_seed": 0, "first_seed": 100, "seeds": 3, "leading": 0, "leading_seeds": 8, "groups": 2,
        "eval_tasks": 4, "num_generations_eval": 1, "curve_tasks": 2, "by_rule": False, "command": "ferrule arena",
        **changes,
    }  # fmt: skip


def test_differences_levels_and_the_sentence_about_pairs() -> None:
    result = profile_result(about(), rows_of(), {"grpo": 1e-4, "up": 1e-4, "down": 1e-4}, {})
    found = {row["recipe"]: row["columns"] for row in result["rows"]}
    assert found["up"]["c0"]["difference"] == pytest.approx(0.2)
    assert found["up"]["c0"]["difference_interval"] == pytest.approx([0.2 - 0.1242, 0.2 + 0.1242], abs=1e-3)
    assert found["grpo"]["c0"]["difference"] is None
    assert found["untrained"]["c0"]["difference"] == pytest.approx(-0.5)
    assert found["up"]["c0"]["level"] == pytest.approx(0.25)  # half way from 0 to 0.5
    assert found["grpo"]["c0"]["tokens_to_level"] == pytest.approx(50.0)
    assert found["down"]["c1"]["tokens_to_level"] is None
    assert found["up"]["all"]["success"] == pytest.approx((0.7 + 0.5) / 2)
    text = profile_page({**result, "versions": {"python": "3"}})
    assert "kept by a rule" not in text
    assert "kept by a rule" in profile_page({**result, "about": about(by_rule=True), "versions": {"python": "3"}})
    assert "| `up` | 0.0001 | 3 | 0k | 70.0 | 50.0 | 60.0 |" in text
    assert "**No pair of recipes is told apart in at least 4 columns**: of 3 pairs 3 are told apart in one" in text
    pair = {"first": "grpo", "second": "up", "better": ["a", "b", "c"], "worse": ["d"]}
    text = profile_page({**result, "pairs": [pair], "versions": {"python": "3"}})
    assert "1 are told apart in at least 4 columns" in text
    assert "- `grpo` against `up`: better in a, b, c; worse in d\n" in text


def test_the_leading_ones_are_the_best_over_all_columns() -> None:
    assert leading_of(rows_of(), "grpo", 1) == ["grpo", "up"]
    assert leading_of(rows_of(), "down", 1) == ["down", "up"]


def test_seeds_of_measuring_are_not_those_of_choosing() -> None:
    with pytest.raises(ValueError, match="one of the measuring seeds"):
        Profile(("grpo",), columns_of(["chains"]), first_seed=0)
    with pytest.raises(ValueError, match="needs recipes, columns, learning rates"):
        Profile((), columns_of(["chains"]))
    with pytest.raises(ValueError, match="leave it out of the recipes"):
        Profile(("untrained",), columns_of(["chains"]))
    with pytest.raises(ValueError, match="recipes name grpo more than once"):
        Profile(("grpo", "otc", "grpo"), columns_of(["chains"]))
    with pytest.raises(ValueError, match=r"rates name 0\.001 more than once"):
        Profile(("grpo",), columns_of(["chains"]), rates=(1e-3, 1e-3))
    with pytest.raises(ValueError, match="leading_seeds is 5 and every recipe has 5 seeds"):
        Profile(("grpo",), columns_of(["chains"]), leading=1, leading_seeds=5)
    with pytest.raises(ValueError, match="eval_tasks is 8; the least is 16"):
        Profile(("grpo",), columns_of(["chains"]), eval_tasks=8)


def test_the_command_plays_the_profile_again() -> None:
    said = command_of(Profile(("grpo", "sft"), columns_of(["chains@2", "priced"]), leading=2, budget=1000))
    assert said == (
        "ferrule arena --recipes grpo,sft --columns chains@2,priced --rates 0.0001,0.0003,0.001 --first-seed 100 "
        "--seeds 5 --budget 1000 --leading 2"
    )
