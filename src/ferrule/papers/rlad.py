"""RLAD: Training LLMs to Discover Abstractions for Solving Reasoning Problems (paper 49), October 2025.

https://arxiv.org/abs/2510.02263

Two players share a problem. One writes abstractions: short facts, lemmas, procedures or warnings that help, without
the answer. The other solves the problem given one of them. A solution is paid for being right, an abstraction for the
share of right solutions among those that used it. At test time the budget then goes into more abstractions rather than
into more solutions of one.

Departures from the paper:

1. No code is public; group sizes, the proposer's update and the kind of leak check are reconstructions. Defaults are 8
   solutions for each of 4 abstractions.
2. ``alternating`` takes turns as published: the solver for some steps, then the proposer on abstractions that the
   solver has just tried, by rejection fine-tuning (``accepted_proposals``) or on pairs (``proposal_pairs`` with
   ``train.stage.rpo``). The solver's abstractions are written anew in each step, and are not learnt from then, in place
   of a pool that is fixed beforehand: a pool would need fresh scores as the solver improves. ``method`` is the simple
   alternative: group-relative advantages for both, together or in turn, step by step.
3. An abstraction is taken for a leak when one of the ``PROBES`` of ``rewards.leaks`` says so: the answer stands in it,
   or an expression in it evaluates to the answer. A probe that asks a model for the answer from the abstraction alone
   is a callable as well.
4. Solutions without an abstraction get 0 and advantage 0, and carry a penalty for leaving the reference, which other
   rows do not. ``unaided=True`` pays them as well (the ablation).
5. Groups without an abstraction have no spread by construction; they are kept in spite of the filter.
6. The weight of the penalty is not published; 0.05 is a choice. Overlong answers are not charged (``overlong`` of
   ``ferrule.rewards.efficiency`` does), and answers need no box. Who writes the abstractions of the supervised start
   (``warm_start``; ``raising`` says which of them to keep) is up to the user, and so is the curriculum.
7. The claim plays tables of decisions, not language models. The proposer can tell the procedure: it reads a hint that
   is right in 8 of 10 problems, where the solver reads a cue under which the likeliest procedure is right in 45 %. What
   the solver leans to under a cue is shared by its rows with and without an abstraction, and its proposer learns by
   rejection fine-tuning. Problems are drawn anew in every step, and accuracies are expectations over all of them.
8. One model plays both roles under two prompts, where the paper trains two models: a turn of the solver moves the
   proposer as well. The penalty holds the solver to the model at the beginning of its turn, not of the whole run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ferrule.agents.flow import opening
from ferrule.agents.react import ToolLoop
from ferrule.core.arrays import FloatArray, part_of
from ferrule.core.demonstration import Demonstration
from ferrule.core.flows import Reward, World
from ferrule.core.recipe import Data, Method, Recipe, Roles, Stage, vary
from ferrule.core.records import Message, Score, Task, Trajectory
from ferrule.credit.group import group_relative
from ferrule.credit.keep import spread
from ferrule.data.formats import Pair, Row, conversation, trajectory_row
from ferrule.data.pairs import accepted, preference_pairs
from ferrule.rewards.leaks import PROBES, Probe, leaks
from ferrule.rewards.outcome import outcome
from ferrule.studies.paper import Paper
from ferrule.worlds.experts import transcript

if TYPE_CHECKING:
    from ferrule.train.sample import Group

__all__ = [
    "PAPER", "abstraction_reward", "accepted_proposals", "alternating", "best_abstraction", "hand_down", "hand_up",
    "method", "proposal_pairs", "proposer_recipe", "raising", "recipe", "solved_by", "solver_reward", "unaided_rows",
    "warm_start", "with_abstraction",
]  # fmt: skip

_PROPOSE = (
    "List what helps to solve the problem below: a fact, a lemma, a procedure or a warning. "
    "Do not solve it and do not state its answer."
)
_SOLVE = "{problem}\n\n<abstraction>\n{abstraction}\n</abstraction>\nUse the abstraction to solve the problem."


def abstraction_reward(outcomes: Sequence[float], *, leaking: bool = False, base: float = 0.0) -> float:
    """Mean success of the solutions that used an abstraction, less ``base``; 0 when it leaks or nobody used it.

    ``base`` is the success without any. Raises ``ValueError`` on outcomes that are not finite.
    """
    if not np.isfinite(outcomes).all():
        raise ValueError(f"outcomes must be finite: {list(outcomes)}")
    return 0.0 if leaking or not len(outcomes) else float(np.mean(outcomes)) - base


def solver_reward(
    task: Task, trajectories: Sequence[Trajectory], *, base: Reward = outcome, unaided: bool = False
) -> list[Score]:
    """Score solutions by ``base`` when they had an abstraction (``meta["abstraction"]``), else 0.

    The parts are those of the base and ``unaided``, 1 without an abstraction and else 0; those without one are compared
    among themselves. ``info`` holds what the base gave (key ``success``). The setting ``unaided`` pays solutions
    without one as well.
    """
    scores = []
    for trajectory, score in zip(trajectories, base(task, trajectories), strict=True):
        aided = bool(trajectory.task.meta.get("abstraction"))
        value = score.value if aided or unaided else 0.0
        group = score.group if aided or unaided else f"{score.group}/unaided"
        parts, info = {**score.parts, "unaided": float(not aided)}, {**score.info, "success": score.value}
        scores.append(replace(score, value=value, group=group, parts=parts, info=info))
    return scores


def hand_down(task: Task, trajectory: Trajectory) -> Task | None:
    """Return the task of solving with the abstraction that a proposer's episode answered, None without one."""
    text = (trajectory.answer or "").strip()
    if not text:
        return None
    return _aided(task, text)


