"""Chains of calls: right tools, and that episodes follow the exact chance of success."""

from __future__ import annotations

import numpy as np
import pytest

from ferrule.studies.standins.chain import KINDS, TOOLS, TURNS, play, right_tools, success, tasks
from ferrule.studies.table import Player


def test_reference_calls_are_the_right_tools() -> None:
    """Task 2, turn 3: (2 * 2 + 5 * 3 + 1) modulo 6 = 2."""
    assert right_tools(2) == [5, 4, 3, 2]
    assert [call["name"] for call in tasks()[2].meta["calls"]] == [
        "turn0_tool5", "turn1_tool4", "turn2_tool3", "turn3_tool2",
    ]  # fmt: skip


def test_success_is_the_chance_of_a_whole_chain() -> None:
    """Right with chance .8 at every turn: .8^4; even tools: 6^-4."""
    chance_SA = np.full((TURNS * KINDS, TOOLS), 0.2 / (TOOLS - 1))
    for kind in range(KINDS):
        chance_SA[TURNS * kind + np.arange(TURNS), right_tools(kind)] = 0.8
    assert success(chance_SA) == pytest.approx(0.4096)
    assert success(np.full((TURNS * KINDS, TOOLS), 1 / TOOLS)) == pytest.approx(6**-4)
    rng, task = np.random.default_rng(100), tasks()[1]
    wanted = [call["name"] for call in task.meta["calls"]]
    episodes = [play(task, Player(chance_SA, rng)) for _ in range(2000)]
    whole = np.mean([[call.name for call, _ in episode.calls] == wanted for episode in episodes])
    assert whole == pytest.approx(0.4096, abs=0.04)
