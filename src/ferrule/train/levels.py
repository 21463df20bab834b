"""Groups on two levels: every trajectory of a parent becomes a task for children, whose scores are handed back up.

A proposer and its solvers, a planner and its executors, a maker of tools and their users have this shape. Both levels
may be played by one policy or by a policy each (roles).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from ferrule.core.flows import World
from ferrule.core.recipe import Recipe
from ferrule.core.records import Score, Task, Trajectory
from ferrule.rollout.drive import Policies
from ferrule.train.sample import Group, groups_of

__all__ = ["HandDown", "HandUp", "Levels", "Play", "continued", "handed_down", "two_levels"]

HandDown: TypeAlias = Callable[[Task, Trajectory], "Task | None"]
HandUp: TypeAlias = Callable[[Task, Sequence[Trajectory], "Sequence[Group | None]"], Sequence[Score]]
Play: TypeAlias = Callable[..., Mapping[str, Sequence[Group]]]


@dataclass(frozen=True)
class Levels:
    """The parents' groups, scored by the results of their children, and the children's groups in the same order.

    ``of`` names for every child group the parent group and the place of the parent's trajectory in it.
    """

    parents: tuple[Group, ...]
    children: tuple[Group, ...]
    of: tuple[tuple[int, int], ...]


def two_levels(
    parent: Recipe,
    child: Recipe,
    tasks: Sequence[Task],
    world: World,
    policy: Policies,
    *,
    hand_down: HandDown,
    hand_up: HandUp,
    step: int = 0,
    **options: Any,
) -> Levels:
    """Play a group of the parent's episodes per task, then a group of the child's for each of them, and score both.

    ``hand_down(task, trajectory)`` returns the task that a parent's trajectory sets its children (None: no children);
    ``hand_up(task, trajectories, groups)`` returns the parents' scores from the groups of their children (None for a
    parent without children). The parent's own reward is not asked. ``options`` are those of ``drive`` (seed, limits
    ...). Use ``kept_of`` and then ``credit`` of ``ferrule.train.sample`` on either list of groups, with the recipe of
    that level.
    """
    first = groups_of(replace(parent, reward=_unscored), tasks, world, policy, step=step, **options)
    places: list[tuple[int, int]] = []
    handed: list[Task] = []
    for i, group in enumerate(first):
        for j, trajectory in enumerate(group.trajectories):
            task = hand_down(group.task, trajectory)
            if task is not None:
                places.append((i, j))
                handed.append(replace(task, meta={**task.meta, "pass": f"{task.meta.get('pass', 0)}/{i}/{j}"}))
    below = groups_of(child, handed, world, policy, step=step, **options) if handed else []
    children = dict(zip(places, below, strict=True))
    parents = []
    for i, group in enumerate(first):
        groups = [children.get((i, j)) for j in range(len(group.trajectories))]
        scores = tuple(hand_up(group.task, group.trajectories, groups))
        if len(scores) != len(group.trajectories):
            raise ValueError(
                f"hand_up gave {len(scores)} scores for {len(group.trajectories)} trajectories of {group.task.id!r}"
            )
        parents.append(replace(group, scores=scores))
    return Levels(tuple(parents), tuple(below), tuple(places))


def _unscored(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
    return [Score(0.0) for _ in trajectories]


def _two(recipes: Mapping[str, Recipe]) -> tuple[tuple[str, Recipe], tuple[str, Recipe]]:
    if len(recipes) != 2:
        raise ValueError(f"this play has two roles; Roles.recipes names {len(recipes)}: {', '.join(recipes)}")
    first, second = recipes.items()
    return first, second


def handed_down(hand_down: HandDown, hand_up: HandUp, *, unaided: bool = False) -> Play:
    """Return how ``Roles`` of a parent and its children play: ``two_levels``, the parent first.

    With ``unaided`` the children also play the parents' tasks as they are, in groups of their own.
    """

    def play(
        recipes: Mapping[str, Recipe], tasks: Sequence[Task], world: World, policy: Policies, **options: Any
    ) -> dict[str, list[Group]]:
        (above, parent), (below, child) = _two(recipes)
        levels = two_levels(parent, child, tasks, world, policy, hand_down=hand_down, hand_up=hand_up, **options)
        alone = groups_of(child, tasks, world, policy, **options) if unaided else []
        return {above: list(levels.parents), below: [*levels.children, *alone]}

    return play


def continued(further: Callable[[Sequence[Group]], Sequence[Task]]) -> Play:
    """Return how ``Roles`` play when the second continues what the first left: repairs of failed calls, for example.

    ``further(groups)`` returns the second role's tasks, from the groups that the first role played.
    """

    def play(
        recipes: Mapping[str, Recipe], tasks: Sequence[Task], world: World, policy: Policies, **options: Any
    ) -> dict[str, list[Group]]:
        (begin, first), (go_on, second) = _two(recipes)
        groups = groups_of(first, tasks, world, policy, **options)
        rest = list(further(groups))
        return {begin: groups, go_on: groups_of(second, rest, world, policy, **options) if rest else []}

    return play
