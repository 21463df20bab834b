"""Stand-ins: what is computed exactly agrees with what is played."""

from __future__ import annotations

import numpy as np
import pytest

from ferrule.agents.react import ToolLoop
from ferrule.studies.standins import components, needs, picks, simulator
from ferrule.studies.standins.decisions import Decisions
from ferrule.studies.table import Player


def test_success_of_the_simulator_is_exact() -> None:
    """A table that writes the wanted values in turn and completes solves all; an even one nearly none."""
    sure = np.full((simulator.TASKS * 8, simulator.ACTIONS), 0.0)
    for task in range(simulator.TASKS):
        for touched in range(8):
            place = next((i for i in range(3) if not touched >> i & 1), None)
            action = simulator.ACTIONS - 1 if place is None else place * 3 + simulator.wanted(task)[place]
            sure[task * 8 + touched, action] = 1.0
    assert simulator.success(sure) == pytest.approx(1.0)
    assert 0 < simulator.success(np.full_like(sure, 0.1)) < 0.01
    assert simulator.final_state(0, {}, True) == {"partial": 0.0, "passed": False}


def test_success_of_the_simulator_is_that_of_its_episodes() -> None:
    """A table that mostly writes what is wanted: exact chance and 1,600 episodes, within three standard errors."""
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(simulator.STATES, simulator.ACTIONS))
    for task in range(simulator.TASKS):
        for touched in range(8):
            place = next((i for i in range(3) if not touched >> i & 1), None)
            action = simulator.ACTIONS - 1 if place is None else place * 3 + simulator.wanted(task)[place]
            logits[task * 8 + touched, action] += 4.0
    chance_SA = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    episodes = [simulator.play(task, Player(chance_SA, rng)) for task in simulator.tasks() for _ in range(200)]
    exact = simulator.success(chance_SA)
    assert 0.2 < exact < 0.95
    assert np.mean([episode.final["passed"] for episode in episodes]) == pytest.approx(exact, abs=0.037)
    assert all(len(episode.turns) <= simulator.HORIZON for episode in episodes)


def test_agents_play_the_decisions_with_the_table() -> None:
    """A sure table decides rightly in four turns and pays 10 + 3 tokens; waiting takes turns and no step."""
    world = Decisions(4, first=10)
    (task,) = world.tasks("train", 1)
    sure_SA = np.full((4, 3), 1e-12)
    sure_SA[:, 0] = 1.0
    (path,) = world.play(task, Player(sure_SA, np.random.default_rng(0)), agent=ToolLoop(turns=9))
    assert (path.answer, len(path.turns), world.spent) == ("right", 4, 13)
    assert [turn.sampled for turn in path.turns] == [(0,), (3,), (6,), (9,)]
    idle = Decisions(1, idle=1)
    waits_SA = np.array([[0.1, 0.9]])
    (path,) = idle.play(task, Player(waits_SA, np.random.default_rng(0)), agent=ToolLoop(turns=60))
    assert path.answer == "right"
    assert [turn.sampled[0] for turn in path.turns] == [1] * (len(path.turns) - 1) + [0]
    (path,) = Decisions(1).play(task, Player(sure_SA[:, ::-1], np.random.default_rng(0)), agent=ToolLoop())
    assert path.answer == "wrong"


def test_accuracy_and_calls_of_the_needs_are_those_of_episodes() -> None:
    rng = np.random.default_rng(100)
    logits = rng.normal(size=(9, 4))
    chance = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    exact = needs.evaluate(chance)
    for task in needs.tasks(3):
        kind = task.meta["kind"]
        played = [needs.play(task, Player(chance, rng)) for _ in range(3000)]
        assert np.mean([t.answer == "right" for t in played]) == pytest.approx(exact[f"accuracy {kind}"], abs=0.03)
        assert np.mean([len(t.calls) for t in played]) == pytest.approx(exact[f"calls {kind}"], abs=0.08)


def test_expected_success_and_length_of_decisions() -> None:
    """Chances .6 and .9 of the right option: .54 in two turns; where half of all draws wait, twice as many turns."""
    chance_SA = np.array([[0.6, 0.4], [0.9, 0.1]])
    assert Decisions(2).expected(chance_SA) == pytest.approx({"success": 0.54, "length": 2.0, "tokens": 0.0})
    waits_SA = np.array([[0.3, 0.2, 0.5], [0.45, 0.05, 0.5]])
    assert Decisions(2, idle=2).expected(waits_SA) == pytest.approx({"success": 0.54, "length": 4.0, "tokens": 0.0})


def test_a_wrong_pick_is_refused_and_loses() -> None:
    """Six calls in turns of their own, three tokens of the answer in a last one; option 1 of the third call is wrong."""
    sure_SA = np.zeros((picks.TOOLS + picks.ANSWERS, picks.OPTIONS))
    sure_SA[:, 0] = 1.0
    (task,) = picks.tasks(1)
    with np.errstate(divide="ignore"):
        right = picks.play(task, Player(sure_SA, np.random.default_rng(0)))
        sure_SA[2] = [0, 1, 0, 0]
        wrong = picks.play(task, Player(sure_SA, np.random.default_rng(0)))
    assert (right.answer, wrong.answer) == ("right", "wrong")
    assert [len(turn.sampled) for turn in right.turns] == [1] * 6 + [3]
    assert [observation.status for _, observation in wrong.calls] == ["ok", "ok", "error", "ok", "ok", "ok"]
    assert picks.success(np.full((9, 4), 0.5)) == pytest.approx(0.5**9)


def test_the_slope_of_the_components_is_that_of_the_expected_reward() -> None:
    """Against differences of ``sum_k w_k p_k(right)`` by every logit."""
    weights = {"format": 0.1, "accuracy": 0.6, "tools": 0.3}

    def chances(logits: np.ndarray) -> np.ndarray:
        odds = np.exp(logits - logits.max(1, keepdims=True))
        return np.asarray(odds / odds.sum(1, keepdims=True))

    def expected(logits: np.ndarray) -> float:
        return float(np.asarray(list(weights.values())) @ chances(logits)[:, 0])

    logits, step = components.start(), 1e-5
    assert chances(logits)[:, 0] == pytest.approx([0.95, 1 / 24, 0.4])
    slopes = np.zeros(logits.shape)
    for at in np.ndindex(*logits.shape):
        up, down = logits.copy(), logits.copy()
        up[at], down[at] = up[at] + step, down[at] - step
        slopes[at] = (expected(up) - expected(down)) / (2 * step)
    assert components.slope_squared(chances(logits), weights) == pytest.approx(float((slopes**2).sum()), rel=1e-6)
