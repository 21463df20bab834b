"""``ferrule arena`` on the pocket model: equal budgets, a table, and going on after a kill."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ferrule.cli import main
from ferrule.evaluate.arena import Arena, play_arena

pytestmark = pytest.mark.usefixtures("undrawn", "worked_here")
SMALL = (
    "arena", "--recipes", "grpo,rloo+otc", "--world", "arithmetic", "--budget", "2k", "--seeds", "1", "--eval-tasks", "5",
    "--num-generations-eval", "2", "--json",
)  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def played(*more: str) -> dict[str, object]:
    done = CliRunner().invoke(main, (*SMALL, *more))
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let a step play 16 samples and not the command's 128, which are most of what a small arena would take.

    Returns the numbers of workers that were asked for. This process does their work: an arena that other processes
    play, and that is killed, stands among the tests of ``ferrule.evaluate.arena``.
    """
    asked: list[int] = []

    def play(arena: Arena, *given: Any, workers: int, **settings: Any) -> dict[str, Any]:
        asked.append(workers)
        return play_arena(replace(arena, groups=4, num_generations=4), *given, workers=1, **settings)

    monkeypatch.setattr("ferrule.evaluate.arena.play_arena", play)
    return asked


def test_an_arena_goes_on_after_a_kill_to_the_same_numbers(here: Path, workers: list[int]) -> None:
    first = played()
    cells = {cell["recipe"]: cell for cell in first["cells"]}  # type: ignore[attr-defined]
    assert list(cells) == ["untrained", "grpo", "rloo+otc"]
    assert cells["untrained"]["steps"] == 0
    for name in ("grpo", "rloo+otc"):
        # Every run stops with the step that reaches the budget.
        assert cells[name]["sampled"] >= 2000
    assert cells["rloo+otc"]["changes"]["reward"] == ["otc"]
    said = first["about"]["command"]  # type: ignore[index]
    assert said.endswith("--budget 2000 --seeds 1 --eval-tasks 5 --num-generations-eval 2")
    folder = here / "runs" / "arena"
    assert {"arena.json", "arena.md"} <= {path.name for path in folder.iterdir()}
    assert (folder / "assets" / "arena.png").stat().st_size > 10_000
    record = folder / "units.jsonl"
    lines = record.read_text().splitlines(keepends=True)
    record.write_text(
        "".join(line for line in lines if '"rloo+otc"' not in line)
    )  # as if killed before it was measured
    again = played("--jobs", "2")
    assert workers == [1, 2]
    assert len(record.read_text().splitlines()) == 3
    without = [{k: v for k, v in cell.items() if k != "seconds"} for cell in again["cells"]]  # type: ignore[attr-defined]
    assert without == [{k: v for k, v in cell.items() if k != "seconds"} for cell in first["cells"]]  # type: ignore[attr-defined]


def test_columns_are_handed_on_with_what_goes_with_them(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command line names reaches the profile; what it does not name keeps the profile's own default."""
    seen: dict[str, Any] = {}

    class Seen(Exception):
        """Raised in place of the work."""

    def look(profile: Any, offer: Any, folder: Path, **settings: Any) -> None:
        seen.update(profile=profile, **settings)
        raise Seen

    monkeypatch.setattr("ferrule.evaluate.profile.play_profile", look)
    line = "arena --recipes grpo,sft --columns chains@2,priced --rates 1e-4,2e-4 --seeds 2 --budget 1k --units u.jsonl"
    done = CliRunner().invoke(main, line.split())
    assert isinstance(done.exception, Seen)
    profile = seen["profile"]
    assert [column.name for column in profile.columns] == ["chains@2", "priced"]
    assert (profile.rates, profile.seeds, profile.first_seed, profile.budget) == ((1e-4, 2e-4), 2, 100, 1000)
    assert profile.eval_tasks == type(profile).eval_tasks
    assert seen["units"] == Path("u.jsonl")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--recipes", "grpo", "--rates", "1e-4"), "--rates is about --columns; without them it would do nothing"),
        (("--recipes", "grpo", "--columns", "chains", "--world", "apis"), "--world would do nothing: --columns say"),
        (("--agents", "loop", "--columns", "chains"), "--columns is about recipes"),
        (("--recipes", "grpo", "--columns", "chians"), "did you mean 'chains'"),
        (("--recipes", "grpo", "--columns", "chains", "--rates", "fast"), "write 1e-4,3e-4,1e-3"),
        (("--recipes", "grpo,dop"), "did you mean 'dpo'"),
        (("--recipes", "otc+dpo"), "'otc+dpo' cannot run in this arena: 'dpo' cannot be stacked"),
        (
            ("--recipes", "sft", "--model", "http://127.0.0.1:9/v1"),
            "'sft' cannot run in this arena: this method needs a",
        ),
    ],
)
def test_what_cannot_run_is_refused_when_it_is_named(arguments: tuple[str, ...], message: str, here: Path) -> None:
    done = CliRunner().invoke(main, ("arena", *arguments))
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())
    assert not (here / "runs").exists()


def test_other_settings_are_refused_where_an_arena_lies(here: Path) -> None:
    folder = here / "runs" / "arena"
    folder.mkdir(parents=True)
    (folder / "settings.json").write_text('{"budget": 7}')
    done = CliRunner().invoke(main, SMALL)
    assert done.exit_code == 2
    assert "--overwrite" in done.output


def test_an_unknown_recipe_is_refused_before_anything_is_played(here: Path) -> None:
    done = CliRunner().invoke(main, ("arena", "--recipes", "grpo,oct"))
    assert done.exit_code == 2
    assert "did you mean 'otc'" in done.output
    assert not (here / "runs").exists()
