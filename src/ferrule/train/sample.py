"""One sampling step: draw tasks, roll out groups, score, filter, pack, and assign credit."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import numpy as np

from ferrule.core.arrays import FloatArray, IntArray, Signals, apply, by_name, pack
from ferrule.core.flows import Policy, World
from ferrule.core.recipe import Recipe
from ferrule.core.records import Score, Task, Trajectory, Turn
from ferrule.core.tally import tally, turns_of
from ferrule.rewards.outcome import is_right, outcome
from ferrule.rewards.verify import VERIFIERS
from ferrule.rollout.drive import Limits, Policies, drive, seed_of
from ferrule.rollout.record import Episode
from ferrule.rollout.spent import Spent, added, metrics_of
from ferrule.train.policy import HasHeads, Refers
from ferrule.train.remember import keep_groups

__all__ = [
    "Batch",
    "Group",
    "credit",
    "gathered",
    "groups_of",
    "kept_of",
    "masked",
    "sample",
    "score_segments",
    "scored",
    "segments",
    "stats",
]

Draw = Callable[[int], Sequence[Task]]
Play = Callable[..., list[Episode]]


@dataclass(frozen=True)
class Group:
    """The episodes of one task with the score of every trajectory; ``owners`` names the episode of each."""

    task: Task
    episodes: tuple[Episode, ...]
    trajectories: tuple[Trajectory, ...]
    scores: tuple[Score, ...]
    owners: tuple[int, ...]
    step: int = 0


@dataclass(frozen=True)
class Batch:
    """A packed batch: signals, advantages (NT, or CNT for one loss per channel), value targets, and the groups.

    ``sampled`` counts all tokens that were generated for it, those of dropped groups and discarded branches included.
    ``spent`` is what each role took of it, ``beside`` holds the arrays of ``Recipe.beside``.
    """

    signals: Signals
    adv: FloatArray
    groups: tuple[Group, ...]
    target_NT: FloatArray | None = None
    dropped: int = 0
    drifted: int = 0
    sampled: int = 0
    beside: Mapping[str, FloatArray] = field(default_factory=dict)
    spent: Mapping[str, Spent] = field(default_factory=dict)


def groups_of(
    recipe: Recipe,
    tasks: Sequence[Task],
    world: World,
    policy: Policies,
    *,
    step: int = 0,
    play: Play = drive,
    **options: Any,
) -> list[Group]:
    """Roll out ``recipe.num_generations`` episodes per task and score each group.

    Drifted episodes, discarded branches, episodes that were called off and paths of other roles than ``recipe.role``
    are kept but not scored. A group is scored while later ones are still played, one group at a time and in their
    order.
    """
    ended: dict[int, Episode] = {}
    scoring: list[Future[Group]] = []

    def take(place: int, episode: Episode) -> None:
        ended[place] = episode
        while len(scoring) < len(tasks):
            members = range(len(scoring) * recipe.num_generations, (len(scoring) + 1) * recipe.num_generations)
            if not all(i in ended for i in members):
                return
            scoring.append(pool.submit(_scored, recipe, tasks[len(scoring)], [ended.pop(i) for i in members], step))

    with ThreadPoolExecutor(1, thread_name_prefix="ferrule-score") as pool:
        settings: dict[str, Any] = {
            "num_generations": recipe.num_generations,
            "temperature": recipe.temperature,
            "take": take,
            **({} if recipe.enough is None else {"enough": recipe.enough}),
        }
        play(recipe.agent, tasks, world, policy, **settings, **options)
        return [future.result() for future in scoring]


def _scored(recipe: Recipe, task: Task, episodes: Sequence[Episode], step: int) -> Group:
    whole = [(j, episode) for j, episode in enumerate(episodes) if not episode.drifted]
    sound = [(j, t) for j, episode in whole for t in episode.of_role(recipe.role) if t.finish != "discarded"]
    trajectories = tuple(t for _, t in sound)
    scores = scored(recipe, task, trajectories, step)
    return Group(task, tuple(episodes), trajectories, scores, tuple(j for j, _ in sound), step)


def scored(recipe: Recipe, task: Task, trajectories: Sequence[Trajectory], step: int = 0) -> tuple[Score, ...]:
    """Ask the recipe's reward for one score per trajectory; it may name the ``step``."""
    extra = {"step": step} if "step" in inspect.signature(recipe.reward).parameters else {}
    scores = tuple(recipe.reward(task, trajectories, **extra))
    if len(scores) != len(trajectories):
        raise ValueError(f"the reward gave {len(scores)} scores for {len(trajectories)} trajectories of {task.id!r}")
    return scores


