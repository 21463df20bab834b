"""Training methods are values: recipes learn from episodes, stages from rows; a method is a sequence of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeAlias, TypeVar

from ferrule.core.arrays import nearest
from ferrule.core.flows import Agent, Reward
from ferrule.core.records import Score, Trajectory

__all__ = ["Data", "Drawn", "Keep", "Method", "Part", "Recipe", "Roles", "Stage", "Stop", "vary"]

Keep: TypeAlias = Callable[[Sequence[Trajectory], Sequence[Score]], bool]
Data: TypeAlias = Callable[[Any, int], "Sequence[Any] | Drawn"]
Stop: TypeAlias = Callable[[Any, int], bool]


@dataclass(frozen=True)
class Recipe:
    """The pieces of one method; a paper is written as the difference it makes to another recipe.

    ``agent`` plays one episode; ``reward`` scores a whole group; ``credit`` names the signals it reads and returns
    ``adv_NT`` (or ``adv_CNT`` for one loss per channel); ``objective`` maps log-probs to ``loss_NT``; ``reduce`` maps
    that to a scalar with the token count of the whole batch. ``keep`` decides whether a group trains (None keeps all)
    and ``refill`` how many further draws may replace dropped groups; every draw takes ``oversample`` times what is
    missing, and what is kept beyond the batch waits for the next step. ``retries`` is how many further times a task is
    played whose episodes are all wrong; once one is right, all of them are its group. ``mask`` says which of the
    model's own tokens carry loss (a boolean per row or token, from the signals it names; None: all). ``beside`` maps
    names that end in ``_NT`` to rules (a number per row or token, from the signals they name, ``adv_NT`` included):
    arrays that the objective may read by name. ``num_generations`` is the group size and ``temperature`` the sampling
    temperature. ``num_iterations`` and ``num_mini_batches`` split one batch into optimiser steps. With
    ``mini_batch_size`` every step takes so many rows instead: rows without any advantage are left out first, and a mean
    over rows divides by this size even where fewer are left. ``max_log_ratio`` ends the steps of a batch before the
    first whose rows have moved further, ``|mean over rows of sum_t log(new / old)|`` (nats), or whose loss is not
    finite. ``enough(ended, samples)`` is given how many of the ``samples`` episodes of each task have ended, and calls
    the rest off by saying yes (``ferrule.rollout.enough``; None waits for all). ``role`` names whose turns are scored
    and trained; those of other roles (a judge, a critic) stand beside them as ``Trajectory.others``. ``reference`` asks
    for log-probs of the starting weights (``ref_NT``). ``critic`` is the rule that turns signals into value targets
    (``target_NT``); it asks for a value head, whose values are ``value_NT``. ``settings`` are the settings of the run
    that differ while this recipe trains (``max_steps``, ``learning_rate``, ...).
    """

    agent: Agent
    reward: Reward
    credit: Callable[..., Any]
    objective: Callable[..., Any]
    reduce: Callable[..., Any]
    keep: Keep | None = None
    refill: int = 0
    oversample: float = 1.0
    retries: int = 0
    mask: Callable[..., Any] | None = None
    beside: Mapping[str, Callable[..., Any]] = field(default_factory=dict, hash=False)
    num_generations: int = 8
    temperature: float = 1.0
    num_iterations: int = 1
    num_mini_batches: int = 1
    mini_batch_size: int | None = None
    max_log_ratio: float | None = None
    enough: Callable[[Sequence[int], int], bool] | None = None
    reference: bool = False
    critic: Callable[..., Any] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    role: str = "solver"

    def __post_init__(self) -> None:
        """Refuse values that no run could use, naming the field."""
        asking = getattr(self.agent, "role", self.role)
        if asking != self.role:
            raise ValueError(f"Recipe.role is {self.role!r}, but its agent asks as {asking!r}; nothing would train")
        for name, least in (
            ("num_generations", 1),
            ("num_iterations", 1),
            ("num_mini_batches", 1),
            ("refill", 0),
            ("retries", 0),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"Recipe.{name} is {getattr(self, name)}; the least is {least}")
        if self.mini_batch_size is not None and (self.mini_batch_size < 1 or self.num_mini_batches > 1):
            raise ValueError(
                f"Recipe.mini_batch_size is {self.mini_batch_size} and num_mini_batches {self.num_mini_batches}; "
                "the size is at least 1 and decides alone, with num_mini_batches=1"
            )
        if self.max_log_ratio is not None and not self.max_log_ratio > 0:
            raise ValueError(f"Recipe.max_log_ratio is {self.max_log_ratio}; it must be above 0")
        if self.temperature <= 0:
            raise ValueError(f"Recipe.temperature is {self.temperature}; training samples need a value above 0")
        if self.refill and self.keep is None:
            raise ValueError("Recipe.refill would do nothing without Recipe.keep")
        for name in self.beside:
            if not name.endswith("_NT"):
                raise ValueError(f"Recipe.beside names {name!r}; the name of an array per token ends in '_NT'")
        if self.oversample < 1:
            raise ValueError(f"Recipe.oversample is {self.oversample}; the least is 1")
        if self.oversample > 1 and not self.refill:
            raise ValueError("Recipe.oversample would do nothing without Recipe.refill")


@dataclass(frozen=True)
class Drawn:
    """Rows or pairs of a stage, and how many tokens were generated to get them (0: they come from elsewhere)."""

    items: Sequence[Any]
    sampled: int = 0


@dataclass(frozen=True)
class Stage:
    """Learning from rows or pairs: supervised fine-tuning, preference learning, search and then learning from it.

    ``data(policy, round)`` returns the rows or pairs (``ferrule.data.formats``), or ``Drawn`` when it generated tokens
    for them; it may sample, search, filter or read a file, and is asked once when the stage begins in a round (counted
    from 0). ``objective`` maps log-probs to ``loss_NT`` and may read ``chosen_N`` (labels) and ``pair_N``; ``reduce``,
    ``reference`` and ``settings`` are those of ``Recipe``. ``heads`` (``ferrule.policies.heads``) are added to the
    policy; what they say is read by name. ``ferrule.train.stage`` has the usual stages.
    """

    data: Data
    objective: Callable[..., Any]
    reduce: Callable[..., Any]
    reference: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    heads: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Roles:
    """Recipes that train one policy side by side: a proposer and its solvers, whole episodes and their repairs.

    ``play(recipes, tasks, world, policy, step=, **options)`` returns the groups of every role by its name
    (``ferrule.train.levels`` has ways to play). All roles take one optimiser step together; with ``alternate`` each
    step trains one role alone, in turn. ``trains`` names the roles that learn (empty: all); the others only play.
    Group size, epochs and minibatches of a step are those of the first role.
    """

    recipes: Mapping[str, Recipe] = field(hash=False)
    play: Callable[..., Mapping[str, Sequence[Any]]]
    alternate: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    trains: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse fewer than two roles, settings of a single role, and unknown roles to train."""
        if len(self.recipes) < 2:
            raise ValueError(f"Roles.recipes names {len(self.recipes)} roles; the least is 2")
        for name in self.trains:
            if name not in self.recipes:
                raise ValueError(f"Roles.trains names {name!r}; {nearest(name, list(self.recipes))}")
        if len(set(self.trains)) < len(self.trains):
            raise ValueError(f"Roles.trains names a role twice: {', '.join(self.trains)}")
        if self.alternate and len(self.trains) == 1:
            raise ValueError(f"Roles.alternate would do nothing: {self.trains[0]!r} trains alone")
        for name, recipe in self.recipes.items():
            if recipe.settings:
                raise ValueError(f"Roles.recipes[{name!r}].settings would do nothing; set Roles.settings roles")

    @property
    def reference(self) -> bool:
        """Whether any role asks for log-probs of the starting weights."""
        return any(recipe.reference for recipe in self.recipes.values())


