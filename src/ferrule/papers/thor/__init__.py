"""THOR: Tool-Integrated Hierarchical Optimization via RL for Mathematical Reasoning (paper 39), September 2025.

https://arxiv.org/abs/2509.13761

Whether the calls of an episode run without error foretells whether its answer is right. THOR uses that three times: it
trains whole episodes on their answers, it trains failed calls over again on whether they run, each from the thought
just before it, and when a call fails at inference it takes the end of the thought back and goes on from there. Of
several finished candidates it picks the one whose calls failed least.

Departures from the paper:

1. An episode is a list of messages, and a repair goes on from messages with its calls made again in a new session
   (``agents.resume``). Its prompt is rendered again from them, so its ids may differ from those once sampled.
2. ``suffix`` counts pieces of text (words with the space before them), or the tokens of a tokenizer when ``pieces`` is
   one. The paper counts tokens; the pieces that are left are the prompt of a repair and never trained on.
3. The released inference takes the suffix off whatever text stands before the failed segment, earlier observations
   included; here it comes off the thought alone. ``cut(reference=True)`` does what the release does.
4. The release turns the share of passed calls into an integer, so that one failure in ten counts as ten, and an episode
   without calls as perfect. ``pass_rate`` is the share itself, and 0 without calls; ``reference=True`` is the other. In
   ``execution`` a continuation that makes no call has repaired nothing and gets 0 (``reference=True``: 1).
5. ``observed`` shortens an output that holds the word "Error" only when the code failed (``reference=True``: always).
   Code that prints nothing has not passed, as published; ``silent=True`` lets it pass.
6. The last executed call decides where a repair begins, as published, though an earlier one may be what failed;
   ``at="failed"`` takes the last that failed.
7. Episodes of at most 150 tokens or without an answer are left out as well (an answer stands for the published box
   within the last 100 tokens); whether that removes the episode or its
   group is not known: it is the episode here. Repair groups without spread are left out like others.
8. Both losses, and the likelihood term of each, have token counts of their own over the batch. With several minibatches
   per rollout the counts are those of the rollout.
9. A tool session that fails at a call is branched for every attempt, so that a discarded attempt leaves no trace.
10. The generation of cold-start data (a generator and a refiner over a large corpus) is left out; its checks on
    texts are in ``filters``. ``observed`` is not put between tools and model: tools of this framework bound what they
    show. Temperatures, rates, lengths and 40 updates per rollout round are the user's settings.
11. The claim trains tables of decisions, not language models, on chains whose code the calculator runs. A repair keeps
    what was read of a step and draws its plan and its code again. Self-correction is the agent itself at work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ferrule.agents.react import ToolLoop
from ferrule.agents.resume import Resume
from ferrule.core.recipe import Recipe, vary
from ferrule.credit.group import group_relative
from ferrule.credit.keep import all_of, spread, survivors
from ferrule.papers.thor.agent import SelfCorrect, corrected
from ferrule.papers.thor.pieces import (
    best_of,
    cut,
    episode,
    execution,
    observed,
    own_share,
    pass_rate,
    passed,
    repair,
    repairs,
    words,
)
from ferrule.studies.paper import Claim, Paper

__all__ = [
    "PAPER", "SelfCorrect", "best_of", "claim", "corrected", "cut", "episode", "execution", "observed", "own_share",
    "pass_rate", "passed", "recipe", "repair", "repairs", "step_recipe", "words",
]  # fmt: skip


def recipe(
    base: Recipe, *, alpha: float = 0.01, lo: float = 0.2, hi: float = 0.28, dual: float | None = 3.0,
    samples: int = 16, rounds: int | None = None, least_tokens: int = 150,
) -> Recipe:  # fmt: skip
    """Return ``base`` with the episode level: what it drops, the group filters, the dual clip and the likelihood term.

    ``groups_of(step_recipe(this), repairs(groups), ...)`` draws the step level. ``credit(this, kept_of(this, groups) +
    kept_of(steps, those))`` is one batch of both, in which either level has its own groups, rewards and denominators.
    After ``rounds`` replies with calls one more may answer. Raises ``ValueError`` on ``rounds`` for an agent that is no
    ``ToolLoop``.
    """
    from ferrule.objectives.penalty import add, weighted
    from ferrule.objectives.reduce import token_mean
    from ferrule.objectives.supervised import nll_on_positives
    from ferrule.objectives.surrogate import surrogate

    agent = base.agent
    if isinstance(agent, ToolLoop):
        agent = replace(agent, turns=(5 if rounds is None else rounds) + 1)
    elif rounds is not None:
        raise ValueError(f"rounds is {rounds}, but only a ToolLoop takes rounds; set those of {agent!r} itself")
    policy_term = weighted(partial(surrogate, lo=lo, hi=hi, dual=dual), "level_NT")
    beside: dict[str, Any] = {"level_NT": own_share}
    if alpha:
        beside["positive_NT"] = partial(own_share, positives=True)
    return vary(
        base,
        agent=agent,
        reward=partial(episode, base=base.reward, least_tokens=least_tokens),
        credit=partial(group_relative, std="unbiased", singleton="raw"),
        keep=all_of(survivors(0.5), spread()),
        objective=add(policy_term, weighted(nll_on_positives, "positive_NT"), alpha) if alpha else policy_term,
        beside=beside,
        reduce=token_mean,
        samples=samples,
    )


def step_recipe(
    base: Recipe, *, max_tokens: int | None = None, silent: bool = False, reference: bool = False
) -> Recipe:
    """Return ``base`` for the step level: one think, act, observe loop from a prefix, scored by ``execution``.

    Length (unless given), stop strings and role are those of the base's agent.
    """
    own: dict[str, Any] = {n: getattr(base.agent, n) for n in ("max_tokens", "stop", "role") if hasattr(base.agent, n)}
    if max_tokens is not None:
        own["max_tokens"] = max_tokens
    return vary(
        base,
        agent=Resume(rounds=1, **own),
        reward=partial(execution, silent=silent, reference=reference),
        keep=spread(),
    )


def claim(scale: str = "small", *, seeds: Sequence[int] = (0, 1, 2)) -> Claim:
    """Measure what repairs add to episodes at equal updates, and what backing up adds at inference.

    See ``experiment.conditions``. ``scale`` is ``"small"`` or ``"tiny"`` (to try the machinery).
    """
    from ferrule.papers.thor.experiment import measure

    return measure(scale, seeds)


PAPER = Paper(
    number=39,
    slug="thor",
    title="THOR: Tool-Integrated Hierarchical Optimization via RL for Mathematical Reasoning",
    date="2025-09",
    url="https://arxiv.org/abs/2509.13761",
    pieces={"reward": episode, "execution": execution, "agent": SelfCorrect, "repair": repair, "recipe": recipe},
    claim=claim,
    summary="Trains episodes on answers and failed calls on whether they run; goes back in thought when one fails.",
)