def sample(
    recipe: Recipe,
    draw: Draw,
    groups: int,
    world: World,
    policy: Policy,
    *,
    seed: int = 0,
    step: int = 0,
    limits: Limits | None = None,
    pool: Any = None,
    play: Play = drive,
    carry: list[Group] | None = None,
) -> Batch:
    """Return a packed batch of ``groups`` groups with credit assigned.

    Tasks whose episodes are all wrong are played ``recipe.retries`` more times at most. Groups that ``recipe.keep``
    drops are replaced by at most ``recipe.refill`` further draws. What is kept beyond the
    batch is put into ``carry``, whose groups of the last step are used first (without it, it is dropped). With ``pool``
    (an ``accelerate.Accelerator``) every process rolls out its share of the tasks and all see all groups. ``play`` is
    the driver of the rollouts, for example ``RayWorkers.drive``.
    """
    kept: list[Group] = [g for g in carry or () if g.step >= step - 1]
    dropped = drifted = sampled = 0
    spent: dict[str, Spent] = {}
    for attempt in range(1 + recipe.refill):
        missing = groups - len(kept)
        if missing <= 0:
            break
        tasks = list(draw(math.ceil(missing * (recipe.oversample if recipe.keep else 1.0))))
        if pool is not None:
            tasks = list(np.array_split(np.asarray(tasks, dtype=object), pool.num_processes)[pool.process_index])
        attempt_seed = seed_of(seed, step, attempt)
        options: dict[str, Any] = {"step": step, "limits": limits, "play": play}
        first = groups_of(recipe, tasks, world, policy, seed=attempt_seed, **options)
        tried, further = _retried(recipe, first, world, policy, attempt_seed, options)
        played, extra = gathered(tried, pool), gathered(further, pool)
        keep_groups(recipe, (*played, *extra), pool)
        good = kept_of(recipe, played)
        episodes = [episode for g in (*played, *extra) for episode in g.episodes]
        drifted += sum(episode.drifted for episode in episodes)
        sampled += sum(episode.sampled_count for episode in episodes)
        spent = added([spent, *(episode.spent for episode in episodes)])
        dropped += len(played) - len(good)
        kept += good
    if carry is not None:
        carry[:] = kept[groups:]
    batch = credit(recipe, kept[:groups], policy, step=step)
    return replace(batch, dropped=dropped, drifted=drifted, sampled=sampled, spent=spent)


def _retried(
    recipe: Recipe, groups: list[Group], world: World, policy: Policy, seed: int, options: Mapping[str, Any]
) -> tuple[list[Group], list[Group]]:
    """Play tasks whose episodes are all wrong again, ``Recipe.retries`` times at most.

    Return the groups, those with a right episode by now joined with it, and what was played without success.
    """
    groups, failed = list(groups), dict[int, list[Group]]()
    for retry in range(recipe.retries):
        places = [i for i, group in enumerate(groups) if not any(_right(group))]
        if not places:
            break
        again = groups_of(
            recipe, [groups[i].task for i in places], world, policy, seed=seed_of(seed, "retry", retry), **options
        )
        for place, group in zip(places, again, strict=True):
            failed.setdefault(place, []).append(group)
            if any(_right(group)):
                groups[place] = _joined(recipe, [groups[place], *failed.pop(place)])
    return groups, [group for tries in failed.values() for group in tries]


def _joined(recipe: Recipe, groups: Sequence[Group]) -> Group:
    """Make one group of several of one task; the reward scores their trajectories together."""
    starts = np.cumsum([0, *(len(group.episodes) for group in groups)])
    paths = tuple(path for group in groups for path in group.trajectories)
    episodes = [episode for group in groups for episode in group.episodes]
    owners = [int(start) + owner for start, group in zip(starts, groups, strict=False) for owner in group.owners]
    task, step = groups[0].task, groups[0].step
    numbered = tuple(replace(episode, sample=i) for i, episode in enumerate(episodes))
    return Group(task, numbered, paths, scored(recipe, task, paths, step), tuple(owners), step)


