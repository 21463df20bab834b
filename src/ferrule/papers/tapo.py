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
   ``vary(recipe(base), agent=TagLoop(system=rules(example=True)))`` with the codec of ``ferrule.agents.tagged``
   (``split=False``: rules and question in one text). Hint, rules and example are worded anew, without a sentence on
   the model's role, and results are cut by the limits of the tools.
7. ``cached_searches`` reuses the result of a similar query. How similar is a choice: nine in ten characters, and the
   same numbers. Long queries that differ in one short word pass for similar; ``shared=words_of, least=0.3`` takes
   queries of the same words, in any order, and no others. The cache is not part of the recipe: it belongs to the
   world.
8. The claim trains a table of decisions on three kinds of questions instead of a language model.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ferrule.agents.tagged import TagLoop, transcript
from ferrule.chat.blocks import TAGS, answer_block, bare, text_gate
from ferrule.core.arrays import chain
from ferrule.core.flows import Reward, Session, World
from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Score, Task, Trajectory, plain_text
from ferrule.credit.group import group_relative
from ferrule.credit.keep import spread
from ferrule.credit.shape import thinned
from ferrule.rewards.efficiency import overlong, written
from ferrule.rewards.format import well_formed_share
from ferrule.rewards.outcome import outcome
from ferrule.rewards.soft import soft_score
from ferrule.studies.paper import Paper
from ferrule.tools.effects import Cache, Cached, numbers_of
from ferrule.worlds.wrap import Wrapped

__all__ = ["PAPER", "cached_searches", "formed", "recipe", "tapo_reward"]


def formed(trajectory: Trajectory, *, result: str = "response") -> bool:
    """Say whether an episode ended with an answer, all its calls could be read, and the model wrote no results itself.

    Replies without calls hold tags of ``TAGS`` only, and the tags of the last one, beside those of a leading thought,
    pass ``text_gate``.
    """
    made_up = any(f"<{result}>" in plain_text(turn.reply).lower() for turn in trajectory.turns)
    if trajectory.answer is None or made_up or well_formed_share(trajectory) < 1.0:
        return False
    *before, last = [None if turn.reply.calls else plain_text(turn.reply) for turn in trajectory.turns] or [""]
    known = all(text is None or text_gate(text + "<answer></answer>") for text in before)
    return known and (last is None or bare(last) or text_gate(last))


def tapo_reward(
    task: Task,
    trajectories: Sequence[Trajectory],
    *,
    base: Reward = outcome,
    longest: int = 2048,
    buffer: int = 1024,
    factor: float = 1.0,
    length: Callable[[Trajectory], float] = written,
    tags: frozenset[str] = TAGS,
    reference: bool = False,
) -> list[Score]:
    """Score the answer by its source, -1 for the wrong form, less what the model wrote beyond a length.

    ``s + min(0, -(n - (longest - buffer)) / buffer factor)`` with ``n`` the model's own tokens and no floor. ``s`` is
    ``soft_score`` by ``task.meta["source"]``, else the value of ``base``. Part ``acc`` is 1 for ``s`` above 0.9 and a
    right form; filters read it. ``reference`` judges the form by ``text_gate`` with ``tags``. ``info`` counts the
    ``calls`` per tool.
    """
    source = task.meta.get("source")
    outcomes = base(task, trajectories) if source is None else [None] * len(trajectories)
    long = overlong(
        task, trajectories, longest=longest, buffer=buffer, factor=factor, floor=-math.inf, length=length
    )  # fmt: skip
    scores = []
    for trajectory, given, penalty in zip(trajectories, outcomes, long, strict=True):
        good = text_gate(transcript(trajectory), tags=tags) if reference else formed(trajectory)
        if given is None:
            answer = None if trajectory.answer is None else answer_block(trajectory.answer)
            soft = soft_score(answer, task.answer, source=str(source))
        else:
            soft = given.value
        acc = float(good and soft > 0.9)
        value = soft if good else -1.0
        parts = {"acc": acc, "outcome": acc, "score": value, **penalty.parts}
        calls = Counter(call.name for call, observation in trajectory.calls if observation.counted)
        scores.append(Score(value + penalty.value, parts=parts, info={"calls": dict(calls)}))
    return scores


def cached_searches(
    world: World,
    *,
    tool: str = "search",
    parameter: str = "query",
    least: float = 0.9,
    shared: Callable[[str], object] = numbers_of,
    size: int = 1024,
) -> Wrapped:
    """Return ``world`` whose episodes share the results of ``tool``: of an equal or similar query it runs once.

    ``least`` is how alike two queries must be, ``shared`` what they must have in common in any case (see
    ``ferrule.tools.effects.Cached``), ``size`` how many results are kept. Raises ``ValueError`` when an episode starts
    whose tool has no such parameter.
    """
    cache = Cache(size)

    def wrap(session: Session, task: Task, seed: int) -> Session:
        return Cached(session, cache, stable=(tool,), alike={tool: parameter}, least=least, shared=shared)

    return Wrapped(world, wrap)


def recipe(
    base: Recipe,
    *,
    num_generations: int = 4,
    num_mini_batches: int = 4,
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
        num_generations=num_generations,
        num_mini_batches=num_mini_batches,
        mini_batch_size=None,
        reference=False,
    )


PAPER = Paper(
    number=2,
    slug="tapo",
    title="Tool-Augmented Policy Optimization: Synergizing Reasoning and Adaptive Tool Use with RL",
    date="2025-10",
    url="https://arxiv.org/abs/2510.07038",
    pieces={
        "reward": tapo_reward,
        "score": soft_score,
        "gate": text_gate,
        "agent": TagLoop,
        "world": cached_searches,
        "recipe": recipe,
    },
    summary="Scores answers by their source behind a strict form; charges own length only; trains mixed groups only.",
    reported=(
        "Best of models of similar size on questions of knowledge and computation, with fewer calls (abstract; no "
        "figures confirmed)."
    ),
)
