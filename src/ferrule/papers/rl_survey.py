"""A Technical Survey of Reinforcement Learning Techniques for Large Language Models (paper 52), July 2025.

https://arxiv.org/abs/2507.04136

The survey orders reinforcement learning for language models by where the reward comes from (people, models,
verifiers), at what grain, and how the policy is updated (by values, by policy gradients with or without a critic, by
preferences). Here it is a catalogue: every online method is a recipe made of the same small pieces, preference learning
is a stage on pairs or rows, and the claim compares them on one tool question with one budget of episodes.

Departures from the paper:

1. The survey states no experiment; the claim measures the trends it reports on a tiny recurrent language model that may
   answer directly or ask a calculator.
2. Formulas and starting values are the usual ones of open trainers. The value loss has no factor 1/2 unless asked for
   (``half=True``), the third KL estimator is clamped at 10, and a group of one gets advantage 0 unless asked otherwise.
3. Token-level Q-learning keeps the starting model frozen and re-weights its logits by ``beta (Q - max Q)``.
4. The AI labeller of the claim is simulated: unsure (0.8) and leaning 0.15 towards what it reads first, so that
   averaging both orders matters. The flawed reward model is the verifier plus a bonus of 0.05 per written token, so
   that length is its only flaw; the learned reward model is an arm of its own, trained with the weaker KL.
5. The judged KL weight is 0.5. The demonstrator goes on thinking with chance 0.6, and under the penalty the best policy
   does so with ``0.6 exp(bonus / beta)``: 2.0 instead of 1.5 thoughts at weight 0.5, but 3.4 at weight 0.2, which
   cannot meet the bound and is reported as the arm ``flawed_ppo_weak_kl``. A strong weight keeps length and learns
   little (at weight 1 a third of what PPO learns from the verifier), so the share that is learned decides as well. The
   weight was chosen among 0.35, 0.5, 0.7 and 1 on the seeds 0 and 1, which are not measured.
6. The margin of DPO is taken between whole episodes, whose tool results may differ. They cancel as long as the calls
   decide them, as with the claim's calculator; nothing checks that.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from ferrule.core.arrays import chain
from ferrule.core.recipe import Data, Recipe, Stage, vary
from ferrule.credit.group import broadcast, group_relative, leave_one_out, whiten
from ferrule.credit.keep import spread
from ferrule.credit.returns import gae, q_targets, value_targets
from ferrule.data.formats import Pair, Row
from ferrule.data.pairs import verifier_pairs
from ferrule.rewards.labels import ai_preference, direct_score
from ferrule.studies.paper import Paper

__all__ = ["PAPER", "actor_critic", "dapo", "dpo", "grpo", "kto", "ppo", "recipe", "reinforce_pp", "rloo"]


def ppo(base: Recipe) -> Recipe:
    """PPO with a critic: GAE (gamma 1, lambda 0.95), whitened; clip 0.2; value loss with clip 0.2 and weight 0.5."""
    from ferrule.objectives.penalty import add
    from ferrule.objectives.supervised import value_loss
    from ferrule.objectives.surrogate import surrogate

    return vary(
        base,
        credit=chain(partial(gae, gamma=1.0, lam=0.95), whiten),
        critic=partial(value_targets, gamma=1.0, lam=0.95),
        objective=add(surrogate, partial(value_loss, clip=0.2), 0.5),
    )


def actor_critic(base: Recipe) -> Recipe:
    """Advantage actor-critic: one-step TD errors (lambda 0), plain policy gradient, unclipped value loss."""
    from ferrule.objectives.penalty import add
    from ferrule.objectives.supervised import value_loss
    from ferrule.objectives.surrogate import reinforce

    return vary(
        base,
        credit=partial(gae, gamma=1.0, lam=0.0),
        critic=partial(value_targets, gamma=1.0, lam=0.0),
        objective=add(reinforce, partial(value_loss, clip=None), 0.5),
        num_iterations=1,
        num_mini_batches=1,
        mini_batch_size=None,
    )


def grpo(base: Recipe) -> Recipe:
    """GRPO: group mean and unbiased spread, clip 0.2, mean over rows of token means, no critic."""
    from ferrule.objectives.reduce import sequence_mean
    from ferrule.objectives.surrogate import surrogate

    return vary(
        base, credit=partial(group_relative, std="unbiased"), critic=None, objective=surrogate, reduce=sequence_mean
    )


def dapo(base: Recipe) -> Recipe:
    """DAPO: GRPO with clip 0.2 and 0.28, token mean, and groups without spread dropped and drawn anew."""
    from ferrule.objectives.reduce import token_mean
    from ferrule.objectives.surrogate import surrogate

    return vary(
        grpo(base),
        objective=partial(surrogate, lo=0.2, hi=0.28),
        reduce=token_mean,
        keep=spread(),
        refill=max(base.refill, 2),
    )


def rloo(base: Recipe) -> Recipe:
    """RLOO: the mean of the other members as baseline, plain policy gradient on fresh samples."""
    from ferrule.objectives.reduce import sequence_mean
    from ferrule.objectives.surrogate import reinforce

    return vary(
        base,
        credit=leave_one_out,
        critic=None,
        objective=reinforce,
        reduce=partial(sequence_mean, tokens="sum"),
        num_iterations=1,
        num_mini_batches=1,
        mini_batch_size=None,
    )


def reinforce_pp(base: Recipe) -> Recipe:
    """REINFORCE++: no groups, rewards whitened over the whole batch, clipped surrogate."""
    from ferrule.objectives.reduce import token_mean
    from ferrule.objectives.surrogate import surrogate

    return vary(base, credit=chain(broadcast, whiten), critic=None, objective=surrogate, reduce=token_mean)


def dpo(data: Data | Sequence[Pair], **settings: Any) -> Stage:
    """DPO on pairs: beta 0.1, summed log-probs of model tokens, the starting weights as reference."""
    from ferrule.train import stage

    return stage.dpo(data, **settings)


def kto(data: Data | Sequence[Row], **settings: Any) -> Stage:
    """KTO on single rows marked desirable or not: beta 0.1, the starting weights as reference."""
    from ferrule.train import stage

    return stage.kto(data, **settings)


recipe = grpo

PAPER = Paper(
    number=52,
    slug="rl-survey",
    title="A Technical Survey of Reinforcement Learning Techniques for Large Language Models",
    date="2025-07",
    url="https://arxiv.org/abs/2507.04136",
    pieces={
        "ppo": ppo,
        "actor_critic": actor_critic,
        "grpo": grpo,
        "dapo": dapo,
        "rloo": rloo,
        "reinforce_pp": reinforce_pp,
        "dpo": dpo,
        "kto": kto,
        "ai_preference": ai_preference,
        "direct_score": direct_score,
        "verifier_pairs": verifier_pairs,
        "q_targets": q_targets,
    },
    summary="The catalogue: PPO, actor-critic, GRPO, DAPO, RLOO, REINFORCE++, DPO, KTO, Q-learning from shared pieces.",
    reported="A survey; it reports no experiment of its own.",
)