def gathered(groups: list[Group], pool: Any) -> list[Group]:
    """Put the groups of all processes of ``pool`` together, in the order of the processes (None: there is one)."""
    if pool is None:
        return groups
    from accelerate.utils import gather_object

    return list(gather_object(groups))


def credit(recipe: Recipe, groups: Sequence[Group], policy: object, *, step: int = 0) -> Batch:
    """Pack groups and let the recipe's credit rule turn their scores into advantages; dropped rows are left out.

    ``policy`` is asked for values where the recipe has a critic (``HasHeads``), for the log-probs of the starting
    weights where it has a reference (``Refers``), and for nothing else.
    """
    stride = max([recipe.num_generations, *(len(g.episodes) for g in groups)])  # retries make groups wider
    rows = [
        (i, t, s, i * stride + owner)
        for i, g in enumerate(groups)
        for t, s, owner in zip(g.trajectories, g.scores, g.owners, strict=True)
        if not s.drop
    ]
    signals = pack([r[1] for r in rows], [r[2] for r in rows], [r[0] for r in rows],
                   episodes=[r[3] for r in rows], step=step)  # fmt: skip
    if recipe.mask is not None and len(rows):
        signals = masked(signals, recipe.mask)
    target_NT = None
    if recipe.critic is not None and len(rows):
        signals = replace(signals, value_NT=score_segments(cast(HasHeads, policy).values, signals))
        target_NT = apply(recipe.critic, signals)
    if recipe.reference and len(rows):
        score = partial(cast(Refers, policy).references, temperature=recipe.temperature)
        signals = replace(signals, ref_NT=score_segments(score, signals))
    adv = apply(recipe.credit, signals) if len(rows) else np.zeros_like(signals.logp_NT)
    if adv.shape[-2:] != signals.turn_NT.shape:
        raise ValueError(f"credit returned shape {adv.shape}; expected (..., {signals.turn_NT.shape})")
    beside = {name: _beside(name, rule, signals, adv) for name, rule in recipe.beside.items()}
    return Batch(signals, adv, tuple(groups), target_NT, beside=beside)


def _beside(name: str, rule: Callable[..., Any], signals: Signals, adv: FloatArray) -> FloatArray:
    """Ask a rule of ``Recipe.beside`` for its numbers and lay them out per token."""
    if not len(signals.reward_N):
        return np.zeros(signals.turn_NT.shape)
    array = apply(rule, signals, adv_NT=adv if adv.ndim == 2 else adv.sum(0))
    if array.shape not in (signals.turn_NT.shape, signals.reward_N.shape):
        raise ValueError(
            f"Recipe.beside[{name!r}] has shape {array.shape}; expected one number per row {signals.reward_N.shape} "
            f"or per token {signals.turn_NT.shape}"
        )
    return np.where(signals.turn_NT >= 0, array if array.ndim == 2 else array[:, None], 0.0)


def masked(signals: Signals, mask: Callable[..., Any]) -> Signals:
    """Return ``signals`` in which only the tokens that ``mask`` (one boolean per row or token) picks carry loss."""
    picked = np.asarray(by_name(mask, {**signals.named(), "signals": signals}), dtype=bool)
    if picked.shape not in (signals.turn_NT.shape, signals.reward_N.shape):
        raise ValueError(
            f"the mask has shape {picked.shape}; expected one boolean per row {signals.reward_N.shape} or per token "
            f"{signals.turn_NT.shape}"
        )
    rows = picked if picked.ndim == 2 else picked[:, None]
    return replace(signals, turn_NT=np.where(rows, signals.turn_NT, -1))


def segments(signals: Signals) -> Iterator[tuple[int, IntArray]]:
    """Yield (row, columns) of every context segment that holds model tokens, up to the last of them.

    A segment is what the model saw at once: log-probs and values are computed for each on its own. Observations after
    the last model token predict nothing and are left out.
    """
    for n in range(len(signals.size_N)):
        for segment in range(int(signals.segment_NT[n].max(initial=-1)) + 1):
            at = np.nonzero(signals.segment_NT[n] == segment)[0]
            mine = np.nonzero(signals.turn_NT[n, at] >= 0)[0]
            if len(mine):
                yield n, at[: mine[-1] + 1]


