"""Going back to an earlier checkpoint: which one, what is taken over, what goes on, and how often."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.toys import tiny_policy
from tests.train.pieces import LETTERS, Speller, recipe, seeded

from ferrule.core.records import Score, Task, Trajectory
from ferrule.data.formats import Row
from ferrule.evaluate.run import Plan, execute
from ferrule.rollout.record import load
from ferrule.train import checkpoint
from ferrule.train.loop import train
from ferrule.train.monitor import Health
from ferrule.train.settings import Settings
from ferrule.train.stage import sft

pytestmark = pytest.mark.usefixtures("one_thread")

SPELL = recipe(agent=Speller(tokens=2), reward=seeded)
BASE = Settings(
    max_steps=6,
    learning_rate=1e-2,
    per_device_train_batch_size=4,
    gradient_accumulation_steps=1,
    save_steps=1,
    save_total_limit=9,
    seed=3,
)


def collapsing(*bad: int) -> Any:
    """The reward of the tests, with a part ``bad`` of 1 in the steps named (from 0)."""

    def reward(task: Task, trajectories: Sequence[Trajectory], step: int) -> list[Score]:
        return [replace(s, parts={"bad": float(step in bad)}) for s in seeded(task, trajectories)]

    return replace(SPELL, reward=reward)


def health(rollbacks: int = 1, window: int = 1, **more: Any) -> Health:
    """Warns as soon as the part ``bad`` is above a half in the window; nothing else is watched."""
    return Health(
        window=window, rollbacks=rollbacks, entropy=-1.0, zero_spread=2.0, malformed=2.0, calls=-1.0,
        bands={"reward/bad": (0.0, 0.5)}, **more,
    )  # fmt: skip


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The trained weights that a checkpoint holds."""
    policy = tiny_policy()
    checkpoint.read(folder, policy, torch.optim.AdamW(policy.parameters()))
    return {name: p.detach().clone() for name, p in policy.model.named_parameters()}


def warned(folder: Path) -> list[str]:
    return [json.loads(line)["text"] for line in (folder / "warnings.jsonl").read_text().splitlines()]


def steps(folder: Path) -> list[int]:
    return sorted(int(path.name.split("-")[1]) for path in checkpoint.every(folder))


def test_a_warning_takes_the_run_back_and_on_with_new_tasks(tmp_path: Path) -> None:
    """Step 4 leaves the band: weights and optimiser are those of step 3 again, steps 5 and 6 play tasks 5 and 6."""
    summary = train(collapsing(3), LETTERS, tiny_policy(), replace(BASE, max_steps=4), tmp_path / "a", health=health())
    assert (summary["steps"], summary["stopped_by"]) == (4, "max_steps")
    assert warned(tmp_path / "a")[0].startswith("reward/bad is 1; it was to stay between 0 and 0.5")
    assert warned(tmp_path / "a")[1].startswith("back to the weights of step 3 (rollback 1 of 1)")
    assert steps(tmp_path / "a") == [1, 2, 3, 4]
    third, fourth = (weights(tmp_path / "a" / f"checkpoint-{n}") for n in (3, 4))
    assert all(torch.equal(third[name], fourth[name]) for name in third)

    plain, back = tiny_policy(), tiny_policy()
    train(SPELL, LETTERS, plain, BASE, tmp_path / "plain")
    train(collapsing(3), LETTERS, back, BASE, tmp_path / "back", health=health())
    tasks = [
        [(extra["step"], episode.task.id, episode.seed) for episode, extra in load(tmp_path / name / "episodes.jsonl")]
        for name in ("plain", "back")
    ]
    assert tasks[0] == tasks[1]  # steps, tasks and seeds go on as if nothing had happened; the weights do not
    assert not torch.equal(plain.model.lm_head.weight, back.model.lm_head.weight)


def test_the_checkpoint_is_from_before_the_window_and_later_ones_go(tmp_path: Path) -> None:
    """Bad from step 4 on, seen over 3 steps as 2 of 3 at step 5: back to step 2, and 3 and 4 are removed."""
    summary = train(collapsing(3, 4), LETTERS, tiny_policy(), BASE, tmp_path, health=health(window=3))
    assert (summary["steps"], summary["stopped_by"]) == (6, "max_steps")
    assert warned(tmp_path)[1].startswith("back to the weights of step 2")
    assert steps(tmp_path) == [1, 2, 5, 6]
    second, fifth = (weights(tmp_path / f"checkpoint-{n}") for n in (2, 5))
    assert all(torch.equal(second[name], fifth[name]) for name in second)