def _aided(problem: Task, abstraction: str) -> Task:
    prompt = _SOLVE.format(problem=problem.prompt, abstraction=abstraction)
    before = problem.messages[:-1]
    messages = (*before, Message("user", prompt)) if before else ()
    return replace(problem, prompt=prompt, messages=messages, meta={**problem.meta, "abstraction": abstraction})


def hand_up(
    problem: Task, trajectories: Sequence[Trajectory], groups: Sequence[Group | None], *,
    probes: Sequence[Probe] = PROBES,
) -> list[Score]:  # fmt: skip
    """Score abstractions by the part ``outcome`` (else the value) of the solutions that used them, 0 for leaks.

    ``info`` holds ``leaking``.
    """
    scores = []
    for trajectory, group in zip(trajectories, groups, strict=True):
        leaking = leaks(trajectory.answer or "", problem, probes=probes)
        right = [score.parts.get("outcome", score.value) for score in group.scores] if group is not None else []
        scores.append(Score(abstraction_reward(right, leaking=leaking), info={"leaking": leaking}))
    return scores


def _some(outcomes: Sequence[Sequence[float]]) -> None:
    if not len(outcomes) or not all(len(row) for row in outcomes):
        raise ValueError("there must be an abstraction, and a solution for each of them")


def with_abstraction(outcomes: Sequence[Sequence[float]]) -> float:
    """Mean success over abstractions and their solutions (every abstraction weighs the same)."""
    _some(outcomes)
    return float(np.mean([np.mean(row) for row in outcomes]))


def best_abstraction(outcomes: Sequence[Sequence[float]]) -> float:
    """Success under the best of the proposed abstractions; it knows the answers, so compare it with nothing else."""
    _some(outcomes)
    return float(max(np.mean(row) for row in outcomes))


def solved_by(chances: Sequence[float], tries: int) -> float:
    """Chance that any solution is right with ``tries`` under each abstraction: ``1 - prod_j (1 - c_j)^tries``."""
    return 1.0 - float(np.prod([(1.0 - chance) ** tries for chance in chances]))


def unaided_rows(parts_CN: FloatArray, channels: tuple[str, ...]) -> FloatArray:
    """Return the part ``unaided`` of every row: 1 for solutions that had no abstraction, else 0."""
    return part_of(parts_CN, channels, "unaided")


