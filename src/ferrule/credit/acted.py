"""Credit from an outcome and a turn reward (MT-GRPO).

Source: "VerlTool: Towards Holistic Agentic Reinforcement Learning with Tool Use" (24).
"""

from __future__ import annotations

import numpy as np

from ferrule.core.arrays import FloatArray, Signals
from ferrule.credit.group import group_relative, whiten

__all__ = ["mt_grpo", "mt_grpo_whitened"]


_ROUNDING = 1e-6
"""Rewards of a group that spread by no more than this are equal but for rounding."""


def _channel(signals: Signals, name: str) -> FloatArray:
    if name not in signals.channels:
        raise ValueError(
            f"mt_grpo reads the reward channel {name!r}, which is absent; wrap the reward in with_turn_reward"
        )
    return np.asarray(signals.parts_CN[signals.channels.index(name)], dtype=np.float64)


def mt_grpo(signals: Signals, *, c: float = 1.0, eps: float = 1e-6) -> FloatArray:
    """Group advantages of an outcome R and a turn reward T, the latter for tokens up to the first acting turn only.

    With ``A_x`` the group-normalised reward x (unbiased spread plus ``eps``; spreads of rounding size are only
    centred): tokens of turns up to the channel ``acted`` get ``A_R + c A_T``, later ones ``A_R``; rows that never acted
    (-1) get ``A_(R + T)`` everywhere. R is ``reward_N`` and T the channel ``turn``; ``with_turn_reward`` gives both
    channels. Shape (N, T).
    """
    turn_NT, group_N = signals.turn_NT, signals.group_N
    acted_N1, gain_N = _channel(signals, "acted")[:, None], _channel(signals, "turn")

    def advantage(values_N: FloatArray) -> FloatArray:
        return group_relative(values_N, group_N, turn_NT, std="unbiased", eps=eps, least=_ROUNDING)

    acting_NT = np.where(turn_NT <= acted_N1, advantage(gain_N), 0.0)
    together_NT = advantage(signals.reward_N + gain_N)
    return np.where(acted_N1 >= 0, advantage(signals.reward_N) + c * acting_NT, together_NT)


def mt_grpo_whitened(signals: Signals, *, c: float = 1.0, eps: float = 1e-6, reference: bool = False) -> FloatArray:
    """Return ``mt_grpo``, whitened over all model tokens of the batch.

    Whitening moves the mean, so that groups whose members all did equally well are pushed as well; they are kept at
    exact zero here, and pushed with ``reference=True``, as published.
    """
    adv_NT = mt_grpo(signals, c=c, eps=eps)
    white_NT = whiten(adv_NT, signals.turn_NT)
    if reference:
        return white_NT
    informative = np.zeros(int(signals.group_N.max(initial=-1)) + 1, dtype=bool)
    np.logical_or.at(informative, signals.group_N, (np.abs(adv_NT) > _ROUNDING).any(axis=1))
    return np.where(informative[signals.group_N][:, None], white_NT, 0.0)