def test_the_warning_after_the_last_rollback_ends_the_run(tmp_path: Path) -> None:
    summary = train(collapsing(2, 3, 4), LETTERS, tiny_policy(), BASE, tmp_path, health=health(2))
    assert (summary["steps"], summary["stopped_by"]) == (5, "health")
    told = warned(tmp_path)
    assert ["back to" in text for text in told] == [False, True, False, True, False]
    assert "(rollback 2 of 2)" in told[3]


def test_without_a_checkpoint_to_go_back_to_a_warning_ends_the_run(tmp_path: Path) -> None:
    summary = train(collapsing(0), LETTERS, tiny_policy(), BASE, tmp_path, health=health())
    assert (summary["steps"], summary["stopped_by"]) == (1, "health")


def test_a_run_that_went_back_goes_on_after_a_kill_to_the_same_numbers(tmp_path: Path) -> None:
    """Ended after the rollback of step 4 (as by a kill), resumed to step 6; rollbacks that were used stay used."""
    whole, cut = tiny_policy(), tiny_policy()
    method = collapsing(3, 5)
    first = train(method, LETTERS, whole, BASE, tmp_path / "whole", health=health())
    assert first["stopped_by"] == "health"
    train(method, LETTERS, cut, replace(BASE, max_steps=4), tmp_path / "cut", health=health())
    fresh = tiny_policy(seed=1)
    second = train(method, LETTERS, fresh, BASE, tmp_path / "cut", health=health(), resume=True)
    assert (second["steps"], second["stopped_by"]) == (6, "health")
    assert torch.equal(whole.model.lm_head.weight, fresh.model.lm_head.weight)
    assert warned(tmp_path / "whole") == warned(tmp_path / "cut")


def test_sampling_ahead_starts_again_from_the_restored_weights(tmp_path: Path) -> None:
    rows: list[Any] = []
    ahead = replace(BASE, sample_ahead=1, save_steps=2)
    summary = train(collapsing(2), LETTERS, tiny_policy(), ahead, tmp_path, health=health(), show=rows.append)
    assert (summary["steps"], summary["stopped_by"]) == (6, "max_steps")
    stale = [row["stale/steps"] for row in rows if row["phase"] == "train"]
    assert stale == [0.0, 1.0, 0.0, 0.0, 0.0, 1.0]  # 3 and 5 follow checkpoints, 4 the rollback
    assert any("back to the weights of step 2" in str(row.get("text")) for row in rows)


def test_a_stage_goes_back_too_and_draws_no_row_again(tmp_path: Path) -> None:
    """A loss band that holds at no step: the one rollback is used, and the next warning ends the run."""
    data = [Row((5 + i, 6, 7), (-1, 0, 0)) for i in range(6)]
    narrow = Health(window=1, rollbacks=1, entropy=-1.0, bands={"optimizer_steps": (1.0, 1.0), "loss": (0.0, 1e9)})
    good = train(sft(data), None, tiny_policy(), BASE, tmp_path / "good", health=narrow)
    assert good["stopped_by"] == "max_steps"
    never = replace(narrow, bands={"loss": (-2.0, -1.0)}, window=2)
    ended = train(sft(data), None, tiny_policy(), BASE, tmp_path / "never", health=never)
    assert (ended["stopped_by"], ended["steps"]) == ("health", 3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"save_steps": 0}, "set save_steps"), ({"save_total_limit": 8}, "is 7; raise one of them to reach 8")],
)
def test_rollbacks_that_find_no_checkpoint_are_refused(changes: dict[str, int], said: str, tmp_path: Path) -> None:
    settings = replace(BASE, **changes)
    with pytest.raises(ValueError, match=said):
        train(SPELL, LETTERS, tiny_policy(), settings, tmp_path, health=Health(rollbacks=1))
    with pytest.raises(ValueError, match=said):
        execute(Plan(tmp_path / "run", tiny_policy(), LETTERS, SPELL, settings, rollbacks=1), quiet=True)
    with pytest.raises(ValueError, match="and a folder"):
        train(SPELL, LETTERS, tiny_policy(), BASE, None, health=Health(rollbacks=1))
    assert not list(tmp_path.iterdir())


def test_values_of_health_are_checked() -> None:
    for bad in ({"window": 0}, {"rollbacks": -1}):
        with pytest.raises(ValueError, match=rf"Health\.{next(iter(bad))} is"):
            Health(**bad)  # type: ignore[arg-type]