def _keep(trajectories: Sequence[Trajectory], scores: Sequence[Score]) -> bool:
    return any(score.parts.get("unaided") for score in scores) or spread()(trajectories, scores)


def recipe(
    base: Recipe,
    *,
    num_generations: int = 8,
    beta: float = 0.05,
    lo: float = 0.2,
    hi: float = 0.28,
    unaided: bool = False,
) -> Recipe:
    """Return ``base`` for the solver: paid with an abstraction only, and kept near the reference without one.

    Of ``two_levels`` this is the recipe of the children. Rows without an abstraction are groups of their own (see
    ``groups_of``) that join the children's in ``credit``; ``beta`` weighs their penalty, 0 leaves it out.
    """
    from ferrule.objectives.penalty import add, kl_k3, weighted
    from ferrule.objectives.reduce import token_mean
    from ferrule.objectives.surrogate import surrogate

    objective: Any = partial(surrogate, lo=lo, hi=hi)
    return vary(
        base,
        reward=partial(solver_reward, base=base.reward, unaided=unaided),
        credit=partial(group_relative, std="unbiased"),
        keep=_keep,
        objective=add(objective, weighted(kl_k3, "unaided_NT"), beta) if beta else objective,
        beside={"unaided_NT": unaided_rows} if beta else {},
        reference=beta > 0,
        reduce=token_mean,
        num_generations=num_generations,
    )


def proposer_recipe(base: Recipe, *, num_generations: int = 4, role: str = "proposer", max_tokens: int = 256) -> Recipe:
    """Return ``base`` for the proposer: one reply under ``role``, compared with those to the same problem.

    Of ``two_levels`` this is the recipe of the parents; ``hand_up`` scores them in place of its reward.
    """
    agent = ToolLoop(system=_PROPOSE, turns=1, max_tokens=max_tokens, role=role)
    return vary(
        base,
        agent=agent,
        role=role,
        credit=partial(group_relative, std="unbiased"),
        keep=spread(),
        num_generations=num_generations,
    )


def method(base: Recipe, *, alternate: bool = False, **settings: Any) -> Roles:
    """Return both players as roles: proposals, solutions with each of them, and solutions without any.

    They share a step, or take turns with ``alternate``; ``settings`` are those of the solver's ``recipe``.
    """
    from ferrule.train.levels import handed_down

    play = handed_down(hand_down, hand_up, unaided=True)
    return Roles({"proposer": proposer_recipe(base), "solver": recipe(base, **settings)}, play, alternate)


def raising(
    task: Task, abstractions: Sequence[str], outcomes: Sequence[Sequence[float]], alone: Sequence[float], *,
    probes: Sequence[Probe] = PROBES,
) -> list[int]:  # fmt: skip
    """Places of the abstractions to start from: a solver did better with them than ``alone``, and they do not leak.

    ``outcomes`` has a row of results for each abstraction, best those of a solver weaker than their writer. Raises
    ``ValueError`` without results ``alone``.
    """
    if not len(alone):
        raise ValueError("alone is empty; the success without an abstraction must be known to say which raise it")
    rewards = [
        abstraction_reward(row, leaking=leaks(text, task, probes=probes))
        for text, row in zip(abstractions, outcomes, strict=True)
    ]
    return accepted(rewards, abstraction_reward(alone))


def warm_start(
    abstractions: Sequence[tuple[Task, str]], world: World, *,
    solve: Callable[[Task], Demonstration] | None = None, system: str = "", **settings: Any,
) -> Stage:  # fmt: skip
    """Return the supervised start: abstractions for problems and, with ``solve``, solutions that follow one.

    ``abstractions`` pairs problems of ``world`` with texts. ``solve(task)`` says how a problem is solved
    (``world.demonstrate``); its calls are carried out. ``system`` is that of the solver's agent; ``settings`` are those
    of ``train.stage.sft``. Raises ``ValueError`` for a text without words.
    """
    from ferrule.train.stage import sft

    for task, text in abstractions:
        if not text.strip():
            raise ValueError(f"the abstraction for {task.id!r} is empty; leave the problem out")

    def shown(policy: Any, lap: int) -> list[Row]:
        rows = []
        for task, text in abstractions:
            with closing(world.start(task)) as session:
                lay_out = partial(conversation, tools=session.tools, renderer=policy.renderer, encode=policy.encode)
                rows.append(lay_out([*opening(task, _PROPOSE), Message("assistant", text.strip())]))
                if solve is not None:
                    aided = _aided(task, text.strip())
                    solution = transcript(aided, session, solve(task))
                    rows.append(lay_out([*opening(aided, system), *solution[1:]]))
        return rows

    return sft(shown, **settings)


