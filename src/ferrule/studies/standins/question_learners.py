"""Ways to train the tiny model of the tool question: policy gradients, token values, preferences, a reward model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ferrule.core.arrays import FloatArray, apply
from ferrule.credit.returns import q_targets, value_targets
from ferrule.data.pairs import verifier_pairs
from ferrule.objectives.preference import bradley_terry, dpo, on_pairs
from ferrule.objectives.reduce import sequence_mean, token_mean, totals
from ferrule.objectives.supervised import value_loss
from ferrule.objectives.surrogate import surrogate
from ferrule.rewards.labels import ai_preference
from ferrule.studies.recurrent import Recurrent, descend
from ferrule.studies.standins.question import WRITABLE, Decide, Episodes, draw, judge, model, signals_of

__all__ = [
    "RewardOf",
    "by_policy_gradient",
    "by_preferences",
    "by_values",
    "lengthy",
    "reward_model",
    "right",
    "stored",
]

RewardOf: TypeAlias = Callable[[Episodes], FloatArray]
RATE, EPOCHS = 3e-3, 2


def right(episodes: Episodes) -> FloatArray:
    """The verifier as a reward: 1 for a right answer, else 0."""
    return episodes.right_N


def lengthy(reward: RewardOf, bonus: float) -> RewardOf:
    """A flawed reward: ``bonus`` for every written token on top."""
    return lambda played: reward(played) + bonus * played.length_N


def by_policy_gradient(
    start: Recurrent,
    rule: Callable[..., FloatArray],
    *,
    steps: int,
    seed: int,
    reward: RewardOf = right,
    critic: bool = False,
) -> Recurrent:
    """Train a copy of ``start`` by the clipped surrogate with a credit rule; ``critic`` adds a value network.

    The rule may read log-probs of ``start`` as ``ref_NT``.
    """
    student, rng = copy.deepcopy(start), np.random.default_rng([seed, 3])
    torch.manual_seed(seed)
    valuer = judge() if critic else None
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(student.parameters(), lr=RATE)
    teacher = torch.optim.Adam(valuer.parameters(), lr=RATE) if valuer is not None else None
    for _ in range(steps):
        played = draw(student, rng, generator)
        ids_NT, turn_NT = played.ids_NT, played.turn_NT
        with torch.no_grad():
            old_value_NT = valuer.values(ids_NT) if valuer is not None else None
            ref_NT = start.logps(ids_NT, turn_NT).double().numpy()
        values = None if old_value_NT is None else old_value_NT.double().numpy()
        signals = signals_of(played, reward(played), value_NT=values)
        adv_NT = torch.from_numpy(apply(rule, signals, ref_NT=ref_NT)).float()
        target_NT = None if valuer is None else torch.from_numpy(apply(value_targets, signals)).float()
        for _ in range(EPOCHS):
            loss_NT = surrogate(student.logps(ids_NT, turn_NT), played.logp_NT, adv_NT, turn_NT)
            descend(optimiser, token_mean(loss_NT, turn_NT, totals(turn_NT)))
            if valuer is not None and teacher is not None and old_value_NT is not None and target_NT is not None:
                loss_NT = value_loss(valuer.values(ids_NT), old_value_NT, target_NT, turn_NT)
                descend(teacher, token_mean(loss_NT, turn_NT, totals(turn_NT)))
    return student


def by_values(start: Recurrent, *, steps: int, seed: int, beta: float = 8.0, refresh: int = 10) -> Decide:
    """Token-level Q-learning beside the frozen starting model; acts by ``logits + beta (Q - max Q)``.

    One network holds a value per writable token; targets come from a copy renewed every ``refresh`` steps.
    """
    rng, generator = np.random.default_rng([seed, 4]), torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    table = model()
    slow = copy.deepcopy(table)
    optimiser = torch.optim.Adam(table.parameters(), lr=RATE)

    def decide(ids_NT: Tensor, state: Any) -> tuple[Tensor, Any]:
        first, second = state if state is not None else (None, None)
        logits, first = start(ids_NT, first)
        value, second = table(ids_NT, second)
        return logits + beta * (value - value.max(-1, keepdim=True).values), (first, second)

    for step in range(steps):
        played = draw(decide, rng, generator)
        ids_NT, turn_NT = played.ids_NT, played.turn_NT
        with torch.no_grad():
            best_NT = torch.cat([torch.zeros(len(ids_NT), 1), slow(ids_NT[:, :-1])[0].max(-1).values], 1)
        target_NT = torch.from_numpy(q_targets(played.right_N, turn_NT.numpy(), best_NT.double().numpy())).float()
        for _ in range(EPOCHS):
            value_NTA = table(ids_NT[:, :-1])[0]
            taken = value_NTA.gather(2, ids_NT[:, 1:].clamp(0, WRITABLE - 1)[..., None]).squeeze(2)
            taken_NT = torch.cat([torch.zeros(len(ids_NT), 1), taken], 1)
            loss_NT = value_loss(taken_NT, taken_NT, target_NT, turn_NT, clip=None)
            descend(optimiser, token_mean(loss_NT, turn_NT, totals(turn_NT)))
        if step % refresh == refresh - 1:
            slow = copy.deepcopy(table)
    return decide


def stored(start: Recurrent, *, steps: int, seed: int) -> list[Episodes]:
    """Sample the episodes of ``steps`` steps from the starting model."""
    rng, generator = np.random.default_rng([seed, 5]), torch.Generator().manual_seed(seed)
    return [draw(start, rng, generator) for _ in range(steps)]


def _labels(played: Episodes, first: Tensor, second: Tensor, rng: np.random.Generator) -> Tensor:
    """Soft labels of a labeller that is unsure (0.8 for the right one) and leans 0.15 towards what it reads first."""

    def labeller(a: int, b: int) -> float:
        return 0.5 + 0.3 * float(np.sign(played.right_N[a] - played.right_N[b])) + 0.15 + rng.uniform(-0.05, 0.05)

    return torch.tensor([ai_preference(labeller, a, b) for a, b in zip(first.tolist(), second.tolist(), strict=True)])


def by_preferences(
    start: Recurrent,
    batches: Sequence[Episodes],
    *,
    seed: int,
    labelled: bool = False,
    beta: float = 0.1,
    rate: float = 1e-3,
) -> Recurrent:
    """Train a copy of ``start`` by DPO on pairs of its own samples, judged by the verifier or by a noisy labeller."""
    student, rng = copy.deepcopy(start), np.random.default_rng([seed, 6])
    optimiser = torch.optim.Adam(student.parameters(), lr=rate)
    for played in batches:
        pair_N, chosen_N, rows = verifier_pairs(played.right_N, played.group_N)
        if not len(rows):
            continue
        at = torch.from_numpy(rows)
        ids_NT, turn_NT = played.ids_NT[at], played.turn_NT[at]
        soft = _labels(played, at[0::2], at[1::2], rng) if labelled else None
        objective = on_pairs(partial(dpo, preference_P=soft, beta=beta))
        pairs, chosen = torch.from_numpy(pair_N), torch.from_numpy(chosen_N)
        with torch.no_grad():
            ref_NT = start.logps(ids_NT, turn_NT)
        for _ in range(EPOCHS):
            loss_NT = objective(student.logps(ids_NT, turn_NT), ref_NT, turn_NT, pairs, chosen)
            descend(optimiser, sequence_mean(loss_NT, turn_NT, totals(turn_NT), tokens="sum"))
    return student


def _score(model: Recurrent, played: Episodes) -> Tensor:
    """Scalar of a reward model for each episode, read after its last token."""
    values, _ = model(played.ids_NT)
    last_N = (played.ids_NT >= 0).sum(1) - 1
    score_N: Tensor = values[torch.arange(len(values)), last_N, 0]
    return score_N


def reward_model(batches: Sequence[Episodes], *, seed: int) -> RewardOf:
    """Train a reward model on verifier pairs by the Bradley-Terry loss; its reward is the sigmoid of the score."""
    torch.manual_seed(seed)
    scorer = judge()
    optimiser = torch.optim.Adam(scorer.parameters(), lr=RATE)
    for played in batches:
        _, _, rows = verifier_pairs(played.right_N, played.group_N)
        if len(rows):
            score_N = _score(scorer, played)[torch.from_numpy(rows)]
            descend(optimiser, bradley_terry(score_N[0::2], score_N[1::2]).mean())

    def reward(played: Episodes) -> FloatArray:
        with torch.no_grad():
            return _score(scorer, played).sigmoid().double().numpy()

    return reward
