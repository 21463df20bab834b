"""Stages as values: supervised fine-tuning, preference learning, and where their rows and pairs come from."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from ferrule.core.demonstration import Demonstrates
from ferrule.core.flows import Agent, Policy, Reward, World
from ferrule.core.recipe import Data, Drawn, Recipe, Roles, Stage
from ferrule.core.records import Trajectory
from ferrule.data.formats import Pair, Row, conversation, trajectory_row
from ferrule.data.layout import laid_out
from ferrule.data.pairs import ends_of_each
from ferrule.data.records import Record
from ferrule.data.trees import Tree, tree_of
from ferrule.objectives import preference
from ferrule.objectives.reduce import sequence_mean, token_mean
from ferrule.objectives.supervised import nll
from ferrule.policies.heads import REWARD, Head
from ferrule.policies.replies import Speaker
from ferrule.rewards.outcome import outcome
from ferrule.rollout.drive import drive, seed_of
from ferrule.train.loop import train
from ferrule.train.policy import Trains
from ferrule.train.sample import Group, groups_of
from ferrule.train.settings import Settings
from ferrule.train.stream import Stream
from ferrule.worlds.experts import transcript

__all__ = [
    "best_and_worst",
    "demonstrations",
    "dpo",
    "fit",
    "from_records",
    "ipo",
    "kto",
    "labelled",
    "orpo",
    "played",
    "probe",
    "reward_model",
    "rpo",
    "searched",
    "sft",
    "simpo",
    "successes",
]

# Both members of a pair carry the loss of the pair, so the mean over rows is the mean over pairs.
_PER_ITEM = partial(sequence_mean, tokens="sum")


def _given(items: Sequence[Any], policy: Trains, lap: int) -> Sequence[Any]:
    return items


def _source(data: Data | Sequence[Any]) -> Data:
    return data if callable(data) else partial(_given, data)


def sft(data: Data | Sequence[Row], **settings: Any) -> Stage:
    """Return supervised fine-tuning on rows: the mean of ``-log p`` over the model's tokens of a step.

    ``data`` are rows, or a source of them; ``settings`` are those of the run that differ here (``max_steps=50``).
    """
    return Stage(_source(data), nll, token_mean, settings=settings)


def dpo(data: Data | Sequence[Pair], *, beta: float = 0.1, label_smoothing: float = 0.0, **settings: Any) -> Stage:
    """Return direct preference optimisation on pairs; see ``ferrule.objectives.preference.dpo``."""
    loss = partial(preference.dpo, beta=beta, label_smoothing=label_smoothing)
    return Stage(_source(data), preference.on_pairs(loss), _PER_ITEM, reference=True, settings=settings)


def ipo(data: Data | Sequence[Pair], *, beta: float = 0.1, **settings: Any) -> Stage:
    """Return identity preference optimisation on pairs; see ``ferrule.objectives.preference.ipo``."""
    loss = partial(preference.ipo, beta=beta)
    return Stage(_source(data), preference.on_pairs(loss), _PER_ITEM, reference=True, settings=settings)


def rpo(data: Data | Sequence[Pair], *, beta: float = 0.1, alpha: float = 1.0, **settings: Any) -> Stage:
    """Return DPO with a likelihood term on the chosen row; see ``ferrule.objectives.preference.rpo``."""
    loss = partial(preference.rpo, beta=beta, alpha=alpha)
    return Stage(_source(data), preference.on_pairs(loss), _PER_ITEM, reference=True, settings=settings)


def simpo(data: Data | Sequence[Pair], *, beta: float = 2.0, gamma: float = 0.5, **settings: Any) -> Stage:
    """Return preference optimisation without a reference on pairs; see ``ferrule.objectives.preference.simpo``."""
    loss = partial(preference.simpo, beta=beta, gamma=gamma)
    return Stage(_source(data), preference.on_pairs(loss), _PER_ITEM, settings=settings)


def orpo(data: Data | Sequence[Pair], *, beta: float = 0.1, **settings: Any) -> Stage:
    """Return imitation and preference in one, without a reference; see ``ferrule.objectives.preference.orpo``."""
    loss = partial(preference.orpo, beta=beta)
    return Stage(_source(data), preference.on_pairs(loss), _PER_ITEM, settings=settings)


def kto(data: Data | Sequence[Row], *, beta: float = 0.1, **settings: Any) -> Stage:
    """Return learning from rows labelled good or bad; see ``ferrule.objectives.preference.kto``."""
    loss = partial(preference.kto, beta=beta)
    return Stage(_source(data), preference.on_rows(loss), _PER_ITEM, reference=True, settings=settings)


def reward_model(data: Data | Sequence[Pair], *, head: Head = REWARD, **settings: Any) -> Stage:
    """Return training of a reward model on pairs: ``-log sigmoid(chosen - rejected)`` of what a head says of rows."""
    return Stage(_source(data), preference.ranked(head.name), _PER_ITEM, settings=settings, heads=(head,))


def probe(data: Data | Sequence[Row], *, layer: int = -1, name: str = "probe", **settings: Any) -> Stage:
    """Return training of a linear probe on the hidden states of a layer to tell rows by their labels."""
    head = Head(name, "row", layer)
    return Stage(_source(data), preference.labelled(name), _PER_ITEM, settings=settings, heads=(head,))


def fit(policy: Trains, stage: Stage, settings: Settings, *, folder: Path | None = None, **options: Any) -> list[float]:
    """Train on one stage and return the loss of every step; ``options`` are those of ``train``."""
    losses: list[float] = []
    show = options.pop("show", None)

    def watch(row: Any) -> None:
        if row["phase"] == "train":
            losses.append(row["loss"])
        if show is not None:
            show(row)

    train(stage, None, policy, settings, folder, show=watch, **options)
    return losses


# --------------------------------------------------------------------------------------------------------- where from


def from_records(items: Sequence[Record]) -> Data:
    """Return a source of rows, or of pairs: records of a data set, laid out as the policy writes them.

    See ``ferrule.data.layout.laid_out``, which raises ``ValueError`` for a record that nothing is learned from.
    """

    def laid(policy: Any, lap: int) -> Sequence[Row | Pair]:
        return [laid_out(item, policy.renderer, policy.encode) for item in items]

    return laid


def demonstrations(
    world: World, *, tasks: int = 240, split: str = "train", levels: Sequence[int] = (1, 2, 3, 4, 5), seed: int = 0
) -> Data:
    """Return a source of rows: the reference solutions of a world's tasks, carried out in their sessions.

    Each round shows ``tasks`` further tasks. A conversation is laid out by the policy's renderer, so that its ids are
    what the model would have been fed. Raises ``ValueError`` at once for a world without reference solutions.
    """
    if not isinstance(world, Demonstrates):
        raise ValueError(f"world {world.name!r} has no reference solutions: it lacks the method demonstrate(task)")
    knows: Demonstrates = world
    for task in world.tasks(split, 16, seed=seed, levels=levels):
        knows.demonstrate(task)  # a mixture may have members that cannot

    def shown(policy: Speaker, lap: int) -> list[Row]:
        stream, rows = Stream(world, split, levels, seed, position=lap * tasks), []
        for task in stream(tasks):
            session = world.start(task)
            try:
                messages = transcript(task, session, knows.demonstrate(task))
                rows.append(conversation(messages, session.tools, policy.renderer, policy.encode))
            finally:
                session.close()
        return rows

    return shown


def _all_alike(trajectory: Trajectory) -> Hashable:
    """Tell nothing apart: all episodes of a task are compared."""
    return ()


def best_and_worst(
    recipe: Recipe, world: World, *, alike: Callable[[Trajectory], Hashable | None] = _all_alike, tasks: int = 16,
    split: str = "train", levels: Sequence[int] = (1, 2, 3, 4, 5), seed: int = 0, margin: float = 0.0, **options: Any,
) -> Data:  # fmt: skip
    """Return a source of pairs: the best and the worst episode of a task by the recipe's reward.

    Each round plays ``recipe.num_generations`` episodes of ``tasks`` further tasks. Episodes are compared with those of
    which ``alike`` says the same (the final answer, for example), and left out where it says None. Those whose rewards
    differ by no more than ``margin`` give no pair. Left out are also episodes that the reward drops, whose context was
    rewritten, or whose replies were told of others beside them by a search (``searched`` lays those out anew).
    ``options`` are those of ``drive``.
    """

    def drawn(policy: Policy, lap: int) -> Drawn:
        stream = Stream(world, split, levels, seed, position=lap * tasks)
        played = groups_of(recipe, stream(tasks), world, policy, seed=seed_of(seed, "pairs", lap), step=lap, **options)
        pairs = []
        for group in played:
            scored = zip(group.scores, group.trajectories, strict=True)
            rows = [(s.value, t) for s, t in scored if not s.drop and _whole(t)]
            ends = ends_of_each([value for value, _ in rows], [alike(t) for _, t in rows], margin=margin)
            pairs += [Pair(trajectory_row(rows[best][1]), trajectory_row(rows[worst][1])) for best, worst in ends]
        return Drawn(pairs, sum(episode.sampled_count for group in played for episode in group.episodes))

    return drawn


def labelled(
    recipe: Recipe, world: World, *, tasks: int = 16, split: str = "train", levels: Sequence[int] = (1, 2, 3, 4, 5),
    seed: int = 0, least: float = 0.5, **options: Any,
) -> Data:  # fmt: skip
    """Return a source of labelled rows: episodes, good where the recipe's reward is at least ``least``.

    Everything else is as for ``best_and_worst``.
    """

    def drawn(policy: Any, lap: int) -> Drawn:
        stream = Stream(world, split, levels, seed, position=lap * tasks)
        played = groups_of(recipe, stream(tasks), world, policy, seed=seed_of(seed, "rows", lap), step=lap, **options)
        scored = [(s, t) for group in played for s, t in zip(group.scores, group.trajectories, strict=True)]
        rows = [replace(trajectory_row(t), label=s.value >= least) for s, t in scored if _whole(t)]
        return Drawn(rows, sum(episode.sampled_count for group in played for episode in group.episodes))

    return drawn


def played(
    roles: Roles, world: World, choose: Callable[[Mapping[str, Sequence[Group]]], Sequence[Any]], *, tasks: int = 16,
    split: str = "train", levels: Sequence[int] = (1, 2, 3, 4, 5), seed: int = 0, **options: Any,
) -> Data:  # fmt: skip
    """Return a source of what ``choose`` makes of the groups that roles play: rows or pairs of one role, for example.

    ``choose`` is given the groups by role. Everything else is as for ``best_and_worst``.
    """

    def drawn(policy: Any, lap: int) -> Drawn:
        stream = Stream(world, split, levels, seed, position=lap * tasks)
        how: dict[str, Any] = {"step": lap, "seed": seed_of(seed, "roles", lap), **options}
        groups = roles.play(roles.recipes, stream(tasks), world, policy, **how)
        episodes = [episode for members in groups.values() for group in members for episode in group.episodes]
        return Drawn(choose(groups), sum(episode.sampled_count for episode in episodes))

    return drawn


def successes(
    recipe: Recipe, world: World, *, tasks: int = 64, most: int = 2, split: str = "train",
    levels: Sequence[int] = (1, 2, 3, 4, 5), seed: int = 0, least: float = 0.5, **options: Any,
) -> Data:  # fmt: skip
    """Return a source of rows: the policy's own episodes whose reward is at least ``least``, to imitate them.

    At most ``most`` episodes of a task count, so that a rare success weighs as much as a frequent one. Everything else
    is as for ``best_and_worst``.
    """

    def drawn(policy: Any, lap: int) -> Drawn:
        stream = Stream(world, split, levels, seed, position=lap * tasks)
        played = groups_of(recipe, stream(tasks), world, policy, seed=seed_of(seed, "own", lap), step=lap, **options)
        rows: list[Row] = []
        for group in played:
            good = [t for s, t in zip(group.scores, group.trajectories, strict=True) if s.value >= least and _whole(t)]
            rows += [trajectory_row(t) for t in good[:most]]
        return Drawn(rows, sum(episode.sampled_count for group in played for episode in group.episodes))

    return drawn


def searched(
    agent: Agent, world: World, learn: Callable[[Tree], Sequence[Record]], *, tasks: int = 16, split: str = "train",
    levels: Sequence[int] = (1, 2, 3, 4, 5), seed: int = 0, reward: Reward = outcome, least: float = 0.5,
    temperature: float = 1.0, roles: Mapping[str, Policy] | None = None, **options: Any,
) -> Data:  # fmt: skip
    """Return a source of what trees teach: the policy searches by ``agent``, ``learn`` makes records of every tree.

    ``learn`` is, for example, ``ferrule.data.trees.solutions`` or ``step_preferences``. A path solved its task where
    its ``reward`` is at least ``least``; of the paths that were given up those count that gave an answer. Messages
    beside the conversation (``Turn.notes["hinted"]``) are left out, so records are laid out anew. Each round searches
    ``tasks`` further tasks; ``options`` are those of ``drive``. ``roles`` are policies by role that answer beside the
    trained one: a judge, a writer, or another ``solver``.
    """

    def solved(path: Trajectory) -> bool:
        notes = path.turns[-1].notes
        if path.finish == "discarded":
            given = notes.get("answer") if notes.get("state") == "answer" else None
            path = replace(path, answer=given, final=notes.get("final", {}))
        return path.answer is not None and reward(path.task, [path])[0].value >= least

    def drawn(policy: Any, lap: int) -> Drawn:
        todo = Stream(world, split, levels, seed, position=lap * tasks)(tasks)
        how: dict[str, Any] = {"seed": seed_of(seed, "trees", lap), "temperature": temperature, **options}
        asked = {"solver": policy, **roles} if roles else policy
        episodes = [episode for episode in drive(agent, todo, world, asked, **how) if not episode.problem]
        items: list[Row | Pair] = []
        for episode in episodes:
            paths = episode.of_role(episode.trajectories[0].role)
            with closing(world.start(episode.task)) as session:
                tree = tree_of(paths, solved, tools=session.tools, task=episode.task.id)
            items += [laid_out(record, policy.renderer, policy.encode) for record in learn(tree)]
        return Drawn(items, sum(episode.sampled_count for episode in episodes))

    return drawn


def _whole(trajectory: Trajectory) -> bool:
    """Whether one row of ids says it all, with ids to learn from, and nothing that stood beside the conversation.

    Every turn goes on from the one before, and none was shown a message of a search (``Turn.notes["hinted"]``).
    """
    turns = trajectory.turns
    joined = all(later.parent == turn.id for turn, later in pairwise(turns))
    return joined and any(turn.sampled for turn in turns) and not any(turn.notes.get("hinted") for turn in turns)