def _ranked(played: Mapping[str, Sequence[Group]]) -> list[tuple[Group, list[float], float]]:
    """Return the groups of the proposer, the rewards of their abstractions, and the success without any.

    A success that nobody measured counts as out of reach.
    """
    alone: dict[str, list[float]] = {}
    for group in played["solver"]:
        if any(score.parts.get("unaided") for score in group.scores):
            alone.setdefault(group.task.id, []).extend(float(score.info["success"]) for score in group.scores)
    return [
        (group, [score.value for score in group.scores], float(np.mean(alone.get(group.task.id, [np.inf]))))
        for group in played["proposer"]
    ]


def accepted_proposals(played: Mapping[str, Sequence[Group]]) -> list[Row]:
    """Return the abstractions under which solutions did better than without any, as rows (rejection fine-tuning)."""
    return [
        trajectory_row(group.trajectories[i])
        for group, rewards, base in _ranked(played)
        for i in accepted(rewards, base)
    ]


def proposal_pairs(played: Mapping[str, Sequence[Group]], *, margin: float = 0.1) -> list[Pair]:
    """Return pairs of abstractions of one problem whose rewards are ``margin`` or more apart."""
    return [
        Pair(trajectory_row(group.trajectories[i]), trajectory_row(group.trajectories[j]))
        for group, rewards, _ in _ranked(played)
        for i, j in preference_pairs(rewards, margin=margin)
        if group.trajectories[j].sampled_count  # an empty reply has no tokens to push down
    ]


def alternating(
    base: Recipe, world: World, *, choose: Callable[..., Sequence[Any]] = accepted_proposals,
    learn: Callable[..., Stage] | None = None, rounds: int = 4, solver_steps: int = 20, proposer_steps: int = 5,
    tasks: int = 16, levels: Sequence[int] = (1, 2, 3, 4, 5), seed: int = 0, **settings: Any,
) -> Method:  # fmt: skip
    """Return the players in turn, ``rounds`` times: the solver's steps, then the proposer on what ``choose`` keeps.

    Before its turn the proposer writes abstractions for ``tasks`` problems, and the solver of the day tries them.
    ``learn`` makes the proposer's stage of them (None: ``train.stage.sft``); for preferences take
    ``choose=proposal_pairs, learn=rpo``. ``settings`` are those of the solver's ``recipe``.
    """
    from ferrule.train.stage import played, sft

    roles = method(base, **settings)
    source: Data = played(roles, world, choose, tasks=tasks, levels=levels, seed=seed)
    solver = replace(roles, trains=("solver",), settings={"max_steps": solver_steps})
    return Method((solver, (learn or sft)(source, max_steps=proposer_steps)), rounds=rounds)


PAPER = Paper(
    number=49,
    slug="rlad",
    title="RLAD: Training LLMs to Discover Abstractions for Solving Reasoning Problems",
    date="2025-10",
    url="https://arxiv.org/abs/2510.02263",
    pieces={
        "solver": solver_reward,
        "proposer": hand_up,
        "leaks": leaks,
        "recipe": recipe,
        "method": method,
        "alternating": alternating,
    },
    summary="A proposer is paid for how far its abstractions lift a solver, which is paid for solving with them.",
    reported="Qwen3-1.7B, AIME25: 42.45 % with abstractions, 37.92 % for DAPO without any (project page).",
)
