"""Memories in training: every scored episode is kept, and a run that was killed goes on with the memory it had."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.invariants.test_invariant_08_killed_runs_resume import Killed, at
from tests.toys import tiny_policy
from tests.train.pieces import LETTERS, recipe

from ferrule.agents.react import ToolLoop
from ferrule.agents.remembering import Remembering
from ferrule.core.records import Score, Task, Trajectory
from ferrule.memory.entries import Change, Entry
from ferrule.memory.library import Library
from ferrule.memory.memory import Memory
from ferrule.memory.recall import library_memory
from ferrule.rollout.record import load
from ferrule.train import step
from ferrule.train.loop import train
from ferrule.train.remember import counts_of, load_memories, memory_of, states_of
from ferrule.train.settings import Settings

pytestmark = pytest.mark.usefixtures("one_thread")


def settings(**changes: Any) -> Settings:
    given = {"learning_rate": 1e-2, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "seed": 2}
    return Settings(**{**given, **changes})


def weights(policy: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten().double() for p in policy.parameters()])


def noted(task: Task, trajectory: Trajectory, score: Score) -> list[Change]:
    """An entry per episode, which says its score."""
    return [Change("add", text=f"scored {score.value:g}", when=task.prompt)]


def told(task: Task, entries: Sequence[Entry]) -> str:
    return " ".join(f"{entry.id}:{entry.tally.shown}" for entry in entries)


def memory(library: Library) -> Memory:
    """Every episode writes an entry, and two are told with how often they were shown: all that moves shows."""
    return library_memory(library, k=2, least=-1.0, tell=told, write=noted, alike=2.0, harm=None)


def learner(library: Library, **changes: Any) -> Any:
    return recipe(agent=Remembering(ToolLoop(turns=1, max_tokens=4), memory(library)), **changes)


def test_a_killed_run_goes_on_with_the_memory_of_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(name: str, resume: bool = False) -> tuple[torch.Tensor, Library]:
        policy, library = tiny_policy(), Library(tmp_path / f"{name}.sqlite")
        how = settings(max_steps=4, save_steps=2)
        train(learner(library), LETTERS, policy, how, tmp_path / name, resume=resume)
        return weights(policy), library

    whole, expected = run("whole")
    monkeypatch.setattr(step, "learn", at(4, step.learn, True))
    with pytest.raises(Killed):
        run("cut")
    monkeypatch.undo()
    ahead = Library(tmp_path / "cut.sqlite")
    assert len(ahead) == len(expected), "killed after the episodes of the last step were kept"
    resumed, library = run("cut", resume=True)
    assert torch.equal(resumed, whole)
    assert [(e.id, e.text, e.tally) for e in library.entries()] == [(e.id, e.text, e.tally) for e in expected.entries()]
    rows = [json.loads(line) for line in (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()]
    counts = [row["memory/entries"] for row in rows if row["phase"] == "train"]
    assert counts == sorted(counts)
    assert counts[-1] == len(expected)
    episodes = [episode for episode, _ in load(tmp_path / "cut" / "episodes.jsonl")]
    assert any(turn.notes.get("memory") for e in episodes for t in e.trajectories for turn in t.turns)
    for one in (expected, ahead, library):
        one.close()


def test_groups_that_do_not_train_are_kept_as_well(tmp_path: Path) -> None:
    library = Library()
    dropping = learner(library, keep=lambda trajectories, scores: False, refill=1)
    train(dropping, LETTERS, tiny_policy(), settings(max_steps=1), tmp_path)
    assert len(library) == 2 * 2 * 4, "two draws of two groups of four"


def test_memories_of_several_recipes_stand_under_their_names() -> None:
    library = Library()
    recipes = {"a": learner(library), "b": recipe()}
    assert memory_of(recipes["b"]) is None
    assert counts_of(recipes)["a/memory/entries"] == 0.0
    state = states_of(recipes)
    library.add("x")
    load_memories(recipes, json.loads(json.dumps(state)))
    assert len(library) == 0
    with pytest.raises(ValueError, match="holds a memory, and the recipe to go on with has none"):
        load_memories({"a": recipe()}, state)
    assert states_of({"b": recipe()}) == {}
