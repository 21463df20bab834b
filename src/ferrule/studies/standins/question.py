"""One tool question that a tiny recurrent model learns in seconds.

A question is two digits and a kind. Easy ones have the first digit as answer; hard ones a digit that depends on both
and cannot be guessed for pairs kept out of training. The model writes tokens: a digit answers and ends the episode,
``CALL`` asks a calculator whose result is inserted as an observation, ``THINK`` does nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ferrule.core.arrays import FloatArray, IntArray, Signals
from ferrule.objectives.reduce import token_mean, totals
from ferrule.objectives.supervised import nll
from ferrule.studies.recurrent import Recurrent, descend

__all__ = [
    "CALL",
    "PROMPTS",
    "RESULT",
    "SAMPLES",
    "WRITABLE",
    "Decide",
    "Episodes",
    "demonstrated",
    "draw",
    "evaluate",
    "judge",
    "model",
    "play",
    "questions",
    "signals_of",
]  # fmt: skip

CALL, THINK, RESULT, EASY, HARD, VOCABULARY = 10, 11, 12, 22, 23, 24
"""Token ids: digits 0 to 9, then these; ``RESULT + d`` is the observation of result ``d``."""
WRITABLE = 12
LONGEST = 16
"""Columns after the prompt; an episode without an answer by then is wrong."""
PROMPTS, SAMPLES = 8, 8
"""Questions per step and episodes per question."""

Decide: TypeAlias = Callable[[Tensor, Any], tuple[Tensor, Any]]
"""``decide(ids_NT, state)`` returns logits over writable tokens and the state."""


def model() -> Recurrent:
    """Return a language model of about 10,000 weights, drawn from PyTorch's random state."""
    return Recurrent(VOCABULARY, WRITABLE, 48)


def judge() -> Recurrent:
    """Return a model of the same size with one output: a critic, or a reward model."""
    return Recurrent(VOCABULARY, 1, 48)