Part: TypeAlias = Recipe | Stage | Roles


@dataclass(frozen=True)
class Method:
    """Parts that train one policy one after the other, ``rounds`` times, until ``stop(policy, round)`` says so.

    ``stop`` is asked after every round but the last. Every part starts with a fresh optimiser and schedule from the
    weights that the part before it left; these are the reference of a part that asks for one.
    """

    stages: tuple[Part, ...]
    rounds: int = 1
    stop: Stop | None = None

    def __post_init__(self) -> None:
        """Refuse a method without parts or rounds, and a rule that would never be asked."""
        if not self.stages:
            raise ValueError("Method.stages is empty; there is nothing to train")
        if self.rounds < 1:
            raise ValueError(f"Method.rounds is {self.rounds}; the least is 1")
        if self.stop is not None and self.rounds == 1:
            raise ValueError("Method.stop would do nothing: there is one round; set Method.rounds")


P = TypeVar("P", Recipe, Stage, Roles, Method)


def vary(value: P, **changes: Any) -> P:
    """Return ``replace(value, **changes)``; an unknown field is refused with the nearest valid name."""
    known = [f.name for f in fields(value)]
    for name in changes:
        if name not in known:
            raise TypeError(f"{type(value).__name__} has no field {name!r}; {nearest(name, known)}")
    return replace(value, **changes)