def score_segments(score: Callable[[IntArray, IntArray], FloatArray], signals: Signals) -> FloatArray:
    """Score every segment on its own and lay the results out like ``turn_NT``, 0 elsewhere."""
    score_NT = np.zeros(signals.turn_NT.shape, dtype=np.float64)
    places = list(segments(signals))
    if not places:
        return score_NT
    shape = (len(places), max(len(at) for _, at in places))
    ids_NT, turn_NT = np.full(shape, -1, dtype=np.int64), np.full(shape, -1, dtype=np.int64)
    for i, (n, at) in enumerate(places):
        ids_NT[i, : len(at)], turn_NT[i, : len(at)] = signals.ids_NT[n, at], signals.turn_NT[n, at]
    scored_NT = score(ids_NT, turn_NT)
    for i, (n, at) in enumerate(places):
        score_NT[n, at] = scored_NT[i, : len(at)]
    return score_NT


def _right(group: Group) -> list[bool]:
    """Whether each episode is right: by its part ``outcome``, else by the verifier its task names, else by its reward.

    A reward without that part may have any scale, so that its value alone says little.
    """
    scores: Sequence[Score] = group.scores
    named = group.task.answer is not None and group.task.meta.get("verifier") in VERIFIERS
    if named and any("outcome" not in score.parts for score in scores):
        scores = outcome(group.task, group.trajectories)
    return [is_right(score) for score in scores]


def kept_of(recipe: Recipe, groups: Sequence[Group]) -> list[Group]:
    """Return the groups that ``recipe.keep`` lets train; ``credit`` takes whatever groups it is given."""
    return [g for g in groups if recipe.keep is None or (g.scores and recipe.keep(g.trajectories, g.scores))]


def _turns(groups: Sequence[Group]) -> list[Turn]:
    """Return the turns of the scored paths of all episodes; those that paths of one episode share, once."""
    paths: dict[tuple[int, int], list[Trajectory]] = {}
    for place, group in enumerate(groups):
        for owner, trajectory in zip(group.owners, group.trajectories, strict=True):
            paths.setdefault((place, owner), []).append(trajectory)
    return [turn for episode in paths.values() for turn in turns_of(episode)]


def stats(batch: Batch) -> dict[str, float]:
    """Summarise a batch: rewards, success, calls per episode, shares of attempts, lengths, what groups teach.

    ``groups/zero_spread`` is the share of groups with equal rewards, ``groups/mixed`` that of groups in which some
    episodes are right and some are not. Calls and attempts are those of ``ferrule.core.tally``.
    """
    s = batch.signals
    if not len(s.reward_N):
        return {
            "groups": float(len(batch.groups)),
            "dropped": float(batch.dropped),
            "drifted": float(batch.drifted),
            "tokens/sampled": float(batch.sampled),
            **metrics_of(batch.spent),
        }
    pairs = [pair for turn in _turns(batch.groups) for pair in turn.pairs]
    counts = tally(observation for _, observation in pairs if observation is not None)
    right = [_right(g) for g in batch.groups]
    spread = [np.ptp([x.value for x in g.scores]) if g.scores else 0.0 for g in batch.groups]
    return {
        "reward/mean": float(s.reward_N.mean()),
        "reward/std": float(s.reward_N.std()),
        "success": float(np.mean([one for group in right for one in group])),
        "calls/mean": counts.calls / max(sum(len(set(g.owners)) for g in batch.groups), 1),
        "attempts": float(counts.attempts),
        "malformed/share": counts.malformed / max(counts.attempts, 1),
        "unknown_tool/share": counts.unknown_tool / max(counts.attempts, 1),
        "length/mean": float((s.turn_NT >= 0).sum(1).mean()),
        "turns/mean": float(s.turns_N.mean()),
        "tokens": float((s.turn_NT >= 0).sum()),
        "tokens/sampled": float(batch.sampled),
        **metrics_of(batch.spent),
        "groups": float(len(batch.groups)),
        "groups/zero_spread": float(np.mean([x < 1e-12 for x in spread])),
        "groups/mixed": float(np.mean([any(group) and not all(group) for group in right])),
        "dropped": float(batch.dropped),
        "drifted": float(batch.drifted),
        "repairs": float(sum(len(c.repairs) + len(o.repairs) for c, o in pairs if o is not None)),
        "cut_off/share": float(np.mean([t.finish == "length" for g in batch.groups for t in g.trajectories])),
        **{f"reward/{name}": float(s.parts_CN[c].mean()) for c, name in enumerate(s.channels)},
    }
