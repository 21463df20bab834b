"""TAPO: Tool-Augmented Policy Optimization, Synergizing Reasoning and Adaptive Tool Use with RL (02), October 2025.

https://arxiv.org/abs/2510.07038

Small models need facts and exact computation within one train of thought, and drift into calling tools for the
reward's sake. TAPO pays no call and charges none: answers are scored by a rule of their source, a response of the wrong
form scores -1, what the model itself wrote beyond a length is charged, and only groups in which some answers are right
and others not are trained on.

Departures from the paper:

1. The form is judged by the record: an answer was given, every call could be read, the model wrote no result block
   itself, and a last reply with tags passes the published gate (nothing follows the answer, no unknown tags). Replies
   without tags are answers, as codecs other than TAPO's have them. The published gate over the text of a whole
   response, which lets results made up by the model pass, is ``reference=True``; ``text_gate(anchored=True)`` also
   refuses text between blocks.
2. A task that names no ``meta["source"]`` is judged by the reward of the base recipe; unknown sources are refused.
3. The token mean counts the model's tokens only. The released code divides by observation tokens as well;
   ``recipe(base, reference=True)`` does.
4. Calls are counted per tool; the released statistic fills in the count of searches for that of programs.
5. A batch that cannot be filled within the allowed draws stays smaller; the released trainer tops it up with
   groups without spread. Draws ask for what is missing only (``oversample`` asks for more).
6. The recipe keeps the loop of its base, so that it stacks and models of any codec can be trained; the paper's is
   ``vary(recipe(base), agent=TagLoop())`` with ``CODEC``. Its hint and rules are worded anew, results are cut by the
   limits of the tools, and the fuzzy cache of searches is left out.
7. The claim trains a table of decisions on three kinds of questions instead of a language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from ferrule.core.arrays import chain
from ferrule.core.recipe import Recipe, vary
from ferrule.credit.group import group_relative
from ferrule.credit.keep import spread
from ferrule.papers.tapo.loop import CODEC, TagLoop
from ferrule.papers.tapo.reward import formed, tapo_reward, thinned, transcript
from ferrule.papers.tapo.scores import TAGS, soft_score, text_gate
from ferrule.studies.paper import Claim, Paper

__all__ = ["CODEC", "PAPER", "TagLoop", "claim", "formed", "recipe", "tapo_reward", "thinned", "transcript"]


def recipe(
    base: Recipe,
    *,
    samples: int = 4,
    minibatches: int = 4,
    oversample: float = 1.0,
    tags: frozenset[str] = TAGS,
    reference: bool = False,
) -> Recipe:
    """Return ``base`` with sourced scores, groups of mixed answers only, and an uneven clip; no divergence term."""
    from ferrule.objectives.reduce import token_mean
    from ferrule.objectives.surrogate import surrogate

    compare: Any = partial(group_relative, std="unbiased", eps=1e-6)
    return vary(
        base,
        reward=partial(tapo_reward, base=base.reward, tags=tags, reference=reference),
        credit=chain(compare, thinned) if reference else compare,
        objective=partial(surrogate, lo=0.2, hi=0.28, dual=10.0),
        reduce=token_mean,
        keep=spread("acc"),
        refill=9,
        oversample=oversample,
        samples=samples,
        minibatches=minibatches,
        reference=False,
    )


def claim(scale: str = "small", *, seeds: Sequence[int] = (0, 1, 2, 3, 4)) -> Claim:
    """Measure what the filter saves in updates, and what counting observations as length costs."""
    from ferrule.papers.tapo.experiment import measure

    return measure(scale, seeds)


PAPER = Paper(
    number=2,
    slug="tapo",
    title="Tool-Augmented Policy Optimization: Synergizing Reasoning and Adaptive Tool Use with RL",
    date="2025-10",
    url="https://arxiv.org/abs/2510.07038",
    pieces={"reward": tapo_reward, "score": soft_score, "gate": text_gate, "agent": TagLoop, "recipe": recipe},
    claim=claim,
    summary="Scores answers by their source behind a strict form; charges own length only; trains mixed groups only.",
)
