"""THOR: Tool-Integrated Hierarchical Optimization via RL for Mathematical Reasoning (paper 39), September 2025.

https://arxiv.org/abs/2509.13761

Whether the calls of an episode run without error foretells whether its answer is right. THOR uses that three times: it
trains whole episodes on their answers, it trains failed calls over again on whether they run, each from the thought
just before it, and when a call fails at inference it takes the end of the thought back and goes on from there. Of
several finished candidates it picks the one whose calls failed least.

What fails and where repairs begin is in ``agents.repair``, the agent that corrects itself in ``agents.correct``, what
stands between tools and model in ``worlds.printed``, and the writing of the first data in ``train.coded``, with the
refiner of ``agents.step_code``.

Departures from the paper:

1. An episode is a list of messages, and a repair makes its calls again in a new session (``agents.resume``). It goes on
   from the ids that were fed and sampled, in training and in self-correction.
2. ``suffix`` counts tokens. Of a policy that does not tell its ids, or which of them are a call, it counts pieces of
   text (``pieces``: words with the space before them), and the text that is left is laid out again. What is left is
   the prompt of a repair and never trained on.
3. The released inference takes the suffix off whatever text stands before the failed segment, earlier observations
   included; here it comes off the thought alone. ``cut(reference=True)`` does what the release does. The release also
   takes prose that ends in "python" for code and trains the marker of an output; fences are read as such here, and
   nothing that the model did not write is trained.
4. The release turns the share of passed calls into an integer, so that one failure in ten counts as ten, and an episode
   without calls as perfect. ``pass_rate`` is the share itself, and 0 without calls; ``reference=True`` is the other. In
   ``execution`` a continuation that makes no call has repaired nothing and gets 0 (``reference=True``: 1).
5. ``observed`` shortens an output that holds the word "Error" only when the code failed (``reference=True``: always).
   Code that prints nothing, or white space alone, has not passed, as published of the former; ``silent=True`` lets it
   pass.
6. The last executed call decides where a repair begins, as published, though an earlier one may be what failed;
   ``at="failed"`` takes the last that failed.
7. Episodes of at most 150 tokens or without an answer are left out as well (an answer stands for the published box
   within the last 100 tokens); whether that removes the episode or its group is not known: it is the episode here.
   Repair groups without spread are left out like others.
8. Both losses, and the likelihood term of each, have token counts of their own over the batch. With several minibatches
   per rollout the counts are those of the rollout.
9. A tool session that fails at a call is branched for every attempt, so that a discarded attempt leaves no trace.
10. First data are conversations: the generator writes steps of a reply and is shown its tools, so that it may call them
    by itself; such steps stay as they are. The refiner's request is worded anew. Solutions without a call are left out.
    How long a repeated run of characters is, how often questions are tried without tools (once) and how difficulty and
    number of calls are evened out (at most as many solutions of each pair as the median pair has) are not told and are
    settings. Temperatures, batches, epochs and 40 updates per rollout round are the user's settings.
11. ``observing(world)`` puts ``observed`` between tools and model; the recipe leaves the world as it is. The value of a
    last expression counts as output, and code that prints nothing ends as an error. What did not run (calls that could
    not be read or were refused) and what ends the episode is shown as it is. That an interpreter was restarted and has
    lost its variables is not shown.
12. One claim trains tables of decisions on chains whose code the calculator runs, where a repair keeps what was read of
    a step and draws its plan and its code again, and self-correction is the agent itself at work; arms draw equally
    many decisions. Another trains the
    pocket model on calls of tools with made-up names.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ferrule.agents.best_of import BestOf
from ferrule.agents.correct import SelfCorrect
from ferrule.agents.react import ToolLoop
from ferrule.agents.repair import pass_rate, passed, repair
from ferrule.agents.resume import Resume
from ferrule.agents.reviewed import Reviewed
from ferrule.agents.step_code import by_refiner
from ferrule.agents.values import most_passed
from ferrule.core.arrays import FloatArray, IntArray, part_of
from ferrule.core.flows import Policy, Reward, World
from ferrule.core.marks import exempt
from ferrule.core.recipe import Recipe, Roles, Stage, vary
from ferrule.core.records import Score, Task, Trajectory
from ferrule.credit.group import group_relative
from ferrule.credit.keep import all_of, spread, survivors
from ferrule.rewards.outcome import outcome
from ferrule.studies.paper import Paper
from ferrule.worlds.printed import observing

if TYPE_CHECKING:
    from ferrule.train.sample import Group

__all__ = [
    "PAPER",
    "cold_start",
    "episode",
    "execution",
    "method",
    "own_share",
    "recipe",
    "repairs",
    "self_rewarded",
    "step_recipe",
]


def repairs(groups: Sequence[Group], *, most: int | None = None, seed: int = 0, **settings: Any) -> list[Task]:
    """Return repair tasks of dropped trajectories of these groups, at most ``most`` (None: as many as groups).

    More are thinned out at random by ``seed``. ``settings`` are those of ``repair``.
    """
    tasks = []
    for i, group in enumerate(groups):
        for j, (trajectory, score) in enumerate(zip(group.trajectories, group.scores, strict=True)):
            if score.drop:
                world_seed = group.episodes[group.owners[j]].seed if group.episodes else None
                task = repair(trajectory, label=f"repair/{group.step}/{i}/{j}", world_seed=world_seed, **settings)
                tasks += [task] if task is not None else []
    most = len(groups) if most is None else most
    if len(tasks) <= most:
        return tasks
    return [tasks[i] for i in sorted(random.Random(seed).sample(range(len(tasks)), most))]


def episode(
    task: Task, trajectories: Sequence[Trajectory], *, base: Reward = outcome, least_tokens: int = 150,
    silent: bool = False,
) -> list[Score]:  # fmt: skip
    """Score answers by ``base`` and drop what the episode level does not train on.

    Dropped are trajectories with any call that did not pass, without an answer, or of at most ``least_tokens`` tokens.
    ``info`` holds the pass rate (key ``passes``).
    """
    scores = []
    for trajectory, score in zip(trajectories, base(task, trajectories), strict=True):
        failed = not all(passed(observation, silent=silent) for _, observation in trajectory.calls)
        short = trajectory.sampled_count <= least_tokens or trajectory.finish != "answer"
        info = {**score.info, "passes": pass_rate(trajectory, silent=silent), "failed": failed}
        scores.append(replace(score, drop=score.drop or failed or short, info=info))
    return scores


def execution(
    task: Task, trajectories: Sequence[Trajectory], *, silent: bool = False, reference: bool = False
) -> list[Score]:
    """Score continuations 1 when every call they made passed, else 0; the part ``repair`` marks them.

    Without any call the score is 0 (``reference``: 1).
    """
    scores = []
    for trajectory in trajectories:
        passes = [passed(observation, silent=silent) for _, observation in trajectory.calls]
        good = all(passes) and bool(passes or reference)
        scores.append(Score(float(good), parts={"repair": 1.0}))
    return scores


@exempt("centred", "independent")
def own_share(
    turn_NT: IntArray, parts_CN: FloatArray, channels: tuple[str, ...], adv_NT: FloatArray, *, positives: bool = False
) -> FloatArray:
    """Weight that makes one mean over all tokens the sum of a mean per level: ``T / T_level`` on tokens of a level.

    The part ``repair`` tells the levels apart. ``positives`` counts, and weighs, only tokens with a positive advantage:
    ``T / T_level+``.
    """
    mine_NT = turn_NT >= 0
    step_N = part_of(parts_CN, channels, "repair") > 0
    weight_NT = np.zeros(turn_NT.shape)
    for level_N in (step_N, ~step_N):
        own_NT = mine_NT & level_N[:, None]
        if positives:
            own_NT = own_NT & (adv_NT > 0)
        if own_NT.any():
            weight_NT[own_NT] = mine_NT.sum() / own_NT.sum()
    return weight_NT


def recipe(
    base: Recipe, *, alpha: float = 0.01, lo: float = 0.2, hi: float = 0.28, dual: float | None = 3.0,
    num_generations: int = 16, rounds: int | None = None, least_tokens: int = 150,
) -> Recipe:  # fmt: skip
    """Return ``base`` with the episode level: what it drops, the group filters, the dual clip and the likelihood term.

    ``method`` trains both levels in one step, in which either has its own groups, rewards and denominators. After
    ``rounds`` replies with calls one more may answer. Raises ``ValueError`` on ``rounds`` for an agent other than
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
        num_generations=num_generations,
    )


