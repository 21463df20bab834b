"""DeepAgent: ToolPO, two advantages by means only, and the agent that it trains."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.contracts.checks import check_reward

from ferrule.agents.simulated import Simulated
from ferrule.core.arrays import apply, chain, pack
from ferrule.core.recipe import vary
from ferrule.core.records import Call, Message, Observation, Score, Span, Task, Trajectory, Turn
from ferrule.objectives.reduce import token_mean
from ferrule.objectives.surrogate import surrogate
from ferrule.papers import deepagent, find
from ferrule.policies.named import load
from ferrule.policies.scripted import Scripted
from ferrule.rollout.beside import beside
from ferrule.rollout.record import load as read_episodes
from ferrule.studies.table import plain
from ferrule.train.grpo import grpo
from ferrule.train.loop import Settings, check, train
from ferrule.worlds.apis import Apis

TASK = Task("t", "?", answer="yes", meta={"calls": [{"name": "f", "arguments": {"x": 1}}, {"name": "g"}]})


def masked(mask: Sequence[int], label: str = "call") -> Trajectory:
    """One turn whose tokens with a 1 lie in a span."""
    spans = tuple(Span(label, i, i + 1) for i, one in enumerate(mask) if one)
    turn = Turn(0, None, (9,), (1,) * len(mask), (-0.5,) * len(mask), Message("assistant", "x"), spans=spans)
    return Trajectory(TASK, (turn,), answer="yes")


def called(*calls: Call, status: str = "ok", right: bool = True) -> Trajectory:
    seen = tuple(Observation("r", status=status) for _ in calls)  # type: ignore[arg-type]
    turn = Turn(0, None, (), (1,), (-0.5,), Message("assistant", calls=calls), observations=seen)
    return Trajectory(TASK, (turn,), answer="yes" if right else "no")


MASKS = ([0, 1, 1, 0], [1, 0, 0], [0, 0], [0, 1])


def scores(success: Sequence[float], action: Sequence[float]) -> list[Score]:
    return [Score(s, parts={"success": s, "action": a}) for s, a in zip(success, action, strict=True)]


@pytest.mark.parametrize("label", ["call", "fold"])
def test_token_advantages(label: str) -> None:
    """Success 1, 0, 1, 0 and actions 2, 1.2, 0, 0: A_succ +-.5, A_action 1.2, .4, -.8, -.8 inside the spans."""
    rows = [masked(mask, label) for mask in MASKS]
    signals = pack(rows, scores([1, 0, 1, 0], [2, 1.2, 0, 0]), [0] * 4)
    adv_NT = apply(deepagent.toolpo, signals)
    found = [adv_NT[n, signals.turn_NT[n] >= 0] for n in range(4)]
    for own, expected in zip(found, ([0.5, 1.7, 1.7, 0.5], [-0.1, -0.5, -0.5], [0.5, 0.5], [-0.5, -1.3]), strict=True):
        assert own == pytest.approx(expected)
    assert not adv_NT[signals.turn_NT < 0].any()


def test_thoughts_are_not_credited_for_actions() -> None:
    """What a batch happens to label makes no difference to the spans that are credited."""
    signals = pack([masked(mask, "think") for mask in MASKS], scores([1, 0, 1, 0], [2, 1.2, 0, 0]), [0] * 4)
    assert sorted(set(apply(deepagent.toolpo, signals)[signals.turn_NT >= 0].tolist())) == [-0.5, 0.5]


@pytest.mark.parametrize("spans", ["call", (), ("",)])
def test_spans_that_are_no_labels_are_refused(spans: Any) -> None:
    with pytest.raises(ValueError, match="spans"):
        deepagent.recipe(grpo(), spans=spans)


def test_action_rewards_become_token_advantages() -> None:
    """Right calls 2, 1, 0, 0 and a preference of .2 for the second: actions 2, 1.2, 0, 0."""
    g, h = Call("g"), Call("h")
    rows = [called(g, g), called(g), called(h), called()]
    prefers = dict(zip(map(id, rows), (0.0, 0.2, None, 0.0), strict=True))
    paid = deepagent.action_reward(TASK, rows, repeats=True, preference=lambda t: prefers[id(t)])
    assert [score.value for score in paid] == [2, 1.2, 0, 0]


def test_without_the_mask_reasoning_is_credited_for_actions() -> None:
    """The ablation that must differ: another label marks nothing, and the action advantage disappears."""
    signals = pack([masked(mask) for mask in MASKS], scores([1, 0, 1, 0], [2, 1.2, 0, 0]), [0] * 4)
    plain = deepagent.toolpo(signals, spans=("nothing",))
    assert sorted(set(plain[signals.turn_NT >= 0].tolist())) == [-0.5, 0.5]
    assert (plain != deepagent.toolpo(signals)).any()


@pytest.mark.parametrize(
    ("direct", "folded", "expected"),
    [(3000, 1000, 0.5), (1000, 1000, 0.0), (800, 1200, -0.2), (0, 0, 0.0), (None, 100, 0.0), (9, None, 0.0)],
)
def test_fold_preference(direct: float | None, folded: float | None, expected: float) -> None:
    assert deepagent.fold_preference(direct, folded) == pytest.approx(expected)


def test_action_reward() -> None:
    """Reference calls count once each unless repeats pay; others, and calls that never ran, count nothing."""
    f, g, h = Call("f", {"x": 1}), Call("g"), Call("h")
    rows = [called(f, f, g), called(f, h), called(h), called(f, status="malformed"), called()]
    assert [s.value for s in deepagent.action_reward(TASK, rows)] == [2, 1, 0, 0, 0]
    assert deepagent.action_reward(TASK, rows, repeats=True)[0].value == 3
    folding = deepagent.action_reward(TASK, rows, calls=0.5, preference=lambda t: 0.2, folds=2.0)
    assert folding[0].value == pytest.approx(1.4)
    free = Task("free", "?", answer="yes")
    assert [s.value for s in deepagent.action_reward(free, [called(h), called(h, status="error")])] == [1, 0]


def test_success_and_action_are_parts() -> None:
    (score,) = deepagent.success_and_action(TASK, [called(Call("g"))])
    assert (score.value, score.parts["success"], score.parts["action"], score.parts["outcome"]) == (1, 1, 1, 1)
    check_reward(deepagent.success_and_action)
    check_reward(deepagent.action_reward)


def test_unlucky_batches() -> None:
    """A group of one and equal scores give nothing; a missing channel is named."""
    signals = pack([masked([1, 0]), masked([0, 1]), masked([1])], scores([1, 0, 0], [2, 1, 1]), [0, 1, 1])
    assert not apply(deepagent.toolpo, signals).any()
    with pytest.raises(ValueError, match="'success', which is absent"):
        apply(deepagent.toolpo, pack([masked([1])], [Score(1.0)], [0]))
    empty = pack([Trajectory(TASK, ())], scores([1], [0]), [0])
    assert apply(deepagent.toolpo, empty).shape == (1, 0)


def test_recipe() -> None:
    base = grpo(num_generations=4)
    own = deepagent.recipe(base)
    assert (own.objective, own.reduce, own.num_generations, own.agent) == (surrogate, token_mean, 8, base.agent)
    assert (
        check(deepagent.recipe(grpo(beta=0.1)), Settings(per_device_train_batch_size=8, gradient_accumulation_steps=1))
        == 1
    )
    assert check(own, Settings(per_device_train_batch_size=8, gradient_accumulation_steps=1)) == 1
    signals = pack([masked(mask) for mask in MASKS], scores([1, 0, 1, 0], [2, 1.2, 0, 0]), [0] * 4)
    assert np.array_equal(apply(chain(own.credit), signals), deepagent.toolpo(signals))


def test_paper_is_found() -> None:
    assert find("deepagent") is deepagent.PAPER


# ---------------------------------------------------------------------------------------------------------- the agent


def segment(turn: int, parent: int | None, given: int, sampled: int) -> Turn:
    return Turn(turn, parent, (0,) * given, (1,) * sampled, (0.0,) * sampled, Message("assistant"))


def test_folding_gain_by_the_record() -> None:
    """Without folds: 100 + 50 + 30 + 20 (the second prompt of 40 stands for what it folds); with them the longest, 180.

    (200 - 180) / (200 + 180) = 0.0526.
    """
    turns = (segment(0, None, 100, 50), segment(1, 0, 10, 20), segment(2, None, 40, 20))
    assert deepagent.folding_gain(Trajectory(TASK, turns)) == pytest.approx(20 / 380)
    assert deepagent.folding_gain(Trajectory(TASK, turns[:2])) is None
    assert deepagent.folding_gain(Trajectory(TASK, ())) is None
    plain = tuple(segment(i, None, 0, 0) for i in range(2))
    assert deepagent.folding_gain(Trajectory(TASK, plain)) is None


def test_the_recipe_rewards_folds_that_save_context() -> None:
    """No call is right here, so that all of the action channel is the 20 / 380 above."""
    turns = (segment(0, None, 100, 50), segment(1, 0, 10, 20), segment(2, None, 40, 20))
    (score,) = deepagent.recipe(grpo()).reward(TASK, [Trajectory(TASK, turns, "no")])
    assert score.parts["action"] == pytest.approx(20 / 380)


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [("GET /users/{user_id}/playlists", "get_users_user_id_playlists"), ("/3d/models", "rb__3d_models")],
)
def test_names_of_endpoints(endpoint: str, name: str) -> None:
    assert deepagent.endpoint_name(endpoint) == name


@pytest.mark.parametrize(("text", "name"), [("2nd API!", "get_2nd_api"), ("id", "is_id"), ("__Foo--Bar__", "foo_bar")])
def test_names_of_apis(text: str, name: str) -> None:
    assert deepagent.api_name(text) == name


def test_path_rate() -> None:
    """One of two gold tools is half of the path and no success; more than the gold tools does no harm."""
    assert deepagent.path_rate({"a", "b"}, ["a", "a"]) == 0.5
    assert deepagent.path_rate({"a", "b"}, "bac") == 1.0
    assert deepagent.path_rate((), ()) == 1.0


def test_the_agent_has_the_limits_of_the_paper() -> None:
    agent = deepagent.agent(given=False)
    assert (agent.actions, agent.folds, agent.found, agent.longest, agent.given) == (50, 3, 10, 40_000, False)


def test_toolpo_trains_the_pocket_model_on_simulated_tools(tmp_path: Path) -> None:
    """Two steps end to end: the tools are played by another role, only the solver's own tokens carry loss."""
    policy = load("pocket")
    before = {name: weight.clone() for name, weight in policy.model.named_parameters()}
    player = Simulated(deepagent.agent(actions=3, max_tokens=48))
    base = plain(agent=player, num_generations=4)
    ran = partial(deepagent.action_reward, right=lambda task, call, seen: seen.status == "ok")
    recipe = vary(deepagent.recipe(base, action=ran, num_generations=4), temperature=2.0)  # so that groups have spread
    simulator = Scripted(lambda request, sample: f"result {len(str(request.messages[-1].content)) % 7}")
    helper = Scripted(lambda request, sample: "{}")
    settings = Settings(max_steps=2, learning_rate=1e-3, per_device_train_batch_size=4, gradient_accumulation_steps=1)
    summary = train(
        recipe, Apis(), policy, settings, tmp_path / "run", play=beside({"simulator": simulator, "helper": helper})
    )
    assert summary["steps"] == 2
    episodes = [episode for episode, _ in read_episodes(tmp_path / "run" / "episodes.jsonl")]
    assert len(episodes) == 8
    assert not any(episode.problem for episode in episodes)
    results = [o.text for episode in episodes for _, o in episode.of_role("solver")[0].calls if o.status == "ok"]
    assert any(text.startswith("result ") for text in results)
    assert not any(text for text in results if not text.startswith(("result ", "folded")))  # no tool itself was run
    moved = [not torch.equal(before[name], weight) for name, weight in policy.model.named_parameters()]
    assert any(moved)
