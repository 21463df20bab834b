"""The arms of the survey's experiment: on-policy gradients, token-level Q-learning, preferences, reward models."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ferrule.core.arrays import FloatArray, apply
from ferrule.credit.returns import value_targets
from ferrule.objectives.preference import bradley_terry, dpo, on_pairs
from ferrule.objectives.reduce import sequence_mean, totals
from ferrule.objectives.supervised import value_loss
from ferrule.objectives.surrogate import surrogate
from ferrule.papers.rl_survey.experiment import (
    PROMPTS,
    SAMPLES,
    WRITABLE,
    Budget,
    Decide,
    Episodes,
    Model,
    before,
    descend,
    named,
    play,
    questions,
    signals_of,
    step,
    with_reference,
)
from ferrule.papers.rl_survey.pieces import ai_preference, q_targets, verifier_pairs

__all__ = ["learn_preferences", "learn_q", "learn_reward_model", "lengthy", "on_policy", "right", "stored_episodes"]

RewardOf = Callable[[Episodes], FloatArray]
RATE, EPOCHS = 3e-3, 2


def right(episodes: Episodes) -> FloatArray:
    """The verifier as a reward: 1 for a right answer, else 0."""
    return episodes.right_N


def _draw(decide: Decide, rng: np.random.Generator, generator: torch.Generator) -> Episodes:
    prompts, answers = questions(PROMPTS, rng)
    return play(decide, prompts.repeat_interleave(SAMPLES, 0), answers.repeat_interleave(SAMPLES), generator)


def on_policy(
    start: Model,
    rule: Callable[..., FloatArray],
    budget: Budget,
    seed: int,
    *,
    reward: RewardOf = right,
    critic: bool = False,
) -> Model:
    """Train a copy of ``start`` by the clipped surrogate with the credit rule; ``critic`` adds a value network."""
    model, rng = copy.deepcopy(start), np.random.default_rng([seed, 3])
    torch.manual_seed(seed)
    judge = Model(heads=1) if critic else None
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE)
    teacher = torch.optim.Adam(judge.parameters(), lr=RATE) if judge is not None else None
    for _ in range(budget.steps):
        played = _draw(model, rng, generator)
        turn_NT, old_value_NT = played.turn_NT, torch.zeros(())
        if judge is not None:
            with torch.no_grad():
                old_value_NT = before(judge, played.ids_NT)
        values = old_value_NT.double().numpy() if judge is not None else None
        signals = signals_of(played, reward(played), value_NT=values)
        adv_NT = torch.from_numpy(with_reference(signals, rule, start, played)).float()
        target_NT = torch.from_numpy(apply(value_targets, signals)).float() if judge is not None else None
        for _ in range(EPOCHS):
            loss_NT = surrogate(named(model, played.ids_NT, turn_NT), played.logp_NT, adv_NT, turn_NT)
            step(optimiser, loss_NT, turn_NT)
            if judge is not None and teacher is not None and target_NT is not None:
                step(teacher, value_loss(before(judge, played.ids_NT), old_value_NT, target_NT, turn_NT), turn_NT)
    return model


def learn_q(start: Model, budget: Budget, seed: int, *, beta: float = 8.0, refresh: int = 10) -> Decide:
    """Token-level Q-learning beside the frozen starting model; acts by ``logits + beta (Q - max Q)``.

    One network holds a value per writable token; targets come from a copy renewed every ``refresh`` steps.
    """
    rng, generator = np.random.default_rng([seed, 4]), torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    table = Model()
    slow = copy.deepcopy(table)
    optimiser = torch.optim.Adam(table.parameters(), lr=RATE)

    def decide(ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        first, second = state if state is not None else (None, None)
        logits, first = start(ids, first)
        value, second = table(ids, second)
        return logits + beta * (value - value.max(-1, keepdim=True).values), (first, second)

    for i in range(budget.steps):
        played = _draw(decide, rng, generator)
        mine_NT = played.turn_NT >= 0
        with torch.no_grad():
            best_NT = torch.cat([torch.zeros(len(mine_NT), 1), slow(played.ids_NT[:, :-1])[0].max(-1).values], 1)
        target_NT = torch.from_numpy(
            q_targets(played.right_N, played.turn_NT.numpy(), best_NT.double().numpy())
        ).float()
        for _ in range(EPOCHS):
            value_NTA = table(played.ids_NT[:, :-1])[0]
            taken = value_NTA.gather(2, played.ids_NT[:, 1:].clamp(0, WRITABLE - 1)[..., None]).squeeze(2)
            taken_NT = torch.cat([torch.zeros(len(mine_NT), 1), taken], 1)
            step(optimiser, value_loss(taken_NT, taken_NT, target_NT, played.turn_NT, clip=None), played.turn_NT)
        if i % refresh == refresh - 1:
            slow = copy.deepcopy(table)
    return decide


def stored_episodes(start: Model, budget: Budget, seed: int) -> list[Episodes]:
    """Sample the whole budget of episodes from the starting model, one batch per step."""
    rng, generator = np.random.default_rng([seed, 5]), torch.Generator().manual_seed(seed)
    return [_draw(start, rng, generator) for _ in range(budget.steps)]


def _labels(played: Episodes, first: Tensor, second: Tensor, rng: np.random.Generator) -> Tensor:
    """Soft labels of a labeller that is unsure (0.8 for the right one) and leans 0.15 towards what it reads first."""

    def labeller(a: int, b: int) -> float:
        return 0.5 + 0.3 * float(np.sign(played.right_N[a] - played.right_N[b])) + 0.15 + rng.uniform(-0.05, 0.05)

    return torch.tensor([ai_preference(labeller, a, b) for a, b in zip(first.tolist(), second.tolist(), strict=True)])


def learn_preferences(
    start: Model, stored: list[Episodes], seed: int, *, labelled: bool = False, beta: float = 0.1, rate: float = 1e-3
) -> Model:
    """Train a copy of ``start`` by DPO on pairs from its own samples, judged by the verifier or by a noisy labeller."""
    model, rng = copy.deepcopy(start), np.random.default_rng([seed, 6])
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    for played in stored:
        pair_N, chosen_N, rows = verifier_pairs(played.right_N, np.arange(len(played.right_N)) // SAMPLES)
        if not len(rows):
            continue
        at = torch.from_numpy(rows)
        ids_NT, turn_NT = played.ids_NT[at], played.turn_NT[at]
        soft = _labels(played, at[0::2], at[1::2], rng) if labelled else None
        objective = on_pairs(partial(dpo, preference_P=soft, beta=beta))
        pairs, chosen = torch.from_numpy(pair_N), torch.from_numpy(chosen_N)
        with torch.no_grad():
            ref_NT = named(start, ids_NT, turn_NT)
        for _ in range(EPOCHS):
            optimiser.zero_grad(set_to_none=True)
            loss_NT = objective(named(model, ids_NT, turn_NT), ref_NT, turn_NT, pairs, chosen)
            sequence_mean(loss_NT, turn_NT, totals(turn_NT), tokens="sum").backward()  # type: ignore[no-untyped-call]
            descend(optimiser)
    return model


def _score(model: Model, played: Episodes) -> Tensor:
    """Scalar of a reward model for each episode, read after its last token."""
    values, _ = model(played.ids_NT)
    last_N = (played.ids_NT >= 0).sum(1) - 1
    score_N: Tensor = values[torch.arange(len(values)), last_N, 0]
    return score_N


def learn_reward_model(stored: list[Episodes], seed: int) -> RewardOf:
    """Train a reward model on verifier pairs by the Bradley-Terry loss; its reward is the sigmoid of the score."""
    torch.manual_seed(seed)
    model = Model(heads=1)
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE)
    for played in stored:
        _, _, rows = verifier_pairs(played.right_N, np.arange(len(played.right_N)) // SAMPLES)
        if not len(rows):
            continue
        optimiser.zero_grad(set_to_none=True)
        score_N = _score(model, played)[torch.from_numpy(rows)]
        bradley_terry(score_N[0::2], score_N[1::2]).mean().backward()  # type: ignore[no-untyped-call]
        descend(optimiser)

    def reward(played: Episodes) -> FloatArray:
        with torch.no_grad():
            return _score(model, played).sigmoid().double().numpy()

    return reward


def lengthy(reward: RewardOf, bonus: float) -> RewardOf:
    """A flawed reward: ``bonus`` for every written token on top."""

    def flawed(played: Episodes) -> FloatArray:
        return reward(played) + bonus * played.length_N

    return flawed
