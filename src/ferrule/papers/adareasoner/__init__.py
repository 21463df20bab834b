"""AdaReasoner: dynamic tool orchestration for iterative visual reasoning (paper 29), January 2026,
https://arxiv.org/abs/2601.18631.

Which tool to call, when, and with what arguments should hold up under new names. A right answer earns everything
however it was reached; a wrong one earns up to half for calls that are well formed, name an offered tool, give its
parameters and fit its values. Tools and parameters carry made-up names in a part of the tasks, so that the schema must
be read.

Departures from the paper:

1. Only the reward and the names are built here: neither the visual tools nor the cold start from executed blueprints.
2. The last call of an episode counts even when it was malformed; the release trims trailing zeros and so forgets it
   (``reference=True``). The answering turn is left out in both.
3. Values are valid when the call came out ``ok``; ``valid`` takes another judge. Without ``offered`` tools the share
   of required parameters is read off the status: none for arguments that did not fit, all for a call that ran.
4. ``formed`` is the format gate for recorded episodes: an answer, one call in every turn before the last, at most one
   there; it asks for no thoughts. The gate on tags is ``gate_holds`` (``gate=written(gate_holds)``). Further calls of a
   turn are not scored; the loop of the base runs them, where the paper's runs one per turn and ten turns.
5. Names are six random letters and digits that begin with a letter, drawn once per task so that a group shares its
   prompt; descriptions are not paraphrased. The share of tasks that keep real names is a choice.
6. The ladder of the online tools is ``names="union"``, one ladder for all tools; a judge model for accuracy is any base
   reward.
7. The claim measures the asymmetry on a table, with the reading of renamed tools left unmeasured. A call is made to
   cost accuracy where it is useless (.97 to .80). Where it costs nothing, partial credit on failures draws calls even
   there, which the arm ``asymmetric, harmless`` reports outside the verdict. The budget is what tool credit needs until
   about nine calls in ten are valid; accuracy alone gets there later (``accuracy only, longer``).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Call, Observation, Reward, Score, Session, Task, Tool, Trajectory, World
from ferrule.credit.group import group_relative
from ferrule.papers.adareasoner.ladder import Names, call_score
from ferrule.papers.adareasoner.texts import call_in, gate_holds, reaches_goal
from ferrule.papers.adareasoner.turns import VARIANTS, came_out_ok, combined, formed, reduced, turn_scores, written
from ferrule.rewards.outcome import outcome
from ferrule.studies.paper import Claim, Paper
from ferrule.worlds.aliased import Aliased, Words, aliases, on_canonical
from ferrule.worlds.wrap import Wrapped

__all__ = [
    "PAPER",
    "VARIANTS",
    "adareasoner_reward",
    "call_in",
    "call_score",
    "came_out_ok",
    "claim",
    "combined",
    "formed",
    "gate_holds",
    "reaches_goal",
    "recipe",
    "reduced",
    "renamed",
    "turn_scores",
    "written",
]


def adareasoner_reward(
    task: Task,
    trajectories: Sequence[Trajectory],
    *,
    base: Reward = outcome,
    offered: Callable[[Task], Sequence[Tool]] | None = None,
    gate: Callable[[Trajectory], bool] = formed,
    names: Names = "required",
    valid: Callable[[Call, Observation], float] = came_out_ok,
    right: float = 8.0,
    weight: float = 1.0,
    added: bool = False,
    reference: bool = False,
) -> list[Score]:
    """Score 0 unless formed, ``right`` when the base reward is above a half, else ``weight`` times the tool score.

    ``offered(task)`` are the tools of the task under their real names; ``names`` and ``valid`` (clipped to 0 to 1) are
    those of ``turn_scores``. ``added`` pays the tool score of right answers too (an older reward). Parts are
    ``outcome``, ``tools`` (0 to 4) and ``format``. Source: AdaReasoner (29).
    """
    tools = None if offered is None else offered(task)
    out = []
    for trajectory, score in zip(trajectories, base(task, trajectories), strict=True):
        accuracy = score.parts.get("outcome", score.value)
        earned = reduced(turn_scores(trajectory, offered=tools, names=names, valid=valid), trim=reference)
        form = gate(trajectory)
        value = combined(accuracy > 0.5, earned, right=right, weight=weight, added=added) if form else 0.0
        parts = {**score.parts, "outcome": accuracy, "tools": earned, "format": float(form)}
        out.append(replace(score, value=value, parts=parts))
    return out


def renamed(
    world: World, *, share: float = 0.5, seed: int = 0, parameters: bool = True, words: Words = "characters"
) -> Wrapped:
    """Return ``world`` with made-up names for tools and parameters in a ``share`` of its tasks, the same for each task.

    ``words`` are those of ``aliases``. Raises ``ValueError`` for a share outside 0 to 1.
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share is {share}; it must lie between 0 and 1")

    def wrap(session: Session, task: Task, _: int) -> Session:
        rng = random.Random(f"renamed/{seed}/{task.id}")
        if rng.random() >= share:
            return session
        return Aliased(session, aliases(session.tools, rng.getrandbits(32), parameters=parameters, words=words))

    return Wrapped(world, wrap)


def recipe(base: Recipe, *, offered: Callable[[Task], Sequence[Tool]] | None = None) -> Recipe:
    """Return ``base`` with asymmetric tool credit under real names, four samples and a doubly clipped surrogate.

    Rename the tools of the training world by ``renamed``.
    """
    from ferrule.objectives.reduce import token_mean
    from ferrule.objectives.surrogate import surrogate

    return vary(
        base,
        reward=on_canonical(partial(adareasoner_reward, base=base.reward, offered=offered)),
        credit=partial(group_relative, std="unbiased"),
        objective=partial(surrogate, dual=3.0),
        reduce=token_mean,
        reference=False,
        samples=4,
    )


def claim(scale: str = "small", *, seeds: Sequence[int] = tuple(range(12))) -> Claim:
    """Measure whether credit for calls on failure alone brings calls where they are needed and nowhere else."""
    from ferrule.papers.adareasoner.experiment import conditions_of

    return conditions_of(scale, seeds)


PAPER = Paper(
    number=29,
    slug="adareasoner",
    title="AdaReasoner: dynamic tool orchestration for iterative visual reasoning",
    date="2026-01",
    url="https://arxiv.org/abs/2601.18631",
    pieces={"reward": adareasoner_reward, "world": renamed, "recipe": recipe},
    claim=claim,
    summary="Pays right answers in full and calls on failure only, and renames tools so that schemas must be read.",
)
