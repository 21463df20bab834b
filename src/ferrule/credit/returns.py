"""Credit over time: generalised advantage estimation over policy tokens, and return-to-go over turns.

Source: "A Technical Survey of Reinforcement Learning Techniques for Large Language Models" (52), returns and critics.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from ferrule.core.arrays import FloatArray, IntArray, nearest, spread_turns
from ferrule.core.marks import exempt

__all__ = ["gae", "q_targets", "return_to_go", "token_rewards", "value_targets"]


def _check_rate(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} is {value}; it must lie between 0 and 1")


def _last_turn(turn_NT: IntArray) -> IntArray:
    """Index of the last turn with model tokens per row, -1 for rows without."""
    return np.asarray(turn_NT.max(axis=1, initial=-1), dtype=np.int64)


@exempt("centred")
def token_rewards(reward_N: FloatArray, turn_NT: IntArray, turn_reward_NK: FloatArray) -> FloatArray:
    """Place rewards on tokens: each turn's reward on that turn's last model token, the outcome on the row's last.

    Rewards of turns without model tokens are not placed anywhere.
    """
    reward_NT = np.zeros(turn_NT.shape, dtype=np.float64)
    rows, columns = np.nonzero(turn_NT >= 0)
    if not len(rows):
        return reward_NT
    turns = turn_NT[rows, columns]
    ends = np.append((rows[1:] != rows[:-1]) | (turns[1:] != turns[:-1]), True)
    reward_NT[rows[ends], columns[ends]] = turn_reward_NK[rows[ends], turns[ends]]
    finals = np.append(rows[1:] != rows[:-1], True)
    reward_NT[rows[finals], columns[finals]] += reward_N[rows[finals]]
    return reward_NT


@exempt("centred")
def gae(
    reward_N: FloatArray,
    turn_NT: IntArray,
    value_NT: FloatArray,
    turn_reward_NK: FloatArray,
    token_reward_NT: FloatArray | None = None,
    *,
    gamma: float = 1.0,
    lam: float = 0.95,
) -> FloatArray:
    """Generalised advantage estimation: ``A_t = d_t + gamma lam A_next``, ``d_t = r_t + gamma V_next - V_t``.

    "Next" is the next token the model wrote, so that nothing leaks into observations; after the last one V and A
    are 0. Rewards lie where ``token_rewards`` puts them, plus ``token_reward_NT`` when given (for example a KL
    penalty). ``gamma`` and ``lam`` lie in 0 to 1. Source: survey 52 (GAE).
    """
    _check_rate("gamma", gamma)
    _check_rate("lam", lam)
    gain_NT = token_rewards(reward_N, turn_NT, turn_reward_NK)
    if token_reward_NT is not None:
        gain_NT = gain_NT + token_reward_NT
    mine_NT = turn_NT >= 0
    adv_NT = np.zeros(turn_NT.shape, dtype=np.float64)
    next_value_N = np.zeros(len(turn_NT))
    next_adv_N = np.zeros(len(turn_NT))
    for t in reversed(range(turn_NT.shape[1])):
        mine_N, value_N = mine_NT[:, t], np.where(mine_NT[:, t], value_NT[:, t], 0.0)
        adv_N = gain_NT[:, t] + gamma * next_value_N - value_N + gamma * lam * next_adv_N
        adv_NT[:, t] = np.where(mine_N, adv_N, 0.0)
        next_adv_N = np.where(mine_N, adv_N, next_adv_N)
        next_value_N = np.where(mine_N, value_N, next_value_N)
    return adv_NT


@exempt("centred")
def value_targets(
    reward_N: FloatArray,
    turn_NT: IntArray,
    value_NT: FloatArray,
    turn_reward_NK: FloatArray,
    token_reward_NT: FloatArray | None = None,
    *,
    gamma: float = 1.0,
    lam: float = 0.95,
) -> FloatArray:
    """What the critic should have said: ``A + V`` on model tokens, with the ``A`` of ``gae``, before any whitening.

    Goes into ``Recipe.critic``. Source: survey 52 (GAE).
    """
    adv_NT = gae(reward_N, turn_NT, value_NT, turn_reward_NK, token_reward_NT, gamma=gamma, lam=lam)
    return adv_NT + np.where(turn_NT >= 0, value_NT, 0.0)


@exempt("centred")
def q_targets(reward_N: FloatArray, turn_NT: IntArray, value_NT: FloatArray, *, gamma: float = 1.0) -> FloatArray:
    """Targets of token-level Q-learning: ``gamma max Q`` at the next token the model wrote, the reward at its last.

    ``value_NT`` holds ``max_a Q`` just before each token. Observations in between are skipped.
    """
    target_NT = np.zeros(turn_NT.shape, dtype=np.float64)
    rows, columns = np.nonzero(turn_NT >= 0)
    if not len(rows):
        return target_NT
    follows = rows[1:] == rows[:-1]
    after = np.append(np.where(follows, gamma * value_NT[np.r_[rows[1:], 0], np.r_[columns[1:], 0]][:-1], 0.0), 0.0)
    last = np.append(~follows, True)
    target_NT[rows, columns] = np.where(last, reward_N[rows], after)
    return target_NT


def return_to_go(
    reward_N: FloatArray,
    group_N: IntArray,
    turn_NT: IntArray,
    turn_reward_NK: FloatArray,
    *,
    gamma: float = 1.0,
    baseline: Literal["turn", "group", "none"] = "turn",
) -> FloatArray:
    """Turn-level return-to-go: ``G[n, k] = r[n, k] + gamma G[n, k + 1]``, the outcome added at the row's last turn.

    Every model token of turn ``k`` gets ``G[n, k] - b``. ``baseline="turn"`` subtracts the mean over the group's rows
    that have a turn ``k``, ``"group"`` the mean over all turns of the group, ``"none"`` nothing. Equal returns give
    exact zeros. Turns without model tokens pass return through and take no part in a baseline. Raises
    ``ValueError`` on unknown settings.
    """
    _check_rate("gamma", gamma)
    if baseline not in ("turn", "group", "none"):
        raise ValueError(f"baseline is {baseline!r}; {nearest(baseline, ('turn', 'group', 'none'))}")
    last_N = _last_turn(turn_NT)
    width = max(turn_reward_NK.shape[1], int(last_N.max(initial=-1)) + 1)
    gain_NK = np.zeros((len(reward_N), width))
    gain_NK[:, : turn_reward_NK.shape[1]] = turn_reward_NK
    gain_NK[np.arange(width)[None, :] > last_N[:, None]] = 0.0
    rows = np.flatnonzero(last_N >= 0)
    gain_NK[rows, last_N[rows]] += reward_N[rows]
    for k in reversed(range(width - 1)):
        gain_NK[:, k] += gamma * gain_NK[:, k + 1]
    if baseline == "none":
        return spread_turns(gain_NK, turn_NT)
    return spread_turns(_centred(gain_NK, group_N, turn_NT, apart=baseline == "turn"), turn_NT)


def _centred(gain_NK: FloatArray, group_N: IntArray, turn_NT: IntArray, *, apart: bool) -> FloatArray:
    """Subtract the mean over the cells of each group (``apart``: of each group and turn) that hold model tokens."""
    rows, columns = np.nonzero(turn_NT >= 0)
    present_NK = np.zeros(gain_NK.shape, dtype=bool)
    present_NK[rows, turn_NT[rows, columns]] = True
    cells = np.nonzero(present_NK)
    _, group = np.unique(group_N, return_inverse=True)
    index = group[cells[0]] * (gain_NK.shape[1] if apart else 1) + (cells[1] if apart else 0)
    values, size = gain_NK[cells], np.bincount(index)
    low = np.full(len(size), np.inf)
    np.minimum.at(low, index, values)
    above = values - low[index]
    centred_NK = np.zeros(gain_NK.shape)
    centred_NK[cells] = above - (np.bincount(index, weights=above) / np.maximum(size, 1))[index]
    return centred_NK