def step_recipe(
    base: Recipe, *, max_tokens: int | None = None, silent: bool = False, reference: bool = False
) -> Recipe:
    """Return ``base`` for the step level: one think, act, observe loop from a prefix, scored by ``execution``.

    Length (unless given), stop strings and role are those of the base's agent.
    """
    loop: dict[str, Any] = {n: getattr(base.agent, n) for n in ("max_tokens", "stop", "role") if hasattr(base.agent, n)}
    if max_tokens is not None:
        loop["max_tokens"] = max_tokens
    return vary(
        base,
        agent=Resume(rounds=1, **loop),
        reward=partial(execution, silent=silent, reference=reference),
        keep=spread(),
    )


def method(base: Recipe, *, suffix: int = 100, most: int | None = None, **settings: Any) -> Roles:
    """Return both levels as roles of one step: episodes by ``recipe(base)``, then repairs of what they dropped.

    ``suffix`` and ``most`` are those of ``repairs``, ``settings`` those of ``recipe``.
    """
    from ferrule.train.levels import continued

    whole = recipe(base, **settings)
    roles = {"episode": whole, "step": step_recipe(whole)}
    return Roles(roles, continued(partial(repairs, suffix=suffix, most=most)))


def cold_start(
    base: Recipe, world: World, *, refiner: Policy | None = None, step: int = 512, rounds: int = 30, tries: int = 1,
    max_steps: int | None = None, learning_rate: float = 2e-6, **data: Any,
) -> Stage:  # fmt: skip
    """Return fine-tuning on solutions that the policy writes in steps, which ``refiner`` rewrites as code (TIRGen).

    ``step`` bounds the tokens of a step (512; 4096 for long thoughts), ``rounds`` the steps of a solution. Questions
    that the policy solves in one of ``tries`` without tools are left out. System text and stop strings are those of the
    base's agent. ``data`` are further keywords of ``ferrule.train.coded.coded``.
    """
    from ferrule.train.coded import coded
    from ferrule.train.stage import sft

    kept = {name: getattr(base.agent, name) for name in ("system", "stop") if hasattr(base.agent, name)}
    writer = Reviewed(by_refiner(), turns=rounds, max_tokens=step, uncorrected=False, in_parts=True, **kept)
    settings = {} if max_steps is None else {"max_steps": max_steps}
    source = coded(world, refiner=refiner, agent=writer, tries=tries, **{"reward": base.reward, **data})
    return sft(source, learning_rate=learning_rate, **settings)


def self_rewarded(*, samples: int = 8, **settings: Any) -> BestOf:
    """Return the agent that plays ``samples`` tool loops and takes the answer whose calls passed most.

    ``settings`` are further fields of ``BestOf``. Among episodes that were played, of ``SelfCorrect`` for example,
    ``ferrule.agents.repair.best_of`` chooses.
    """
    return BestOf(**{"samples": samples, "turns": 11, "pick": most_passed, **settings})


PAPER = Paper(
    number=39,
    slug="thor",
    title="THOR: Tool-Integrated Hierarchical Optimization via RL for Mathematical Reasoning",
    date="2025-09",
    url="https://arxiv.org/abs/2509.13761",
    pieces={
        "reward": episode,
        "execution": execution,
        "agent": SelfCorrect,
        "best_of": self_rewarded,
        "cold_start": cold_start,
        "repair": repair,
        "world": observing,
        "recipe": recipe,
        "method": method,
    },
    summary="Trains episodes on answers and failed calls on whether they run; goes back in thought when one fails.",
    reported=(
        "7B model, six maths sets: 58.1 % by the episode level, 59.7 % with the step level, 61.2 % with self- "
        "correction; passed calls 89.6 to 98.7 % (paper text)."
    ),
)