def questions(count: int, rng: np.random.Generator, *, held_out: bool = False) -> tuple[Tensor, Tensor]:
    """Draw prompts ``[count, 3]`` and their answers; every fourth pair of digits is held out from training."""
    pair = rng.integers(0, 25, size=count) * 4 + (0 if held_out else rng.integers(1, 4, size=count))
    a, b, hard = pair // 10, pair % 10, rng.random(count) < 0.5
    answer = np.where(hard, (a * b + 3 * b + a // 2) % 10, a)
    prompt = np.stack([a, b, np.where(hard, HARD, EASY)], axis=1)
    return torch.from_numpy(prompt), torch.from_numpy(answer)


@dataclass(frozen=True)
class Episodes:
    """Played episodes: ids and turn index with -1 as in ``Signals``, sampling log-probs, rightness and lengths."""

    ids_NT: Tensor
    turn_NT: Tensor
    logp_NT: Tensor
    right_N: FloatArray
    length_N: FloatArray
    calls_N: IntArray

    @property
    def group_N(self) -> IntArray:
        """Number of the question of every episode, ``SAMPLES`` episodes each."""
        return np.arange(len(self.right_N)) // SAMPLES


@torch.no_grad()
def play(decide: Decide, prompts: Tensor, answers: Tensor, generator: torch.Generator) -> Episodes:
    """Play one episode per prompt, all at once."""
    count = len(prompts)
    ids, turns = [prompts], [torch.full_like(prompts, -1)]
    logps = [torch.zeros(prompts.shape)]
    logits, state = decide(prompts, None)
    turn, calls = torch.zeros(count, dtype=torch.int64), torch.zeros(count, dtype=torch.int64)
    pending, done = torch.zeros(count, dtype=torch.bool), torch.zeros(count, dtype=torch.bool)
    right = torch.zeros(count, dtype=torch.bool)
    for _ in range(LONGEST):
        logp = logits[:, -1].log_softmax(-1)
        drawn = torch.multinomial(logp.exp(), 1, generator=generator).squeeze(1)
        writes = ~pending & ~done
        token = torch.where(done, -1, torch.where(pending, RESULT + answers, drawn))
        ids.append(token[:, None])
        turns.append(torch.where(writes, turn, -1)[:, None])
        logps.append(torch.where(writes, logp.gather(1, drawn[:, None]).squeeze(1), 0.0)[:, None])
        turn = turn + pending.long()
        right |= writes & (drawn == answers)
        done = done | (writes & (drawn < 10))
        pending = writes & (drawn == CALL)
        calls += pending.long()
        if bool(done.all()):
            break
        logits, state = decide(token[:, None], state)
    turn_NT = torch.cat(turns, 1)
    return Episodes(
        ids_NT=torch.cat(ids, 1),
        turn_NT=turn_NT,
        logp_NT=torch.cat(logps, 1),
        right_N=right.double().numpy(),
        length_N=(turn_NT >= 0).sum(1).double().numpy(),
        calls_N=calls.numpy(),
    )


def draw(decide: Decide, rng: np.random.Generator, generator: torch.Generator) -> Episodes:
    """Play the batch of one step: ``SAMPLES`` episodes on each of ``PROMPTS`` training questions."""
    prompts, answers = questions(PROMPTS, rng)
    return play(decide, prompts.repeat_interleave(SAMPLES, 0), answers.repeat_interleave(SAMPLES), generator)


def signals_of(episodes: Episodes, reward_N: FloatArray, *, value_NT: FloatArray | None = None) -> Signals:
    """Lay played episodes out as ``Signals``."""
    turn_NT, ids_NT = episodes.turn_NT.numpy(), episodes.ids_NT.numpy()
    count, widest = len(turn_NT), int(turn_NT.max()) + 1
    node_NK = np.where(np.arange(widest)[None, :] <= turn_NT.max(1)[:, None], np.arange(widest)[None, :], -1)
    return Signals(
        reward_N=reward_N,
        group_N=episodes.group_N,
        turn_NT=turn_NT,
        ids_NT=ids_NT,
        logp_NT=episodes.logp_NT.double().numpy(),
        node_NK=node_NK,
        turn_reward_NK=np.zeros((count, widest)),
        parts_CN=np.zeros((0, count)),
        segment_NT=np.where(ids_NT >= 0, 0, -1),
        episode_N=np.arange(count),
        calls_N=episodes.calls_N,
        malformed_N=np.zeros(count, dtype=np.int64),
        span_NT=np.full(turn_NT.shape, -1),
        first_call_N=np.full(count, -1),
        turns_N=turn_NT.max(1) + 1,
        size_N=(ids_NT >= 0).sum(1),
        value_NT=value_NT,
    )


def demonstrated(steps: int, *, seed: int) -> Recurrent:
    """Train a model on a careless demonstrator, 64 episodes a step.

    It thinks 1.5 tokens on average, calls in 3 of 10 cases and copies the result in 8 of 10; otherwise it answers
    directly, right on easy questions in 6 of 10 cases and at random else.
    """
    rng = np.random.default_rng([seed, 1])
    torch.manual_seed(seed)
    student = model()
    optimiser = torch.optim.Adam(student.parameters(), lr=1e-2)
    for _ in range(steps):
        prompts, answers = questions(64, rng)
        rows, turns = [], []
        for prompt, answer in zip(prompts.tolist(), answers.tolist(), strict=True):
            think = min(int(rng.geometric(0.4)) - 1, LONGEST - 4)
            called = rng.random() < 0.3
            knows = rng.random() < (0.8 if called else 0.6 * (prompt[2] == EASY))
            last = answer if knows else int(rng.integers(10))
            rows.append(prompt + [THINK] * think + ([CALL, RESULT + answer] if called else []) + [last])
            turns.append([-1] * 3 + [0] * think + ([0, -1] if called else []) + [int(called)])
        width = max(map(len, rows))
        ids_NT = torch.tensor([row + [-1] * (width - len(row)) for row in rows])
        turn_NT = torch.tensor([row + [-1] * (width - len(row)) for row in turns])
        descend(optimiser, token_mean(nll(student.logps(ids_NT, turn_NT), turn_NT), turn_NT, totals(turn_NT)))
    return student


def evaluate(decide: Decide, count: int, *, seed: int) -> dict[str, float]:
    """Play ``count`` held-out questions by sampling and return success, length in tokens, and calls."""
    prompts, answers = questions(count, np.random.default_rng([seed, 2]), held_out=True)
    played = play(decide, prompts, answers, torch.Generator().manual_seed(seed))
    return {
        "success": float(played.right_N.mean()),
        "length": float(played.length_N.mean()),
        "calls": float(played.calls_N.mean()),
    }
