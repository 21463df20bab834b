"""A set of tools that grows from step to step of training, and goes on after a kill as if there had been none."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.toys import tiny_policy
from tests.train.pieces import LETTERS, recipe, seeded
from tests.train.test_loop import rows, settings

from ferrule.agents.react import ToolLoop
from ferrule.agents.remembering import Remembering
from ferrule.core.recipe import vary
from ferrule.core.records import Score, Tool
from ferrule.memory.offered import offered_tools
from ferrule.rollout.record import load
from ferrule.train.loop import train

pytestmark = pytest.mark.usefixtures("one_thread")


def offer(held: Any) -> list[Tool]:
    nothing = {"type": "object", "properties": {}}
    return [Tool(f"t{number}", "Made on the way.", nothing, run=lambda: "x") for number in held]


def grow(held: Any, episode: Any, scores: Any) -> Any:
    """Each episode above 3 adds a tool named by what its model wrote."""
    (first, *_) = episode.trajectories[0].turns
    return [*held, sum(first.sampled)][-4:] if scores[0].value > 3 else held


def growing() -> Any:
    memory = offered_tools(offer, grow, [])
    return vary(recipe(reward=seeded), agent=Remembering(ToolLoop(turns=2, max_tokens=4), memory)), memory


def offered(folder: Path) -> list[list[str]]:
    """Names of the tools that stand in the prompt of every episode, in order."""
    names = []
    for episode, _ in load(folder / "episodes.jsonl"):
        names.append(list(episode.trajectories[0].turns[0].notes.get("memory", ())))
    return names


def test_a_growing_set_resumes_exactly(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    method, memory = growing()
    policy = tiny_policy()
    train(method, LETTERS, policy, settings(max_steps=2, save_steps=1), whole)
    names = offered(whole)
    assert names[0] == []
    assert any(names)
    assert len({tuple(row) for row in names}) == 2  # the set changes between the steps, and not within one
    shutil.copytree(whole, cut)
    shutil.rmtree(cut / "checkpoint-2")
    (cut / "summary.json").unlink(missing_ok=True)
    again, second = growing()  # begins empty, as after a kill
    other = tiny_policy()
    train(again, LETTERS, other, settings(max_steps=2, save_steps=1), cut, resume=True)
    assert offered(cut) == names
    assert second.state() == memory.state()
    assert [r["reward/mean"] for r in rows(cut)] == [r["reward/mean"] for r in rows(whole)]
    for ours, theirs in zip(policy.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_set_is_what_was_kept() -> None:
    memory = offered_tools(offer, lambda held, episode, scores: [*held, int(scores[0].value)], [1])
    episode: Any = None
    memory.keep(episode, [Score(7.0)])
    assert memory.state is not None
    assert memory.state() == [1, 7]
    recalled: Any = memory.recall(LETTERS.tasks("train", 1)[0], ())
    assert ([tool.name for tool in recalled.tools], recalled.ids) == (["t1", "t7"], ("t1", "t7"))
