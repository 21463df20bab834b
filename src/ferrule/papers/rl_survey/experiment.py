"""The experiment behind the survey's claim: one tool question, a tiny language model, many training methods.

A question is two digits and a kind. Easy ones have the first digit as answer; hard ones a digit that depends on both
and cannot be guessed for pairs kept out of training. The model writes tokens: a digit answers and ends the episode,
``CALL`` asks a calculator whose result is inserted as an observation, ``THINK`` does nothing. All methods start from
the same supervised model and may use the same number of episodes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ferrule.core.arrays import FloatArray, IntArray, Signals, apply
from ferrule.objectives.reduce import token_mean, totals

__all__ = [
    "BUDGET",
    "Episodes",
    "Model",
    "evaluate",
    "parameters",
    "play",
    "questions",
    "signals_of",
    "step",
    "supervised",
]

CALL, THINK, RESULT, EASY, HARD, VOCABULARY = 10, 11, 12, 22, 23, 24
"""Token ids: digits 0 to 9, then these; ``RESULT + d`` is the observation of result ``d``."""
WRITABLE = 12
LONGEST = 16
"""Columns after the prompt; an episode without an answer by then is wrong."""
PROMPTS, SAMPLES = 8, 8
"""Questions per step and episodes per question."""


@dataclass(frozen=True)
class Budget:
    """How much every arm may use: supervised steps, then steps of ``PROMPTS * SAMPLES`` episodes."""

    supervised: int
    steps: int
    evaluation: int


BUDGET = {"small": Budget(200, 120, 1000), "tiny": Budget(10, 3, 64)}
"""Budgets by scale."""


class Model(nn.Module):
    """A recurrent language model of about 13,000 parameters with a linear head of ``heads`` outputs per token."""

    def __init__(self, heads: int = WRITABLE, width: int = 48) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 16)
        self.core = nn.GRU(16, width, batch_first=True)
        self.head = nn.Linear(width, heads)

    def forward(self, ids_NT: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the head's outputs after every token, and the state."""
        hidden, state = self.core(self.embed(ids_NT.clamp(min=0)), state)
        return self.head(hidden), state


def parameters(model: nn.Module) -> int:
    """Number of weights."""
    return sum(p.numel() for p in model.parameters())


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


Decide = Callable[[Tensor, Any], tuple[Tensor, Any]]


@torch.no_grad()
def play(decide: Decide, prompts: Tensor, answers: Tensor, generator: torch.Generator) -> Episodes:
    """Roll out one episode per prompt; ``decide(ids_N1, state)`` returns logits over writable tokens and the state."""
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


def signals_of(episodes: Episodes, reward_N: FloatArray, *, value_NT: FloatArray | None = None) -> Signals:
    """Lay played episodes out as ``Signals``, in groups of ``SAMPLES``."""
    turn_NT = episodes.turn_NT.numpy()
    count, widest = len(turn_NT), int(turn_NT.max()) + 1
    node_NK = np.where(np.arange(widest)[None, :] <= turn_NT.max(1)[:, None], np.arange(widest)[None, :], -1)
    return Signals(
        reward_N=reward_N,
        group_N=np.arange(count) // SAMPLES,
        turn_NT=turn_NT,
        ids_NT=episodes.ids_NT.numpy(),
        logp_NT=episodes.logp_NT.double().numpy(),
        node_NK=node_NK,
        turn_reward_NK=np.zeros((count, widest)),
        parts_CN=np.zeros((0, count)),
        segment_NT=np.where(episodes.ids_NT.numpy() >= 0, 0, -1),
        episode_N=np.arange(count),
        calls_N=episodes.calls_N,
        malformed_N=np.zeros(count, dtype=np.int64),
        span_NT=np.full(turn_NT.shape, -1),
        first_call_N=np.full(count, -1),
        turns_N=turn_NT.max(1) + 1,
        size_N=(episodes.ids_NT.numpy() >= 0).sum(1),
        value_NT=value_NT,
    )


def named(model: Model, ids_NT: Tensor, turn_NT: Tensor) -> Tensor:
    """Log-prob of every token the model wrote, 0 elsewhere."""
    logits, _ = model(ids_NT[:, :-1])
    chosen = logits.log_softmax(-1).gather(2, ids_NT[:, 1:].clamp(0, WRITABLE - 1)[..., None]).squeeze(2)
    first = torch.zeros(len(ids_NT), 1)
    return torch.where(turn_NT >= 0, torch.cat([first, chosen], 1), torch.zeros(()))


def before(model: Model, ids_NT: Tensor) -> Tensor:
    """Output of a one-value head just before every token (its own token not seen); the first column is 0."""
    values, _ = model(ids_NT[:, :-1])
    return torch.cat([torch.zeros(len(ids_NT), 1), values[..., 0]], 1)


def step(optimiser: torch.optim.Optimizer, loss_NT: Tensor, turn_NT: Tensor) -> None:
    """Take one optimiser step on the token mean, gradient norm at most 1."""
    optimiser.zero_grad(set_to_none=True)
    token_mean(loss_NT, turn_NT, totals(turn_NT)).backward()  # type: ignore[no-untyped-call]
    descend(optimiser)


def descend(optimiser: torch.optim.Optimizer) -> None:
    """Clip the gradient norm at 1 and step."""
    torch.nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], 1.0)
    optimiser.step()


def supervised(budget: Budget, seed: int) -> Model:
    """Train the starting model on a careless demonstrator.

    It thinks 1.5 tokens on average, calls in 3 of 10 cases and copies the result in 8 of 10; otherwise it answers
    directly, right on easy questions in 6 of 10 cases and at random else.
    """
    from ferrule.objectives.supervised import nll

    rng = np.random.default_rng([seed, 1])
    torch.manual_seed(seed)
    model = Model()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(budget.supervised):
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
        step(optimiser, nll(named(model, ids_NT, turn_NT), turn_NT), turn_NT)
    return model


def evaluate(decide: Decide, budget: Budget, seed: int) -> dict[str, float]:
    """Play held-out questions by sampling and return success, length in tokens, and calls."""
    prompts, answers = questions(budget.evaluation, np.random.default_rng([seed, 2]), held_out=True)
    played = play(decide, prompts, answers, torch.Generator().manual_seed(seed))
    return {
        "success": float(played.right_N.mean()),
        "length": float(played.length_N.mean()),
        "calls": float(played.calls_N.mean()),
    }


def with_reference(
    signals: Signals, rule: Callable[..., FloatArray], reference: Model, episodes: Episodes
) -> FloatArray:
    """Apply a credit rule that may also read the reference model's log-probs ``ref_NT``."""
    with torch.no_grad():
        ref_NT = named(reference, episodes.ids_NT, episodes.turn_NT).double().numpy()
    return apply(rule, replace(signals), ref_NT=ref_NT)
