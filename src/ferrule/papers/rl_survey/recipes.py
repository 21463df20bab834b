"""The survey's methods as differences to a base recipe.

Online methods read on-policy samples; ``dpo`` and ``kto`` set the objective and reduction for rows of preference
data, which name their pair and side (``pair_N``, ``chosen_N``).
"""

from __future__ import annotations

from functools import partial

from ferrule.core.arrays import chain
from ferrule.core.recipe import Recipe, vary
from ferrule.credit.group import broadcast, group_relative, leave_one_out, whiten
from ferrule.credit.keep import spread
from ferrule.credit.returns import gae, value_targets

__all__ = ["actor_critic", "dapo", "dpo", "grpo", "kto", "ppo", "reinforce_pp", "rloo"]


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
        epochs=1,
        minibatches=1,
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
        epochs=1,
        minibatches=1,
    )


def reinforce_pp(base: Recipe) -> Recipe:
    """REINFORCE++: no groups, rewards whitened over the whole batch, clipped surrogate."""
    from ferrule.objectives.reduce import token_mean
    from ferrule.objectives.surrogate import surrogate

    return vary(base, credit=chain(broadcast, whiten), critic=None, objective=surrogate, reduce=token_mean)


def dpo(base: Recipe) -> Recipe:
    """DPO on pairs: beta 0.1, summed log-probs of model tokens, the starting weights as reference."""
    from ferrule.objectives import preference
    from ferrule.objectives.reduce import sequence_mean

    return vary(
        base,
        objective=preference.on_pairs(preference.dpo),
        reduce=partial(sequence_mean, tokens="sum"),
        reference=True,
    )


def kto(base: Recipe) -> Recipe:
    """KTO on single rows marked desirable or not: beta 0.1, the starting weights as reference."""
    from ferrule.objectives import preference
    from ferrule.objectives.reduce import sequence_mean

    return vary(
        base, objective=preference.on_rows(preference.kto), reduce=partial(sequence_mean, tokens="sum"), reference=True
    )
