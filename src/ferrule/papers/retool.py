r"""ReTool: Reinforcement Learning for Strategic Tool Use in LLMs (paper 17), April 2025.

https://arxiv.org/abs/2504.11536

A model stops in the middle of its reasoning, runs Python, reads the output and goes on, and learns when to do so from
the outcome alone. First a cold start: text solutions are rewritten so that hand computation becomes code with its
output, filtered twice, and learned by supervised fine-tuning with the output masked. Then reinforcement learning with a
reward of +1 or -1 for the final answer and nothing for running code. The form of the texts is in ``chat.inline``, the
cold start in ``data.cold_start``.

Departures from the paper:

1. Rewritten blocks are executed again and their output is compared; format and answer checks alone let invented
   results through.
2. Rewards read the last ``\boxed{}`` of the final answer and compare it by the task's own verifier.
3. Generation stays token-exact: the closing tag and the result are inserted tokens and are never trained on. Only the
   conversion of finished texts works on characters, where the mask covers the interpreter block.
4. Code fences count in any case (``Python``, ``PY``); the released code knows ``python`` alone. The last line of a
   script is echoed by the tool in the same run. The released code runs everything but the last line a second time to
   echo a value, so that side effects happen twice.
5. The paper trains by PPO with a critic (``recipe``); its discount and lambda are not stated, 1 and 0.95 are choices.
   ``community_recipe`` is the recipe of a public trainer: group advantages, clip 0.2 and 0.28, dual clip 10, and
   ``community_reward``, which pays for calls on wrong answers. It is not the paper's reward.
6. The claim fine-tunes the pocket model on solved questions of two digits as the cold start and goes on with group
   advantages (``small_recipe``), because a critic learns nothing useful in so few steps. Without a cold start it learns
   as many questions answered at once. In this framework rollouts never train on inserted tokens, so the ablation that
   learns tool output does so in the cold start alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ferrule.chat.answer import boxed
from ferrule.chat.inline import loss_mask, to_messages, to_text
from ferrule.core.arrays import chain
from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Score, Task, Trajectory
from ferrule.credit.group import group_relative, whiten
from ferrule.credit.returns import gae, value_targets
from ferrule.data.cold_start import cold_start
from ferrule.rewards.verify import verify
from ferrule.studies.paper import Paper

__all__ = ["PAPER", "community_recipe", "community_reward", "recipe", "retool_reward", "small_recipe"]


def _right(task: Task, trajectory: Trajectory, need_box: bool) -> bool:
    inner = boxed(trajectory.answer)
    answer = inner if need_box or inner is not None else trajectory.answer
    return verify(str(task.meta.get("verifier", "exact")), answer, task.answer) > 0.5


def retool_reward(
    task: Task, trajectories: Sequence[Trajectory], *, right: float = 1.0, wrong: float = -1.0, need_box: bool = True
) -> list[Score]:
    r"""Outcome reward of the paper: +1 when the last boxed value of the answer is right, else -1; nothing for code.

    ``need_box=False`` takes the whole answer when it holds no box. The part ``outcome`` is 1 or 0.
    """
    scores = []
    for trajectory in trajectories:
        good = _right(task, trajectory, need_box)
        scores.append(Score(value=right if good else wrong, parts={"outcome": float(good)}))
    return scores


def community_reward(
    task: Task, trajectories: Sequence[Trajectory], *, need_box: bool = True, bonus: float = 0.1, best: float = -0.6
) -> list[Score]:
    """Reward of a public recipe: right +1; wrong ``min(best, -1 + bonus (messages - 2) / 2)``.

    Messages are 2 without tools and 2 more per answered call. It pays for calls on wrong answers, so groups in which
    all are wrong train the model to call more.
    """
    scores = []
    for trajectory in trajectories:
        good = _right(task, trajectory, need_box)
        messages = 2 + 2 * len(trajectory.calls)
        value = 1.0 if good else min(best, -1.0 + bonus * (messages - 2) / 2)
        scores.append(Score(value=value, parts={"outcome": float(good)}))
    return scores


def recipe(base: Recipe) -> Recipe:
    """Return ``base`` with the paper's reward and PPO: GAE with a critic, clip 0.2, no KL."""
    from ferrule.objectives.penalty import add
    from ferrule.objectives.supervised import value_loss
    from ferrule.objectives.surrogate import surrogate

    return vary(
        base,
        reward=retool_reward,
        credit=chain(partial(gae, gamma=1.0, lam=0.95), whiten),
        objective=add(partial(surrogate, lo=0.2, hi=0.2), value_loss, 0.5),
        critic=partial(value_targets, gamma=1.0, lam=0.95),
        reference=False,
    )


def community_recipe(base: Recipe) -> Recipe:
    """Return ``base`` with the public recipe: its reward, group advantages, clip 0.2 and 0.28, dual clip 10, no KL."""
    from ferrule.objectives.surrogate import surrogate

    return vary(
        base,
        reward=community_reward,
        credit=partial(group_relative, std="unbiased"),
        objective=partial(surrogate, lo=0.2, hi=0.28, dual=10.0),
        critic=None,
        reference=False,
        num_generations=16,
    )


def small_recipe(base: Recipe) -> Recipe:
    """Return ``base`` with the paper's reward (no box asked for) and group advantages, for short runs."""
    return vary(
        community_recipe(base), reward=partial(retool_reward, need_box=False), num_generations=base.num_generations
    )


PAPER = Paper(
    number=17,
    slug="retool",
    title="ReTool: Reinforcement Learning for Strategic Tool Use in LLMs",
    date="2025-04",
    url="https://arxiv.org/abs/2504.11536",
    pieces={
        "reward": retool_reward,
        "community_reward": community_reward,
        "cold_start": cold_start,
        "to_messages": to_messages,
        "to_text": to_text,
        "loss_mask": loss_mask,
        "recipe": recipe,
        "community_recipe": community_recipe,
    },
    summary="Code inside the reasoning: a verified cold start, then outcome reward only, with tool output masked.",
    reported=(
        "Qwen2.5-32B-Instruct, AIME24: 67.0 % after 400 steps, text-only training 40.0 % after 1,080 (abstract, "
        "and notes on the paper)."
    ),
)
