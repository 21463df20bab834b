"""THOR: Tool-Integrated Hierarchical Optimization via RL for Mathematical Reasoning (paper 39), September 2025.

https://arxiv.org/abs/2509.13761

Whether the calls of an episode run without error foretells whether its answer is right. THOR uses that three times: it
trains whole episodes on their answers, it trains failed calls over again on whether they run, each from the thought
just before it, and when a call fails at inference it takes the end of the thought back and goes on from there. Of
several finished candidates it picks the one whose calls failed least.

What fails and where repairs begin is in ``agents.repair``, the agent that corrects itself in ``agents.correct``.

Departures from the paper:

1. An episode is a list of messages, and a repair makes its calls again in a new session (``agents.resume``). It goes on
   from the ids that were fed and sampled, in training and in self-correction.
2. ``suffix`` counts tokens. Of a policy that does not tell its ids, or which of them are a call, it counts pieces of
   text (``pieces``: words with the space before them), and the text that is left is laid out again. What is left is
   the prompt of a repair and never trained on.
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
    texts are in ``data.filters`` and ``data.mixing``. Temperatures, rates, lengths and 40 updates per rollout round are
    the user's settings.
11. ``observing(world)`` puts ``observed`` between tools and model; the recipe leaves the world as it is. The value of a
    last expression counts as output, and code that prints nothing ends as an error. What did not run (calls that could
    not be read or were refused) and what ends the episode is shown as it is. That an interpreter was restarted and has
    lost its variables is not shown.
12. The claim trains tables of decisions, not language models, on chains whose code the calculator runs. A repair keeps
    what was read of a step and draws its plan and its code again. Self-correction is the agent itself at work.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ferrule.agents.correct import SelfCorrect
from ferrule.agents.react import ToolLoop
from ferrule.agents.repair import pass_rate, passed, repair
from ferrule.agents.resume import Resume
from ferrule.core.arrays import FloatArray, IntArray, part_of
from ferrule.core.flows import Reward, World
from ferrule.core.marks import exempt
from ferrule.core.recipe import Recipe, Roles, vary
from ferrule.core.records import Observation, Score, Task, Trajectory
from ferrule.credit.group import group_relative
from ferrule.credit.keep import all_of, spread, survivors
from ferrule.rewards.outcome import outcome
from ferrule.studies.paper import Paper
from ferrule.worlds.shown import shown
from ferrule.worlds.wrap import Wrapped

if TYPE_CHECKING:
    from ferrule.train.sample import Group

__all__ = [
    "PAPER",
    "as_observed",
    "episode",
    "execution",
    "method",
    "observed",
    "observing",
    "own_share",
    "recipe",
    "repairs",
    "step_recipe",
]

_LIMIT, _KEPT = 256, 128


def observed(
    stdout: str, stderr: str, code: int, *, silent: bool = False, reference: bool = False,
    late: str = "TimeoutError: the code ran too long",
) -> tuple[str, bool]:  # fmt: skip
    """Return what a model is shown of a run, and whether the run passed.

    Passed means a return code of 0 and some output (``silent``: output or not). A failure shows ``stderr``, of one that
    holds the word "Error" the last line, and ``late`` where it is blank. Of a text of 256 characters or more the first
    and last 128 are shown. ``reference`` reduces passed output that holds "Error" to its last line as well.
    """
    good = code == 0 and (silent or bool(stdout.strip()))
    text = stdout if good else stderr
    if "Error" in text and (reference or not good):
        text = text.strip().splitlines()[-1]
    text = text.strip()
    if not text and not good:
        text = late
    return (text if len(text) < _LIMIT else f"{text[:_KEPT]}...{text[-_KEPT:]}"), good


def as_observed(observation: Observation, *, silent: bool = False, reference: bool = False) -> Observation:
    """Return an observation with the text and the success that ``observed`` gives it; its data stay.

    The streams are those of an interpreter (``data``); of other tools the text is the output of a call that came out
    ``ok`` and the error of one that failed. A status of ``ok`` becomes ``error`` where nothing was printed, unless
    ``silent``.
    """
    if not observation.executed or observation.terminal:
        return observation
    ran, data = observation.status == "ok", observation.data
    if isinstance(data, Mapping) and "stdout" in data:
        stdout, stderr = (_joined(data.get(a), data.get(b)) for a, b in (("stdout", "value"), ("stderr", "exception")))
    else:
        stdout, stderr = (observation.text, "") if ran else ("", observation.text)
    stderr = "" if observation.status == "timeout" else stderr
    text, good = observed(stdout, stderr, 0 if ran else 1, silent=silent, reference=reference)
    return replace(observation, text=text, status="error" if ran and not good else observation.status)


def _joined(first: Any, second: Any) -> str:
    """Join what a run has written and what came last, on lines of their own."""
    return "\n".join(part for part in (str(first or "").removesuffix("\n"), str(second or "")) if part)


def observing(world: World, *, silent: bool = False, reference: bool = False) -> Wrapped:
    """Return ``world`` whose calls show what ``observed`` makes of them; its keywords are those of ``as_observed``."""
    return shown(world, partial(as_observed, silent=silent, reference=reference))


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
        "repair": repair,
        "world": observing,
        "recipe": recipe,
        "method": method,
    },
    summary="Trains episodes on answers and failed calls on whether they run; goes back in thought when one fails.",
)
