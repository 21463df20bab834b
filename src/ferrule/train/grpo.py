"""Group-relative policy optimisation on the tool loop, with the flags that users of other trainers know."""

from __future__ import annotations

from functools import partial
from typing import Any

from ferrule.core.arrays import nearest
from ferrule.core.recipe import Recipe

__all__ = ["grpo"]


def grpo(
    *,
    num_generations: int = 8,
    temperature: float = 1.0,
    beta: float = 0.0,
    epsilon: float = 0.2,
    epsilon_high: float | None = None,
    scale_rewards: str = "group",
    format_weight: float = 0.0,
    loss_type: str = "dapo",
    num_iterations: int = 1,
    max_completion_length: int = 256,
    max_tool_calling_iterations: int = 6,
    retries: int = 0,
) -> Recipe:
    """Return group-relative policy optimisation on the tool loop; names mean what they mean in TRL's ``GRPOConfig``.

    ``scale_rewards`` is ``group`` (divide by the group's spread) or ``none``; ``loss_type`` is ``dapo`` (mean over
    the tokens of the batch), ``grpo`` (mean per sequence) or ``dr_grpo`` (constant length). ``format_weight`` adds the
    form of an episode (``ferrule.rewards.format.format_reward``) to its outcome with this weight: among samples that
    all fail it is the only thing that keeps calls readable and replies within their limit. ``retries`` is that of
    ``Recipe``.
    """
    from ferrule.agents.react import ToolLoop
    from ferrule.credit.group import group_relative
    from ferrule.objectives.penalty import kl_k3, with_kl
    from ferrule.objectives.reduce import constant, sequence_mean, token_mean
    from ferrule.objectives.surrogate import surrogate
    from ferrule.rewards.combine import weighted
    from ferrule.rewards.format import format_reward
    from ferrule.rewards.outcome import outcome

    spreads: dict[str, Any] = {"group": "unbiased", "none": "none"}
    reductions: dict[str, Any] = {
        "dapo": token_mean,
        "grpo": sequence_mean,
        "dr_grpo": partial(constant, denominator=float(max_completion_length)),
    }
    if scale_rewards not in spreads:
        raise ValueError(f"scale_rewards is {scale_rewards!r}; {nearest(scale_rewards, list(spreads))}")
    if loss_type not in reductions:
        raise ValueError(f"loss_type is {loss_type!r}; {nearest(loss_type, list(reductions))}")
    if format_weight < 0:
        raise ValueError(f"format_weight is {format_weight}; the least is 0")
    formed = {"outcome": (outcome, 1.0), "format": (format_reward, format_weight)}
    objective: Any = partial(surrogate, lo=epsilon, hi=epsilon if epsilon_high is None else epsilon_high)
    return Recipe(
        agent=ToolLoop(turns=max_tool_calling_iterations, max_tokens=max_completion_length),
        reward=weighted(formed) if format_weight else outcome,
        credit=partial(group_relative, std=spreads[scale_rewards]),
        objective=with_kl(objective, beta, estimator=kl_k3) if beta else objective,
        reduce=reductions[loss_type],
        num_generations=num_generations,
        temperature=temperature,
        num_iterations=num_iterations,
        retries=retries,
        reference=beta > 0,
    )
