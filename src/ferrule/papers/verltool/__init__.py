"""VerlTool: Towards Holistic Agentic Reinforcement Learning with Tool Use (paper 24), August 2025.

https://arxiv.org/abs/2509.01055

Training with tools was one code base per task, with tools run in step with generation. VerlTool leaves the trainer
alone and puts two things beside it: a tool server with one request form for every tool, and a rollout in which every
trajectory goes at its own pace and is one list of tokens, the observations masked. Rewards are plug-ins that see the
text and the tool records. Here these are pieces: the turn loop with its budgets and reasons to stop (``loop``), the
rewards (``rewards``), turn-level credit and the rows without loss (``credit``). The server speaks its wire form in
``ferrule.serve``; the texts of its Python and SQL tools are in ``ferrule.tools.verl_texts``.

Departures from the paper:

1. Tools are called through sessions, so a call is read by the codec of the model rather than by the server's tools in
   turn; the server face keeps the published routing.
2. Observations go into the conversation as messages that the renderer wraps (the paper's chat mode). The encoding of
   new text alone, without special tokens in the middle, is what every rollout here does.
3. The split of turn-level credit is a turn index, not a count of runs of equal mask values: two replies with nothing
   between them would be one run. The first valid call takes the place of the first observation with a result tag.
4. Success of a call is its status. Whitening leaves groups without any difference at zero. The search reward reads
   the model's own text only. The deep search reward applies its format penalty. ``reference=True`` gives the published
   behaviour of each.
5. A result cache keyed by the request alone would answer a repeated call of a stateful tool wrongly; there is none.
6. The claim is a simulation of schedules: generation and tools only wait. What it shows is what waiting costs, not the
   speed of a model or a tool. Real drivers run it, and overheads are theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ferrule.core.recipe import Recipe, vary
from ferrule.credit.group import group_relative
from ferrule.papers.verltool.credit import carries_loss, mt_grpo, mt_grpo_whitened, without_rows
from ferrule.papers.verltool.loop import (
    ActionLoop,
    asynchronous_seconds,
    cut,
    finished,
    lock_step_seconds,
    stop_reason,
)
from ferrule.papers.verltool.rewards import (
    deep_search_reward,
    image_reward,
    same_table,
    search_reward,
    sql_reward,
    torl_reward,
    turn_reward,
    with_turn_reward,
)
from ferrule.studies.paper import Claim, Paper
from ferrule.tools.verl_texts import python_code, sql_query, wrap_python

__all__ = ["PAPER", "claim", "maths_recipe", "recipe"]


def recipe(base: Recipe) -> Recipe:
    """Return ``base`` with the turn reward beside its own and turn-level credit, clip 0.2, no KL."""
    from ferrule.objectives.surrogate import surrogate

    return vary(
        base,
        reward=partial(with_turn_reward, base=base.reward),
        credit=mt_grpo_whitened,
        objective=partial(surrogate, lo=0.2, hi=0.2),
        critic=None,
        reference=False,
    )


def maths_recipe(base: Recipe) -> Recipe:
    """Return ``base`` as the maths runs train: +1 or -1, group advantages over 16 samples, clip 0.2, no KL."""
    from ferrule.objectives.surrogate import surrogate

    return vary(
        base,
        reward=torl_reward,
        credit=partial(group_relative, std="unbiased"),
        objective=partial(surrogate, lo=0.2, hi=0.2),
        critic=None,
        reference=False,
        samples=16,
    )


def claim(scale: str = "small", *, seeds: Sequence[int] = tuple(range(6))) -> Claim:
    """Measure lock-step rollouts against trajectories at their own pace, and training with and without the mask.

    Held when all of these hold by their 95 % intervals: at 3 turns lock-step takes at least 1.3 times as long, with
    exponential and with heavy-tailed tool times; both schedules leave the same trajectories; training on observation
    tokens raises their log-probability on held-out episodes; masked, their gradient is exactly 0. ``scale`` is
    ``"small"`` or ``"tiny"`` (to try the machinery).
    """
    from ferrule.papers.verltool.experiment import measure

    return measure(scale, seeds)


PAPER = Paper(
    number=24,
    slug="verltool",
    title="VerlTool: Towards Holistic Agentic Reinforcement Learning with Tool Use",
    date="2025-08",
    url="https://arxiv.org/abs/2509.01055",
    pieces={
        "agent": ActionLoop,
        "stop_reason": stop_reason,
        "finished": finished,
        "cut": cut,
        "python_code": python_code,
        "wrap_python": wrap_python,
        "sql_query": sql_query,
        "torl_reward": torl_reward,
        "search_reward": search_reward,
        "sql_reward": sql_reward,
        "same_table": same_table,
        "deep_search_reward": deep_search_reward,
        "image_reward": image_reward,
        "turn_reward": turn_reward,
        "with_turn_reward": with_turn_reward,
        "mt_grpo": mt_grpo,
        "mt_grpo_whitened": mt_grpo_whitened,
        "carries_loss": carries_loss,
        "without_rows": without_rows,
        "lock_step_seconds": lock_step_seconds,
        "asynchronous_seconds": asynchronous_seconds,
        "recipe": recipe,
        "maths_recipe": maths_recipe,
    },
    claim=claim,
    summary="One form for every tool, one token list per trajectory, each at its own pace; turn-level credit.",
)
