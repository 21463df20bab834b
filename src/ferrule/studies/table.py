"""Training a table instead of a network: every piece of a recipe on decisions that are softmax rows.

Experiments on credit and rewards need thousands of updates in minutes. Here a policy is a matrix of logits, an episode
a handful of decisions, and everything between them (rewards, packing, filters, credit, objective, reduction) is what a
language model is trained with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch

from ferrule.core.arrays import FloatArray, IntArray, cut_rows
from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Call, Finish, Message, Observation, Span, Task, Trajectory, Turn
from ferrule.objectives.channels import over_channels
from ferrule.objectives.reduce import totals
from ferrule.train.sample import Batch, Group, credit, scored

__all__ = [
    "GroupPlay", "Play", "Player", "Table", "Weights", "learn_from", "plain", "play_group", "steps_to", "train_table",
]  # fmt: skip


@dataclass
class Player:
    """Makes decisions for one episode and records them as turns, one token per decision.

    The token of action ``a`` in state ``s`` is ``s * actions + a``.
    """

    chance_SA: FloatArray
    rng: np.random.Generator
    turns: list[Turn] = field(default_factory=list)
    _ids: list[int] = field(default_factory=list)
    _spans: list[Span] = field(default_factory=list)

    def decide(self, state: int, label: str = "") -> int:
        """Draw an action in ``state``; ``label`` marks its token with a span."""
        action = int(np.searchsorted(np.cumsum(self.chance_SA[state]), self.rng.random(), side="right"))
        action = min(action, int(self.chance_SA.shape[1]) - 1)  # rounding may leave the sum below 1
        if label:
            self._spans.append(Span(label, len(self._ids), len(self._ids) + 1))
        self._ids.append(state * self.chance_SA.shape[1] + action)
        return action

    def turn(self, text: str = "", calls: Sequence[tuple[Call, Observation]] = ()) -> None:
        """End the turn that the decisions since the last one make up, with the calls it made."""
        logps = tuple(float(np.log(self.chance_SA.ravel()[i])) for i in self._ids)
        reply = Message("assistant", text, calls=tuple(call for call, _ in calls))
        number = len(self.turns)
        self.turns.append(
            Turn(
                number,
                number - 1 if number else None,
                (),
                tuple(self._ids),
                logps,
                reply,
                observations=tuple(observation for _, observation in calls),
                spans=tuple(self._spans),
            )
        )
        self._ids, self._spans = [], []

    def trajectory(self, task: Task, answer: str | None, *, finish: Finish = "answer", **more: Any) -> Trajectory:
        """Return the episode; decisions that no turn holds yet make a last one with the answer as text."""
        if self._ids:
            self.turn(answer or "")
        return Trajectory(task, tuple(self.turns), answer, finish, **more)


Play: TypeAlias = Callable[[Task, Player], Trajectory | Sequence[Trajectory]]
GroupPlay: TypeAlias = Callable[[Task, FloatArray, np.random.Generator, int], Sequence[Trajectory]]

Tie: TypeAlias = Callable[[torch.Tensor], torch.Tensor]


class Weights:
    """The numbers behind a table: softmax rows of logits, and what a recipe asks of a policy.

    ``start`` holds the first logits, states by actions. With ``tie`` it holds parameters of any shape, from which
    ``tie`` makes the logits, so that rows can share them. ``references`` are log-probs under the start.
    """

    def __init__(self, start: FloatArray, tie: Tie | None = None) -> None:
        self.start = torch.tensor(np.asarray(start, dtype=np.float64))
        self.now = self.start.clone().requires_grad_()
        self._tie: Tie = tie if tie is not None else (lambda parameters: parameters)

    def logps(self, parameters: torch.Tensor) -> torch.Tensor:
        """Log-probabilities of all actions, states by actions (nats)."""
        return self._tie(parameters).log_softmax(-1)

    @property
    def chance_SA(self) -> FloatArray:
        """Probabilities now."""
        with torch.no_grad():
            return np.asarray(self.logps(self.now).exp().numpy(), dtype=np.float64)

    def references(self, ids_NT: IntArray, turn_NT: IntArray, *, temperature: float = 1.0) -> FloatArray:
        """Log-probs of ids under the start."""
        with torch.no_grad():
            logps = self.logps(self.start).ravel()
        return np.asarray(logps[torch.from_numpy(np.maximum(ids_NT, 0))].numpy(), dtype=np.float64)

    def learn(self, recipe: Recipe, batch: Batch, *, learning_rate: float, rng: np.random.Generator) -> None:
        """Take the ``recipe.epochs * recipe.minibatches`` gradient steps of a batch."""
        adv_CNT = batch.adv if batch.adv.ndim == 3 else batch.adv[None]
        beside = dict(batch.beside)
        if batch.signals.ref_NT is not None:
            beside["ref_NT"] = batch.signals.ref_NT
        rows = len(batch.signals.reward_N)
        for _ in range(recipe.num_iterations):
            whole = recipe.num_mini_batches == 1 and recipe.mini_batch_size is None
            order = np.arange(rows) if whole else rng.permutation(rows)
            if recipe.mini_batch_size is not None:
                order = order[adv_CNT[:, order].any((0, 2))]
            for part in cut_rows(order, recipe.num_mini_batches, recipe.mini_batch_size):
                turn_NT = torch.from_numpy(batch.signals.turn_NT[part])
                total = totals(turn_NT)
                if not total.tokens:
                    continue
                if recipe.mini_batch_size is not None:
                    total = replace(total, rows=float(recipe.mini_batch_size))
                ids_NT = torch.from_numpy(np.maximum(batch.signals.ids_NT[part], 0))
                known = {**self._scores(ids_NT), "old_NT": torch.from_numpy(batch.signals.logp_NT[part])}
                known |= {name: torch.from_numpy(array[part]) for name, array in beside.items()}
                known["turn_NT"] = turn_NT
                loss_NT = over_channels(recipe.objective, torch.from_numpy(adv_CNT[:, part]), known)
                if recipe.max_log_ratio is not None:
                    gap_NT = torch.where(turn_NT >= 0, known["logp_NT"].detach() - known["old_NT"], 0.0)
                    if not abs(float(gap_NT.sum()) / totals(turn_NT).rows) <= recipe.max_log_ratio:
                        return
                loss = recipe.reduce(loss_NT, turn_NT, total)
                (slope,) = torch.autograd.grad(loss, self.now)
                with torch.no_grad():
                    self.now -= learning_rate * slope

    def _scores(self, ids_NT: torch.Tensor) -> dict[str, torch.Tensor]:
        logps = self.logps(self.now)
        entropy = -(logps.exp() * logps.clamp(min=-1e9)).sum(-1)
        return {"logp_NT": logps.ravel()[ids_NT], "entropy_NT": entropy[ids_NT // logps.shape[1]]}


@dataclass(frozen=True)
class Table:
    """A trained table: ``chance_SA`` at the end, ``curve`` with what ``watch`` returned after each step, and costs."""

    chance_SA: FloatArray
    curve: tuple[Mapping[str, float], ...] = ()
    episodes: int = 0
    steps: int = 0


def plain(**changes: Any) -> Recipe:
    """Return the recipe that tables are trained with unless a paper changes it: GRPO on the outcome, 8 samples."""
    from ferrule.agents.react import ToolLoop
    from ferrule.credit.group import group_relative
    from ferrule.objectives.reduce import token_mean
    from ferrule.objectives.surrogate import surrogate
    from ferrule.rewards.outcome import outcome

    credit = partial(group_relative, std="unbiased")
    return vary(Recipe(ToolLoop(), outcome, credit, surrogate, token_mean, num_generations=8), **changes)


def train_table(
    recipe: Recipe,
    play: Play | None,
    tasks: Sequence[Task],
    start_SA: FloatArray,
    *,
    steps: int,
    learning_rate: float,
    seed: int = 0,
    groups: int | None = None,
    watch: Callable[[int, FloatArray], Mapping[str, float]] | None = None,
    tie: Tie | None = None,
    group: GroupPlay | None = None,
) -> Table:
    """Train softmax rows by a recipe and return them.

    ``play(task, player)`` plays one episode (or returns the paths of one tree). Each step plays a group of
    episodes of ``groups`` tasks (None: of every task) in turns, scores, filters and refills as ``sample`` does, and
    takes ``recipe.epochs`` times ``recipe.minibatches`` gradient steps of ``learning_rate`` on the loss.
    ``group(task, chance_SA, rng, samples)`` plays all episodes of a group at once instead of ``play`` one by one.
    ``start_SA`` and ``tie`` are those of ``Weights``. ``watch(step, chance_SA)`` is called after each step. The
    recipe's agent plays no part. Raises ``ValueError`` for a recipe with a critic, or with
    ``enough``.
    """
    if (play is None) == (group is None):
        raise ValueError("a table is played by `play` (one episode) or by `group` (a whole group); give one of them")
    if recipe.enough is not None:
        raise ValueError("Recipe.enough would do nothing: the episodes of a table are played one by one")
    if recipe.critic is not None:
        raise ValueError("a table has no value head; use a recipe without Recipe.critic")
    rng = np.random.default_rng(seed)
    weights = Weights(start_SA, tie)
    per_step, position, played = groups or len(tasks), 0, 0
    curve: list[Mapping[str, float]] = []
    for step in range(steps):
        chance_SA = weights.chance_SA
        kept: list[Group] = []
        for _ in range(1 + recipe.refill):
            for _ in range(per_step - len(kept)):
                task = tasks[position % len(tasks)]
                position, played = position + 1, played + recipe.num_generations
                owned = _episodes(play, group, task, chance_SA, rng, recipe.num_generations)
                trajectories = tuple(trajectory for _, trajectory in owned)
                scores = scored(recipe, task, trajectories, step)
                if recipe.keep is None or recipe.keep(trajectories, scores):
                    kept.append(Group(task, (), trajectories, scores, tuple(owner for owner, _ in owned), step))
            if len(kept) >= per_step:
                break
        learn_from(weights, recipe, kept, learning_rate=learning_rate, rng=rng, step=step)
        if watch is not None:
            curve.append(watch(step, weights.chance_SA))
    return Table(weights.chance_SA, tuple(curve), played, steps)


def play_group(
    recipe: Recipe,
    task: Task,
    play: Callable[[Player], Trajectory],
    chance_SA: FloatArray,
    rng: np.random.Generator,
    *,
    count: int | None = None,
    step: int = 0,
) -> Group:
    """Play ``count`` episodes of a task (None: ``recipe.num_generations``) by a table and score them by the recipe."""
    episodes = tuple(play(Player(chance_SA, rng)) for _ in range(recipe.num_generations if count is None else count))
    return Group(task, (), episodes, scored(recipe, task, episodes, step), tuple(range(len(episodes))), step)


def learn_from(
    weights: Weights,
    recipe: Recipe,
    groups: Sequence[Group],
    *,
    learning_rate: float,
    rng: np.random.Generator,
    step: int = 0,
) -> None:
    """Assign the recipe's credit to groups and take the gradient steps of that batch; nothing happens without rows."""
    batch = credit(recipe, groups, weights, step=step)
    if len(batch.signals.reward_N):
        weights.learn(recipe, batch, learning_rate=learning_rate, rng=rng)


def steps_to(curve: Sequence[float], level: float, never: float) -> float:
    """Number of the first value that is at least ``level``, counted from 1; ``never`` without one."""
    return next((float(i + 1) for i, value in enumerate(curve) if value >= level), float(never))


def _episodes(
    play: Play | None,
    group: GroupPlay | None,
    task: Task,
    chance_SA: FloatArray,
    rng: np.random.Generator,
    samples: int,
) -> list[tuple[int, Trajectory]]:
    """Play the episodes of one group; each path comes with the number of its episode."""
    if group is not None:
        return list(enumerate(group(task, chance_SA, rng, samples)))
    paths: list[tuple[int, Trajectory]] = []
    for i in range(samples):
        played = play(task, Player(chance_SA, rng)) if play is not None else ()
        paths += [(i, path) for path in ([played] if isinstance(played, Trajectory) else played)]
    return paths
