"""The survey: one tool question, a tiny language model, many training methods, one budget of episodes."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np

from ferrule.core.arrays import FloatArray, Signals, apply, chain
from ferrule.credit.group import broadcast, group_relative, leave_one_out, whiten
from ferrule.credit.kl import with_kl_reward
from ferrule.credit.returns import gae
from ferrule.studies.conditions import Rows, at_least, less, minus, over
from ferrule.studies.recurrent import Recurrent, one_thread, parameters
from ferrule.studies.standins import question
from ferrule.studies.standins.question_learners import (
    by_policy_gradient,
    by_preferences,
    by_values,
    lengthy,
    reward_model,
    right,
    stored,
)
from ferrule.studies.study import Arm, Study

__all__ = ["STUDY", "arm", "from_pairs", "from_reward_model", "policy_arm", "with_kl"]

BONUS, BETA, WEAK = 0.05, 0.5, 0.2
ON_POLICY = ("ppo", "grpo", "rloo", "reinforce_pp")
# Arms of one seed begin with the same model; it is never changed in place.
_start = lru_cache(maxsize=1)(question.demonstrated)


def with_kl(beta: float) -> Callable[..., FloatArray]:
    """Return PPO's credit with a KL penalty inside the reward; a chain would not pass ``ref_NT`` on."""
    rule = with_kl_reward(gae, beta)

    def whitened(signals: Signals, ref_NT: FloatArray) -> FloatArray:
        return whiten(apply(rule, signals, ref_NT=ref_NT), signals.turn_NT)

    return whitened


def from_pairs(start: Recurrent, *, steps: int, seed: int, labelled: bool = False) -> Recurrent:
    """Learn preferences on samples of the starting model, as many as the others draw."""
    return by_preferences(start, stored(start, steps=steps, seed=seed), seed=seed, labelled=labelled)


def from_reward_model(start: Recurrent, *, steps: int, seed: int) -> Recurrent:
    """Train by PPO with the weaker KL on a reward that was learned from samples of the starting model."""
    reward = reward_model(stored(start, steps=steps, seed=seed), seed=seed)
    return by_policy_gradient(start, with_kl(WEAK), steps=steps, seed=seed, reward=reward, critic=True)


def arm(
    *,
    seed: int,
    supervised: int,
    steps: int,
    evaluation: int,
    train: Callable[..., question.Decide] | None = None,
    beside: Callable[[], Recurrent] | None = None,
) -> dict[str, float]:
    """Train one method from the supervised model and evaluate it; ``beside`` makes the network it trains along."""
    with one_thread():
        start = _start(supervised, seed=seed)
        decide = start if train is None else train(start, steps=steps, seed=seed)
        numbers = question.evaluate(decide, evaluation, seed=seed)
        extra = parameters(beside()) if beside is not None else 0
    return {**numbers, "parameters": float(parameters(start) + extra)}


def _spread(rows: Rows) -> float:
    success = [float(rows[name]["success"]) for name in ON_POLICY]
    return 0.05 - (max(success) - min(success))


def _lead(rows: Rows) -> float:
    return float(np.mean([rows[name]["success"] for name in ON_POLICY])) - float(rows["dpo"]["success"])


def _kept(rows: Rows) -> float:
    """Return how much of what PPO learns from the verifier is learned from the flawed reward under the penalty."""
    start, whole, kept = (float(rows[name]["success"]) for name in ("supervised", "ppo", "flawed_ppo_kl"))
    return (kept - start) / (whole - start)


def policy_arm(rule: Callable[..., FloatArray], **settings: Any) -> Arm:
    """Return an arm that follows the policy gradient with this credit; ``settings`` as in ``by_policy_gradient``."""
    beside = question.judge if settings.get("critic") else None
    return partial(arm, train=partial(by_policy_gradient, rule=rule, **settings), beside=beside)


PPO = chain(gae, whiten)
FLAWED = lengthy(right, BONUS)
_bare = over("length", "flawed_ppo", "supervised")

STUDY = Study(
    paper="rl-survey",
    statement=(
        "On one tool task with one episode budget, on-policy verifier methods end close together, preference "
        "learning does not beat them, and a KL penalty keeps a flawed reward model from being hacked while the task is "
        "still learned."
    ),
    falsifier="KL makes no difference to hacking or leaves less than half of what is learned without the flaw, or DPO "
    "beats on-policy methods by more than 5 points.",
    grade="B",
    trained="a recurrent language model of 10,476 weights, on one tool question",
    arms={
        "supervised": arm,
        "ppo": policy_arm(PPO, critic=True),
        "grpo": policy_arm(partial(group_relative, std="unbiased")),
        "rloo": policy_arm(leave_one_out),
        "reinforce_pp": policy_arm(chain(broadcast, whiten)),
        "q_learning": partial(arm, train=by_values, beside=question.model),
        "dpo": partial(arm, train=from_pairs),
        "dpo_ai_labels": partial(arm, train=partial(from_pairs, labelled=True)),
        "reward_model_ppo": partial(arm, train=from_reward_model, beside=question.judge),
        "flawed_ppo": policy_arm(PPO, critic=True, reward=FLAWED),
        "flawed_ppo_kl": policy_arm(with_kl(BETA), critic=True, reward=FLAWED),
        "flawed_ppo_weak_kl": policy_arm(with_kl(WEAK), critic=True, reward=FLAWED),
    },
    asks=(
        at_least(
            "length ratio without KL minus with KL", minus(_bare, over("length", "flawed_ppo_kl", "supervised")), 0.7
        ),
        at_least("length ratio without KL", _bare, 2.0),
        at_least(
            "1.3 minus length ratio with KL",
            over("length", "flawed_ppo_kl", "supervised", factor=-1.0, plus=1.3),
            0.0,
        ),
        at_least("share of PPO's rise in success that the flawed reward with KL reaches", _kept, 0.5),
        at_least("5 points minus spread of the on-policy methods", _spread, 0.0),
        at_least("DPO minus start", less("success", "dpo", "supervised"), 0.0),
        at_least("mean of on-policy minus DPO", _lead, -0.05),
    ),
    sizes={
        "small": {"supervised": 200, "steps": 120, "evaluation": 1000},
        "tiny": {"supervised": 20, "steps": 6, "evaluation": 400},
    },
    setup={"bonus": BONUS, "beta": BETA, "weak_beta": WEAK},
)
